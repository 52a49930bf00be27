"""Would another draw of the validation split have chosen the same candidate, and how much of the winner's effect is luck?

Outcomes of candidates come as (samples, candidates), those without steering as (samples,), in [0, 1]. The split is drawn
again with replacement and the choice repeated on each resample, without the model. The samples that a resample left out
(about 37%) did not choose its winner, so the winner's mean effect on them is free of the luck of having been chosen: the
out-of-bag estimate, Breiman (1996), Out-of-bag estimation, University of California, Berkeley; Efron & Tibshirani (1997),
JASA 92:548-560.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.graded import sign_flip
from corrsteer_core.statistics.rates import NOISE, FloatArray, mcnemar_p_of

BoolArray = NDArray[np.bool_]

Choose = Callable[[FloatArray, FloatArray], int | None]
"""(unsteered (samples,), steered (samples, candidates)) -> the number of the chosen candidate, None for none of them."""


@dataclass(frozen=True)
class Stability:
    """What `resamples` repeated choices said.

    `corrected_effect` is the mean over resamples of the winner's effect on the samples left out; None if nothing ever was
    chosen. It estimates what the whole procedure gains on new samples. Slightly too low: a resample holds fewer different
    samples to choose by than the split does.
    """

    chosen: int | None  # by the whole split
    apparent_effect: float | None  # of `chosen`, on the split that chose it
    corrected_effect: float | None
    shares: FloatArray  # (candidates,) share of resamples in which each was chosen
    none_share: float  # share in which none was
    resamples: int


def highest_effect(unsteered: FloatArray, steered: FloatArray) -> int | None:
    """The candidate of highest mean effect, the first of several; None if there are no candidates."""
    return int(np.argmax((steered - unsteered[:, None]).mean(axis=0))) if steered.shape[1] else None


def selection_stability(
    unsteered: ArrayLike, steered: ArrayLike, choose: Choose = highest_effect, *, resamples: int = 1000, seed: int
) -> Stability:
    """Repeat `choose` on `resamples` bootstrap resamples of the samples; see `Stability`.

    `unsteered`: (n,); `steered`: (n, candidates). `choose` must depend on nothing but its arguments. Raises CorrSteerError
    for shapes that do not fit, outcomes outside [0, 1], or a choice that is no candidate.
    """
    before, after = _checked(unsteered, steered)
    if resamples < 1:
        raise CorrSteerError(f"Stability needs at least one resample; found {resamples}.")
    effects = after - before[:, None]
    rng, n, candidates = np.random.default_rng(seed), len(before), after.shape[1]
    counts, left_out_effects = np.zeros(candidates), []
    for _ in range(resamples):
        rows = rng.integers(0, n, size=n)
        winner = _valid(choose(before[rows], after[rows]), candidates)
        if winner is None:
            continue
        counts[winner] += 1
        left_out = np.bincount(rows, minlength=n) == 0
        if left_out.any():
            left_out_effects.append(float(effects[left_out, winner].mean()))
    chosen = _valid(choose(before, after), candidates)
    return Stability(
        chosen=chosen,
        apparent_effect=None if chosen is None else float(effects[:, chosen].mean()),
        corrected_effect=float(np.mean(left_out_effects)) if left_out_effects else None,
        shares=counts / resamples,
        none_share=float(1 - counts.sum() / resamples),
        resamples=resamples,
    )


def within_noise_of(best: int, steered: ArrayLike) -> BoolArray:
    """Which candidates cannot be distinguished from the candidate `best` on the same samples, (candidates,); `best` itself cannot.

    Those whose outcomes differ from its with p >= NOISE: McNemar's exact test, or the sign-flip test where outcomes are
    graded. The p-values are not corrected for their number, which would only let more candidates pass for as good.
    """
    after = np.asarray(steered, dtype=np.float64)
    _checked(np.zeros(len(after)), after)
    if not 0 <= best < after.shape[1]:
        raise CorrSteerError(f"There is no candidate {best} among {after.shape[1]}.")
    differences = after - after[:, [best]]
    if np.isin(after, (0.0, 1.0)).all():
        up, down = (differences > 0).sum(axis=0), (differences < 0).sum(axis=0)
        return mcnemar_p_of(up, down) >= NOISE
    return np.array([sign_flip(column, seed=0).p >= NOISE for column in differences.T], dtype=bool)


def smallest_vector(within_noise: ArrayLike, norms: ArrayLike, frequencies: ArrayLike) -> int:
    """Of the candidates within noise, the one of smallest vector, then of lowest frequency, then the first.

    All (candidates,). Raises CorrSteerError if none is within noise.
    """
    open_to = np.flatnonzero(np.asarray(within_noise, dtype=bool))
    if not len(open_to):
        raise CorrSteerError("There is no candidate to prefer: none is within noise of the best.")
    norm, frequency = np.asarray(norms, dtype=np.float64)[open_to], np.asarray(frequencies, dtype=np.float64)[open_to]
    return int(open_to[np.lexsort((frequency, norm))[0]])


def _valid(winner: int | None, candidates: int) -> int | None:
    if winner is not None and not 0 <= winner < candidates:
        raise CorrSteerError(f"A choice must be one of {candidates} candidates or None; found {winner}.")
    return winner


def _checked(unsteered: ArrayLike, steered: ArrayLike) -> tuple[FloatArray, FloatArray]:
    before, after = np.asarray(unsteered, dtype=np.float64), np.asarray(steered, dtype=np.float64)
    if before.ndim != 1 or after.ndim != 2 or len(before) != len(after) or not len(before):
        raise CorrSteerError(
            f"Outcomes must be (samples,) and (samples, candidates) of the same samples; found {before.shape}, {after.shape}."
        )
    if not (np.all((before >= 0) & (before <= 1)) and np.all((after >= 0) & (after <= 1))):  # nan fails too
        raise CorrSteerError("Outcomes must be numbers within [0, 1]; rescale the scorer's verdicts.")
    return before, after
