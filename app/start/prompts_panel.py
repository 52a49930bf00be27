"""The first prompts of a run as the model will read them, or the samples' own where its words are not here."""

from __future__ import annotations

import streamlit as st

from app.shared import components as ui
from app.start import model_words
from app.start.question import Question
from app.start.settings import Settings
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.tasks import Item
from corrsteer_core.tasks.preview import Taken

SHOWN = 2
BEGINNING, END = 1_600, 400
"""Characters of a long prompt that are shown."""
HEIGHT = 240  # pixels, whatever is in it: what stands below must not move when the words arrive
POLL = 0.5  # seconds between looks whether the words are there


def draw(question: Question, found: Taken | None, settings: Settings, model: str) -> None:
    """Some prompts of the run, beside their right answers."""
    if found is None:
        when = "The samples are not downloaded yet." if question.downloaded else "There are no samples yet."
        st.caption(f"{when} Their prompts are shown here as the model will read them.")
        return
    if found.problems:
        _no_prompts(question, found)
        return
    reading = model_words.reading(model) if model else None
    texts, said = _texts(question, found, settings, reading)
    if texts:
        st.caption(said)
    texts = [(item, ui.plain(_cut(text))) for item, text in texts]
    for place, (item, text) in zip(st.columns(len(texts) or 1, gap="medium"), texts, strict=False):
        with place:
            st.code(text, language=None, wrap_lines=True, height=HEIGHT)
            st.caption(_about(item))
    if reading and not reading.ready:
        _look_again(reading)


def _no_prompts(question: Question, found: Taken) -> None:
    """Why there are none: a file's own problems are said beside it, those of the settings here."""
    own = question.taken()
    if own and own.problems:
        st.caption("They are shown once the samples can be read.")
    else:
        ui.problem(found.problems[0])


def _texts(
    question: Question, found: Taken, settings: Settings, reading: model_words.Reading | None
) -> tuple[list[tuple[Item, str]], str]:
    """The first samples with the text for each, and in a sentence what these texts are."""
    items = found.items[:SHOWN]
    if reading is None or not reading.ready or reading.words is None or question.task is None:
        wait = "its words are being read" if reading and not reading.ready else "its words are not on this machine yet"
        return [(item, item.prompt) for item in items], f"The samples' own prompts; how the model reads them: {wait}."
    from corrsteer_core.models.prompts import prompt_text, resolve_style

    try:
        style = resolve_style(
            reading.words, chat=settings.chat, task_chat=question.task.chat, system=settings.system, shots=found.shots
        )
        texts = [(item, prompt_text(reading.words, item.prompt, style)) for item in items]
    except CorrSteerError as error:
        ui.problem(error)
        return [], ""
    frame = "with its chat template" if style.chat else "as plain text, without a chat template"
    shots = f" and {ui.counted(len(found.shots), 'example')} before each" if found.shots else ""
    return texts, f"As {ui.for_markdown(ui.shortened(reading.name, 60))} will read them, {frame}{shots}"


def _about(item: Item) -> str:
    right = "" if item.target is None else f"Right answer: {ui.for_markdown(ui.shortened(item.target, 60))} · "
    return f"{right}{item.split} sample"


def _cut(text: str) -> str:
    """A text of which a long middle is left out."""
    left = len(text) - BEGINNING - END
    return text if left <= 0 else f"{text[:BEGINNING]}\n… {left:,} characters more …\n{text[-END:]}"


def _look_again(reading: model_words.Reading) -> None:
    """Draw the page again once the words are there."""

    def look() -> None:
        if reading.ready:
            st.rerun()

    st.fragment(look, run_every=POLL)()
