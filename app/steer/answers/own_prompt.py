"""A prompt of the user's own, and the two chats that it goes on with."""

from __future__ import annotations

import streamlit as st

from app.shared import side_by_side
from app.shared.side_by_side import Column
from app.steer.browser_side import BOX
from app.steer.chat import Turn, Turns
from app.steer.desk import Desk
from app.steer.playing import LONGEST_PROMPT, Question
from corrsteer_core.base.text_diff import escaped


def _chat(run: str) -> str:
    """Key of the switch between a chat and plain text."""
    return f"chat-{run}"


def _said(run: str) -> str:
    """Where what was said in the chats is kept."""
    return f"turns-{run}"


def draw(desk: Desk) -> tuple[str, str, bool]:
    """A prompt of the user's own, what was said before it in a chat, and how it is put to the model."""
    own = desk.config.style.chat
    turns = turns_now(desk)
    if turns:
        _chats(desk.run, turns)
    prompt = st.text_area(
        "Your next message, to both" if turns else "Your prompt",
        key=BOX,
        height=120,
        max_chars=LONGEST_PROMPT,
        persist_state="session",
        placeholder="Say more, or ask something else" if turns else "Ask something, or write the beginning of a text",
    )
    chat = st.toggle(
        "Ask as in a chat",
        value=own,
        key=_chat(desk.run),
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


def turns_now(desk: Desk) -> Turns:
    """What was said before in this tab's chats; without a chat, nothing of it is sent."""
    as_in_a_chat = st.session_state.get(_chat(desk.run), desk.config.style.chat)
    return st.session_state.get(_said(desk.run), ()) if as_in_a_chat else ()


def _chats(run: str, turns: Turns) -> None:
    """What was said so far, the user's words above either side's answer."""
    st.html(side_by_side.conversation([(turn.words, _answers(turn)) for turn in turns]))
    with st.container(horizontal=True, vertical_alignment="center"):
        for label, icon, change, help in (
            (
                "Take the last turn back",
                "undo",
                _take_back,
                "Out of both chats; what you said last comes back into the box.",
            ),
            ("Start over", "restart_alt", _start_over, "Both chats begin anew."),
        ):
            st.button(label, type="tertiary", icon=f":material/{icon}:", on_click=change, args=(run,), help=help)


def _answers(turn: Turn) -> list[Column]:
    return [
        Column("Unsteered", "unsteered", escaped(turn.unsteered)),
        Column("Steered", "steered", escaped(turn.steered)),
    ]


def _start_over(run: str) -> None:
    st.session_state[_said(run)] = ()


def _take_back(run: str) -> None:
    *before, last = st.session_state[_said(run)]
    st.session_state[_said(run)] = tuple(before)
    st.session_state[BOX] = last.words


def reply(question: Question, unsteered: str, steered: str) -> None:
    """Make a question and its answers part of the chats, each side's its own; the next message begins empty."""
    st.session_state[_said(question.run)] = (*question.turns, Turn(question.prompt, unsteered, steered))
    st.session_state[BOX] = ""


def how_put(chat: bool) -> str:
    """How a prompt is put to the model, in words."""
    return (
        "Put to the model as a chat turn, in its chat template"
        if chat
        else "Put to the model as plain text to go on from"
    )
