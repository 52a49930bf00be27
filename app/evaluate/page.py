"""Evaluate: measure a steering set on held-out samples, and read what came of it sample by sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from app.evaluate import measuring, rate_chart
from app.shared import components as ui
from app.shared import resources, state
from app.steer import side_by_side
from corrsteer_core.base import jobs
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import seconds
from corrsteer_core.base.text_diff import differences, escaped, marked, parting, shared_ends
from corrsteer_core.reporting import comparisons, verdict
from corrsteer_core.runs import measurements, run_facts
from corrsteer_core.tasks import TASKS

if TYPE_CHECKING:  # the page must not load torch, which this does
    from corrsteer_core.runs.steering_set import SteeringSet

POLL = 1.0  # seconds between looks at a running measurement
PAGE = 20  # samples shown at once
WHICH = ("name", "content", "task", "split", "scale", "n")  # what tells one evaluation from another
SHOWN = 6  # evaluations shown without scrolling
SPLITS = {
    "test": "Test (held back)",
    "validation": "Validation (used to choose)",
    "train": "Training (used to rank)",
}
KINDS = {"one": "One set", "scales": "Several scales", "tasks": "Several sets and tasks"}
SCALES = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]
FLIPS = {"won": "Won", "lost": "Lost", "changed": "Text changed only", "same": "Unchanged"}
SIGNS = {
    "works": (st.success, ":material/check_circle:"),
    "harmful": (st.error, ":material/warning:"),
}


def page() -> None:
    """Draw the page."""
    st.title("Evaluate")
    st.markdown(
        "Answer held-back samples with and without a steering set, count what it puts right and wrong, and compare it "
        "with random features of the same size."
    )
    run = state.current_run()
    if run is None:
        ui.nothing_yet("There is nothing to measure yet.", "Start a run on the Overview page first.")
        return
    found = resources.ask(measurements.evaluations, run)
    bodies = _sets(run)
    with st.expander("Measure a set", icon=":material/science:", expanded=found.empty):
        _form(run, bodies)
    _work(run)
    if found.empty:
        if bodies:
            ui.nothing_yet("No set of this run has been measured yet.", "Choose one above and press *Measure*.")
        return
    chosen = _chosen(found)
    drawn = _comparisons(found)
    if not drawn:
        _result(run, chosen)
        return
    one, several = st.tabs(["This measurement", "Side by side"])
    with one:
        _result(run, chosen)
    with several:
        for draw, arguments in drawn:
            draw(*arguments)


# --- asking for a measurement --------------------------------------------------------------------


def _sets(run: str) -> dict[str, str]:
    """Sets that can be measured, by name, as JSON: those of the run, and the one on the Steer page if it differs."""
    kept = resources.ask(measurements.sets, run)
    bodies = dict(zip(kept["name"], kept["body"], strict=True))
    desk = st.session_state.get("desks", {}).get(run)
    if desk is None or not desk.editor.current.active_rows or desk.begun != resources.ask(run_facts.facts, run).created:
        return bodies
    edited: SteeringSet = desk.editor.current
    saved = dict(zip(kept["name"], kept["content"], strict=True)).get(edited.name)
    if isinstance(saved, str) and saved != edited.content:  # brought from elsewhere under a name that is taken here
        edited = replace(edited, name=f"{edited.name} (on the Steer page)")
    if edited.name not in bodies:
        bodies[edited.name] = edited.to_json()
    return bodies


def _form(run: str, bodies: dict[str, str]) -> None:
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
    names = sorted(bodies, key=lambda name: (name != "V", name))
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


def _title_of(task: str) -> str:
    return TASKS[task].title if task in TASKS else ui.plain(task)


def _one_set(sets: dict[str, measuring.NamedSet], config: dict[str, Any]) -> measuring.Measurement | None:
    tasks = [config["task"], *(name for name in TASKS if name != config["task"])]
    with st.form("measure", border=False):
        one, two, three = st.columns(3)
        name = one.selectbox("Steering set", list(sets), help="Sets saved with the run, and the one on the Steer page.")
        task = two.selectbox(
            "Task",
            tasks,
            format_func=_title_of,
            help="The run's own task, or another one to see side effects there. Some need a network the first time.",
        )
        split = three.selectbox("Samples", list(SPLITS), format_func=SPLITS.__getitem__)
        one, two, three = st.columns(3, vertical_alignment="bottom")
        limit = one.number_input("At most so many samples", 1, None, None, placeholder="all of them")
        controls = two.number_input(
            "Random sets to compare with",
            0,
            20,
            5,
            help="Each replaces every feature by a random one that fires as often and pushes as hard. If they do as "
            "much, the set's features are nothing special. The set with its sign turned round is measured as well.",
        )
        asked = three.form_submit_button("Measure", type="primary", icon=":material/play_arrow:", width="stretch")
    if not asked:
        return None
    return measuring.Measurement(sets[name], task, split, int(limit) if limit else None, int(controls))


def _several_scales(sets: dict[str, measuring.NamedSet], config: dict[str, Any]) -> measuring.Sweep | None:
    st.caption(
        "One set, weaker and stronger, on its own task and on others: what is won on the one and lost on the others."
        + _own_file(config)
    )
    with st.form("sweep", border=False):
        one, two = st.columns([1, 2])
        name = one.selectbox("Steering set", list(sets))
        tasks = two.multiselect("Tasks", _named_tasks(config), default=_own(config), format_func=_title_of)
        one, two, three, four = st.columns([2, 1.2, 1.2, 1], vertical_alignment="bottom")
        scales = one.multiselect("Scales", SCALES, default=[0.5, 1.0, 1.5, 2.0], format_func="{:g}".format)
        split = two.selectbox("Samples", list(SPLITS), format_func=SPLITS.__getitem__)
        limit = three.number_input("At most so many samples", 1, None, None, placeholder="all of them")
        asked = four.form_submit_button("Measure", type="primary", icon=":material/play_arrow:", width="stretch")
    if not asked:
        return None
    if not tasks or not scales:
        raise CorrSteerError("Choose at least one task and one scale to measure.")
    return measuring.Sweep(sets[name], tuple(tasks), tuple(sorted(scales)), split, int(limit) if limit else None)


def _sets_on_tasks(sets: dict[str, measuring.NamedSet], config: dict[str, Any]) -> measuring.Transfer | None:
    st.caption(
        "Every chosen set on every chosen task: does what was found on one task help or harm on another?"
        + _own_file(config)
    )
    with st.form("transfer", border=False):
        one, two = st.columns(2)
        names = one.multiselect("Steering sets", list(sets), default=list(sets)[:3])
        tasks = two.multiselect("Tasks", _named_tasks(config), default=_own(config), format_func=_title_of)
        one, two, three = st.columns(3, vertical_alignment="bottom")
        split = one.selectbox("Samples", list(SPLITS), format_func=SPLITS.__getitem__)
        limit = two.number_input("At most so many samples of each task", 1, None, None, placeholder="all of them")
        asked = three.form_submit_button("Measure", type="primary", icon=":material/play_arrow:", width="stretch")
    if not asked:
        return None
    if not tasks or not names:
        raise CorrSteerError("Choose at least one set and one task to measure.")
    return measuring.Transfer(tuple(sets[name] for name in names), tuple(tasks), split, int(limit) if limit else None)


def _named_tasks(config: dict[str, Any]) -> list[str]:
    """Tasks with a name, the run's own first; a task from a file of the user's can only be measured set by set."""
    return [*_own(config), *(name for name in TASKS if name != config["task"])]


def _own_file(config: dict[str, Any]) -> str:
    """Why the run's own task is not offered, if it is not."""
    return "" if _own(config) else " This run's own task is a file of yours: that is measured under *One set*."


