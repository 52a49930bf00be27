"""What a feature's direction says: the tokens it makes likelier, and the features that point the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from app.features import shades
from app.shared import components as ui
from app.shared import state
from app.shared.resources import ask
from corrsteer_core.base.text_diff import escaped, visible
from corrsteer_core.runs import feature_facts

LONGEST = 80
"""Characters of what is said of a neighbour."""

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corrsteer_core.inspection.feature_profile import FeatureProfile
    from corrsteer_core.inspection.logit_lens import Neighbour, TokenScore


def tokens(drawn: FeatureProfile) -> None:
    st.markdown("**What it makes the model say**")
    st.caption(
        "Tokens whose probability one unit of this feature raises or lowers most, read off its direction through the "
        "model's final norm (the logit lens); longer bars are stronger."
    )
    left, right = st.columns(2)
    left.html(_bars("Likelier", drawn.tokens.promoted))
    right.html(_bars("Less likely", drawn.tokens.suppressed))
    rows = [
        {"token": one.text, "id": one.token, "score": one.score}
        for one in (*drawn.tokens.promoted, *reversed(drawn.tokens.suppressed))
    ]
    ui.table_behind(pd.DataFrame(rows), "These tokens as a table")


def _bars(title: str, tokens: Sequence[TokenScore]) -> str:
    """Tokens with a bar each, as HTML; every token is escaped."""
    longest = max((abs(one.score) for one in tokens), default=0.0) or 1.0
    rows = "".join(
        f'<div style="display:flex;align-items:center;gap:.6rem;padding:1px 0">'
        f'<code style="min-width:9rem;max-width:14rem;overflow:hidden;text-overflow:ellipsis;white-space:pre">'
        f"{escaped(one.text)}</code>"
        f'<div style="flex:1"><div style="height:.65rem;border-radius:2px;background:rgb({shades.HUE});'
        f'width:{100 * abs(one.score) / longest:.0f}%"></div></div>'
        f'<div style="min-width:3.2rem;text-align:right;font-variant-numeric:tabular-nums">{ui.signed(one.score)}</div>'
        f"</div>"
        for one in tokens
    )
    return f'<div style="font-size:.9em"><div style="opacity:.75;margin-bottom:.2rem">{title}</div>{rows}</div>'


def neighbours(run: str, drawn: FeatureProfile) -> None:
    st.markdown("**Features like it**")
    st.caption(
        "Those whose directions point most nearly the same way; the number is the cosine, 1 for the same direction. "
        "Below it what the feature is said to mean, or the tokens it makes likelier."
    )
    left, right = st.columns(2, gap="medium")
    _links(run, left, f"In layer {drawn.layer}", drawn.within)
    _links(run, right, "In other layers", drawn.elsewhere)


def _links(run: str, place: Any, title: str, neighbours: Sequence[Neighbour]) -> None:
    place.caption(title)
    if not neighbours:
        place.caption("None that can be compared.")
        return
    for one in neighbours:
        with place.container(gap=None):
            st.button(
                f"{one.layer} · {one.feature}  ({one.cosine:.2f})",
                key=f"like-{one.layer}-{one.feature}",
                type="tertiary",
                icon=":material/arrow_outward:",
                help=f"Open layer {one.layer} · feature {one.feature}",
                on_click=state.open_feature,
                args=(one.layer, one.feature),
            )
            st.markdown(ui.for_markdown(_said(run, one)))


def _said(run: str, one: Neighbour) -> str:
    """What a neighbour is said to mean, else the tokens it makes likelier."""
    known = ask(feature_facts.meaning, run, one.layer, one.feature)
    if known:
        return ui.shortened(known, LONGEST)
    named = ", ".join(f"“{visible(text.strip())}”" for text in one.promotes if text.strip())
    return f"Makes {ui.shortened(named, LONGEST)} likelier" if named else ""
