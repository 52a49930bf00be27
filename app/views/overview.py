"""Overview: what this is, how the work stands, what the current run found, what to do next, and all runs."""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd
import streamlit as st

from app import components as ui
from app import resources, run_comparison, state
from corrsteer_core import findings, jobs, reader, store, tasks, uploads, verdict
from corrsteer_core.errors import CorrSteerError
from corrsteer_core.paths import EMBEDDED
from corrsteer_core.presets import PRESETS
from corrsteer_core.progress import seconds

DEMO = ("demo",)
WHERE = {
    "fit": "Its run is in the table below.",
    "select": "The set is ready on the Steer page.",
    "describe": "The descriptions are on the Features page.",
    "evaluate": "The numbers are on the Evaluate page.",
    "sweep": "The numbers are on the Evaluate page.",
    "transfer": "The numbers are on the Evaluate page.",
}
"""Where what a job made is found, by the command it ran."""
POLL = 1.0  # seconds between looks at a running job

WHAT_THIS_IS = (
    "Inside a language model, thousands of small **features** each react to something in the text. "
    "This tool watches which of them are active when the model succeeds at a task and when it fails, then adds single "
    "features to the model's thoughts while it writes (**steering**) and measures what that does. "
    "What comes out is a short list of features that really move the model, and a place to try them on your own words."
)


def page() -> None:
    """Draw the page."""
    st.title("CorrSteer Explorer")
    st.markdown(WHAT_THIS_IS)
    work()
    runs = resources.runs()
    run = state.current_run()
    if run is not None:
        headline(run)
    elif runs.empty and not jobs.jobs():
        ui.nothing_yet(
            "There is no run yet.",
            "A run is one task, answered by one model, with everything measured from it. Start one below; the "
            "built-in task "
            "*Sentiment of reviews* takes a few minutes and needs no network.",
        )
    st.header("Runs")
    if not runs.empty:
        run_table(runs)
    new_run()


# --- work that is going on -----------------------------------------------------------------------


def work() -> None:
    """Every job that has not been put away; looks again every second while one is running."""
    busy = any(job.state == "running" for job in jobs.jobs())
    st.fragment(_work, run_every=POLL if busy else None)()


def _work() -> None:
    found = jobs.jobs()
    now = {(job.id, job.stage) for job in found if job.state == "running"}
    before = st.session_state.get("work_seen", now)
    st.session_state["work_seen"] = now
    if before - now:
        st.rerun()  # a stage or a job has ended: the whole page has news
    for job in found:
        _job(job)


def _job(job: jobs.Job) -> None:
    with st.container(border=True):
        text, *buttons = st.columns([6, 1.3, 1.3], vertical_alignment="center")
        text.markdown(f"**{ui.for_markdown(job.title)}**")
        if job.state == "running":
            left = "" if job.seconds_left is None else f" · about {seconds(job.seconds_left)} left"
            st.progress(job.share, text=f"{job.share:.0%} · {ui.for_markdown(job.stage)}{left}")
            label = "Stop now" if job.stopping else "Cancel"
            help = "What is finished is kept; you can go on later."
            if buttons[1].button(label, key=f"cancel-{job.id}", help=help, width="stretch"):
                jobs.cancel(job.id)
                st.rerun(scope="fragment")
            return
        text.markdown(_ending(job))
        if job.state != "finished" and buttons[0].button(
            "Go on", key=f"resume-{job.id}", type="primary", width="stretch"
        ):
            jobs.resume(job.id)
            st.rerun()
        if buttons[1].button("Dismiss", key=f"forget-{job.id}", width="stretch"):
            jobs.forget(job.id)
            st.rerun()


def _ending(job: jobs.Job) -> str:
    if job.state == "finished":
        return f"Done. {WHERE.get(job.arguments[0], WHERE['fit'])}"
    if job.state == "cancelled":
        return "Stopped. What was finished is kept; it goes on from there."
    return f":material/error: {ui.for_markdown(job.error)}"


# --- what the current run found ------------------------------------------------------------------


def headline(run: str) -> None:
    """The run in numbers, its verdict, and what to do next."""
    facts: reader.RunFacts = resources.ask(reader.facts, run)
    st.header(_title(facts.config["task"]))
    answered = (
        f"{facts.collected:,}" if facts.collected == facts.samples else f"{facts.collected:,} of {facts.samples:,}"
    )
    one, two, three, four = st.columns([1.6, 1, 1, 1.2])
    one.metric("Model", ui.plain(facts.config["model"]).rsplit("/", 1)[-1])
    two.metric("Samples answered", answered)
    three.metric(
        "Success rate",
        "–" if facts.success_rate is None else ui.percent(facts.success_rate),
        help="Share of the answers the scorer counts as right.",
    )
    four.metric("Features watched", f"{facts.features:,}", help=f"In layers {', '.join(map(str, facts.layers))}.")
    if facts.fit is None:
        _unfinished(facts)
        return
    _found(run, facts)
    _next_steps(run, facts)


