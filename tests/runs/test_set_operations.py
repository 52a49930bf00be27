"""Rows of a set that do more than add: in its file, in its arithmetic, and what is refused."""

import json
from dataclasses import replace

import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.steering_set import Firing, SaeRef, SteeringRow, SteeringSet

OLD = """{
 "format": "corrsteer-steering-set",
 "version": 1,
 "model": "m",
 "model_fingerprint": "ffffffffffff",
 "saes": [
  {
   "layer": 1,
   "source": "s/1",
   "hook_name": "blocks.1.hook_resid_post",
   "fingerprint": "aaaaaaaaaaaa",
   "d_sae": 48
  },
  {
   "layer": 2,
   "source": "s/2",
   "hook_name": "blocks.2.hook_resid_post",
   "fingerprint": "bbbbbbbbbbbb",
   "d_sae": 48
  }
 ],
 "rows": [
  {
   "layer": 1,
   "feature": 3,
   "coefficient": 2.0,
   "enabled": true,
   "note": "r .3"
  },
  {
   "layer": 2,
   "feature": 5,
   "coefficient": -1.5,
   "enabled": true,
   "note": ""
  },
  {
   "layer": 2,
   "feature": 7,
   "coefficient": 9.0,
   "enabled": false,
   "note": ""
  }
 ],
 "scale": 2.0,
 "name": "mine",
 "run": "",
 "task": "",
 "style": {
  "chat": false,
  "system": "",
  "shots": []
 }
}"""
"""A set as it was written before there was anything but adding."""
HASH = "0f2d0de4"
"""Its hash then."""


def made(*rows, **named):
    saes = tuple(
        SaeRef(n, f"s/{n}", f"blocks.{n}.hook_resid_post", letter * 12, 48) for n, letter in ((1, "a"), (2, "b"))
    )
    usual = {"scale": 2.0, "name": "mine", "style": PromptStyle(chat=False)}
    return SteeringSet("m", "f" * 12, saes, rows, **(usual | named))


PLAIN = (SteeringRow(1, 3, 2.0, note="r .3"), SteeringRow(2, 5, -1.5), SteeringRow(2, 7, 9.0, enabled=False))
CLAMP = SteeringRow(1, 3, 4.0, operation="clamp")
WAITING = SteeringRow(2, 5, 1.5, from_token=3, while_fires=Firing(1, 9, 0.5))


def test_a_set_that_only_adds_is_written_and_hashed_as_ever():
    assert SteeringSet.from_json(OLD) == made(*PLAIN)
    assert made(*PLAIN).to_json() == OLD
    assert made(*PLAIN).content == HASH


@pytest.mark.parametrize("row", [CLAMP, WAITING, replace(CLAMP, operation="cap"), replace(CLAMP, operation="ablate")])
def test_a_set_reads_back_equal_whatever_its_rows_do(row):
    steering = made(row, SteeringRow(2, 8, 1.0))
    body = json.loads(steering.to_json())
    assert SteeringSet.from_json(steering.to_json()) == steering
    assert body["version"] == 2, "a tool of before must not read it as additions"
    assert body["rows"][1].keys() == {"layer", "feature", "coefficient", "enabled", "note"}


def test_the_file_says_what_a_row_does_in_plain_names():
    rows = json.loads(made(CLAMP, WAITING).to_json())["rows"]
    assert rows[0] == {"layer": 1, "feature": 3, "coefficient": 4.0, "enabled": True, "note": "", "operation": "clamp"}
    assert rows[1]["from_token"] == 3
    assert rows[1]["while_fires"] == {"layer": 1, "feature": 9, "above": 0.5}
    rows[1]["while_fires"].pop("above")
    body = {**json.loads(made(CLAMP, WAITING).to_json()), "rows": rows}
    assert SteeringSet.from_json(json.dumps(body)).rows[1].while_fires == Firing(1, 9, 0.0)


@pytest.mark.parametrize(
    "other",
    [
        replace(CLAMP, operation="cap"),
        replace(CLAMP, operation="add"),
        replace(CLAMP, from_token=1),
        replace(CLAMP, while_fires=Firing(1, 4)),
        replace(CLAMP, while_fires=Firing(1, 4, 0.1)),
        replace(CLAMP, coefficient=4.5),
    ],
)
def test_another_doing_is_another_content(other):
    contents = {made(one).content for one in (CLAMP, other, replace(other, while_fires=Firing(1, 5)))}
    assert len(contents) == 3


def test_what_does_not_matter_is_not_in_the_hash():
    ablate = replace(CLAMP, operation="ablate")
    assert made(ablate).content == made(replace(ablate, coefficient=0.0, note="gone")).content
    assert made(CLAMP, WAITING).content == made(WAITING, CLAMP, replace(CLAMP, feature=4, enabled=False)).content


