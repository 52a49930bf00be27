"""The texts a feature is active on: the run's, and one that is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.features import drawing, shades, waiting
from app.shared import components as ui
from app.shared.resources import ask_fit
from corrsteer_core.base.text_diff import escaped, shared_ends, visible
from corrsteer_core.runs import feature_facts, run_facts
from corrsteer_core.runs.poolings import said_plainly

if TYPE_CHECKING:
    import pandas as pd

    from corrsteer_core.inspection.feature_profile import FeatureProfile, SampleActivations


LONGEST = 600  # characters of a text shown before it is shaded
TEXTS = 4  # texts of each part of the activations
TYPED = "own_text"  # the text that was typed, being read or read
PARTS = ("strongest", "upper quarter", "middle", "lower quarter")


def run_texts(run: str, facts: run_facts.RunFacts, layer: int, feature: int, drawn: FeatureProfile | None) -> None:
    st.markdown("**The texts it is active on**")
    if drawn is None:
        found = ask_fit(feature_facts.texts_by_quantile, run, layer, feature, TEXTS)
        strongest = found[found["part"] == PARTS[0]]
        st.caption(
            "The prompt in grey, the model's own (unsteered) answer in blue, the feature's activation on the left."
        )
        ends = shared_ends(found["prompt"].tolist())
        st.html("".join(_text_card(row, *ends) for row in strongest.itertuples()))
        return
    st.caption(
        "The deeper a token's shade, the more active the feature; hover over it for the number. The answer is "
        "underlined, a token of the prompt that counts is dotted. On the left what the run keeps of a text "
        f"({said_plainly(facts.config['pooling'])})."
    )
    st.html(shades.STYLE + shades.scale(drawn.highest))
    parts = [part for part in PARTS if any(one.part == part for one in drawn.samples)]
    if not parts:
        st.caption("It fired in no answer.")
        return
    fold = _fold(drawn)
    for tab, part in zip(st.tabs([part.capitalize() for part in parts]), parts, strict=True):
        some = [one for one in drawn.samples if one.part == part]
        tab.html("".join(_shaded_row(one, drawn.highest, facts.config["pooling"], fold) for one in some))
    ui.table_behind(_token_table(drawn.samples[0], facts.config["pooling"]), "The strongest text token by token")


def _fold(drawn: FeatureProfile) -> tuple[int, int]:
    """What all prompts begin and end with, to be left out unless whole texts are asked for."""
    alike = shades.shared([one.activations for one in drawn.samples])
    if not any(alike):
        return alike
    whole = st.toggle("Whole prompts", key="whole_prompts", help="Also what all of these prompts begin and end with.")
    return (0, 0) if whole else alike


def _shaded_row(one: SampleActivations, highest: float, pooling: Any, fold: tuple[int, int]) -> str:
    outcome = "correct" if one.outcome > 0.5 else "incorrect"
    return shades.row(one.activations, highest, one.stored, f"{outcome} · {one.split}", pooling, fold)


def _token_table(one: SampleActivations, pooling: Any) -> pd.DataFrame:
    table = shades.numbers(one.activations, pooling)
    return table.assign(token=[visible(text) for text in table["token"]])


def own_text(run: str, facts: run_facts.RunFacts, layer: int, feature: int, drawn: FeatureProfile) -> None:
    st.markdown("**Test your own text**")
    with st.form("own_text_form", border=True):
        prompt = st.text_area(
            "Prompt", key="own_prompt", height=80,
            help="Put to the model as the run's prompts were; the feature is read, nothing is generated.",
        )  # fmt: skip
        answer = st.text_input("Answer that follows it (may be left out)", key="own_answer")
        asked = st.form_submit_button("Read it", icon=":material/visibility:")
    about = (run, layer, feature)
    if asked:
        if prompt.strip():
            st.session_state[TYPED] = about, drawing.own_text(*about, prompt, answer)
        else:
            ui.problem("The prompt is empty; type something for the model to read.")
    of, work = st.session_state.get(TYPED, (None, None))
    found = waiting.result_of(work, "What was read follows here.") if of == about else None
    if found is not None:
        highest = max(drawn.highest, *found.values)
        st.html(shades.STYLE + shades.row(found, highest, max(found.values), "largest of all tokens"))
        table = shades.numbers(found)
        table = table.assign(token=[visible(text) for text in table["token"]])
        ui.table_behind(table, "Your text token by token")


def _text_card(row: Any, start: int = 0, end: int = 0) -> str:
    """One text as HTML, everything in it escaped; of its prompt what is not in all of them."""
    own = f"{'… ' if start else ''}{row.prompt[start : len(row.prompt) - end]}{' …' if end else ''}"
    outcome = "" if ui.missing(row.outcome) else ("correct" if row.outcome > 0.5 else "incorrect")
    value = "min-width:3.5rem;text-align:right;font-variant-numeric:tabular-nums;font-weight:600"
    words = "flex:1;white-space:pre-wrap;overflow-wrap:anywhere"
    aside = "min-width:9rem;opacity:.7;font-size:.85em;text-align:right"
    return (
        f'<div style="display:flex;gap:1rem;padding:.55rem 0;border-bottom:1px solid rgba(128,128,128,.25)">'
        f'<div style="{value}">{row.value:.2f}</div><div style="{words}">'
        f'<span style="opacity:.75">{_shown(own)}</span> '
        f'<span class="cs-own-words">{_shown(row.output)}</span></div>'
        f'<div style="{aside}">{outcome} · {escaped(row.split)}</div></div>'
    )


def _shown(text: object) -> str:
    whole = "" if ui.missing(text) else str(text).strip()
    return escaped(whole if len(whole) <= LONGEST else whole[:LONGEST] + " …")
