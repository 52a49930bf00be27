"""The form that measures a set: one set, one at several scales, several on several tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.evaluate import measuring
from app.shared import components as ui
from app.shared import resources, state
from app.shared.names import SPLITS, task_title
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs import measurements, run_facts
from corrsteer_core.runs.against import CONSTRAINED, CONTROLS, DIFFERENCE, OFFSET, PROMPTS, RIVALS
from corrsteer_core.runs.strategies import PREFERRED
from corrsteer_core.tasks import SHIFTED, TASKS, has_shifted

if TYPE_CHECKING:  # the page must not load torch, which this does
    from corrsteer_core.runs.steering_set import SteeringSet


KINDS = {"one": "One set", "scales": "Several scales", "tasks": "Several sets and tasks"}
RIVAL_TITLES = {
    PROMPTS: "Better prompts",
    OFFSET: "One constant per class",
    DIFFERENCE: "Difference of activations",
    CONSTRAINED: "Constrained decoding",
}
SCALES = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]


def sets(run: str) -> dict[str, str]:
    """Sets that can be measured, by name, as JSON: those of the run, and the one on the Steer page if it differs."""
    kept = resources.ask(measurements.sets, run)
    bodies = dict(zip(kept["name"], kept["body"], strict=True))
    desk = st.session_state.get(state.DESKS, {}).get(run)
    if desk is None or not desk.editor.current.active_rows or desk.begun != resources.ask(run_facts.facts, run).created:
        return bodies
    edited: SteeringSet = desk.editor.current
    saved = dict(zip(kept["name"], kept["content"], strict=True)).get(edited.name)
    if isinstance(saved, str) and saved != edited.content:  # brought from elsewhere under a name that is taken here
        edited = replace(edited, name=f"{edited.name} (on the Steer page)")
    if edited.name not in bodies:
        bodies[edited.name] = edited.to_json()
    return bodies


def draw(run: str, bodies: dict[str, str]) -> None:
    if not bodies:
        ui.nothing_yet("This run has no steering set yet.", "Put one together on the Steer page and save it.")
        return
    kind = st.segmented_control(
        "What to measure",
        list(KINDS),
        default=next(iter(KINDS)),
        required=True,
        format_func=KINDS.__getitem__,
        key="measure_kind",
        label_visibility="collapsed",
    )
    names = sorted(bodies, key=lambda name: (name != PREFERRED[0], name))
    sets = {name: measuring.NamedSet(run, name, bodies[name]) for name in names}
    config = resources.ask(run_facts.facts, run).config
    try:
        asked = {"one": _one_set, "scales": _several_scales, "tasks": _sets_on_tasks}[kind](sets, config)
        if asked is None:
            return
        measuring.start(asked, config)
    except CorrSteerError as error:
        ui.problem(error)
        return
    st.rerun()


def _one_set(sets: dict[str, measuring.NamedSet], config: dict[str, Any]) -> measuring.Measurement | None:
    tasks = [config["task"], *(name for name in TASKS if name != config["task"])]
    with st.container():  # no form: which samples there are depends on the task
        one, two, three = st.columns(3)
        name = one.selectbox("Steering set", list(sets), help="Sets saved with the run, and the one on the Steer page.")
        task = two.selectbox(
            "Task",
            tasks,
            format_func=task_title,
            help="The run's own task, or another one to see side effects there. Some need a network the first time.",
        )
        split = three.selectbox("Samples", _splits([task]), format_func=SPLITS.__getitem__)
        one, two, three = st.columns(3, vertical_alignment="bottom")
        limit = one.number_input("Most samples", 1, None, None, placeholder="all of them")
        controls = two.number_input(
            "Random sets to compare with",
            0,
            99,
            CONTROLS,
            help="Each replaces every feature by a random one that fires as often and pushes as hard. If they do as "
            "much, the set's features are nothing special. The set with its sign turned round, and its push on words as "
            "one constant, are measured as well.",
        )
        asked = three.button("Measure", type="primary", icon=":material/play_arrow:", width="stretch")
        against, system = _rivals()
    if not asked:
        return None
    most = int(limit) if limit else None
    return measuring.Measurement(sets[name], task, split, most, int(controls), against, system)


def _rivals() -> tuple[tuple[str, ...], str]:
    """What the set is put against beside its controls, and a better prompt of the user's own."""
    one, two = st.columns([1, 1])
    kinds = one.multiselect(
        "Put it against what would be tried first",
        list(RIVALS),
        format_func=lambda kind: RIVAL_TITLES.get(kind, kind),
        help="Each is measured on the same samples. If one does as much, the set is not what to reach for.",
    )
    system = two.text_input(
        "A better prompt of your own",
        placeholder="text to put before every prompt",
        max_chars=4000,
        help="As a system prompt where the model has one, else before the text.",
    )
    return tuple(kinds), system.strip()