def test_the_sae_that_a_condition_reads_is_one_that_the_set_needs():
    assert [sae.layer for sae in made(WAITING).active_saes] == [1, 2]
    assert [sae.layer for sae in made(replace(WAITING, while_fires=None)).active_saes] == [2]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (CLAMP, "clamp to 4"),
        (replace(CLAMP, operation="cap", from_token=2), "cap at 4, from generated token 2 on"),
        (replace(CLAMP, operation="ablate"), "ablate"),
        (WAITING, "add 1.5, from generated token 3 on, while feature 9 of layer 1 is above 0.5"),
    ],
)
def test_what_a_row_does_in_words(row, words):
    assert row.does == words


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"operation": "boost"},
            "There is no operation 'boost', asked for feature 3 of layer 1 .*add, clamp, ablate, cap",
        ),
        ({"operation": "x" * 10_000}, "There is no operation 'x{40}', asked"),
        ({"operation": 3}, "SteeringRow.operation must be str, not 3"),
        ({"operation": None}, "SteeringRow.operation must be str, not None"),
        ({"operation": ["add"]}, "SteeringRow.operation must be str"),
        ({"operation": "\ud800"}, "SteeringRow.operation has half a surrogate pair"),
        ({"from_token": -1}, "acts from generated token -1 on; give a number from 0 to 1,000,000"),
        ({"from_token": 10**400}, "acts from generated token 10{19} on"),
        ({"from_token": 1.5}, "SteeringRow.from_token must be int"),
        ({"from_token": True}, "SteeringRow.from_token must be int"),
        ({"while_fires": {}}, "missing or wrong field"),
        ({"while_fires": 3}, "Firing must be an object, not 3"),
        ({"while_fires": {"layer": 1, "feature": 9, "below": 3}}, "missing or wrong field"),
        (
            {"while_fires": {"layer": 1, "feature": 48}},
            "no feature 48 of layer 1, which the row for feature 3 .* waits for",
        ),
        (
            {"while_fires": {"layer": 0, "feature": 4}},
            "no SAE for feature 4 of layer 0, which the row .* of layers 1, 2",
        ),
        ({"while_fires": {"layer": 2, "feature": 4}}, "layer 2, which comes later; choose one of layer 1 or before"),
        ({"while_fires": {"layer": "1", "feature": 4}}, "Firing.layer must be int"),
        ({"while_fires": {"layer": 1, "feature": 9, "above": -0.5}}, "above -0.5; give a number of 0 or more"),
        ({"while_fires": {"layer": 1, "feature": 9, "above": float("nan")}}, "above nan; give a number"),
        ({"while_fires": {"layer": 1, "feature": 9, "above": float("inf")}}, "above inf; give a number"),
        ({"while_fires": {"layer": 1, "feature": 9, "above": 10**400}}, "Firing.above is too large"),
        ({"while_fires": {"layer": 1, "feature": 9, "above": None}}, "Firing.above must be float"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(changes, message):
    body = json.loads(made(CLAMP).to_json())
    body["rows"][0].update(changes)
    with pytest.raises(CorrSteerError, match=message) as error:
        SteeringSet.from_json(json.dumps(body), "set.json")
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


def test_a_row_takes_the_place_of_its_features_own_or_comes_last():
    steering = made(*PLAIN)
    assert steering.with_row(CLAMP).rows == (CLAMP, *PLAIN[1:])
    new = replace(CLAMP, feature=11)
    assert steering.with_row(new).rows == (*PLAIN, new)
    assert steering.with_row(PLAIN[1]).rows == PLAIN


# --- arithmetic ----------------------------------------------------------------------------------


def test_a_sum_has_rows_that_do_not_add_as_they_are():
    total = made(CLAMP, scale=2.0) + made(WAITING, SteeringRow(1, 8, 1.0), scale=3.0)
    assert total.rows == (CLAMP, replace(WAITING, coefficient=4.5), SteeringRow(1, 8, 3.0))
    assert total.scale == 1.0
    assert (2 * made(CLAMP)).rows == (CLAMP,)


def test_additions_under_the_same_condition_become_one():
    total = made(WAITING, scale=1.0) + made(replace(WAITING, coefficient=2.5), scale=2.0)
    assert total.rows == (replace(WAITING, coefficient=6.5),)
    assert (made(WAITING) - made(WAITING)).rows == ()


def test_nothing_of_a_set_at_scale_0_is_in_a_sum():
    assert (made(*PLAIN[:2]) + 0.0 * made(replace(CLAMP, feature=4))).rows == (made(*PLAIN[:2]) + made()).rows


@pytest.mark.parametrize(
    "other", [CLAMP, replace(CLAMP, operation="ablate"), replace(CLAMP, operation="add", from_token=1)]
)
def test_rows_of_one_feature_that_do_not_make_one_are_refused(other):
    message = r"cannot be added: both have a row for feature 3 of layer 1, and they do not make one \(add 4"
    for one, more in ((PLAIN[0], other), (other, other)):
        if one.operation == "add" == more.operation and one == more:
            continue
        with pytest.raises(CorrSteerError, match="cannot be added: both have a row for feature 3 of layer 1"):
            made(one) + made(more, name="other")
    with pytest.raises(CorrSteerError, match=message):
        made(PLAIN[0]) + made(other)


@pytest.mark.parametrize(
    "turned", [lambda v: -v, lambda v: v - v, lambda v: -0.5 * v, lambda v: v.scaled(-2), lambda v: made(*PLAIN) - v]
)
def test_what_does_not_add_has_no_negative(turned):
    with pytest.raises(
        CorrSteerError, match=r"cannot be turned round: its row for feature 3 .* does not add \(clamp to 4"
    ):
        turned(made(CLAMP))
    assert turned(made(replace(CLAMP, operation="add"))) is not None
    assert turned(made(replace(WAITING, feature=11))) is not None
