"""Features: all of them ranked over all layers, in a table and in pictures, and one of them from close by."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app.features import feature_panel
from app.shared import components as ui
from app.shared import state
from app.shared.resources import ask, ask_fit
from corrsteer_core.base import jobs, uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.inspection import descriptions
from corrsteer_core.reporting import figures, ranking_words
from corrsteer_core.runs import feature_lists, reliability, run_facts

ROWS = 10  # of the table on one page
LARGEST_UNPACKED = 500_000_000  # bytes of an uploaded file of descriptions; the command line takes larger ones
IMPORTED = "imported"  # what came of an import that was just made
FEATURE = ["layer", "feature"]
RESAMPLES = 400  # for the intervals in the table; a feature's own page takes more

ANY = "any"
TABLE, EFFECT, LAYERS, HEAT, CLOUD = "Table", "r and effect", "r by layer", "r by rank", "r and frequency"
SAMPLES = "Samples needed"
PANES = (TABLE, EFFECT, LAYERS, HEAT, CLOUD, SAMPLES)

SORTS: dict[feature_lists.SortKey, str] = {
    "r": "r (goes with success)",
    "effect": "measured effect",
    "coefficient": "coefficient",
    "support": "support",
    "frequency_correct": "fires in correct answers",
    "frequency_incorrect": "fires in incorrect answers",
    "q": "q",
    "layer": "layer",
    "feature": "feature number",
}

WORDS = """
- **r**: how closely the feature's activation goes with success over the training samples, from −1 to 1. Undefined
  (–) where it or the outcome never changes.
- **95% of r**: where r would mostly lie with other training samples of this number (bootstrap).
- **q**: of the features with a q as small as this, about this share are there by chance (Benjamini-Hochberg).
- **Effect**: success rate with the feature steered alone, minus the rate without, in percentage points, on validation
  samples, at the scale where it did best. Only the features of highest r in each layer are tried.
- **Coeff.**: its mean activation over the successful samples; steering adds this much of it, times a scale.
- **Support**: training samples in which it fired at all. Below the floor a feature is not ranked: few samples
  prove little.
- **Correct, incorrect**: share of the correct and of the incorrect answers in which it fired.
"""


def page() -> None:
    """Draw the page."""
    st.title("Features")
    run = state.current_run()
    if run is None:
        ui.nothing_yet(
            "There is no run yet, so no features.", "Start one on the Overview page; it takes a few minutes."
        )
        state.link_to("overview", "Open Overview")
        return
    facts: run_facts.RunFacts = ask(run_facts.facts, run)
    if facts.fit is None:
        done = f"{facts.collected:,} of {facts.samples:,} samples are answered."
        ui.nothing_yet("This run's features are not ranked yet.", f"{done} The Overview page shows how it goes on.")
        state.link_to("overview", "Open Overview")
        return
    chosen = state.current_feature()
    if chosen is not None:
        feature_panel.panel(run, facts, *chosen)
    else:
        _ranking(run, facts)


def _ranking(run: str, facts: run_facts.RunFacts) -> None:
    """All features: what the ranking amounts to, then the table or one of the pictures."""
    _what_it_amounts_to(run, facts.fit or {})
    pane = st.segmented_control(
        "Show", PANES, default=TABLE, required=True, key="pane", label_visibility="collapsed",
        persist_state="session",
    )  # fmt: skip
    panes = (_table, _effect_chart, _layer_chart, _rank_chart, _cloud_chart, _convergence_chart)
    dict(zip(PANES, panes, strict=True))[pane](run, facts)


def _what_it_amounts_to(run: str, fit: dict[str, Any]) -> None:
    """Whether the ranking says anything, and what trying the features showed."""
    ranking = ranking_words.of_ranking(fit, ask(run_facts.chance, run))
    if ranking.beyond_noise:
        st.caption(ui.for_markdown(ranking.sentence))
    else:
        st.warning(ui.for_markdown(ranking.sentence), icon=":material/casino:")
    tried = ranking_words.of_effects(ask(feature_lists.best_effects, run))
    if tried is not None and not fit["constant"]:
        st.markdown(f"**What steering showed:** {ui.for_markdown(tried.sentence)}")


# --- the table -----------------------------------------------------------------------------------


def _table(run: str, facts: run_facts.RunFacts) -> None:
    wanted = _filters(facts)
    found = ask(feature_lists.count_features, run, wanted)
    if not found:
        st.info("No feature passes these filters; widen them.", icon=":material/filter_alt_off:")
        return
    pages = -(-found // ROWS)
    place = st.container()
    left, right = st.columns([3, 2], vertical_alignment="center")
    with right:
        number = (
            st.pagination(pages, key=f"page-{run}-{hash(wanted)}", width="content", persist_state="session")
            if pages > 1
            else 1
        )
    left.caption(f"{ui.counted(found, 'feature')}, sorted by {SORTS[wanted.sort]}. Select a row to look at it.")
    rows = ask(feature_lists.features, run, wanted, limit=ROWS, offset=(number - 1) * ROWS)
    with st.spinner("Drawing samples anew …"):
        bounds = ask_fit(reliability.intervals, run, rows[FEATURE], resamples=RESAMPLES)
    rows = rows.join(bounds.drop(columns=FEATURE))
    key = f"features-{run}-{hash(wanted)}-{number}"
    place.dataframe(
        _for_show(rows),
        alt="Features. Arrow keys move, Shift and Space open a row.",
        key=key,
        hide_index=True,
        width="stretch",
        height="content",
        placeholder="–",
        on_select=lambda: _open_row(key, rows),
        selection_mode="single-row",
        column_config=_columns(),
    )
    with st.expander("What the columns mean"):
        st.markdown(WORDS)
    _offer_descriptions(run, facts)


def _offer_descriptions(run: str, facts: run_facts.RunFacts) -> None:
    """Where nothing is described yet, a way to have it done; Neuronpedia's descriptions by upload at any time."""
    _import_descriptions(run)
    if ask(feature_lists.described_features, run):
        return
    arguments = ["describe", run]
    if jobs.running(arguments):
        st.caption("The best features are being described; the Overview page shows how far it is.")
        return
    left, right = st.columns([4, 1.4], vertical_alignment="center")
    left.caption(
        "No feature is described yet. The best ones can be: a guess of our own from the tokens they promote and the "
        "texts they fire on (a minute)."
    )
    if right.button("Describe them", icon=":material/edit_note:", width="stretch"):
        jobs.start(arguments, f"{facts.config['task']}: describe the best features")
        st.rerun()


