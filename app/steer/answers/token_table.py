"""The answers token by token: what each was worth without and with steering. Draws; the numbers come from the core."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.shared import components, tables
from app.steer.playing import Playing
from corrsteer_core.base.formatting import percent
from corrsteer_core.inspection.token_probabilities import Choice, TokenStep, parts_at

SHOWN = 420  # pixels of the table


def draw(playing: Playing, titles: Sequence[str]) -> None:
    """A switch, and the table of one of the texts behind it. `titles` are those of the answers, unsteered first."""
    on = st.toggle(
        "Token by token",
        key="token_by_token",
        persist_state="session",
        help="How probable the model found each token, without and with steering, and what else could have come.",
    )
    if not on:
        return
    chosen = st.segmented_control(
        "Which answer", titles, default=titles[1], required=True, key=f"token_answer-{len(titles)}"
    )
    place = list(titles).index(chosen)
    bar = st.empty()

    def shown(stage: str, done: int, total: int) -> None:
        # Whatever is clicked meanwhile stops the work: Streamlit gives up a drawing where it next draws something.
        bar.progress(done / total, f"Reading the answer again: {done:,} of {total:,} tokens")

    found = playing.token_steps(place, shown)
    bar.empty()
    if found:
        beside = max(place, 1)  # the unsteered answer is read beside the first steered one
        _shown_steps(found, parts_at(playing.tokens[0], playing.tokens[beside]), _answers(titles, beside))
    else:
        st.caption("This answer has no tokens.")


def _answers(titles: Sequence[str], beside: int) -> str:
    """What the two answers are called that are compared."""
    if len(titles) == 2:
        return "The two answers"
    return f"The answers \u201c{titles[0]}\u201d and \u201c{titles[beside]}\u201d"


def _shown_steps(found: Sequence[TokenStep], parts: int | None, answers: str) -> None:
    st.markdown(components.for_markdown(_summary(found, parts, answers)))
    st.dataframe(
        tables.harmless(table(found, parts)),
        alt="Token by token",
        hide_index=True,
        width="stretch",
        height=min(SHOWN, 38 + 35 * len(found)),
        column_config={
            "": st.column_config.TextColumn(width=30, help="▶ marks the token at which the two answers part"),
            "Without steering": st.column_config.NumberColumn(
                format="percent", help="Its probability without steering"
            ),
            "With": st.column_config.NumberColumn(format="percent", help="Its probability with steering"),
            "KL": st.column_config.ProgressColumn(
                "KL (nats)",
                format="%.2f",
                min_value=0.0,
                max_value=max(1.0, *(step.kl for step in found)),
                help="How far the two next-token distributions are apart: 0 if steering changes nothing here",
            ),
        },
    )
    st.caption(
        "How to read it: one row per token of the answer. Both probabilities are for this token after the same words (the "
        "prompt and this answer so far), read once without and once with the steering vectors. KL is "
        "KL(steered ‖ unsteered) over the whole vocabulary, at temperature 1. ▶ marks where the two answers part."
    )


def table(steps: Sequence[TokenStep], parts: int | None) -> pd.DataFrame:
    """The rows of the table; `parts` is the place at which the two answers part."""
    return pd.DataFrame(
        {
            "": ["▶" if place == parts else "" for place in range(len(steps))],
            "Token": [_shown(step.text) for step in steps],
            "Without steering": [step.unsteered for step in steps],
            "With": [step.steered for step in steps],
            "KL": [step.kl for step in steps],
            "Best without": [_listed(step.unsteered_choices) for step in steps],
            "Best with": [_listed(step.steered_choices) for step in steps],
        }
    )


def _summary(steps: Sequence[TokenStep], parts: int | None, answers: str) -> str:
    mean = sum(step.kl for step in steps) / len(steps)
    most = max(steps, key=lambda step: step.kl)
    where = f"{answers} have the same tokens" if parts is None else f"{answers} part at token {parts + 1}"
    return (
        f"{where}. KL is {mean:.2f} nats on average over {components.counted(len(steps), 'token')}, "
        f"most at \u201c{_shown(most.text)}\u201d "
        f"({most.kl:.2f})."
    )


def _listed(choices: Sequence[Choice]) -> str:
    return "  ·  ".join(f"{_shown(one.text)} {percent(one.probability, 0)}" for one in choices)


def _shown(text: str) -> str:
    """A token with its spaces and line breaks to be seen, and nothing that acts."""
    return components.plain(text).replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥") or "(nothing visible)"
