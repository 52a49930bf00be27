"""Where an SAE reads and steering writes, and the one function that registers hooks.

Layer convention: blocks are numbered from 0; `resid_post` of layer L is the output of block L,
`resid_pre` of layer L its input (so `resid_pre` of L+1 is `resid_post` of L).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.architectures import LAYOUTS, Layout

Kind = Literal["resid_pre", "resid_post", "mlp_out", "attn_out", "attn_z", "logits"]

# Names as SAE metadata spells them: TransformerLens style ("blocks.8.hook_resid_post") or the
# module path of a transformers model, whose output is the block's ("model.layers.8").
_TRANSFORMER_LENS = re.compile(
    r"^blocks\.(\d+)\.(hook_resid_pre|hook_resid_post|hook_mlp_out|hook_attn_out|attn\.hook_z)$"
)


@dataclass(frozen=True, order=True)
class HookPoint:
    """One place in the model: a block (from 0) and what of it is read or written."""

    layer: int
    kind: Kind = "resid_post"

    @classmethod
    def parse(cls, name: str, whose: str = "The SAE") -> HookPoint:
        """Read an SAE's `hook_name`. Raises CorrSteerError for a name of an unknown form."""
        if match := _TRANSFORMER_LENS.match(name):
            kind = match[2].removeprefix("hook_").replace("attn.hook_z", "attn_z")
            return cls(int(match[1]), kind)  # type: ignore[arg-type]  # the pattern admits only Kinds
        if (block := _block_at(name)) is not None:
            return cls(block, "resid_post")
        raise CorrSteerError(
            f"{whose} reads at {name!r}, which this tool cannot place in a model; it looked for "
            f"blocks.L.hook_resid_pre, .hook_resid_post, .hook_mlp_out, .hook_attn_out, .attn.hook_z or model.layers.L."
        )

    @property
    def name(self) -> str:
        """The TransformerLens spelling, which SAE metadata and saved steering sets use."""
        return f"blocks.{self.layer}.{'attn.hook_z' if self.kind == 'attn_z' else 'hook_' + self.kind}"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise CorrSteerError(f"Unknown kind of hook point {self.kind!r}; known are {', '.join(get_args(Kind))}.")


def _block_at(path: str) -> int | None:
    """The number of the block that a module's path names, with or without the modules around it; None if it names none."""
    paths = [layout.blocks.split(".") for layout in LAYOUTS.values()]
    around, lists = {part for one in paths for part in one[:-1]}, {one[-1] for one in paths}
    *outer, blocks, number = path.split(".") if "." in path else ("", "")
    named = blocks in lists and around.issuperset(outer) and re.fullmatch(r"[0-9]+", number)
    return int(number) if named else None


LOGITS = HookPoint(0, "logits")
"""What is added here is added to the logits themselves; no module carries it, and no SAE reads it (see `engine.generation`)."""

PARTS: tuple[Kind, ...] = ("mlp_out", "attn_out", "attn_z")
"""Hook points inside a block, which an architecture may lack."""

# What a hook does with the activation (batch, positions, d): look at it (return None) or replace it.
Action = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True)
class Site:
    """A module of the model and which side of it carries the activation."""

    module: nn.Module
    side: Literal["input", "output"]


def site_in(block: nn.Module, layout: Layout, kind: Kind) -> Site:
    """The module of a block that carries a kind of hook point. Raises AttributeError where the block has no such module."""
    if kind == "resid_pre":
        return Site(block, "input")
    if kind == "resid_post":
        return Site(block, "output")
    path = getattr(layout, kind)
    if not path:
        raise AttributeError(f"no module is known for {kind}")
    *others, path = path.split("|")
    path = next((other for other in others if _has(block, other)), path)
    return Site(block.get_submodule(path), "input" if kind == "attn_z" else "output")


def _has(block: nn.Module, path: str) -> bool:
    try:
        block.get_submodule(path)
    except AttributeError:
        return False
    return True


def together(*parts: Mapping[Site, Action]) -> dict[Site, Action]:
    """Actions as one mapping: where several meet at a site, each is given what those before it left."""
    by_site: dict[Site, list[Action]] = {}
    for part in parts:
        for site, action in part.items():
            by_site.setdefault(site, []).append(action)
    return {site: actions[0] if len(actions) == 1 else _in_turn(actions) for site, actions in by_site.items()}


def _in_turn(actions: Sequence[Action]) -> Action:
    def action(activation: Tensor) -> Tensor | None:
        changed = None
        for one in actions:
            new = one(activation if changed is None else changed)
            changed = changed if new is None else new
        return changed

    return action


@contextmanager
def hooked(actions: Mapping[Site, Action]) -> Iterator[None]:
    """Apply each action at its site while the context is open, and never after it, whatever is raised."""
    with ExitStack() as stack:
        for site, action in actions.items():
            stack.callback(_register(site, action).remove)
        yield


def _register(site: Site, action: Action) -> RemovableHandle:
    if site.side == "input":

        def before(_module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
            # Blocks take the hidden states as their first argument; some callers name it.
            if args:
                new = action(args[0])
                return None if new is None else ((new, *args[1:]), kwargs)
            new = action(kwargs["hidden_states"])
            return None if new is None else (args, {**kwargs, "hidden_states": new})

        return site.module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_module: nn.Module, _args: tuple, output: Tensor | tuple) -> Tensor | tuple | None:
        if isinstance(output, tuple):  # some blocks return (hidden states, attention weights, ...)
            new = action(output[0])
            return None if new is None else (new, *output[1:])
        return action(output)

    return site.module.register_forward_hook(after)
