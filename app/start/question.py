"""What is asked: a task by name, or a file whose rows are shown, understood and checked as soon as it is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from app.shared import components as ui
from app.start import file_reading, file_rows, scorer_words
from corrsteer_core import tasks
from corrsteer_core.base import uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.storage import upload_room
from corrsteer_core.tasks import Task
from corrsteer_core.tasks.columns import Columns, written
from corrsteer_core.tasks.preview import Taken, taken

BUILT_IN, OWN = "A task by name", "My own file"
SPLIT_WORDS = {"train": "to rank features", "validation": "to choose them", "test": "held back to measure"}


@dataclass(frozen=True)
class Question:
    """A task by name (`name`), or a file that was understood; without either, `missing` says what to do."""

    name: str = ""
    upload: file_reading.Upload | None = None
    scorer: str = ""
    columns: Columns = ()
    missing: str = ""

    @property
    def title(self) -> str:
        """In a few words, for a job."""
        return tasks.TASKS[self.name].title if self.name else ui.shortened(self.upload.name if self.upload else "", 60)

    @property
    def downloaded(self) -> bool:
        """Whether its samples come from the hub, so that nothing is known of them yet."""
        return bool(self.name and tasks.TASKS[self.name].hub)

    @property
    def task(self) -> Task | None:
        """The task as far as it is known: of a file without its rows."""
        if self.name:
            return tasks.TASKS[self.name]
        return None if self.missing else file_reading.task_of(self.scorer)

    def taken(self, limit: int | None = None, shots: int = 0) -> Taken | None:
        """The samples of a run with these settings; None where they are not known."""
        if self.missing or self.downloaded:
            return None
        if self.name:
            return _of_task(self.name, limit, shots)
        return file_reading.taken_of(self.upload, self.scorer, self.columns, limit, shots)

    def arguments(self) -> list[str]:
        """As arguments of the command line; a file is kept for it. Raises CorrSteerError for what cannot be asked."""
        if self.missing:
            raise CorrSteerError(self.missing)
        if self.name:
            return [f"--task={self.name}"]
        return [f"--scorer={self.scorer}", *self._file()]

    def _file(self) -> list[str]:
        found = self.taken()
        if self.upload is None or found is None or found.problems:
            raise CorrSteerError(found.problems[0] if found else self.missing)
        content = self.upload.content()
        st.session_state[REMOVED] = upload_room.make_room(len(content))
        path = uploads.keep_upload(self.upload.name, content)
        return [f"--data={path}", *([f"--columns={written(self.columns)}"] if self.columns else [])]


REMOVED = "start_removed"  # what went to make room for the file of the run that was started last


@st.cache_resource(max_entries=16, show_spinner=False)
def _of_task(name: str, limit: int | None, shots: int) -> Taken:
    return taken(tasks.TASKS[name], limit=limit, shots=shots)


def draw() -> Question:
    """The choice, and what is there to ask."""
    kind = st.segmented_control(
        "What is asked", [BUILT_IN, OWN], required=True, key="new_run_kind", label_visibility="collapsed"
    )
    return _named() if kind != OWN else _file()


def _named() -> Question:
    name = st.selectbox("Task", list(tasks.TASKS), format_func=lambda one: tasks.TASKS[one].title, key="new_run_task")
    found = Question(name=name)
    st.markdown(ui.for_markdown(tasks.TASKS[name].description))
    if found.downloaded:
        st.caption("Its samples are downloaded from the Hugging Face hub when the run starts.")
    else:
        _summary(found.taken())
    return found


def _file() -> Question:
    left, right = st.columns(2, gap="medium")
    with left:
        given = st.file_uploader(
            "Your samples (JSON, CSV, Parquet)",
            type=[*uploads.ENDINGS, ".gz"],
            key="new_run_file",
            help="One sample a row. JSON lines, a JSON list, CSV or Parquet, also gzipped. Say below which column is which.",
        )
        said = st.container()
    if given is None:
        with right:
            st.markdown(file_rows.WHAT_A_FILE_HOLDS)
        return Question(missing="No file was chosen; upload one with a prompt in every row.")
    upload = file_reading.Upload(given.name, given.file_id, given.getvalue)
    with right:
        scorer_place = st.container()
    with said:
        rows = file_reading.rows_of(upload)
    if isinstance(rows, str):
        with said:
            ui.problem(rows)
        return Question(missing=rows)
    columns = file_rows.draw(upload, rows)
    with scorer_place:
        scorer = scorer_words.draw(upload, columns)
    found = Question(upload=upload, scorer=scorer or "", columns=columns or (), missing=_missing(columns, scorer))
    with said:
        _checked(found)
    return found


def _missing(columns: Columns | None, scorer: str | None) -> str:
    if columns is None:
        return "It is not known yet which column holds the prompts; choose it below the file."
    return "" if scorer else "It is not known yet what counts as success; choose it beside the file."


def _checked(found: Question) -> None:
    """Whether a run can be made of the file, in as many words as it takes."""
    if found.missing:
        st.info(ui.for_markdown(found.missing), icon=":material/help:")
        return
    taken_ = found.taken()
    if taken_ is None or not taken_.problems:
        _summary(taken_)
        return
    others = taken_.wrong - len(taken_.problems)
    more = [f"And {ui.counted(others, 'more row')} that cannot be used."] if others > 0 else []
    ui.problem(*taken_.problems, *more)


def _summary(found: Taken | None) -> None:
    """How many samples there are, what for, and which right answers they have."""
    if found is None:
        return
    if found.problems:
        ui.problem(found.problems[0])
        return
    parts = [f"{found.splits[name]:,} {what}" for name, what in SPLIT_WORDS.items() if name in found.splits]
    lines = [f"**{ui.counted(len(found.items), 'sample')}**: {', '.join(parts)}."]
    if found.copies:
        lines.append(f"{ui.counted(found.copies, 'row')} left out: the prompt is there already.")
    if found.shifted:
        lines.append(f"{ui.counted(found.shifted, 'shifted row')} to measure on later.")
    if said := _targets(found.targets):
        lines.append(said)
    st.markdown(":material/check_circle: " + " ".join(lines))


MOST_TARGETS = 6


def _targets(found: dict[str, int]) -> str:
    """The right answers with how often they are, where they are few enough to be kinds."""
    if not 1 < len(found) <= MOST_TARGETS:
        return ""
    named = ", ".join(f"{ui.for_markdown(ui.shortened(name, 30))} {count:,}" for name, count in found.items())
    return f"Right answers: {named}."
