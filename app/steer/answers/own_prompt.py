"""A prompt of the user's own, and the conversation that it goes on from."""

from __future__ import annotations

import streamlit as st

from app.shared import side_by_side
from app.steer.browser_side import BOX
from app.steer.desk import Desk
from app.steer.playing import LONGEST_PROMPT, Question

Turns = tuple[tuple[str, str], ...]
"""What was said before: the user's words and the answer gone on from, turn by turn."""


def _chat(run: str) -> str:
    """Key of the switch between a chat and plain text."""
    return f"chat-{run}"


def _said(run: str) -> str:
    """Where the conversation is kept."""
    return f"turns-{run}"


def draw(desk: Desk) -> tuple[str, str, bool]:
    """A prompt of the user's own, what was said before it in a chat, and how it is put to the model."""
    own, key = desk.config.style.chat, _chat(desk.run)
    # Of the switch below: without a chat, what was said before is not sent.
    turns = turns_of(desk.run) if st.session_state.get(key, own) else ()
    if turns:
        _conversation(desk.run, turns)
    prompt = st.text_area(
        "Your next turn" if turns else "Your prompt",
        key=BOX,
        height=120,
        max_chars=LONGEST_PROMPT,
        persist_state="session",
        placeholder="Ask something, or write the beginning of a text",
    )
    chat = st.toggle(
        "Ask as in a chat",
        value=own,
        key=key,
        persist_state="session",
        help="On: the chat template is put around the prompt, so that the model answers. Off: it goes on with it. "
        f"This run's features were found {'in a chat' if own else 'on plain text, without the chat template'}.",
    )
    differs = (
        "" if chat == own else " This differs from how the features were found; they may do less, or something else."
    )
    st.caption(how_put(chat) + "." + differs)
    return "", prompt, chat


def put(question: Question) -> dict[str, object]:
    """What the boxes hold when this question is asked."""
    run = question.run
    return {BOX: question.prompt, _said(run): question.turns, _chat(run): bool(question.chat)}


def keys(run: str) -> tuple[str, ...]:
    """Of everything that is kept of it."""
    return BOX, _said(run), _chat(run)


def turns_of(run: str) -> Turns:
    """What was said before in this tab's conversation: the user's words and the answer gone on from, turn by turn."""
    return st.session_state.get(_said(run), ())


def _conversation(run: str, turns: Turns) -> None:
    for words, answer in turns:
        st.html(side_by_side.prompt(f"You: {words}\n\nModel: {answer}"))
    st.button("Start over", icon=":material/restart_alt:", on_click=_start_over, args=(run,))


def _start_over(run: str) -> None:
    st.session_state[_said(run)] = ()


def reply(question: Question, answer: str) -> None:
    """Make a question and one of its answers part of the conversation; the next turn begins empty."""
    st.session_state[_said(question.run)] = (*question.turns, (question.prompt, answer))
    st.session_state[BOX] = ""


def how_put(chat: bool) -> str:
    """How a prompt is put to the model, in words."""
    return (
        "Put to the model as a chat turn, in its chat template"
        if chat
        else "Put to the model as plain text to go on from"
    )