def _unfinished(facts: reader.RunFacts) -> None:
    arguments = reader.fit_arguments(facts.run)
    if any(_makes(job, facts) for job in jobs.jobs() if job.state == "running"):
        st.info(
            "This run is still being collected; its features are ranked when it is done.",
            icon=":material/hourglass_top:",
        )
        return
    st.info("This run was not finished, so its features are not ranked yet.", icon=":material/pause_circle:")
    if st.button("Go on with it", type="primary", icon=":material/play_arrow:"):
        jobs.start(arguments, f"{facts.config['task']}: collect and rank")
        st.rerun()


def _makes(job: jobs.Job, facts: reader.RunFacts) -> bool:
    """Whether a job is the one that collects and fits a run."""
    config = facts.config
    if job.arguments == DEMO:
        return config["task"] == reader.DEMO_TASK and config["model"] == EMBEDDED
    named = f"--data={config['data']}" if config["data"] else f"--task={config['task']}"
    return job.arguments[0] == "fit" and named in job.arguments


def _found(run: str, facts: reader.RunFacts) -> None:
    ranking = findings.of_ranking(facts.fit or {}, resources.ask(reader.chance, run))
    measured = resources.ask(reader.headline, run)
    best = resources.ask(reader.best_effects, run)
    if measured is not None:
        _verdict(verdict.verdict(measured))
        _result(measured)
    if not ranking.beyond_noise:
        st.warning(ui.for_markdown(ranking.sentence), icon=":material/casino:")
        return
    _champions(best, resources.ask(reader.best_by_layer, run))
    tried = findings.of_effects(best)
    st.markdown(ui.for_markdown(ranking.sentence if tried is None else tried.sentence))


def _verdict(found: verdict.Verdict) -> None:
    """Set V's verdict on unseen samples, in a box whose sign says what it amounts to."""
    box, icon = {
        "works": (st.success, ":material/check_circle:"),
        "harmful": (st.error, ":material/warning:"),
    }.get(found.kind, (st.warning, ":material/casino:"))
    box(f"**Set V on unseen samples.** {ui.for_markdown(found.sentence)}", icon=icon)


def _result(summary: dict[str, Any]) -> None:
    """Set V on unseen samples, in numbers."""
    one, two, three, four = st.columns([1, 1, 1, 1.2])
    one.metric("Without steering", ui.percent(summary["unsteered_rate"]))
    two.metric(
        "Steered with set V",
        ui.percent(summary["steered_rate"]),
        ui.points(summary["effect"]),
        delta_color="off",
        delta_arrow="off",
        help="The features chosen for what steering with them did on validation samples.",
    )
    three.metric(
        "Flips",
        f"+{summary['positive_flips']} / {ui.MINUS}{summary['negative_flips']}",
        help="Answers that steering put right, and answers that it put wrong.",
    )
    four.metric(
        "Could it be luck?",
        ui.p_value(summary["p"]),
        help="Chance of flips this uneven if steering did nothing (exact McNemar test).",
    )


def _champions(best: pd.DataFrame, layers: pd.DataFrame) -> None:
    """The feature of highest r beside the one of best effect."""
    left, right = st.columns(2)
    if not layers.empty:
        top = layers.loc[layers["r"].idxmax()]
        with left.container(border=True):
            st.caption("Goes with success most (highest r)")
            _champion(int(top["layer"]), int(top["feature"]), f"r {ui.signed(top['r'])}", "r")
    if not best.empty:
        winner = best.iloc[0]
        with right.container(border=True):
            st.caption("Brings success about most (best measured effect)")
            text = f"{ui.points(winner['effect'])} at scale {winner['scale']:g} · r {ui.signed(winner['r'])}"
            _champion(int(winner["layer"]), int(winner["feature"]), text, "effect")


def _champion(layer: int, feature: int, text: str, key: str) -> None:
    words, button = st.columns([4, 1.2], vertical_alignment="center")
    words.markdown(f"**Layer {layer} · feature {feature}**  \n{text}")
    if button.button("Look", key=f"champion-{key}", width="stretch"):
        state.go_to("features", layer=layer, feature=feature)


def _next_steps(run: str, facts: reader.RunFacts) -> None:
    st.subheader("What to do next")
    sets = set(resources.ask(reader.sets, run)["name"])
    one, two, three = st.columns(3)
    with one.container(border=True, height="stretch"):
        st.markdown("**Look at the features**  \nWhich texts they react to, and what each did when steered.")
        state.link_to("features", "Open Features")
    with two.container(border=True, height="stretch"):
        if "V" in sets:
            st.markdown("**Try it on your own words**  \nThe same prompt answered unsteered and steered, side by side.")
            state.link_to("steer", "Open Steer")
        else:
            _offer_trial(run, facts)
    with three.container(border=True, height="stretch"):
        st.markdown("**Measure a set**  \nOn samples it has not seen, beside random features as controls.")
        state.link_to("evaluate", "Open Evaluate")


