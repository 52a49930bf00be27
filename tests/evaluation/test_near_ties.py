"""Near ties: counted from the model's own logits, and what they could turn, against every way they could go written out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.generation import UNSTEERED
from corrsteer_core.evaluation.near_ties import could_turn, near_ties
from corrsteer_core.statistics.clusters import paired_test
from tests.made import runs as tiny


def said(before, after):
    up, down = int((after > before).sum()), int((after < before).sum())
    if not up + down or stats.binomtest(up, up + down).pvalue >= 0.05:
        return 0
    return 1 if up > down else -1


def by_all_ways(before, after, close):
    """Whether any assignment of the outcomes that are close says otherwise than the ones seen."""
    places = [(row, side) for row, side in np.argwhere(close)]
    seen = said(before, after)
    for values in product((0.0, 1.0), repeat=len(places)):
        sides = np.stack([before, after], axis=1)
        for place, value in zip(places, values, strict=True):
            sides[place] = value
        if said(sides[:, 0], sides[:, 1]) != seen:
            return True
    return False


@pytest.mark.parametrize("seed", range(25))
def test_whether_they_could_turn_it_is_whether_some_way_they_could_go_does(seed):
    rng = np.random.default_rng(seed)
    n = 30
    before = (rng.random(n) < 0.4).astype(float)
    after = np.where(rng.random(n) < [0.1, 0.3, 0.45][seed % 3], 1.0, before)
    close = np.zeros((n, 2), dtype=bool)
    close[rng.choice(n, 5, replace=False), rng.integers(0, 2, 5)] = True
    assert could_turn(before, after, close) == by_all_ways(before, after, close)


def test_near_ties_are_counted_on_either_side_below_the_bound_of_the_type():
    before, after = np.zeros(4), np.ones(4)
    leads = np.array([[0.005, 3.0], [2.0, 0.02], [0.05, 0.05], [1.0, 1.0]])
    assert near_ties(before, after, leads, "float32").samples == 1
    found = near_ties(before, after, leads, "bfloat16")
    assert (found.samples, found.bound) == (3, 0.1)
    assert near_ties(before, after, leads, "another").bound == 0.1


@pytest.mark.parametrize(("up", "down"), [(12, 1), (6, 0), (3, 1), (0, 9), (5, 0), (0, 0), (20, 14)])
def test_flips_to_turn_are_the_fewest_that_take_p_across(up, down):
    n = 60
    before = np.r_[np.zeros(up), np.ones(down), np.zeros(n - up - down)]
    after = np.r_[np.ones(up), np.zeros(down), np.zeros(n - up - down)]

    def p(one, other):
        return stats.binomtest(one, one + other).pvalue if one + other else 1.0

    more, fewer = max(up, down), min(up, down)
    sign = -1 if p(more, fewer) < 0.05 else 1
    expected = next(k for k in range(1, 60) if (p(more + sign * k, fewer) < 0.05) != (p(more, fewer) < 0.05))
    assert near_ties(before, after, np.ones((n, 2)), "float32").to_turn == expected


def test_graded_outcomes_have_no_number_of_flips_to_turn():
    assert near_ties(np.full(9, 0.2), np.full(9, 0.4), np.ones((9, 2)), "float32").to_turn is None


def test_what_is_tested_by_cluster_is_turned_by_cluster():
    """20 samples of one cluster rise together: to McNemar a finding that six near ties cannot turn, by cluster none yet."""
    before, after = np.zeros(26), np.r_[np.ones(20), np.zeros(6)]
    clusters = ["one"] * 20 + [f"alone {place}" for place in range(6)]
    leads = np.ones((26, 2))
    leads[20:, 1] = 0.0  # nearly tied, steered: they too could rise
    assert paired_test(before, after).p < 0.05
    assert paired_test(before, after, clusters).p > 0.05 > paired_test(before, np.ones(26), clusters).p
    alone, together = (near_ties(before, after, leads, "float32", one) for one in ((), clusters))
    assert (alone.could_turn, together.could_turn) == (False, True)
    assert alone.to_turn is not None
    assert together.to_turn is None


def test_the_lead_is_that_of_the_models_own_first_token():
    model, saes = tiny.load()
    prompts = [model.tokenizer.encode(text, add_special_tokens=False) for text in ("one two", "over there", "so")]
    direction = {saes[0].point: 40 * saes[0].directions([3])[0]}
    found = {}
    for batch in answers(model, prompts, max_new_tokens=3, variants=[UNSTEERED, direction, UNSTEERED]):
        found.update(zip(batch.prompts, batch.leads, strict=True))
    for place, ids in enumerate(prompts):
        with torch.inference_mode():
            first, second = (
                model.net(torch.tensor([ids])).logits[0, -1].double().sort(descending=True).values[:2].tolist()
            )
        assert found[place][[0, 2]] == pytest.approx([first - second] * 2, abs=1e-4)
        assert abs(found[place][1] - found[place][0]) > 1e-4
