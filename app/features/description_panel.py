"""Where the descriptions of features come from: Neuronpedia's by upload, a guess of our own when asked for."""

from __future__ import annotations

import streamlit as st

from app.features.job_offer import job_offer
from app.shared import components as ui
from app.shared.resources import ask
from corrsteer_core.base import presenting, uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.inspection import descriptions
from corrsteer_core.runs import feature_lists, run_facts

LARGEST_UNPACKED = 500_000_000  # bytes of an uploaded file of descriptions; the command line takes larger ones
IMPORTED = "imported"  # what came of an import that was just made


def offer(run: str, facts: run_facts.RunFacts) -> None:
    """Where nothing is described yet, so that a search for a meaning finds little: a way to have it done."""
    if ask(feature_lists.described_features, run):
        return
    job_offer(
        ["describe", run],
        "No feature is described yet, so words are found in texts and tokens only. The best ones can be described: a guess "
        "of our own from the tokens they promote and the texts they fire on (a minute).",
        "Describe them",
        ":material/edit_note:",
        title=f"{facts.config['task']}: describe the best features",
        running="The best features are being described",
    )


def uploads_from_neuronpedia(run: str) -> None:
    if presenting.on():
        return
    done = st.session_state.pop(IMPORTED, "")
    with st.expander(
        "Descriptions from Neuronpedia", expanded=bool(done)
    ):  # what was offered above is gone now: a new one
        if done:
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