def _offer_trial(run: str, facts: reader.RunFacts) -> None:
    arguments = ["select", run, "--strategy=V"]
    st.markdown("**Try the best features**  \nSteer with each alone and keep those that help: a few minutes.")
    busy = jobs.running(arguments) or jobs.running(DEMO) or (facts.fit or {})["constant"]
    if st.button("Try them", type="primary", disabled=bool(busy)):
        jobs.start(arguments, f"{facts.config['task']}: try features one by one")
        st.rerun()


def _title(task: str) -> str:
    return ui.for_markdown(tasks.TASKS[task].title if task in tasks.TASKS else task)


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
        if button.button("Delete", key=f"delete-{broken.run}", width="stretch"):
            confirm_delete(str(broken.run))


def _readable_runs(readable: pd.DataFrame) -> None:
    shown = pd.DataFrame(
        {
            "Task": [ui.plain(tasks.TASKS[one].title if one in tasks.TASKS else one) for one in readable["task"]],
            "Run": readable["run"].map(ui.plain),
            "Model": readable["model"].map(ui.plain),
            "Answered": [f"{row.collected:,} of {row.samples:,}" for row in readable.itertuples()],
            "Success": 100 * readable["success_rate"].astype(float),
            "State": [_stage(row) for row in readable.itertuples()],
            "Started (UTC)": readable["created"],
        }
    )
    picked = st.dataframe(
        shown,
        key="runs",
        alt="Runs",
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
        st.caption(f"Select a row to look at that run or delete it{more}.")
        return
    if len(rows) > 1:
        run_comparison.draw([str(readable["run"][row]) for row in rows])
        return
    run = str(readable["run"][rows[0]])
    look, delete, _ = st.columns([1.2, 1.2, 5])
    if look.button("Look at it", type="primary", disabled=run == state.current_run(), width="stretch"):
        state.choose_run(run)
        st.rerun()
    if delete.button("Delete …", width="stretch"):
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
            store.delete_run(run)
        except CorrSteerError as error:
            ui.problem(error)
            return
        st.session_state.pop("runs", None)
        st.rerun()
    if no.button("Keep it", width="stretch"):
        st.rerun()


# --- a new run -----------------------------------------------------------------------------------

BUILT_IN, OWN = "A task by name", "My own file"


def new_run() -> None:
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
        with st.form("new_run", border=False):
            asked = _named_task() if kind == BUILT_IN else _own_file()
            settings = {"preset": preset, **({} if preset else _own_pairing()), **_settings()}
            if st.form_submit_button("Start", type="primary", icon=":material/play_arrow:"):
                _start(asked, settings)


def _named_task() -> dict[str, Any]:
    def label(name: str) -> str:
        task = tasks.TASKS[name]
        return f"{task.title}: {task.description}" + (" Downloaded from the Hugging Face hub." if task.hub else "")

    return {"task": st.selectbox("Task", list(tasks.TASKS), format_func=label, key="new_run_task")}


def _own_file() -> dict[str, Any]:
    left, right = st.columns(2)
    file = left.file_uploader(
        "Your samples (JSON lines)", type=["jsonl", "json"], key="new_run_file",
        help=(
            'One JSON object per line, with "prompt" and, where the scorer needs one, "target"; "split" if you have '
            "splits of your own."
        ),
    )  # fmt: skip
    scorer = right.selectbox(
        "What counts as success", list(tasks.SCORERS), key="new_run_scorer",
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
        "Words per answer (tokens)", 1, 1024, None, placeholder="the task's own", key="new_run_tokens"
    )
    found["pooling"] = pooling.selectbox(
        "Activation of an answer", ["max", "mean", "all"], key="new_run_pooling",
        help=(
            "max: the strongest moment while answering (as the paper does); mean: the average; all: the prompt "
            "counts too."
        ),
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
            help="So many training samples are shown with their answers (few-shot), and used for nothing else.",
        ),
        "system": system.text_input(
            "System prompt", key="new_run_system", placeholder="none", help="Needs the chat template."
        ),
    }  # fmt: skip


def _start(asked: dict[str, Any], settings: dict[str, Any]) -> None:
    arguments = ["fit", *_asked(asked), *_options(settings)]
    if jobs.running(arguments):
        raise CorrSteerError("This very run is being made already; its progress is shown at the top of the page.")
    title = tasks.TASKS[asked["task"]].title if "task" in asked else ui.shortened(asked["file"].name, 60)
    jobs.start(arguments, f"{title}: collect and rank")
    st.rerun()


def _asked(asked: dict[str, Any]) -> list[str]:
    if "task" in asked:
        return [f"--task={asked['task']}"]
    if asked["file"] is None:
        raise CorrSteerError("No file was chosen; upload one with a prompt per line.")
    path = uploads.keep_upload(asked["file"].name, asked["file"].getvalue())
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