def _import_descriptions(run: str) -> None:
    with st.expander("Descriptions from Neuronpedia"):
        if done := st.session_state.pop(IMPORTED, ""):
            st.success(done)
        file = st.file_uploader(
            "An explanations file of Neuronpedia's", type=["json", "jsonl", "gz"], key=f"neuronpedia-{run}",
            max_upload_size=uploads.LARGEST // 1_000_000,
            help="As Neuronpedia exports them for this run's SAEs: JSON or JSON lines, also gzipped.",
        )  # fmt: skip
        if file is None or not st.button("Import", icon=":material/download:", key="import_descriptions"):
            return
        with st.spinner("Importing …", show_time=True):
            try:
                with uploads.passing(file.name, file.getvalue()) as path:
                    found = descriptions.import_file(run, path, largest=LARGEST_UNPACKED)
            except CorrSteerError as error:
                ui.problem(error)
                return
        left_out = found.repeated + found.other
        rest = f" Left out: {ui.counted(left_out, 'record')} of other layers or SAEs, or repeated." if left_out else ""
        st.session_state[IMPORTED] = f"Described now by this file: {ui.counted(found.kept, 'feature')}.{rest}"
        st.rerun()  # the table stands above and was drawn without them


def _filters(facts: run_facts.RunFacts) -> feature_lists.FeatureFilter:
    """The filters' controls, and what they are set to."""
    floor = int((facts.fit or {})["floor"])
    with st.container(border=True):
        one, two, three, four = st.columns([2.2, 1.6, 1.6, 1.2])
        text = one.text_input(
            "Words or number", key="filter_text", persist_state="session", max_chars=200,
            placeholder="in descriptions, tokens, top texts",
            help=(
                "Features with these words in their description or promoted tokens, or that are most active on a text "
                f"with them (the top {feature_lists.TOP_TEXTS} of each); or the feature of this number."
            ),
        )  # fmt: skip
        layers = two.multiselect(
            "Layers", facts.layers, key="filter_layers", persist_state="session", placeholder="all"
        )
        sort = three.selectbox(
            "Sort by", list(SORTS), format_func=SORTS.__getitem__, key="filter_sort", persist_state="session"
        )
        order = four.selectbox("Order", ["highest first", "lowest first"], key="filter_order", persist_state="session")
        one, two, three, four = st.columns([2.2, 1.6, 1.2, 1.4], vertical_alignment="bottom")
        low, high = one.slider("r between", -1.0, 1.0, (-1.0, 1.0), 0.05, key="filter_r", persist_state="session")
        support = two.number_input(
            "Least support (samples)", 0, None, floor, key=f"filter_support-{facts.run}", persist_state="session",
            help=f"Training samples in which it fired. The floor of this run is {floor}.",
        )  # fmt: skip
        q = three.selectbox(
            "q at most",
            [ANY, 0.01, 0.05, 0.1, 0.2],
            key="filter_q",
            persist_state="session",
            help=q_help(),
        )
        tried = four.toggle(
            "Only those tried",
            key="filter_tried",
            persist_state="session",
            help="Only features whose effect has been measured.",
        )
        more = _more_filters()
    return feature_lists.FeatureFilter(
        **more,
        layers=tuple(layers),
        r_low=low,
        r_high=high,
        support=int(support),
        q_high=q if isinstance(q, float) else None,
        text=text,
        tried=tried,
        sort=sort,
        descending=order == "highest first",
    )


