"""Blind test: pairs of answers, unsteered and steered, without a label; which does a reader prefer?"""

from __future__ import annotations

import secrets

import pandas as pd
import streamlit as st

from app.blind import outcome
from app.blind.sitting import VOTES, Pair, Sitting, sitting_of
from app.shared import components as ui
from app.shared import resources, side_by_side, state
from app.shared.names import task_title
from corrsteer_core.base.text_diff import escaped
from corrsteer_core.runs import measurements
from corrsteer_core.tasks import TASKS
from corrsteer_core.tasks.base import WHICH_IS_BETTER

SITTINGS = "blind_tests"  # of this tab, by measurement
WHICH = ("name", "content", "task", "split", "scale", "n", "created")  # what tells one measurement from another
STYLE = """<style>.cs-blind .cs-text { border-top-color: rgba(128, 128, 128, .6); }</style>"""
"""Both texts in one colour: blue and orange would tell which is which."""


def page() -> None:
    """Draw the page."""
    st.title("Blind test")
    st.markdown(
        "Two answers to one prompt, one of them steered, in random order. Say which you prefer without knowing which it is."
    )
    run = state.current_run()
    if run is None:
        ui.nothing_yet("There is nothing to compare yet.", "Start a run first, on the page of that name.")
        return
    found = resources.ask(measurements.evaluations, run)
    if found.empty:
        ui.nothing_yet(
            "No set of this run has been measured yet.",
            "The Evaluate page shows what was measured; answers come from there.",
        )
        return
    row = _chosen(found)
    sitting = _sitting(run, row)
    if not sitting.pairs:
        ui.nothing_yet("No answer differs.", "In this measurement steering has changed no text; choose another.")
        return
    _vote(sitting, TASKS[row["task"]].comparing if row["task"] in TASKS else WHICH_IS_BETTER)
    outcome.draw(sitting, again=lambda: _begin(run, row))


def _chosen(found: pd.DataFrame) -> pd.Series:
    """The measurement whose answers are compared; the newest to begin with."""
    lines = [
        f"{place + 1}. {ui.shortened(row.label, 40)} on {task_title(row.task)}, {row.n:,} {row.split} samples, "
        f"scale {row.scale:g}"
        for place, row in enumerate(found.itertuples())
    ]
    if len(lines) == 1:
        st.caption(ui.for_markdown(lines[0].partition(" ")[2]))
        return found.iloc[0]
    return found.iloc[st.selectbox("Answers of", range(len(lines)), format_func=lines.__getitem__)]


def _key(run: str, row: pd.Series) -> tuple[str, ...]:
    return run, *(str(row[name]) for name in WHICH)


def _sitting(run: str, row: pd.Series) -> Sitting:
    """This tab's test of a measurement, begun when it is first looked at."""
    known = st.session_state.setdefault(SITTINGS, {})
    if _key(run, row) not in known:
        _begin(run, row)
    return known[_key(run, row)]


def _begin(run: str, row: pd.Series) -> None:
    """A new test of a measurement, in another order."""
    samples = resources.ask(
        measurements.evaluated_samples,
        *(run, row["name"], row["task"], row["split"], float(row["scale"])),
        content=row["content"],
        n=int(row["n"]),
    )
    st.session_state.setdefault(SITTINGS, {})[_key(run, row)] = sitting_of(samples, secrets.randbits(64))


def _vote(sitting: Sitting, question: str) -> None:
    """The next pair and what can be said of it."""
    pair = sitting.next
    if sitting.over or pair is None:
        return
    st.subheader(question, anchor=False)
    st.html(side_by_side.STYLE + STYLE + side_by_side.prompt(pair.prompt))
    st.html(f'<div class="cs-blind">{_texts(pair)}</div>')
    with st.container(horizontal=True, vertical_alignment="center"):
        for vote, label in VOTES.items():
            st.button(
                label,
                key=f"vote-{vote}-{len(sitting.votes)}",  # of this pair: a second click is none of the next
                type="primary" if vote != "neither" else "secondary",
                on_click=sitting.vote,
                args=(pair.sample, vote),
            )
        st.button(
            "Take the last vote back",
            type="tertiary",
            icon=":material/undo:",
            disabled=not sitting.votes,
            on_click=sitting.take_back,
        )


def _texts(pair: Pair) -> str:
    """Both answers as HTML that says nothing of where they come from; every character of them is text."""
    sides = (("Left", pair.left), ("Right", pair.right))
    return side_by_side.texts([side_by_side.Column(title, "unsteered", escaped(text)) for title, text in sides])
