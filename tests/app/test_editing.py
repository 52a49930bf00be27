"""Sets and pages from outside: what the Steer page's own fields could not hold is refused in a sentence."""

import base64
import json
import zlib

import pytest

from app.steer import editing, snapshot
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs import stored_run
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SaeRef

SAE = SaeRef(1, "somewhere", "blocks.1.hook_resid_post", "f1", 48)
CONFIG = RunConfig("sentiment", "tiny", "m0", "float32", (SAE,), PromptStyle(), 6)


def body(coefficient: object = 2.5, **fields: object) -> dict:
    """A set of one row for the run, as a file has it."""
    made = json.loads(stored_run.empty_set_of("run", CONFIG).to_json())
    return {**made, "rows": [{"layer": 1, "feature": 3, "coefficient": coefficient}], **fields}


def waiting(**fields: object) -> dict:
    """A set of one row that waits for another feature."""
    made = body()
    made["rows"][0] |= {"operation": "clamp", "while_fires": {"layer": 1, "feature": 4, **fields}}
    return {**made, "version": 2}


def uploaded(made: dict):
    return editing.uploaded(json.dumps(made).encode(), "mine.json", "run", CONFIG)


def linked(made: dict, **asked: object):
    """What a link holds that asks this of a set."""
    question = {
        "prompt": "Why?", "sample": "", "scales": [1.0], "max_new_tokens": 6, "temperature": 0.0, "seed": 0,
        "chat": None, "turns": [],
    }  # fmt: skip
    page = {"format": snapshot.FORMAT, "version": snapshot.VERSION, "set": made, "question": {**question, **asked}}
    word = base64.urlsafe_b64encode(zlib.compress(json.dumps(page).encode())).decode().rstrip("=")
    return snapshot.from_link(word, "run", CONFIG)


def test_what_was_undone_is_redone_until_something_else_is_changed():
    editor = editing.Editor.of(uploaded(body()))
    assert (editor.can_undo, editor.can_redo) == (False, False)
    for scale in (2.0, 3.0, 4.0):
        editor.rescale(scale)
    editor.undo()
    editor.undo()
    assert (editor.current.scale, editor.can_redo) == (2.0, True)
    editor.redo()
    assert editor.current.scale == 3.0
    copy = editor.copied()
    editor.rescale(3.0)  # no change
    assert editor.can_redo
    editor.rescale(9.0)
    assert not editor.can_redo
    editor.redo()
    assert editor.current.scale == 9.0
    copy.redo()
    assert (copy.current.scale, copy.can_redo) == (4.0, False)
    for _ in range(4):
        copy.undo()
    assert (copy.current.scale, copy.current.name, copy.can_undo) == (1.0, copy.start.name, False)


def test_what_is_loaded_is_undone_and_redone_with_what_it_started_from():
    first, second = uploaded(body()), uploaded(body(name="other"))
    editor = editing.Editor.of(first)
    editor.load(second)
    editor.undo()
    assert (editor.current, editor.start) == (first, first)
    editor.redo()
    assert (editor.current, editor.start) == (second, second)


def test_the_sae_that_a_row_waits_for_must_be_the_runs_own():
    other = {**waiting(layer=0), "saes": [{**waiting()["saes"][0]}, {**waiting()["saes"][0], "layer": 0}]}
    with pytest.raises(CorrSteerError, match="was made with another SAE for layer 0 than this run's"):
        uploaded(other)
    assert uploaded(waiting()).rows[0].operation == "clamp"


def test_the_bounds_are_those_of_the_pages_own_fields():
    assert uploaded(body(-editing.STRONGEST, scale=-editing.LARGEST_SCALE)).scale == -100.0


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (body(scale=100.5), "The file mine.json has the global scale 100.5; this page takes up to 100 either way"),
        (body(scale=-1e300), "global scale -1e\\+300"),
        (body(-1_000_001), "coefficient -1e\\+06 for feature 3 of layer 1; this page takes up to 1,000,000"),
        (body(name="\ud800"), "half a surrogate pair"),
        (body(10**400), "too large for a number"),
        (waiting(above=2e6), "waits until feature 4 of layer 1 is above 2e\\+06; this page takes up to 1,000,000"),
        (waiting(layer=2), "no SAE for feature 4 of layer 2, which the row for feature 3"),
    ],
)
def test_what_the_page_cannot_show_is_refused_in_words(made, fault):
    with pytest.raises(CorrSteerError, match=fault):
        uploaded(made)
    with pytest.raises(CorrSteerError, match=fault.replace("The file mine.json", "The link")):
        linked(made)


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("seed", 10**400, "is not between 0 and"),
        ("scales", [10**400], "is not between"),
        ("temperature", -(10**400), "is not between 0 and 2"),
        ("prompt", "\ud800", "half a surrogate pair"),
    ],
)
def test_a_link_that_asks_for_what_cannot_be_is_refused_in_words(field, value, fault):
    with pytest.raises(CorrSteerError, match=fault):
        linked(body(), **{field: value})


def test_whole_numbers_are_taken_as_the_pages_own():
    kept = linked(body(5, scale=2), scales=[1, 2])
    assert [type(kept.steering.rows[0].coefficient), type(kept.steering.scale)] == [float, float]
    assert kept.question.scales == (1.0, 2.0)