def _more_filters() -> dict[str, Any]:
    """The filters that are wanted less often, as named arguments of `FeatureFilter`."""
    kept: dict[str, Any] = {"persist_state": "session"}
    with st.expander("More filters"):
        one, two, three = st.columns(3)
        shares = [
            place.slider(label, 0, 100, (0, 100), key=f"filter_{key}", format="%d%%", **kept)
            for place, label, key in (
                (one, "Fires in", "frequency"),
                (two, "Fires in correct answers", "correct"),
                (three, "Fires in incorrect answers", "incorrect"),
            )
        ]
        one, two, three, four = st.columns([1, 1, 1, 1], vertical_alignment="bottom")
        low = one.number_input("Coefficient from", value=None, key="filter_c_low", placeholder="any", **kept)
        high = two.number_input("Coefficient to", value=None, key="filter_c_high", placeholder="any", **kept)
        effect = three.number_input(
            "Effect of at least (points)", value=None, key="filter_effect", placeholder="any", **kept
        )
        described = four.toggle("Only those described", key="filter_described", **kept)
    (all_low, all_high), (right_low, right_high), (wrong_low, wrong_high) = shares
    return {
        "frequency_low": all_low / 100,
        "frequency_high": all_high / 100,
        "correct_low": right_low / 100,
        "correct_high": right_high / 100,
        "incorrect_low": wrong_low / 100,
        "incorrect_high": wrong_high / 100,
        "coefficient_low": low,
        "coefficient_high": high,
        "effect_low": None if effect is None else effect / 100,
        "described": described,
    }


def q_help() -> str:
    """What a limit on q means, in words."""
    return "Of the features that pass, about this share passes by chance."


