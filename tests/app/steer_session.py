"""The Steer page in a session without a browser: opened, asked, answered, opened again."""

from __future__ import annotations

import re

from streamlit.testing.v1 import AppTest

from app.steer.playing import Playing
from corrsteer_core.runs.steering_set import SteeringSet


def script() -> None:
    import streamlit as st  # this function's text is run on its own

    from app.shared import components
    from app.steer import page as steer
    from corrsteer_core.storage import run_folder

    st.session_state.setdefault("current_run", next(iter(run_folder.run_names()), None))
    components.page_of(steer.page)()


def opened(**state: object) -> AppTest:
    test = AppTest.from_function(script, default_timeout=600)
    for key, value in state.items():
        test.session_state[key] = value
    test.run()
    assert not test.exception
    return test


def button(test: AppTest, label: str):
    return next(one for one in test.button if one.label == label)


def generate(test: AppTest, label: str = "Generate") -> Playing:
    """Press Generate, or another button that answers, wait for the end, draw the page once more."""
    button(test, label).click().run()
    playing = test.session_state["playing"]
    assert playing.wait(600)
    test.run()
    assert not test.exception
    return playing


def current(test: AppTest, run: str) -> SteeringSet:
    return test.session_state["desks"][run].editor.current


def held(test: AppTest, kind: str, name: str):
    """The field of the set by its name; how often something else changed its value stands behind that in its key."""
    return next(one for one in test.get(kind) if re.fullmatch(re.escape(name) + r"-\d+", one.key or ""))


def said(test: AppTest) -> str:
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "success")
    return "\n".join(str(one.value) for kind in kinds for one in test.get(kind)).replace("\\", "")


def shown(test: AppTest) -> str:
    """The HTML of the answers."""
    return next((one for one in _html(test) if one.startswith('<div class="cs-texts')), "")


def chats(test: AppTest) -> str:
    """The HTML of what was said before."""
    return next((one for one in _html(test) if one.startswith('<div class="cs-chat"')), "")


def _html(test: AppTest) -> list[str]:
    return [str(one.proto.body) for one in test.get("html")]


def ask(test: AppTest, prompt: str) -> AppTest:
    test.segmented_control(key="prompt_kind").set_value("My own").run()
    test.text_area(key="typed").set_value(prompt).run()
    assert not test.exception
    return test


def reloaded(test: AppTest) -> AppTest:
    """A new session whose address names what the old one left."""
    again = AppTest.from_function(script, default_timeout=600)
    again.query_params["desk"] = test.session_state["remembered_as"]
    again.run()
    assert not again.exception
    return again