def _own(config: dict[str, Any]) -> list[str]:
    return [config["task"]] if config["task"] in TASKS else []


def _work(run: str) -> None:
    """Measurements under way or ended badly; looks again while one is running."""
    busy = any(job.state == "running" for job in measuring.of_run(run))
    st.fragment(ui.page_of(_jobs), run_every=POLL if busy else None)()


def _jobs() -> None:
    found = measuring.of_run(state.current_run() or "")
    running = {job.id for job in found if job.state == "running"}
    before = st.session_state.get("measuring", running)
    st.session_state["measuring"] = running
    for job in found:
        if job.state == "finished":
            jobs.forget(job.id)  # its result is among the evaluations
        else:
            _job(job)
    if before - running:
        st.rerun()


def _job(job: jobs.Job) -> None:
    with st.container(border=True):
        text, button = st.columns([6, 1.3], vertical_alignment="center")
        text.markdown(f"**{ui.for_markdown(job.title)}**")
        if job.state == "running":
            left = "" if job.seconds_left is None else f" · about {seconds(job.seconds_left)} left"
            text.progress(job.share, text=f"{job.share:.0%} · {ui.for_markdown(job.stage)}{left}")
            label = "Stop now" if job.stopping else "Cancel"
            button.button(label, key=f"cancel-{job.id}", width="stretch", on_click=jobs.cancel, args=(job.id,))
            return
        ended = _left_behind(job) if job.state == "cancelled" else f":material/error: {ui.for_markdown(job.error)}"
        text.markdown(ended)
        button.button("Dismiss", key=f"forget-{job.id}", width="stretch", on_click=jobs.forget, args=(job.id,))


