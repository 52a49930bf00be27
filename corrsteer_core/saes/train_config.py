"""What defines a set of trained SAEs. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from corrsteer_core.base.errors import CorrSteerError

LARGEST_SEED = 2**63 - 1  # that NumPy and PyTorch take alike

ARCHITECTURES = {"topk": "topk", "batchtopk": "batchtopk", "matryoshka": "matryoshka_batchtopk"}
"""Kinds of SAE, by SAELens' names of their trainers: k features active at every position; k on average (saved as
JumpReLU, with one threshold); and the same with nested dictionaries, each of which must do alone."""
NESTED = (16, 8, 4, 2, 1)
"""Matryoshka's dictionaries: the first d_sae / 16 features, the first d_sae / 8, and so on."""


@dataclass(frozen=True)
class TrainConfig:
    """What defines a set of trained SAEs."""

    layers: tuple[int, ...]
    """Blocks whose output (`resid_post`) is learned."""
    tokens: int = 1_350_000
    """Tokens of text collected."""
    d_sae: int = 2304
    """Features per SAE."""
    k: int = 32
    """Features active at once (batchtopk and matryoshka: on average)."""
    architecture: str = "topk"
    """One of ARCHITECTURES."""
    epochs: int = 2
    """Passes over the collected activations."""
    length: int = 128
    """Tokens per packed sequence; the first position of each is left out (its norm is an outlier)."""
    batch: int = 2048
    """Activations per step."""
    lr: float = 1e-3
    """Adam's learning rate, decayed to zero over the last fifth of the steps."""
    plain_share: float = 0.25
    """Share of the chats written without the chat template."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.layers:
            raise CorrSteerError("No layer was named to train an SAE for; give --layers 8,15,22 or the like.")
        if self.architecture not in ARCHITECTURES:
            raise CorrSteerError(
                f"There is no architecture {self.architecture!r}; there are {', '.join(ARCHITECTURES)}."
            )
        if self.architecture == "matryoshka" and self.d_sae < NESTED[0]:
            raise CorrSteerError(f"{self.d_sae} features are too few to nest; matryoshka needs {NESTED[0]} or more.")
        if self.tokens < 10 * self.batch:
            raise CorrSteerError(
                f"{self.tokens} tokens are too few to train on; at least {10 * self.batch} are needed."
            )
        if not 0 <= self.seed <= LARGEST_SEED:
            raise CorrSteerError(f"The seed is {self.seed}; give a whole number from 0 to {LARGEST_SEED}.")
        if not 0 < self.k <= self.d_sae:
            raise CorrSteerError(f"k = {self.k} active features do not fit in {self.d_sae} features.")
