"""Sets that do more than add, measured: the same texts as asked one by one, and the controls that there can be."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from corrsteer_core.evaluation import controls
from corrsteer_core.evaluation.exam import exam_for
from corrsteer_core.evaluation.measure import evaluate_set, sweep, transfer
from corrsteer_core.evaluation.standing import LeftOut
from corrsteer_core.inspection import playground
from corrsteer_core.method.contenders import against
from corrsteer_core.reporting import report, rival_groups
from corrsteer_core.reporting.rate_rows import BEYOND
from corrsteer_core.runs import feature_facts, measurements, stored_run
from corrsteer_core.runs.against import OFFSET, Against
from corrsteer_core.runs.steering_set import Firing, SteeringRow
from corrsteer_core.tasks import get_task
from tests.made import runs as tiny
from tests.made.models import random_sae
from tests.made.models import tiny as tiny_model
from tests.made.sets import empty_set

LIMIT = 6
ONE_TOKEN = LeftOut(
    BEYOND,
    "Some of the classes begin with the same token, or with none, so the model's first word does not tell them apart.",
)
"""What is said of sentiment with the tiny tokenizer."""
CLAMP = SteeringRow(1, 3, 9.0, operation="clamp")
LATE = SteeringRow(2, 5, 9.0, from_token=1, while_fires=Firing(1, 7))


@pytest.fixture
def steering(loaded):
    return replace(stored_run.kept_sets(tiny.make_run(*loaded))["A"], name="held")


def test_what_is_measured_is_what_is_written(loaded, steering):
    model, saes = loaded
    steering = steering.with_rows([CLAMP, replace(LATE, operation="ablate")])
    found = evaluate_set(steering, get_task("sentiment"), limit=LIMIT, model=model, saes=saes)
    tokens = exam_for(steering, get_task("sentiment"), model, split="test", limit=LIMIT).max_new_tokens
    for row in found.samples.itertuples():
        texts = playground.side_by_side(steering, row.prompt, max_new_tokens=tokens, model=model, saes=saes)
        assert texts == (row.unsteered, row.steered)
    assert found.comparison.changed


def test_a_sweep_multiplies_additions_and_ends_at_the_unsteered_model(loaded, steering):
    model, saes = loaded
    task = get_task("sentiment")
    steering = steering.with_rows([CLAMP, SteeringRow(2, 5, 4.0)])
    nothing, twice = sweep(steering, [task], (0.0, 2.0), limit=LIMIT, model=model, saes=saes)
    assert nothing.comparison.changed == 0
    by_number = steering.with_rows([CLAMP, SteeringRow(2, 5, 8.0)])
    (same,) = transfer([by_number], [task], limit=LIMIT, model=model)
    pd.testing.assert_frame_equal(same.samples, twice.samples)


def test_a_set_that_clamps_has_random_sets_that_clamp_and_no_sign(loaded, steering):
    model, saes = loaded
    steering = steering.with_rows([CLAMP])
    found = evaluate_set(steering, get_task("sentiment"), limit=LIMIT, control_count=2, model=model, saes=saes)
    assert set(found.controls) == {"random 1", "random 2", "unigram"}
    assert set(found.against) == set(found.controls)
    why = "The row for feature 3 of layer 1 does not add, so it has no sign (clamp to 9)."
    assert found.left_out == (ONE_TOKEN, LeftOut("sign flipped", why))
    said = f"Not measured: {ONE_TOKEN.rival}. {ONE_TOKEN.why} Not measured: sign turned round. {why}"
    assert rival_groups.missing_controls(found.summary()) == said
    assert rival_groups.missing_rivals(found.summary()) == ""
    sweep(steering, [get_task("sentiment")], (1.0,), limit=LIMIT, model=model, saes=saes)
    (kept,) = measurements.evaluations(steering.run)["summary"]
    assert kept["left_out"] == [asdict(ONE_TOKEN), {"rival": "sign flipped", "why": why}], (
        "it stays, once, as the controls do"
    )


def test_what_acts_later_has_its_sign_but_no_push_on_the_first_word(loaded, steering):
    model, saes = loaded
    found = evaluate_set(steering.with_rows([LATE]), get_task("tone"), limit=4, control_count=1, model=model, saes=saes)
    assert set(found.controls) == {"random 1", "sign flipped"}
    (left_out,) = found.left_out
    assert left_out == LeftOut("unigram", "Feature 5 of layer 2 acts only from generated token 1 on.")


def test_a_tournament_leaves_what_is_said_of_controls(loaded, steering):
    model, saes = loaded
    task = get_task("sentiment")
    steering = steering.with_rows([CLAMP])
    exam = exam_for(steering, task, model, split="test", limit=LIMIT)
    found = evaluate_set(steering, task, limit=LIMIT, control_count=1, model=model, saes=saes)
    beside = against(found, steering, exam, Against((OFFSET,)), model)
    assert found.left_out[0] in beside.left_out


def test_random_features_are_used_as_the_originals_are():
    model = tiny_model("llama")
    saes = [random_sae(model, 1)]
    features = pd.DataFrame({"layer": 1, "feature": range(48), "frequency": np.linspace(0, 1, 48)})
    rows = (
        SteeringRow(1, 7, 3.0, operation="clamp", note="mine"),
        SteeringRow(1, 9, 2.0, from_token=2, while_fires=Firing(1, 4, 0.5)),
        SteeringRow(1, 11, 0.0, operation="ablate"),
        SteeringRow(1, 13, -1.0),
        SteeringRow(1, 15, 1.0, operation="cap", enabled=False),
    )
    steering = empty_set(model, saes, rows=rows)
    weights = saes[0].net.W_dec
    for one in controls.random_like(steering, features, saes, count=3):
        assert [(row.operation, row.from_token, row.while_fires) for row in one.rows] == [
            (row.operation, row.from_token, row.while_fires) for row in steering.active_rows
        ]
        clamp, late, _, added = one.rows
        assert clamp.coefficient * weights[clamp.feature].norm().item() == pytest.approx(
            3.0 * weights[7].norm().item(), rel=1e-5
        )
        own = 2.0 * weights[9] - weights[13]
        theirs = late.coefficient * weights[late.feature] + added.coefficient * weights[added.feature]
        assert theirs.norm().item() == pytest.approx(own.norm().item(), rel=1e-5)
        assert {row.note for row in one.rows} == {""}


def test_report_and_first_page_say_what_is_done_with_a_feature(loaded, steering):
    steering = steering.with_rows([CLAMP, SteeringRow(2, 5, 4.0)])
    stored_run.keep_set(steering.run, steering)
    assert feature_facts.meanings(steering.run, steering)["does"].tolist() == ["clamp to 9", ""]
    page = report.html(steering.run)
    assert "layer 1 · feature 3, clamp to 9" in page
    assert "layer 2 · feature 5, coefficient +4" in page