def _left_behind(job: jobs.Job) -> str:
    """What a cancelled measurement has left."""
    if job.arguments[0] == "evaluate":
        return "Cancelled; nothing was stored."
    return "Cancelled; tasks that were finished are among the measurements."


# --- what has been measured ----------------------------------------------------------------------


def _chosen(found: pd.DataFrame) -> pd.Series:
    """All evaluations in one table; the row that is selected, else the newest."""
    st.subheader("Measured so far", anchor=False)
    table = pd.DataFrame(
        {
            "Set": [ui.plain(name) for name in found["label"]],
            "Task": [ui.plain(task) for task in found["task"]],
            "Samples": [f"{row.summary['n']} {row.split}" for row in found.itertuples()],
            "Scale": found["scale"],
            "Unsteered": [100 * summary["unsteered_rate"] for summary in found["summary"]],
            "Steered": [100 * summary["steered_rate"] for summary in found["summary"]],
            "Effect": [100 * summary["effect"] for summary in found["summary"]],
            "Verdict": [verdict.WORDS[verdict.verdict(summary).kind] for summary in found["summary"]],
            "Measured": found["created"],
        }
    )
    event = st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        height="auto" if len(table) <= SHOWN else 240,
        key=f"evaluation_table-{pd.util.hash_pandas_object(found[list(WHICH)]).sum()}",  # a selection is of a place
        alt="Measurements so far. Arrow keys move, Shift and Space select a row.",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "Scale": st.column_config.NumberColumn(format="%g", width="small"),
            "Unsteered": st.column_config.NumberColumn(format="%.1f%%", help="Success rate without steering"),
            "Steered": st.column_config.NumberColumn(
                format="%.1f%%", help="Success rate of the same samples with the set"
            ),
            "Effect": st.column_config.NumberColumn(format="%+.1f points", help="Steered minus unsteered"),
            "Measured": st.column_config.DatetimeColumn(format="distance", help="Time of the measurement (UTC)"),
        },
    )
    rows = [row for row in event.selection.rows if row < len(found)]
    return found.iloc[rows[0] if rows else 0]


def _result(run: str, row: pd.Series) -> None:
    """One evaluation: verdict, numbers, comparison, samples."""
    summary, name = row["summary"], ui.shortened(row["label"], 60)
    st.subheader(f"{ui.for_markdown(name)} on {ui.for_markdown(row['task'])}, {row['split']} samples", anchor=False)
    found = verdict.verdict(summary)
    box, icon = SIGNS.get(found.kind, (st.warning, ":material/casino:"))
    box(ui.for_markdown(found.sentence), icon=icon)
    _numbers(summary)
    words = (verdict.gain_words(summary), verdict.side_effects(summary), verdict.fluency_words(summary))
    st.markdown(ui.for_markdown(" ".join(filter(None, words))))
    _comparison(summary, name)
    _samples(run, row)


def _numbers(summary: dict[str, Any]) -> None:
    one, two, three, four, five = st.columns([1, 1.15, 1, 1, 1])
    low, high = summary["unsteered_interval"]
    one.metric(
        "Unsteered", ui.percent(summary["unsteered_rate"]), help=f"95% interval {ui.percent(low)} to {ui.percent(high)}"
    )
    low, high = summary["steered_interval"]
    two.metric(
        "Steered",
        ui.percent(summary["steered_rate"]),
        ui.points(summary["effect"]),
        delta_color="off",
        delta_arrow="off",
        help=f"95% interval {ui.percent(low)} to {ui.percent(high)}",
    )
    flips = f"+{summary['positive_flips']} / {ui.MINUS}{summary['negative_flips']}"
    three.metric("Won / lost", flips, help="Samples that steering put right, and samples that it put wrong")
    four.metric(
        "Could it be luck?",
        ui.p_value(summary["p"]),
        help="How often flips this uneven come about if steering does nothing (exact McNemar test)",
    )
    ser = "–" if ui.missing(summary["ser"]) else f"{summary['ser']:.2f}"
    five.metric(
        "Side effects",
        ser,
        help="Side effect ratio (SER): lost / (won + lost). At 0.5 it breaks as much as it mends.",
    )


