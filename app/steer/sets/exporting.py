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
KEEP_BOTH = "Keep it in one folder with the script, under the name that it is downloaded by."


def offered() -> list[ExportFormat]:
    """The formats for other programs; the set itself is downloaded above them."""
    return [one for one in FORMATS.values() if one.make is not None]


@dataclass(frozen=True)
class Exports:
    """The files made of a set: the bytes of each format, or why there are none."""

    steering: SteeringSet
    files: dict[str, bytes]
    problems: dict[str, str]
    beside: dict[str, dict[str, bytes]]
    """By format and ending: what its file reads, where that is no download already."""


def able(steering: SteeringSet) -> list[ExportFormat]:
    """The formats that can say what a set does."""
    return [one for one in offered() if one.operations or not steering.not_plain]


def made(steering: SteeringSet, bench: models.Bench) -> Exports:
    """All formats of a set; waits for the model and loads its SAEs. Raises CorrSteerError if they cannot be loaded."""
    model, saes = bench.model(), bench.saes(steering.active_saes)
    files: dict[str, bytes] = {}
    problems: dict[str, str] = {}
    beside: dict[str, dict[str, bytes]] = {}
    for one in able(steering):
        try:
            found = exports.exported(handed_out(steering), one.name, file_stem(steering), model, saes)
        except CorrSteerError as error:
            problems[one.name] = str(error)
        else:
            files[one.name], *rest = found.values()
            beside[one.name] = dict(zip(one.beside, rest, strict=True))
    there = {one.suffix for one in offered() if one.name in files}
    other = {name: {end: one for end, one in found.items() if end not in there} for name, found in beside.items()}
    return Exports(steering, files, problems, other)


def draw(run: str, steering: SteeringSet) -> None:
    """Downloads for other programs, below the button that makes them."""
    st.markdown("**For other programs**")
    if row := steering.not_plain:
        st.caption(
            f"Vectors and GGUF can only add the same vector at every token, and the row for feature {row.feature} of layer "
            f"{row.layer} does more than that ({components.for_markdown(row.does)}); the Python script does it too."
        )
    kept: Exports | None = st.session_state.get(KEPT)
    if kept is None or kept.steering != steering:
        words = "Make the script" if steering.not_plain else "Make vectors, script and GGUF"
        if not st.button(words, key="export", width="stretch", icon=":material/ios_share:"):
            return
        with st.spinner("Making the files …", show_time=True):
            kept = st.session_state[KEPT] = made(steering, models.bench(run))
    for one in offered():
        if one.name in kept.files:
            _download(one.label, kept.files[one.name], steering, one.suffix, f"export-{one.name}", one.what)
        for suffix, content in kept.beside.get(one.name, {}).items():
            key = f"export-{one.name}{suffix}"
            _download(f"{one.label}: what it reads ({suffix})", content, steering, suffix, key, KEEP_BOTH)
    for problem in dict.fromkeys(kept.problems.values()):
        st.caption(components.for_markdown(components.in_words_of_the_page(problem)))


def _download(label: str, content: bytes, steering: SteeringSet, suffix: str, key: str, help: str) -> None:
    st.download_button(
        label,
        content,
        file_stem(steering) + suffix,
        key=key,
        width="stretch",
        on_click="ignore",
        icon=":material/download:",
        help=help,
    )
