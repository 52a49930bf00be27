"""Two runs by the features that both rank: r in the one against r in the other, and those that lead both."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.shared import components as ui
from app.shared import state, tables
from app.shared.resources import Stamp, picture, stamp
from corrsteer_core.base.formatting import number
from corrsteer_core.correlation import agreement
from corrsteer_core.correlation.agreement import Agreement
from corrsteer_core.reporting import feature_figures
from corrsteer_core.runs import feature_lists


def draw(runs: Sequence[str]) -> None:
    """The first two of the runs, or the two that are chosen."""
    st.markdown("**The same features in both runs**")
    one, other = _pair(runs) if len(runs) > 2 else runs
    if one == other:
        st.caption("Choose two different runs.")
        return
    shared = feature_lists.shared_layers(one, other)
    if not shared:
        st.caption("These two runs have no SAE in common, so a feature of one is no feature of the other.")
        return
    pairs = _pairs(stamp(one), stamp(other))
    if pairs.empty:
        st.caption("No feature is ranked in both runs yet.")
        return
    found = agreement.agreement(pairs)
    st.markdown(ui.for_markdown(said(found, shared)))
    st.caption(
        "How to read it: each dot is a feature, r in one run to the right, r in the other up; on the dashed line both are "
        "the same. Select a dot to look at the feature."
    )
    _picture(one, other, pairs, found)
    _leading(one, other, found)


def said(found: Agreement, layers: Sequence[int]) -> str:
    """How far the two rankings agree, in words."""
    where = f"{'layer' if len(layers) == 1 else 'layers'} {', '.join(map(str, layers))}"
    ranks = "" if found.rank_correlation is None else (
        f" Their ranks agree by {ui.signed(found.rank_correlation)} (Spearman; +1 the same order, 0 no relation)."
    )  # fmt: skip
    return (
        f"Both runs rank {ui.counted(found.features, 'feature')} of {where}.{ranks} Of the {found.top} features of highest r "
        f"in each, {len(found.leading)} are the same; rankings without any relation would share "
        f"{number(found.by_chance, 1)} on average."
    )


@st.cache_data(max_entries=16, show_spinner=False)
def _pairs(one: Stamp, other: Stamp) -> pd.DataFrame:
    return feature_lists.in_both(one.run, other.run)


def _pair(runs: Sequence[str]) -> tuple[str, str]:
    """Which two of more runs."""
    left, right = st.columns(2)
    one = left.selectbox("To the right", runs, index=0, format_func=ui.plain, key="pair_one")
    other = right.selectbox("Up", runs, index=1, format_func=ui.plain, key="pair_other")
    return one, other


def _picture(one: str, other: str, pairs: pd.DataFrame, found: Agreement) -> None:
    shown = agreement.shown(pairs)
    if len(shown) < len(pairs):
        st.caption(f"Shown are the {len(shown):,} of the largest r in either run and a sample of the rest.")
    figure = picture(feature_figures.r_against_r, shown, found.leading, (ui.plain(one), ui.plain(other)))
    key = f"chart-pairs-{one}-{other}"
    behind = shown[["layer", "feature", "r", "other_r"]].rename(
        columns={"r": f"r in {one}", "other_r": f"r in {other}"}
    )
    ui.chart(figure, key, "r of each feature in two runs", behind, on_select="rerun", selection_mode="points")
    for point in (st.session_state.get(key) or {"selection": {"points": []}})["selection"]["points"]:
        data = point.get("customdata")
        if data:
            layer, feature, *_ = data.values() if isinstance(data, dict) else data
            state.go_to("features", run=one, layer=int(layer), feature=int(feature))


def _leading(one: str, other: str, found: Agreement) -> None:
    """The features that lead both, in a table whose rows open them."""
    if found.leading.empty:
        return
    st.caption(f"Among the {found.top} of highest r in both runs; select a row to look at the feature.")
    rows = found.leading.reset_index(drop=True)
    picked = st.dataframe(
        tables.harmless(
            pd.DataFrame(
                {
                    "Layer": rows["layer"],
                    "Feature": rows["feature"],
                    "Meaning": [
                        ui.description(row.description, row.description_source, in_table=True)
                        for row in rows.itertuples()
                    ],
                    f"r in {one}": [ui.signed(r) for r in rows["r"]],
                    f"r in {other}": [ui.signed(r) for r in rows["other_r"]],
                }
            )
        ),
        key=f"leading-{one}-{other}",
        alt="Features that lead both runs. Arrow keys move, Shift and Space open a row.",
        hide_index=True,
        width="stretch",
        height="content",
        placeholder="–",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "Layer": st.column_config.NumberColumn(width=50),
            "Feature": st.column_config.NumberColumn(width=64),
            "Meaning": st.column_config.TextColumn(width=150, help="(?) marks a guess of our own."),
            f"r in {one}": st.column_config.TextColumn(width=130, alignment="right"),
            f"r in {other}": st.column_config.TextColumn(width=130, alignment="right"),
        },
    )
    for row in [place for place in picked["selection"]["rows"] if place < len(rows)]:
        state.go_to("features", run=one, layer=int(rows["layer"][row]), feature=int(rows["feature"][row]))
