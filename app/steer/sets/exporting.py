"""The set on the Steer page for other programs: made when asked for, kept until the set changes."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from app.shared import components, models
from app.steer.desk import file_stem
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine import exports
from corrsteer_core.runs.steering_set import SteeringSet

KEPT = "exports"
OFFERED: tuple[tuple[exports.Format, str, str], ...] = (
    ("safetensors", "Vectors (safetensors)", "One vector per hook point, with where and how it is added."),
    ("python", "Python script", "Steers with transformers alone; reads the safetensors file beside it, so keep both in one folder."),
    ("gguf", "Control vector (GGUF)", "For llama.cpp, which adds it at all positions, not only where the answer is written."),
)  # fmt: skip


@dataclass(frozen=True)
class Exports:
    """What became of a set: the bytes of each format, or why there are none."""

    steering: SteeringSet
    files: dict[exports.Format, bytes]
    problems: dict[exports.Format, str]


def made(steering: SteeringSet, bench: models.Bench) -> Exports:
    """All formats of a set; waits for the model and loads its SAEs. Raises CorrSteerError if they are not to be had."""
    model, saes = bench.model(), bench.saes(steering.active_saes)
    files: dict[exports.Format, bytes] = {}
    problems: dict[exports.Format, str] = {}
    for wanted, _, _ in OFFERED:
        try:
            found = exports.exported(steering, wanted, file_stem(steering), model, saes)
        except CorrSteerError as error:
            problems[wanted] = str(error)
        else:
            files[wanted] = next(iter(found.values()))
    return Exports(steering, files, problems)


def draw(steering: SteeringSet) -> None:
    """Downloads for other programs, below the button that makes them."""
    st.markdown("**For other programs**")
    kept: Exports | None = st.session_state.get(KEPT)
    if kept is None or kept.steering != steering:
        if not st.button("Make vectors, script and GGUF", key="export", width="stretch", icon=":material/ios_share:"):
            return
        with st.spinner("Making the vectors …", show_time=True):
            kept = st.session_state[KEPT] = made(steering, models.bench(steering.model))
    for wanted, label, hint in OFFERED:
        if wanted in kept.files:
            st.download_button(
                label,
                kept.files[wanted],
                file_stem(steering) + exports.SUFFIXES[wanted],
                key=f"export-{wanted}",
                width="stretch",
                on_click="ignore",
                icon=":material/download:",
                help=hint,
            )
    for problem in dict.fromkeys(kept.problems.values()):
        st.caption(components.for_markdown(problem))
