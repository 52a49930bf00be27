"""What is asked: a sample of the task or a prompt of the user's own, and the settings of the answers."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.steer.answers import own_prompt, task_sample
from app.steer.chat import Turns
from app.steer.desk import Desk
from app.steer.playing import HOTTEST, LARGEST_SEED, MORE_SCALES, Question, most_tokens

SAMPLE, TYPED = "From the task", "My own"
KIND, TEMPERATURE, SEED = "prompt_kind", "temperature", "seed"


def _length(run: str, *, sampled: bool) -> str:
    """Key of the field for the longest answer."""
    return f"length-{'sample' if sampled else 'typed'}-{run}"


def _scales(run: str) -> str:
    """Key of the further scales."""
    return f"scales-{run}"


def draw(desk: Desk) -> Question | None:
    """Everything the answers will depend on, from the widgets; None while there is no prompt."""
    st.subheader("Prompt")
    kind = st.segmented_control(
        "Where the prompt comes from",
        [SAMPLE, TYPED],
        default=SAMPLE,
        required=True,
        key=KIND,
        label_visibility="collapsed",
        persist_state="session",
    )
    sample, prompt, chat = task_sample.draw(desk) if kind == SAMPLE else own_prompt.draw(desk)
    settings = _settings(desk, sampled=bool(sample))
    if not prompt.strip():
        return None
    return Question(desk.editor.current, prompt, desk.run, sample, chat=chat, turns=turns_now(desk), **settings)


def is_typed() -> bool:
    """Whether the prompt is one of the user's own."""
    return st.session_state.get(KIND) == TYPED


def turns_now(desk: Desk) -> Turns:
    """The chats that the next message goes on with; () for a sample, or without a chat."""
    return own_prompt.turns_now(desk) if is_typed() else ()


def put(question: Question) -> dict[str, object]:
    """What the widgets hold when they ask this question. Raises CorrSteerError for a sample that the run lacks."""
    run, own, sampled = question.run, float(question.steering.scale), bool(question.sample)
    asked: dict[str, object] = {
        KIND: SAMPLE if sampled else TYPED,
        _length(run, sampled=sampled): question.max_new_tokens,
        TEMPERATURE: question.temperature,
        SEED: question.seed,
        _scales(run): [one for one in question.scales if one != own],
    }
    return asked | (task_sample.put(run, question.sample) if sampled else own_prompt.put(question))


def held(run: str) -> dict[str, object]:
    """What the widgets of the question hold now, by their keys."""
    own = (KIND, TEMPERATURE, SEED, _scales(run), _length(run, sampled=True), _length(run, sampled=False))
    every = (*own, *task_sample.keys(run), *own_prompt.keys(run))
    return {key: st.session_state[key] for key in every if key in st.session_state}


def _settings(desk: Desk, *, sampled: bool) -> dict[str, Any]:
    """Length, randomness and scales of the answers."""
    scale = float(desk.editor.current.scale)
    with st.expander("Length, randomness, scales", icon=":material/settings:"):
        first, second, third = st.columns(3)
        length = first.number_input(
            "Tokens at most",
            1,
            most_tokens(desk.config),
            desk.config.max_new_tokens if sampled else 60,
            key=_length(desk.run, sampled=sampled),
            persist_state="session",
            help="A token is a word or a piece of one. For samples: as long as when the run was collected.",
        )
        temperature = second.slider(
            "Temperature",
            0.0,
            HOTTEST,
            0.0,
            0.1,
            key=TEMPERATURE,
            persist_state="session",
            help="0: always the most probable token. Higher: more random.",
        )
        seed = third.number_input(
            "Seed",
            0,
            LARGEST_SEED,
            0,
            key=SEED,
            disabled=temperature == 0,
            persist_state="session",
            help="Both answers are drawn with the same random numbers, so that they differ by steering only.",
        )
        more = st.pills(
            "Also at these global scales, one column each",
            MORE_SCALES,
            selection_mode="multi",
            format_func=lambda one: f"{one:g}",
            key=_scales(desk.run),
            persist_state="session",
        )
    scales = tuple(sorted({scale, *more}))
    return {"max_new_tokens": int(length), "temperature": float(temperature), "seed": int(seed), "scales": scales}
