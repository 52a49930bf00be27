"""What steering with each feature was predicted to do, beside what it did; or a way to have it predicted."""

from __future__ import annotations

import streamlit as st

from app.features.job_offer import job_offer
from app.features.pictures import pickable
from app.shared import components as ui
from app.shared.resources import ask, picture
from corrsteer_core.reporting import figures
from corrsteer_core.runs import feature_lists, predictions, run_facts


def draw(run: str, facts: run_facts.RunFacts) -> None:
    if ask(predictions.predictions, run).empty:
        _offer(run, facts)
        return
    found: predictions.Agreement = ask(predictions.predicted_against_measured, run)
    if found.points.empty:
        st.info(
            f"{ui.counted(ask(feature_lists.predicted_features, run), 'feature')} have a predicted effect (a column of the "
            "table), but none has been steered with yet, so there is nothing to compare with. The Overview page starts that.",
            icon=":material/info:",
        )
        return
    row = ui.numbers_row()
    row.metric(
        "Prediction and effect",
        ui.signed(found.predicted),
        help="Spearman's rank correlation over the features that were tried: 1 if the prediction puts them in the right order.",
    )
    row.metric("r and effect", ui.signed(found.r), help="The same of r, over the features whose r is defined.")
    st.caption(
        f"Each of the {len(found.points):,} dots is a feature, at the smallest scale it was tried at. To the right: the change "
        "of success on training samples that gradients predict; up: the change on validation samples that steering "
        "brought. On the dashed line both are equal. Only features that were chosen to be tried are here."
    )
    alt = "Predicted against measured effect of each feature tried"
    figure = picture(figures.predicted_against_measured, found.points)
    pickable(figure, f"chart-predicted-{run}", alt, found.points)


def _offer(run: str, facts: run_facts.RunFacts) -> None:
    """A button that has the effects predicted."""
    job_offer(
        ["predict", run],
        "No effect is predicted yet of this run as it is ranked now. What steering with each feature would do can be "
        f"predicted from one backward pass per training sample; on the command line: `corrsteer predict {run}`.",
        "Predict them",
        ":material/query_stats:",
        title=f"{facts.config['task']}: predict the effect of every feature",
        running="The effects are being predicted",
    )
