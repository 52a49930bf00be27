"""Texts as HTML in which every token is shaded by a feature's activation. Pure; every character comes out harmless.

One hue, more of it the higher the activation, so that no eye has to tell colours apart; the number is in
the token's title. The answer is underlined and announced by a word, since colour alone would not do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

import pandas as pd

from corrsteer_core.base.text_diff import escaped

if TYPE_CHECKING:
    from corrsteer_core.inspection.token_activations import FeatureActivations, Span

HUE = "140,107,177"
DEEPEST = 0.75  # opacity at the highest activation: text stays readable on it in light and dark
LOUD = 0.5  # of the highest activation: a token as active as this is shown wherever it stands
LEAST_FOLDED = 4  # pieces: fewer are not worth a gap
BEFORE, AFTER = 90, 50  # pieces of a long prompt kept around its peak and before the answer

STYLE = f"""<style>
.cs-shaded {{white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.75}}
.cs-shaded span[title] {{border-radius:3px;padding:1px 0}}
.cs-shaded .cs-counts {{border-bottom:2px dotted #8a8f98}}
.cs-shaded .cs-answer {{border-bottom:2px solid #4f7cac;font-weight:600}}
.cs-shaded .cs-word {{font-size:.72em;font-weight:600;letter-spacing:.02em;color:#fff;background:#41699a;
border-radius:3px;padding:1px 5px;margin:0 3px;vertical-align:1px;white-space:nowrap}}
.cs-shaded .cs-gap {{opacity:.55}}
.cs-row {{display:flex;gap:1rem;padding:.55rem 0;border-bottom:1px solid rgba(128,128,128,.25)}}
.cs-row .cs-number {{min-width:3.4rem;text-align:right;font-variant-numeric:tabular-nums;font-weight:600}}
.cs-row .cs-shaded {{flex:1}}
.cs-row .cs-aside {{min-width:6.5rem;opacity:.75;font-size:.85em;text-align:right}}
.cs-scale {{display:inline-block;width:7rem;height:.7em;border-radius:3px;vertical-align:middle;margin:0 .4rem;
background:linear-gradient(90deg,rgba({HUE},0),rgba({HUE},{DEEPEST}))}}
</style>"""


def shared(texts: Sequence[FeatureActivations]) -> tuple[int, int]:
    """How many pieces all prompts begin and end with, which says nothing of any: the task's and the chat's template."""
    prompts = [[span.text for span in one.spans if not one.is_answer(span)] for one in texts]
    if len(prompts) < 2:
        return 0, 0
    start = _alike(prompts)
    end = _alike([list(reversed(one)) for one in prompts])
    if start + end >= min(map(len, prompts)):
        return 0, 0
    return tuple(count if count >= LEAST_FOLDED else 0 for count in (start, end))  # type: ignore[return-value]


def _alike(rows: Sequence[Sequence[str]]) -> int:
    return sum(1 for _ in takewhile(lambda pieces: len(set(pieces)) == 1, zip(*rows, strict=False)))


def row(
    found: FeatureActivations,
    highest: float,
    value: float,
    aside: str,
    pooling: str = "max",
    fold: tuple[int, int] = (0, 0),
) -> str:
    """One text with its pooled activation before it and a remark (plain text) behind it; for `fold` see `shared`."""
    return (
        f'<div class="cs-row"><div class="cs-number">{value:.2f}</div>{shaded(found, highest, pooling, fold)}'
        f'<div class="cs-aside">{escaped(aside)}</div></div>'
    )


def shaded(found: FeatureActivations, highest: float, pooling: str = "max", fold: tuple[int, int] = (0, 0)) -> str:
    """A text, each token's background as deep as its activation is close to `highest`; what is folded is a gap."""
    spans = found.spans
    first_answer = next((place for place, span in enumerate(spans) if found.is_answer(span)), len(spans))
    shown = _shown(found, first_answer) - _folded(found, first_answer, fold, highest)
    out, skipped = [], False
    for place, span in enumerate(spans):
        if place == first_answer:
            out.append('<span class="cs-word">answer</span>')
        if place in shown:
            out.append(_token(found, span, highest, pooling))
        elif not skipped:
            out.append('<span class="cs-gap"> … </span>')
        skipped = place not in shown
    return f'<div class="cs-shaded">{"".join(out)}</div>'


def scale(highest: float) -> str:
    """The legend: from silent to the highest activation."""
    return f'<div style="font-size:.85em">0<span class="cs-scale"></span>{highest:.2f}</div>'


def numbers(found: FeatureActivations, pooling: str = "max") -> pd.DataFrame:
    """What the shades show, as a table."""
    return pd.DataFrame(
        {
            "token": [span.text for span in found.spans],
            "activation": [found.value(span) for span in found.spans],
            "part": ["answer" if found.is_answer(span) else "prompt" for span in found.spans],
            "counts": [found.is_pooled(span, pooling) for span in found.spans],
        }
    )


def _token(found: FeatureActivations, span: Span, highest: float, pooling: str) -> str:
    value, answer = found.value(span), found.is_answer(span)
    alpha = DEEPEST * min(1.0, max(0.0, value / highest)) if highest > 0 else 0.0
    counts = "counts" if found.is_pooled(span, pooling) else "does not count"
    title = f"{value:.2f} · {'answer' if answer else 'prompt'} · {counts}"
    style = f' style="background:rgba({HUE},{alpha:.2f})"' if alpha >= 0.01 else ""
    kind = ' class="cs-answer"' if answer else ' class="cs-counts"' if counts == "counts" else ""
    return f'<span title="{title}"{kind}{style}>{escaped(span.text)}</span>'


def _folded(found: FeatureActivations, first_answer: int, fold: tuple[int, int], highest: float) -> set[int]:
    """The pieces that all prompts share, but for those that are active and the last, from which the answer begins."""
    start, end = fold
    alike = {*range(start), *range(first_answer - end, first_answer - 1)}
    return {place for place in alike if found.value(found.spans[place]) < LOUD * highest or highest <= 0}


def _shown(found: FeatureActivations, first_answer: int) -> set[int]:
    """The pieces that are shown: all, or of a long prompt the stretch around its peak and the end."""
    count = len(found.spans)
    if first_answer <= BEFORE + AFTER:
        return set(range(count))
    value: Callable[[int], float] = lambda place: found.value(found.spans[place])  # noqa: E731
    peak = max(range(first_answer), key=value)
    around = range(max(0, peak - BEFORE // 2), min(first_answer, peak + AFTER))
    return {*around, *range(first_answer - AFTER, count)}
