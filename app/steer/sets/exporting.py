"""The set on the Steer page for other programs: made when asked for, kept until the set changes."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from app.shared import components, models
from app.steer.desk import file_stem, handed_out
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine import exports
from corrsteer_core.engine.export_formats import FORMATS, ExportFormat
from corrsteer_core.runs.steering_set import SteeringSet

KEPT = "exports"


def offered() -> list[ExportFormat]:
    """The formats for other programs; the set itself is downloaded above them."""
    return [one for one in FORMATS.values() if one.make is not None]


@dataclass(frozen=True)
class Exports:
    """The files made of a set: the bytes of each format, or why there are none."""

    steering: SteeringSet
    files: dict[str, bytes]
    problems: dict[str, str]


def made(steering: SteeringSet, bench: models.Bench) -> Exports:
    """All formats of a set; waits for the model and loads its SAEs. Raises CorrSteerError if they cannot be loaded."""
    model, saes = bench.model(), bench.saes(steering.active_saes)
    files: dict[str, bytes] = {}
    problems: dict[str, str] = {}
    for one in offered():
        try:
            found = exports.exported(handed_out(steering), one.name, file_stem(steering), model, saes)
        except CorrSteerError as error:
            problems[one.name] = str(error)
        else:
            files[one.name] = next(iter(found.values()))
    return Exports(steering, files, problems)


def draw(steering: SteeringSet) -> None:
    """Downloads for other programs, below the button that makes them."""
    st.markdown("**For other programs**")
    if row := steering.not_plain:
        st.caption(
            f"Vectors, script and GGUF can only add the same vector at every token, and the row for feature {row.feature} of layer "
            f"{row.layer} does more than that ({components.for_markdown(row.does)}). Download the set, or switch that row off."
        )
        return
    kept: Exports | None = st.session_state.get(KEPT)
    if kept is None or kept.steering != steering:
        if not st.button("Make vectors, script and GGUF", key="export", width="stretch", icon=":material/ios_share:"):
            return
        with st.spinner("Making the vectors …", show_time=True):
            kept = st.session_state[KEPT] = made(steering, models.bench(steering.model))
    for one in offered():
        if one.name in kept.files:
            st.download_button(
                one.label,
                kept.files[one.name],
                file_stem(steering) + one.suffix,
                key=f"export-{one.name}",
                width="stretch",
                on_click="ignore",
                icon=":material/download:",
                help=one.what,
            )
    for problem in dict.fromkeys(kept.problems.values()):
        st.caption(components.for_markdown(components.in_words_of_the_page(problem)))
