"""A sample of the run's task as the prompt: which one, and how the model did on it without steering."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pandas as pd
import streamlit as st

from app.shared import components, resources, side_by_side
from app.shared.names import SPLITS
from app.steer.answers.own_prompt import how_put
from app.steer.desk import Desk
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.text_diff import shared_ends
from corrsteer_core.runs import measurements, run_facts

SPLIT = "sample_split"


def _chosen(run: str, split: str) -> str:
    """Key of the box in which a sample of a split is chosen."""
    return f"sample-{run}-{split}"


def draw(desk: Desk) -> tuple[str, str, None]:
    """A sample of the run's task: its id and prompt."""
    every = resources.ask_fit(measurements.samples, desk.run)
    splits = [split for split in SPLITS if (every["split"] == split).any()]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):  # on a narrow page, two lines
        split = st.selectbox(
            "Samples of",
            splits,
            format_func=SPLITS.__getitem__,
            key=SPLIT,
            persist_state="session",
            width=160,
            help="Training samples ranked the features, validation samples chose among them, test samples did neither.",
        )
        samples = every[every["split"] == split].set_index("sample")
        lines = labels(samples)
        key = _chosen(desk.run, split)
        if st.session_state.get(key) not in lines:
            st.session_state[key] = _telling(samples, _won(desk.run))
        chosen = st.selectbox(
            "Sample",
            list(lines),
            format_func=lines.__getitem__,
            key=key,
            persist_state="session",
            help="✓ and ✗ say whether the unsteered model succeeded on it.",
        )
        components.icon_button(
            "Another sample, at random",
            "shuffle",
            "another",
            on_click=_another,
            args=(key, list(lines)),
        )
    row = samples.loc[chosen]
    st.html(side_by_side.prompt(row["prompt"]))
    target = (
        f"Right answer: **{components.for_markdown(row['target'])}**. " if not components.missing(row["target"]) else ""
    )
    st.caption(target + _as_the_set_says(desk))
    return chosen, row["prompt"], None


def put(run: str, sample: str) -> dict[str, object]:
    """What the boxes hold when this sample is chosen. Raises CorrSteerError for a sample that the run lacks."""
    samples = resources.ask_fit(measurements.samples, run)
    splits = samples.loc[samples["sample"] == sample, "split"]
    if splits.empty:
        name = components.shortened(sample, 40)
        raise CorrSteerError(f"The run {run} has no sample {name}; choose one of those it has.")
    return {SPLIT: splits.iloc[0], _chosen(run, splits.iloc[0]): sample}


def keys(run: str) -> tuple[str, ...]:
    """Of the boxes that name the sample."""
    return SPLIT, *(_chosen(run, split) for split in SPLITS)


def _as_the_set_says(desk: Desk) -> str:
    """How a sample is put to the model, and whether the run's samples were put so too."""
    own, found = desk.editor.current.style, desk.config.style
    if own == found:
        return f"{how_put(own.chat)}, as when the features were found."
    if own.chat != found.chat:
        other = "in a chat" if found.chat else "on plain text, without the chat template"
        return f"{how_put(own.chat)}, as the set has it; this run's features were found {other}."
    return f"{how_put(own.chat)}; the set's system prompt or examples differ from those the features were found with."


def labels(samples: pd.DataFrame) -> dict[str, str]:
    """A line for each sample: whether the unsteered model succeeded, and the part of the prompt that is its own.

    No two are the same: the browser says which line was chosen, not which sample.
    """
    prompts = samples["prompt"].tolist()
    start, end = shared_ends(prompts)
    marks = samples["outcome"].map(
        lambda outcome: "" if components.missing(outcome) else "✓ " if outcome > 0.5 else "✗ "
    )
    own = [components.shortened(text[start : len(text) - end].strip() or text, 70) for text in prompts]
    lines = _distinguished([mark + text for mark, text in zip(marks, own, strict=True)])
    return dict(zip(samples.index, lines, strict=True))


def _distinguished(lines: list[str]) -> Iterator[str]:
    """The lines, those that look like an earlier one numbered."""
    taken: set[str] = set()
    times: Counter[str] = Counter()
    for line in lines:
        own = line
        while own in taken:
            times[line] += 1
            own = f"{line} ({times[line] + 1})"
        taken.add(own)
        yield own


def _won(run: str) -> list[str]:
    """Unseen samples that the set of the run's headline put right; empty where none has been measured."""
    measured = resources.ask(run_facts.headline, run)
    if measured is None:
        return []
    where = (measured["set"], measured["task"], measured["split"], measured["scale"])
    found = measurements.with_flips(resources.ask(measurements.evaluated_samples, run, *where))
    return found.loc[found["flip"] == "won", "sample"].tolist()


def _telling(samples: pd.DataFrame, won: list[str]) -> str:
    """A sample to begin with: one that the chosen set was seen to put right, else one that it could."""
    failed = samples.index[samples["outcome"] <= 0.5]
    return str(next((one for one in won if one in samples.index), failed[0] if len(failed) else samples.index[0]))


def _another(key: str, samples: list[str]) -> None:
    others = [sample for sample in samples if sample != st.session_state.get(key)]
    if others:
        st.session_state[key] = random.choice(others)
