"""One feature from close by: what it is said to mean, its numbers, tokens, texts, neighbours, and what it does.

What the cache holds is shown at once; what needs the model follows as soon as it has been worked out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from app.features import drawing, feature_texts, feature_tokens, waiting
from app.shared import components as ui
from app.shared import state
from app.shared.resources import ask, ask_fit, picture
from corrsteer_core.inspection import descriptions
from corrsteer_core.reporting import feature_figures
from corrsteer_core.runs import feature_facts, feature_lists, reliability, run_facts

if TYPE_CHECKING:
    from corrsteer_core.inspection.feature_profile import FeatureProfile


def panel(run: str, facts: run_facts.RunFacts, layer: int, feature: int) -> None:
    """Everything about one feature of a run."""
    st.button("All features", icon=":material/arrow_back:", on_click=state.close_feature, type="tertiary")
    row = ask(feature_facts.one_feature, run, layer, feature)
    if row is None:
        st.subheader(f"Layer {layer} · feature {feature}")
        known = ", ".join(map(str, facts.layers))
        st.info(
            f"This feature fired in no training sample of this run, or does not exist; the run's layers are {known}.",
            icon=":material/info:",
        )
        return
    _heading(row)
    work = drawing.profile(run, layer, feature)
    _meaning(run, facts, layer, feature, work)
    _numbers(run, row)
    waiting.profile(work, run, layer, feature)
    drawn: FeatureProfile | None = work.result if work.ready else None
    if drawn is not None:
        feature_tokens.tokens(drawn)
    left, right = st.columns(2)
    with left:
        _activations(run, row)
    with right:
        _effects(run, row)
    feature_texts.run_texts(run, facts, layer, feature, drawn)
    if drawn is not None:
        feature_texts.own_text(run, facts, layer, feature, drawn)
        feature_tokens.neighbours(run, drawn)


def _heading(row: dict[str, Any]) -> None:
    layer, feature = row["layer"], row["feature"]
    title, add, steer = st.columns([2, 1, 1], vertical_alignment="bottom")
    title.subheader(f"Layer {layer} · feature {feature}")
    if state.in_tray(layer, feature):
        add.button(
            "Remove from set",
            icon=":material/remove:",
            width="stretch",
            on_click=state.remove_from_tray,
            args=(layer, feature),
        )
    else:
        add.button(
            "Add to set", icon=":material/add:", type="primary", width="stretch", on_click=state.add_to_tray,
            args=(layer, feature, float(row["coefficient"] or 0.0)),
        )  # fmt: skip
    if not row["coefficient"]:
        st.caption(
            "It fires in no successful training sample, so it has no usual coefficient: in a set it does nothing until you "
            "give it a coefficient there."
        )
    if steer.button("Open Steer", icon=":material/tune:", width="stretch", help="Your set waits there."):
        state.go_to("steer")


def _meaning(run: str, facts: run_facts.RunFacts, layer: int, feature: int, work: drawing.Work) -> None:
    """What it is said to mean, by whom, and where to read more."""
    described = ask(feature_facts.descriptions, run, layer, feature)
    imported = described[described["source"] == "neuronpedia"]
    own = described[described["source"] == "own"]["description"].tolist()
    if work.ready and work.result is not None:
        own = [work.result.guess]  # of more texts than the one that was stored
    for text in imported["description"]:
        st.markdown(f"**{ui.for_markdown(text)}**  \nfrom Neuronpedia")
    for row in described.itertuples():
        if model := descriptions.model_of(row.source):
            st.markdown(
                f"{ui.for_markdown(row.description)}  \ndescribed by {ui.for_markdown(model)}; nobody has checked it"
            )
    if own and own[0]:
        st.markdown(f"{ui.for_markdown(own[0])}.")
        st.caption(f"{descriptions.GUESS}; nobody has checked it.")
    source = next((sae["source"] for sae in facts.config["saes"] if sae["layer"] == layer), "")
    names = [name for name in imported["neuronpedia"] if isinstance(name, str)]
    link = descriptions.neuronpedia_link(names[0] if names else descriptions.neuronpedia_id(source), feature)
    if link:
        st.markdown(f"[This feature on Neuronpedia]({link}) (opens a page of another site)")


def _numbers(run: str, row: dict[str, Any]) -> None:
    feature = pd.DataFrame([{"layer": row["layer"], "feature": row["feature"]}])
    with st.spinner("Drawing samples again …"):
        bounds = ask_fit(reliability.intervals, run, feature).iloc[0]
    between = "" if ui.missing(bounds["r_low"]) else f"{ui.signed(bounds['r_low'])} and {ui.signed(bounds['r_high'])}"
    numbers = ui.numbers_row()
    numbers.metric(
        "r",
        ui.signed(row["r"]),
        help="How closely its activation goes with success, −1 to 1."
        + (
            f" With other samples of this size it would mostly lie between {between} (95% bootstrap)."
            if between
            else ""
        ),
    )
    if row["r_within"] is not None:
        p = f" {ui.p_value(row['p_within'])} (outcomes shuffled within classes)." if row["p_within"] is not None else ""
        numbers.metric(
            "r within class",
            ui.signed(row["r_within"]),
            help=f"r among samples with the same right answer, pooled over the answers.{p}",
        )
    numbers.metric(
        "Coefficient",
        "–" if row["coefficient"] is None else f"{row['coefficient']:.2f}",
        help="Mean activation over the successful samples.",
    )
    numbers.metric(
        "Fires in correct",
        ui.percent(row["frequency_correct"], 0),
        help="Share of the correct answers in which it fired.",
    )
    numbers.metric(
        "Fires in incorrect",
        ui.percent(row["frequency_incorrect"], 0),
        help="Share of the incorrect answers in which it fired.",
    )
    effect = "not tried" if row["effect"] is None else ui.points(row["effect"])
    scale = (
        "Steering with it alone has not been measured."
        if row["effect"] is None
        else f"At scale {row['effect_scale']:g}, {ui.p_value(row['effect_p'])}."
    )
    numbers.metric("Best effect", effect, help=scale)


def _activations(run: str, row: dict[str, Any]) -> None:
    st.markdown("**How active it is**")
    bins = ask_fit(feature_facts.histogram, run, row["layer"], row["feature"])
    if bins.empty:
        st.caption("It fired in no training sample.")
        return
    st.caption(
        f"Where it fired ({row['support']:,} training samples): bars further right are stronger activations. "
        f"Correct and incorrect "
        "answers are each counted as a share of their own."
    )
    ui.chart(
        picture(feature_figures.activation_histogram, bins),
        "chart-histogram",
        "Activations in correct and in incorrect answers",
        bins,
    )


def _effects(run: str, row: dict[str, Any]) -> None:
    st.markdown("**What steering with it does**")
    tried = ask(feature_lists.effects, run, row["layer"], row["feature"])
    if tried.empty:
        st.caption(
            "Not tried: only the features of highest r in each layer are steered with automatically and, where effects have "
            "been predicted, those of best prediction. Add it to your set and measure it on the Evaluate page."
        )
        return
    st.caption(
        f"Success rate on {int(tried['n'].iloc[0])} validation samples with this feature alone added, at "
        f"growing scale, beside the rate "
        "without it."
    )
    ui.chart(
        picture(feature_figures.effects_by_scale, feature_lists.with_intervals(tried)),
        "chart-scales",
        "Success rate by scale, beside the unsteered rate",
        tried.sort_values("scale").drop(columns=["layer", "feature", "r"]),
    )
