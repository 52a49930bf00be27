"""The samples of an evaluation one by one, with both answers."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st

from app.evaluate.sample_filters import ANY, FLIPS, Wanted, classes
from app.shared import components as ui
from app.shared import resources, side_by_side
from corrsteer_core.base.text_diff import differences, escaped, marked, parting, shared_ends
from corrsteer_core.runs import measurements

BECAME = {
    "won": "won (success only when steered)",
    "lost": "lost (success only without)",
    "changed": "with another text but the same outcome",
    "same": "unchanged",
}
"""What became of a sample, in words."""
PAGE = 20  # samples shown at once
WHICH = ("name", "content", "task", "split", "scale", "n")  # what tells one evaluation from another


def draw(run: str, row: pd.Series) -> None:
    st.subheader("Sample by sample", anchor=False)
    samples = measurements.with_flips(
        resources.ask(
            measurements.evaluated_samples,
            *(run, row["name"], row["task"], row["split"], float(row["scale"])),
            content=row["content"],
            n=int(row["n"]),
        )
    )
    key = f"flips-{run}-{'-'.join(str(row[name]) for name in WHICH)}"
    st.markdown(in_short(samples))
    wanted = _wanted(samples, key)
    chosen = wanted.of(samples)
    if chosen.empty:
        st.caption("No sample is like this; search for something else, or choose others.")
        return
    # Folded until it is asked for, by opening it or by looking for something: it is the longest part of the page.
    with st.expander(_label(chosen, samples, wanted), key=_opened(key), on_change="rerun") as fold:
        at = _page(chosen, wanted, key)
        if fold.open:
            st.html(side_by_side.STYLE + _table(chosen.iloc[PAGE * (at - 1) : PAGE * at], samples["prompt"].tolist()))


def in_short(samples: pd.DataFrame) -> str:
    """What became of all samples, in a line."""
    counts = samples["flip"].value_counts()
    became = [f"{counts[kind]:,} {words}" for kind, words in BECAME.items() if counts.get(kind)]
    return f"Of {ui.counted(len(samples), 'sample')}: {', '.join(became)}."


def _label(chosen: pd.DataFrame, samples: pd.DataFrame, wanted: Wanted) -> str:
    """What is behind the fold."""
    if len(chosen) == len(samples):
        return f"All {ui.counted(len(samples), 'sample')} with both answers"
    kind = f" ({FLIPS[wanted.flip].lower()})" if wanted.flip != ANY else ""
    return f"{len(chosen):,} of {ui.counted(len(samples), 'sample')}{kind} with both answers"


def _opened(key: str) -> str:
    """Where it is kept whether the samples are unfolded."""
    return f"{key}-opened"


def _open(key: str) -> None:
    st.session_state[_opened(key)] = True


def _page(chosen: pd.DataFrame, wanted: Wanted, key: str) -> int:
    """Which page of the chosen samples is shown, from 1."""
    pages = math.ceil(len(chosen) / PAGE)
    if pages == 1:
        return 1
    return st.number_input(
        f"Page, of {pages}",
        1,
        pages,
        1,
        key=f"{key}-{wanted.flip}-{wanted.right}-{wanted.text}-page",  # the page of one choice is none of another's
        width=140,
    )


def _wanted(samples: pd.DataFrame, key: str) -> Wanted:
    """What the boxes above the table ask for."""
    counts = samples["flip"].value_counts()
    present = [kind for kind in FLIPS if counts.get(kind)]
    labels = {**{kind: f"{FLIPS[kind]} ({counts[kind]})" for kind in present}, ANY: f"All ({len(samples)})"}
    place = st.container(horizontal=True, vertical_alignment="bottom")
    kind = place.segmented_control(
        "Which samples",
        [*present, ANY],
        default=present[0],
        required=True,
        key=key,
        label_visibility="collapsed",
        format_func=labels.__getitem__,
        on_change=_open,
        args=(key,),
    )
    right = ANY
    if known := classes(samples):
        right = place.selectbox(
            "Right answer",
            [ANY, *known],
            format_func=lambda one: "Any" if one == ANY else ui.shortened(one, 40),
            key=f"{key}-right",
            width=170,
            on_change=_open,
            args=(key,),
        )
    text = place.text_input(
        "Search", key=f"{key}-text", max_chars=200, placeholder="in prompts and answers", width=210, on_change=_open,
        args=(key,),
    )  # fmt: skip
    return Wanted(kind, right, text)


def _table(rows: pd.DataFrame, prompts: list[str]) -> str:
    """Prompts and both texts as HTML; every character of them is text."""
    head = "".join(f"<th scope='col'>{title}</th>" for title in ("Prompt", "Unsteered", "Steered"))
    start, end = shared_ends(prompts)
    body = "".join(_row(row, start, end) for row in rows.itertuples())
    return f'<table class="cs-flips"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _row(row: Any, start: int, end: int) -> str:
    found = differences(row.unsteered, row.steered)
    target = "" if ui.missing(row.target) else f'<div class="cs-foot">Right answer: {escaped(row.target)}</div>'
    own = row.prompt[start : len(row.prompt) - end].strip() or row.prompt
    unsteered, steered = (
        f'<div class="cs-cell" title="{escaped(parting(found))}"><div class="cs-body">{side_by_side.body(markup)}</div>'
        f"{side_by_side.verdict(outcome)}</div>"
        for markup, outcome in (
            (marked(found, "unsteered"), row.outcome_unsteered),
            (marked(found, "steered"), row.outcome_steered),
        )
    )
    prompt = f'<div class="cs-body" title="{escaped(row.prompt)}">{escaped(own)}</div>{target}'
    return f"<tr><td>{prompt}</td><td>{unsteered}</td><td>{steered}</td></tr>"