def _several_scales(sets: dict[str, measuring.NamedSet], config: dict[str, Any]) -> measuring.Sweep | None:
    st.caption(
        "One set, weaker and stronger, on its own task and on others: what is won on the one and lost on the others."
        + _not_offered(config)
    )
    with st.form("sweep", border=False):
        one, two = st.columns([1, 2])
        name = one.selectbox("Steering set", list(sets))
        tasks = two.multiselect("Tasks", _named_tasks(config), default=_own(config), format_func=task_title)
        one, two, three, four = st.columns([2, 1.2, 1.2, 1], vertical_alignment="bottom")
        scales = one.multiselect("Scales", SCALES, default=[0.5, 1.0, 1.5, 2.0], format_func="{:g}".format)
        split = two.selectbox("Samples", _splits(TASKS), format_func=SPLITS.__getitem__)
        limit = three.number_input("Most samples", 1, None, None, placeholder="all of them")
        asked = four.form_submit_button("Measure", type="primary", icon=":material/play_arrow:", width="stretch")
    if not asked:
        return None
    if not tasks or not scales:
        raise CorrSteerError("Choose at least one task and one scale to measure.")
    _check_shifted(tasks, split)
    return measuring.Sweep(sets[name], tuple(tasks), tuple(sorted(scales)), split, int(limit) if limit else None)


def _sets_on_tasks(sets: dict[str, measuring.NamedSet], config: dict[str, Any]) -> measuring.Transfer | None:
    st.caption(
        "Every chosen set on every chosen task: does what was found on one task help or harm on another?"
        + _not_offered(config)
    )
    with st.form("transfer", border=False):
        one, two = st.columns(2)
        names = one.multiselect("Steering sets", list(sets), default=list(sets)[:3])
        tasks = two.multiselect("Tasks", _named_tasks(config), default=_own(config), format_func=task_title)
        one, two, three = st.columns(3, vertical_alignment="bottom")
        split = one.selectbox("Samples", _splits(TASKS), format_func=SPLITS.__getitem__)
        limit = two.number_input("Most samples of each task", 1, None, None, placeholder="all of them")
        asked = three.form_submit_button("Measure", type="primary", icon=":material/play_arrow:", width="stretch")
    if not asked:
        return None
    if not tasks or not names:
        raise CorrSteerError("Choose at least one set and one task to measure.")
    _check_shifted(tasks, split)
    return measuring.Transfer(tuple(sets[name] for name in names), tuple(tasks), split, int(limit) if limit else None)


def _named_tasks(config: dict[str, Any]) -> list[str]:
    """Tasks with a name, the run's own first; a task from a file of the user's can only be measured set by set."""
    return [*_own(config), *(name for name in TASKS if name != config["task"])]


def _not_offered(config: dict[str, Any]) -> str:
    """Why the run's own task is not offered, if it is not."""
    return "" if _own(config) else " This run's own task is a file of yours: that is measured under *One set*."


def _splits(tasks: Iterable[str]) -> list[str]:
    """The splits that any of the tasks has. Whether a file of the user's has shifted rows is seen when it is measured."""
    shifted = any(task not in TASKS or has_shifted(TASKS[task]) for task in tasks)
    return [split for split in SPLITS if split != SHIFTED or shifted]


def _check_shifted(tasks: Iterable[str], split: str) -> None:
    """CorrSteerError that names the tasks without shifted samples, where these are asked for."""
    lacking = [task_title(task) for task in tasks if split == SHIFTED and not has_shifted(TASKS[task])]
    if lacking:
        raise CorrSteerError(
            f"There are no shifted samples of {', '.join(lacking)}; leave it out or choose other samples."
        )


def _own(config: dict[str, Any]) -> list[str]:
    return [config["task"]] if config["task"] in TASKS else []
