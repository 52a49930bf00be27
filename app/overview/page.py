"""Overview: what this is, how the work stands, what the current run found, what to do next, and all runs."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app.demo import DEMO
from app.overview import hero, run_comparison
from app.shared import components as ui
from app.shared import job_panel, resources, run_jobs, state, tables
from app.shared.names import task_title
from corrsteer_core.base import jobs, presenting
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.reporting import ranking_words
from corrsteer_core.runs import feature_lists, measurements, run_facts
from corrsteer_core.runs.strategies import BY_RATE
from corrsteer_core.storage import deleting

WHAT_THIS_IS = (
    "Thousands of small **features** inside a language model each react to something in the text. This tool finds those "
    "that are active when the model succeeds at a task, adds them to its activations while it writes (**steering**), and "
    "measures what that does: which really move the model, and which only look as if they did."
)


def page() -> None:
    """Draw the page."""
    _top()
    if not presenting.on():
        job_panel.draw()
    runs = resources.runs()
    run = state.current_run()
    if run is not None:
        headline(run)
    elif runs.empty and not jobs.jobs():
        ui.nothing_yet(
            "There is no run yet.",
            "A run is one task, answered by one model, with everything measured from it. *Start a run* "
            "leads to the choice; the built-in task *Sentiment of reviews* takes a few minutes and needs no network.",
        )
    if not runs.empty:
        st.header("Runs")
        run_table(runs)


def _top() -> None:
    """What this is, and the one thing to begin with."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("CorrSteer Explorer", width="content")
        begin = not presenting.on() and st.button("Start a run", type="primary", icon=":material/add:")
    if begin:
        state.go_to("start")
    st.markdown(WHAT_THIS_IS)


# --- what the current run found ------------------------------------------------------------------


def headline(run: str) -> None:
    """The run in a line, what came of it, and what to do next."""
    facts: run_facts.RunFacts = resources.ask(run_facts.facts, run)
    st.header(ui.for_markdown(task_title(facts.config["task"])))
    st.caption(_in_short(facts))
    if facts.fit is None:
        _unfinished(facts)
        return
    _found(run, facts)
    _next_steps(run, facts)


def _in_short(facts: run_facts.RunFacts) -> str:
    """The run in one line."""
    answered = (
        f"{facts.collected:,}" if facts.collected == facts.samples else f"{facts.collected:,} of {facts.samples:,}"
    )
    rate = "" if facts.success_rate is None else f", {ui.percent(facts.success_rate)} successes"
    return " \u00b7 ".join(
        (
            ui.for_markdown(str(facts.config["model"]).rsplit("/", 1)[-1]),
            f"{answered} samples answered{rate}",
            f"{facts.features:,} features watched in layers {', '.join(map(str, facts.layers))}",
        )
    )


def _unfinished(facts: run_facts.RunFacts) -> None:
    arguments = [*run_facts.fit_arguments(facts.run), run_jobs.DESCRIBED]
    if any(run_jobs.makes(job, facts) for job in jobs.jobs() if job.state == "running"):
        st.info(
            "This run is still being collected; its features are ranked when it is done.",
            icon=":material/hourglass_top:",
        )
        return
    st.info("This run was not finished, so its features are not ranked yet.", icon=":material/pause_circle:")
    if not presenting.on() and st.button("Go on with it", icon=":material/play_arrow:"):
        jobs.start(arguments, f"{facts.config['task']}: collect and rank")
        st.rerun()


def _found(run: str, facts: run_facts.RunFacts) -> None:
    ranking = ranking_words.of_ranking(facts.fit or {}, resources.ask(run_facts.chance, run))
    measured = resources.ask(run_facts.headline, run)
    best = resources.ask(feature_lists.best_effects, run)
    if measured is not None:
        hero.draw(run, measured)
    if not ranking.beyond_noise:
        st.warning(ui.for_markdown(ranking.sentence), icon=":material/casino:")
        return
    _champions(best, resources.ask(feature_lists.best_by_layer, run))
    tried = ranking_words.of_effects(best)
    st.markdown(ui.for_markdown(ranking.sentence if tried is None else tried.sentence))


def _champions(best: pd.DataFrame, layers: pd.DataFrame) -> None:
    """The feature of highest r beside the one of best effect."""
    left, right = st.columns(2)
    if not layers.empty:
        top = layers.loc[layers["r"].idxmax()]
        with left.container(border=True):
            st.caption("Most correlated with success (highest r)")
            _champion(int(top["layer"]), int(top["feature"]), f"r {ui.signed(top['r'])}", "r")
    if not best.empty:
        winner = best.iloc[0]
        with right.container(border=True):
            st.caption("Largest effect when steered")
            text = f"{ui.points(winner['effect'])} at scale {winner['scale']:g} · r {ui.signed(winner['r'])}"
            _champion(int(winner["layer"]), int(winner["feature"]), text, "effect")


