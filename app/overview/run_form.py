"""The form that starts a run: a task or a file, a model with its SAEs, and how they are put together."""

from __future__ import annotations

import math
import re
from typing import Any

import streamlit as st

from app.overview import job_panel
from app.shared import components as ui
from corrsteer_core import tasks
from corrsteer_core.base import jobs, uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.runs import poolings
from corrsteer_core.saes.presets import PRESETS
from corrsteer_core.storage import upload_room

STARTED = "new_run_job"  # the job that this tab's form started last
REMOVED = "new_run_removed"  # what went to make room for its file
SCORER_WORDS = {
    "letter": "The right letter (A, B, C ...)",
    "first_word": "The right first word",
    "number": "The right last number",
    "exact": "Exactly the target",
    "contains": "The target is in the answer",
    "regex": "The target, a pattern (regex), is found",
    "refusal": "The answer refuses",
    "no_refusal": "The answer does not refuse",
    "comply_or_refuse": "Refuses or complies as the target says",
    "positive_tone": "The answer has a positive tone",
    "negative_tone": "The answer has a negative tone",
    "numbered_list": "The answer is a numbered list",
}
"""What counts as success, in words, by the name of the scorer."""
BUILT_IN, OWN = "A task by name", "My own file"


def draw() -> None:
    """The form that starts a run."""
    box = st.expander("Start a run", icon=":material/add:", key="new_run_open", on_change="rerun")
    # Drawn when it is first opened, which spares the first page a third of its work; then kept, with what was typed.
    st.session_state["new_run_drawn"] = box.open or st.session_state.get("new_run_drawn", False)
    if not st.session_state["new_run_drawn"]:
        return
    with box:
        kind = st.segmented_control(
            "What is asked", [BUILT_IN, OWN], default=BUILT_IN, required=True, key="new_run_kind"
        )
        preset = _pairing()
        with st.form("new_run", border=False, enter_to_submit=False):
            asked = _named_task() if kind == BUILT_IN else _own_file()
            settings = {"preset": preset, **({} if preset else _own_pairing()), **_settings()}
            pressed = st.form_submit_button("Start", type="primary", icon=":material/play_arrow:")
        if pressed:
            _start(asked, settings)
        elif started := st.session_state.get(STARTED):
            job_panel.draw_one(started)
            if removed := st.session_state.get(REMOVED):
                st.caption(removed)


def _named_task() -> dict[str, Any]:
    def label(name: str) -> str:
        task = tasks.TASKS[name]
        return f"{task.title}: {task.description}" + (" Downloaded from the Hugging Face hub." if task.hub else "")

    return {"task": st.selectbox("Task", list(tasks.TASKS), format_func=label, key="new_run_task")}


def _own_file() -> dict[str, Any]:
    left, right = st.columns(2)
    file = left.file_uploader(
        "Your samples (JSON, CSV, Parquet)", type=[*uploads.ENDINGS, ".gz"], key="new_run_file",
        help=(
            'JSON lines, a JSON list, CSV or Parquet, also gzipped, with "prompt" and, where the scorer needs one, '
            '"target"; "split" if you have splits of your own.'
        ),
    )  # fmt: skip
    scorer = right.selectbox(
        "What counts as success", list(SCORER_WORDS), format_func=SCORER_WORDS.__getitem__, key="new_run_scorer",
        help="How an answer is compared with its target: by first letter, first word, last number, ...",
    )  # fmt: skip
    return {"file": file, "scorer": scorer}


def _pairing() -> str | None:
    """A preset's name, or None for model and SAEs named one by one."""

    def label(name: str | None) -> str:
        return "The embedded model, or one that I name below" if name is None else PRESETS[name].title

    name = st.selectbox("Model and its SAEs", [None, *PRESETS], format_func=label, key="new_run_preset")
    if name is not None:
        preset = PRESETS[name]
        st.caption(
            f"`{preset.model}` with `{preset.release}`, layers 0 to {len(preset.ids) - 1}. Downloaded from the Hugging Face "
            f"hub unless they are in its cache; *Layers* below takes some of them. A large model needs a GPU."
        )
    return name


def _own_pairing() -> dict[str, Any]:
    model, sae = st.columns(2)
    return {
        "model": model.text_input(
            "Model", EMBEDDED, key="new_run_model", help="The embedded one, a Hugging Face id, or a folder."
        ),
        "sae": sae.text_input(
            "Feature dictionaries (SAEs)", "embedded", key="new_run_sae",
            help=(
                "`embedded` for those that come with the embedded model; else a folder or release/id, several "
                "separated by commas."
            ),
        ),
    }  # fmt: skip


