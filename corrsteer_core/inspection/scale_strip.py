"""One prompt at several scales: which scales, and from which of them on the text differs. Pure: no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from corrsteer_core.base.formatting import MINUS

MULTIPLES = (-1.0, 0.5, 1.0, 2.0, 4.0)
"""Of a set's own scale; 0 is the unsteered text, which stands beside them anyway."""


def scales_of(own: float) -> tuple[float, ...]:
    """The scales to try with a set whose global scale is `own` (of 0: as if it were 1), smallest first."""
    return tuple(sorted(multiple * (own or 1.0) for multiple in MULTIPLES))


def named(scale: float) -> str:
    """A scale as people read it: 0.5, −1."""
    return f"{scale:g}".replace("-", MINUS)


def differing(unsteered: str, steered: Mapping[float, str]) -> str:
    """From which scale on the text differs from the unsteered one, in a sentence for each direction. Scale 0 is left out."""
    up = sorted(scale for scale in steered if scale > 0)
    down = sorted((scale for scale in steered if scale < 0), reverse=True)
    apart = {scale for scale, text in steered.items() if text != unsteered}
    return " ".join(f"{_said(side, [scale in apart for scale in side])}." for side in (up, down) if side)


def _said(scales: Sequence[float], apart: Sequence[bool]) -> str:
    """Of the scales of one direction, the weakest first, and whether the text differs at each."""
    same = [scale for scale, differs in zip(scales, apart, strict=True) if not differs]
    if len(scales) == 1:
        return f"At scale {named(scales[0])} it is {'the unsteered text' if same else 'another text'}"
    if len(same) == len(scales):
        return f"At none of the scales up to {named(scales[-1])} does the text differ"
    if not same:
        return f"The text differs from scale {named(scales[0])} on, the weakest that was tried"
    after = scales[scales.index(same[-1]) + 1 :]
    others = [scale for scale, differs in zip(scales, apart, strict=True) if differs and scale not in after]
    if not after:
        return f"The text differs only at {_listed(others)}"
    more = f", and at {_listed(others)}" if others else ""
    return f"The text differs from scale {named(after[0])} on{more}; at {_listed(same)} it is the unsteered one"


def _listed(scales: Sequence[float]) -> str:
    names = [named(scale) for scale in scales]
    if len(names) == 1:
        return f"scale {names[0]}"
    return f"scales {', '.join(names[:-1])} and {names[-1]}"