def _for_show(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns in the units they are shown in."""
    shares = ["effect", "frequency", "frequency_correct", "frequency_incorrect"]
    shown = ["layer", "feature", "described", "r", "between", "q", "effect", "coefficient", "support"]
    words = {
        "q": [_probability(value) for value in rows["q"]],
        "between": [_between(row.r_low, row.r_high) for row in rows.itertuples()],
        "described": [_description(row.description, row.description_source) for row in rows.itertuples()],
    }
    return rows.assign(**{name: 100 * rows[name] for name in shares}, **words)[[*shown, *shares[2:]]]


def _between(low: float, high: float) -> str | None:
    return None if ui.missing(low) else f"{ui.signed(low)} to {ui.signed(high)}"


def _description(text: object, source: object) -> str | None:
    """A description, our own guess marked by a question mark."""
    if ui.missing(text):
        return None
    return ui.shortened(text, 120) + (" (?)" if source == "own" else "")


def _probability(value: float) -> str | None:
    return None if ui.missing(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _columns() -> dict[str, Any]:
    def number(label: str, width: int, format: str | None = None, help: str | None = None) -> Any:
        return st.column_config.NumberColumn(label, width=width, format=format, help=help)

    def words(label: str, help: str, width: int = 64, alignment: Any = "right") -> Any:
        return st.column_config.TextColumn(label, width=width, help=help, alignment=alignment)

    return {
        "layer": number("Layer", 50),
        "feature": number("Feature", 64),
        "described": words(
            "Description", "What it is said to mean; (?) marks a guess of our own.", width=132, alignment="left"
        ),
        "between": words("95% of r", "Where r would mostly lie with other samples (bootstrap).", width=104),
        "r": number("r", 62, "%+.3f", "How closely its activation goes with success, −1 to 1."),
        "q": words("q", q_help()),
        "effect": number(
            "Effect",
            58,
            "%+.1f",
            "Points of success that steering with it alone adds, at its best scale.",
        ),
        "coefficient": number("Coeff.", 60, "%.2f", "Coefficient: mean activation over the successful samples."),
        "support": number("Support", 66, "localized", "Training samples in which it fired."),
        "frequency_correct": number("Correct", 64, "%.1f%%", "Share of the correct answers in which it fired."),
        "frequency_incorrect": number("Incorrect", 70, "%.1f%%", "Share of the incorrect answers in which it fired."),
    }


def _open_row(key: str, rows: pd.DataFrame) -> None:
    chosen = st.session_state[key]["selection"]["rows"]
    if chosen and chosen[0] < len(rows):
        row = rows.iloc[chosen[0]]
        state.open_feature(int(row["layer"]), int(row["feature"]))


# --- the pictures --------------------------------------------------------------------------------


def _effect_chart(run: str, facts: run_facts.RunFacts) -> None:
    best = ask(feature_lists.best_effects, run)
    if best.empty:
        ui.nothing_yet(
            "No feature has been tried yet.",
            "The best features can be steered with one by one, to see what they do: the Overview page starts that.",
        )
        state.link_to("overview", "Open Overview")
        return
    st.caption(
        "Each dot is a feature, steered alone at the scale where it did best. To the right: goes with success "
        "more. Up: brings success "
        "about. If r told what works, the dots would lie on a rising line. A filled dot has p < 0.05 (two-sided): "
        f"of {len(best)} dots, luck alone would fill about {0.05 * len(best):.1f}."
    )
    figure = figures.r_against_effect(best, state.current_feature())
    _pickable(figure, f"chart-effect-{run}", "Best effect of each feature tried, by its r", best)


def _layer_chart(run: str, facts: run_facts.RunFacts) -> None:
    best = ask(feature_lists.best_by_layer, run)
    if best.empty:
        st.info("No layer has a feature that can be ranked.", icon=":material/info:")
        return
    permutations = int((facts.fit or {})["permutations"])
    st.caption(
        "A bar is the highest r in that layer; the orange mark is what the best feature there reaches when "
        "outcomes are shuffled "
        f"(95% of {permutations} shuffles stay below). A bar that does not pass its mark, drawn grey, is noise."
    )
    alt = "Highest r in each layer, and what chance reaches there"
    _pickable(figures.best_by_layer(best), f"chart-layers-{run}", alt, best)


def _rank_chart(run: str, facts: run_facts.RunFacts) -> None:
    ranks = ask_fit(feature_lists.ranks, run)
    if ranks.empty:
        st.info("No feature can be ranked.", icon=":material/info:")
        return
    st.caption(
        f"Each row is a layer, each square one of its {feature_lists.RANKS} features of highest r, the highest on the left: "
        "yellow goes with success most. Only squares in an orange frame are beyond what chance reaches in their layer."
    )
    _pickable(figures.r_by_rank(ranks), f"chart-ranks-{run}", "r by layer and rank", ranks)


def _convergence_chart(run: str, facts: run_facts.RunFacts) -> None:
    with st.spinner("Ranking with fewer samples"):
        points = ask_fit(reliability.convergence, run)
    if points.empty or points["overlap"].isna().all():
        st.info("No feature can be ranked, so there is nothing to follow.", icon=":material/info:")
        return
    st.caption(
        f"How much of the ranking fewer samples would have found. Blue: the share of the top {reliability.TOP} features "
        "in common with those of all samples (as overlap of the two sets); where it flattens near 1, more samples "
        "would change little. Orange: r of the feature that ends up best; few samples exaggerate it."
    )
    alt = "Share of the ranking that fewer samples find, and r of the best feature"
    ui.chart(figures.convergence(points), f"chart-convergence-{run}", alt, points)


def _cloud_chart(run: str, facts: run_facts.RunFacts) -> None:
    points = ask_fit(feature_lists.cloud, run)
    if points.empty:
        st.info("No feature can be ranked.", icon=":material/info:")
        return
    chance = ask(run_facts.chance, run)
    some = f" Shown are the {len(points):,} of the largest r and a sample of the rest." if len(points) >= 1000 else ""
    st.caption(
        "Each bubble is a feature: to the right, it fires in more samples; up, it goes with success; down, with "
        "failure; larger, it is more "
        f"active when the model succeeds. Only what passes the dashed line is beyond chance.{some}"
    )
    figure = figures.frequency_against_r(points, chance and chance["level"], state.current_feature())
    _pickable(figure, f"chart-cloud-{run}", "How often each feature fires, by its r", points)


def _pickable(figure: Any, key: str, alt: str, behind: pd.DataFrame) -> None:
    """A chart in which a click on a feature opens it."""
    ui.chart(figure, key, alt, behind, on_select=lambda: _open_point(key), selection_mode="points")


def _open_point(key: str) -> None:
    for point in st.session_state[key]["selection"]["points"]:
        data = point.get("customdata")
        if data:
            values = list(data.values()) if isinstance(data, dict) else list(data)
            state.open_feature(int(values[0]), int(values[1]))
            return