def _comparison(summary: dict[str, Any], name: str) -> None:
    st.subheader("Against its controls", anchor=False)
    rows = verdict.rates(summary, name)
    st.caption(
        "How to read it: each point is a success rate on the same samples, the bar its 95% interval, the dashed line "
        "the unsteered rate. A set that works stands to the right of the line, random features of like size on it."
    )
    if len(rows) == 2:
        st.caption("No controls were measured with it; measure again with random sets to compare with.")
    alt = "Success rates with their intervals: unsteered, steered and controls"
    ui.chart(rate_chart.rates(rows), "rates", alt, rows.drop(columns="kind"))


# --- several evaluations beside one another ------------------------------------------------------


def _comparisons(found: pd.DataFrame) -> list[tuple[Callable[..., None], tuple[Any, ...]]]:
    """What can be drawn of several evaluations: the scales of a set, and sets on tasks, where there are two of either."""
    tables = {split: comparisons.table(found, split) for split in SPLITS}
    drawn: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
    for split, rows in tables.items():
        for name in rows["name"].unique():
            swept = comparisons.sweep(rows, name)
            if not swept.empty:
                drawn.append((_scales, (swept, name, split)))
    for split, rows in tables.items():
        matrix = comparisons.matrix(rows)
        if not matrix.empty:
            drawn.append((_matrix, (matrix, split)))
    return drawn


def _scales(swept: pd.DataFrame, name: str, split: str) -> None:
    title = ui.for_markdown(ui.shortened(name, 40))
    st.subheader(f"{title} at several scales, {split} samples", anchor=False)
    tasks = list(swept["task"].unique())
    if len(tasks) == 1:
        st.caption(
            "How to read it: the success rate at each scale with its 95% interval; the dashed line is the unsteered "
            "rate. Where the intervals overlap, scales cannot be told apart."
        )
        figure = rate_chart.by_scale(swept)
    else:
        first, second = tasks[0], tasks[1]
        if len(tasks) > 2:
            key = f"pareto-{name}-{split}"
            one, two = st.columns(2)
            first = one.selectbox("Across", tasks, index=0, format_func=_title_of, key=f"{key}-x")
            others = [task for task in tasks if task != first]
            second = two.selectbox("Up", others, format_func=_title_of, key=f"{key}-y")
        st.caption(
            "How to read it: each point is one scale, further right is better on the one task, higher is better on the "
            "other; the square is the unsteered model. Filled points are the ones that no other scale beats on every task."
        )
        figure = rate_chart.trade_off(swept, first, second, _title_of(first), _title_of(second))
    ui.chart(figure, f"scales-{name}-{split}", "Success rates at each scale", swept.drop(columns="name"))


def _matrix(matrix: pd.DataFrame, split: str) -> None:
    st.subheader(f"Sets on tasks, {split} samples", anchor=False)
    st.caption(
        "How to read it: what each set, at the scale nearest to 1, adds to the success rate of each task, in points. "
        "Orange gains, blue loses, empty was not measured. Small numbers may be luck: see the table of measurements."
    )
    figure = rate_chart.matrix(matrix.rename(columns=_title_of))
    ui.chart(figure, f"matrix-{split}", "What each set adds to each task, in points", matrix.reset_index())


# --- sample by sample ----------------------------------------------------------------------------


def _samples(run: str, row: pd.Series) -> None:
    st.subheader("Sample by sample", anchor=False)
    samples = verdict.with_flips(
        resources.ask(
            measurements.evaluated_samples,
            *(run, row["name"], row["task"], row["split"], float(row["scale"])),
            content=row["content"],
            n=int(row["n"]),
        )
    )
    counts = samples["flip"].value_counts()
    present = [kind for kind in FLIPS if counts.get(kind)]
    key = f"flips-{run}-{'-'.join(str(row[name]) for name in WHICH)}"
    left, right = st.columns([5, 1], vertical_alignment="center")
    kind = left.segmented_control(
        "Which samples",
        present,
        default=present[0],
        required=True,
        key=key,
        label_visibility="collapsed",
        format_func=lambda kind: f"{FLIPS[kind]} ({counts[kind]})",
    )
    chosen = samples[samples["flip"] == kind]
    pages = math.ceil(len(chosen) / PAGE)
    at = right.number_input(f"Page, of {pages}", 1, pages, 1, key=f"{key}-{kind}-page") if pages > 1 else 1
    st.html(side_by_side.STYLE + _table(chosen.iloc[PAGE * (at - 1) : PAGE * at], samples["prompt"].tolist()))


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