def _settings() -> dict[str, Any]:
    found: dict[str, Any] = {}
    layers, limit, tokens, pooling = st.columns(4)
    found["layers"] = layers.text_input("Layers", placeholder="all there are", help="As 8,15,22.", key="new_run_layers")
    found["limit"] = limit.number_input("Samples, at most", 10, None, None, 50, placeholder="all", key="new_run_limit")
    found["tokens"] = tokens.number_input(
        "Longest answer (tokens)", 1, ui.MOST_TOKENS, None, placeholder="the task's own", key="new_run_tokens"
    )
    found["pooling"] = pooling.selectbox(
        "Activation of an answer", list(poolings.POOLINGS), key="new_run_pooling",
        help=f"{poolings.in_words()}. The paper takes {poolings.DEFAULT_POOLING}.",
    )  # fmt: skip
    return {**found, **_prompt_settings()}


CHAT = {"The task's own": None, "On": "--chat", "Off": "--no-chat"}


def _prompt_settings() -> dict[str, Any]:
    """How a prompt is put to the model: the same while fitting, measuring and steering."""
    chat, shots, system = st.columns([1, 1, 2])
    return {
        "chat": chat.selectbox(
            "Chat template", list(CHAT), key="new_run_chat",
            help="The frame of roles and turns that a tuned model was trained with; a base model has none.",
        ),
        "shots": shots.number_input(
            "Examples before each prompt", 0, 64, 0, key="new_run_shots",
            help="This many training samples are shown with their answers (few-shot), and used for nothing else.",
        ),
        "system": system.text_input(
            "System prompt", key="new_run_system", placeholder="none", help="Needs the chat template."
        ),
    }  # fmt: skip


def _start(asked: dict[str, Any], settings: dict[str, Any]) -> None:
    """Start the run; what is wrong with the input is said below the button, and nothing is started."""
    try:
        arguments = ["fit", *_asked(asked), *_options(settings)]
        if jobs.running(arguments):
            raise CorrSteerError("This run is already in progress; see the top of the page.")
        title = tasks.TASKS[asked["task"]].title if "task" in asked else ui.shortened(asked["file"].name, 60)
        st.session_state[STARTED] = jobs.start(arguments, f"{title}: collect and rank")
    except CorrSteerError as error:
        ui.problem(error)
        return
    st.rerun()


def _asked(asked: dict[str, Any]) -> list[str]:
    if "task" in asked:
        return [f"--task={asked['task']}"]
    if asked["file"] is None:
        raise CorrSteerError("No file was chosen; upload one with a prompt in every row.")
    content = asked["file"].getvalue()
    st.session_state[REMOVED] = upload_room.make_room(len(content))
    path = uploads.keep_upload(asked["file"].name, content)
    try:
        tasks.load_items(tasks.custom_task(asked["scorer"], path))
    except CorrSteerError:  # said now: as a job it could only fail, and fail again
        uploads.remove(path)
        raise
    return [f"--scorer={asked['scorer']}", f"--data={path}"]


def _options(settings: dict[str, Any]) -> list[str]:
    """Of the form's fields, those that are filled in, as arguments; a value cannot pass for an option."""
    found = [f"--preset={settings['preset']}"] if settings["preset"] else _named_pairing(settings)
    layers = re.sub(r"\s", "", settings["layers"] or "")
    if layers:
        found.append(f"--layers={layers}")
    for name, field in (("limit", "limit"), ("max-new-tokens", "tokens")):
        value = settings[field]
        if value is not None and math.isfinite(value):
            found.append(f"--{name}={int(value)}")
    found.append(f"--pooling={settings['pooling']}")
    if option := CHAT[settings["chat"]]:
        found.append(option)
    if settings["shots"]:
        found.append(f"--shots={int(settings['shots'])}")
    if settings["system"].strip():
        found.append(f"--system={settings['system'].strip()}")
    return found


def _named_pairing(settings: dict[str, Any]) -> list[str]:
    model = settings["model"].strip()
    if not model:
        raise CorrSteerError(f"No model was named; {EMBEDDED} is the one that comes with the tool.")
    saes = [part.strip() for part in settings["sae"].split(",") if part.strip()] or ["embedded"]
    return [f"--model={model}", *(f"--sae={sae}" for sae in saes)]