def _champion(layer: int, feature: int, text: str, key: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**Layer {layer} · feature {feature}**  \n{text}", width="content")
        pressed = st.button("Look", key=f"champion-{key}")
    if pressed:
        state.go_to("features", layer=layer, feature=feature)


def _next_steps(run: str, facts: run_facts.RunFacts) -> None:
    st.subheader("What to do next")
    sets = set(resources.ask(measurements.sets, run)["name"])
    one, two, three = st.columns(3)
    with one.container(border=True, height="stretch"):
        st.markdown("**Look at the features**  \nWhich texts they react to, and what each did when steered.")
        state.link_to("features", "Open Features")
    with two.container(border=True, height="stretch"):
        if sets & {"V", BY_RATE} or presenting.on() or resources.ask(run_facts.headline, run) is not None:
            st.markdown("**Try it on your own words**  \nThe same prompt answered unsteered and steered, side by side.")
            state.link_to("steer", "Open Steer")
        else:
            _offer_trial(run, facts)
    with three.container(border=True, height="stretch"):
        what = "**What sets do**" if presenting.on() else "**Measure a set**"
        st.markdown(f"{what}  \nOn samples it has not seen, beside random features as controls.")
        state.link_to("evaluate", "Open Evaluate")


def _offer_trial(run: str, facts: run_facts.RunFacts) -> None:
    arguments = ["select", run, "--strategy=V"]
    st.markdown("**Try the best features**  \nSteer with each alone and keep those that help: a few minutes.")
    constant = (facts.fit or {})["constant"]
    if constant:
        st.caption("The outcome never changes in this run, so there are no best features to try.")
    busy = jobs.running(arguments) or jobs.running(DEMO)
    if busy:
        st.caption("This waits for the work at the top of the page.")
    if st.button("Try them", disabled=bool(busy or constant)):
        jobs.start(arguments, f"{facts.config['task']}: try features one by one")
        st.rerun()


# --- all runs ------------------------------------------------------------------------------------


def run_table(runs: pd.DataFrame) -> None:
    """The cached runs; a selected row becomes the run that all pages look at."""
    readable = runs[runs["problem"].isna()].reset_index(drop=True)
    if not readable.empty:
        _readable_runs(readable)
    for broken in runs[runs["problem"].notna()].itertuples():
        text, button = st.columns([6, 1.3], vertical_alignment="center")
        with text:
            ui.problem(str(broken.problem))
        if not presenting.on() and button.button("Delete", key=f"delete-{broken.run}", width="stretch"):
            confirm_delete(str(broken.run))


def _readable_runs(readable: pd.DataFrame) -> None:
    shown = pd.DataFrame(
        {
            "Task": [task_title(one) for one in readable["task"]],
            "State": [_stage(row) for row in readable.itertuples()],
            "Success": 100 * readable["success_rate"].astype(float),
            "Answered": [f"{row.collected:,} of {row.samples:,}" for row in readable.itertuples()],
            "Run": readable["run"].map(ui.plain),
            "Model": [ui.plain(presenting.named(str(one))) for one in readable["model"]],
            "Started (UTC)": readable["created"],
        }
    )
    picked = st.dataframe(
        tables.harmless(shown),
        key=f"runs-{hash(tuple(readable['run']))}",  # by its rows: a selection is of places, and runs move up
        alt="Runs. Arrow keys move, Shift and Space select a row.",
        hide_index=True,
        placeholder="–",
        width="stretch",
        on_select="rerun",
        selection_mode="multi-row",
        column_config={
            "Answered": st.column_config.TextColumn(alignment="right", help="Samples that the model has answered."),
            "Success": st.column_config.NumberColumn(format="%.1f%%", help="Share of the answers that count as right."),
            "Started (UTC)": st.column_config.DatetimeColumn(format="D MMM, HH:mm"),
        },
    )
    rows = [row for row in picked["selection"]["rows"] if row < len(readable)]
    if not rows:
        more = ", several to compare them" if len(readable) > 1 else ""
        or_delete = "" if presenting.on() else " or delete it"
        st.caption(f"Select a row to look at that run{or_delete}{more}.")
        return
    if len(rows) > 1:
        run_comparison.draw([str(readable["run"][row]) for row in rows])
        return
    run = str(readable["run"][rows[0]])
    look, delete, _ = st.columns([1.2, 1.2, 5])
    if look.button("Look at it", disabled=run == state.current_run(), width="stretch"):
        state.choose_run(run)
        st.rerun()
    if not presenting.on() and delete.button("Delete …", width="stretch"):
        confirm_delete(run)


def _stage(row: Any) -> str:
    if row.measured:
        return "measured"
    if row.fitted:
        return "ranked"
    return "collected" if row.collected == row.samples else "unfinished"


@st.dialog("Delete this run?")
def confirm_delete(run: str) -> None:
    """Ask once more."""
    st.markdown(
        f"**{ui.for_markdown(run)}** and everything collected and measured for it will be removed. This cannot "
        f"be undone."
    )
    yes, no = st.columns(2)
    if yes.button("Delete", type="primary", width="stretch"):
        try:
            deleting.delete_run(run)
        except CorrSteerError as error:
            ui.problem(error)
            return
        st.rerun()
    if no.button("Keep it", width="stretch"):
        st.rerun()
