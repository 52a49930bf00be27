"""Mistakes that are easily made, where no other file tests for them: end tokens, controls, cost, fluency."""

import copy

import numpy as np
import pandas as pd
import pytest

from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.steering import vectors_of
from corrsteer_core.evaluation import controls
from corrsteer_core.models.loading import Model, end_tokens, fingerprint
from corrsteer_core.reporting import report, report_contents
from corrsteer_core.runs.steering_set import SteeringRow
from tests.made import fabricated
from tests.made.models import prompts, random_sae, tiny
from tests.made.sets import empty_set

TURN_END = 40


@pytest.fixture
def listed():
    """A tiny model whose generation config names an end of turn that its tokenizer does not take for the end."""
    made = tiny("llama")
    net = copy.deepcopy(made.net)
    net.generation_config.eos_token_id = [1, TURN_END]
    assert made.tokenizer.eos_token_id == 1
    return Model("listed", net, made.tokenizer, end_tokens(net, made.tokenizer), fingerprint(net))


def test_every_end_token_of_the_generation_config_ends_an_answer(listed):
    assert {1, TURN_END} <= listed.end_tokens
    listed.net.lm_head.weight.data[TURN_END] *= 6  # so that some answers say it
    ids = prompts(listed)
    found = {}
    for batch in answers(listed, ids, max_new_tokens=12):
        found |= {place: tokens[0] for place, tokens in zip(batch.prompts, batch.tokens, strict=True)}
    said = [tokens for tokens in found.values() if TURN_END in tokens]
    assert said, "the case is one in which it matters"
    assert all(tokens.index(TURN_END) == len(tokens) - 1 for tokens in said)


def test_random_controls_fire_as_often_push_as_hard_and_are_used_once():
    model = tiny("llama")
    saes = [random_sae(model, layer, d_sae=400, seed=layer) for layer in (0, 2)]
    rng = np.random.default_rng(0)
    features = pd.DataFrame(
        {"layer": np.repeat([0, 2], 400), "feature": np.tile(np.arange(400), 2), "frequency": rng.random(800)}
    )
    rows = (SteeringRow(0, 5, 3.0), SteeringRow(2, 7, -2.0), SteeringRow(2, 9, 1.0, enabled=False))
    steering = empty_set(model, saes, rows=rows, scale=2.0)
    found = controls.random_like(steering, features, saes, count=6, seed=1)
    frequency = features.set_index(["layer", "feature"])["frequency"]
    assert [[row.layer for row in one.rows] for one in found] == [[0, 2]] * 6
    used = [(row.layer, row.feature) for one in (steering, *found) for row in one.rows]
    assert len(set(used)) == len(used)
    for place, original in enumerate(steering.active_rows):
        layer = frequency.loc[original.layer]
        own = layer[original.feature]
        widest = (layer - own).abs().sort_values().iloc[controls.NEIGHBOURS + len(used)]
        for one in found:
            assert abs(layer[one.rows[place].feature] - own) <= widest
    plain = vectors_of(steering, saes)
    for one in found:
        for point, vector in vectors_of(one, saes).items():
            assert vector.norm().item() == pytest.approx(plain[point].norm().item(), rel=1e-5)
            assert abs((vector @ plain[point]).item()) < 0.99 * (plain[point] @ plain[point]).item()


def test_random_controls_of_several_features_in_a_layer_push_as_hard_together():
    """Features that point the same way add up to more than random ones of the same lengths do."""
    model = tiny("llama")
    saes = [random_sae(model, 1)]
    saes[0].net.W_dec.data[9] = saes[0].net.W_dec.data[7]
    features = pd.DataFrame({"layer": 1, "feature": range(48), "frequency": np.linspace(0, 1, 48)})
    steering = empty_set(model, saes, rows=(SteeringRow(1, 7, 3.0), SteeringRow(1, 9, 2.0)))
    (length,) = (vector.norm().item() for vector in vectors_of(steering, saes).values())
    for one in controls.random_like(steering, features, saes, count=4):
        (vector,) = vectors_of(one, saes).values()
        assert vector.norm().item() == pytest.approx(length, rel=1e-5)
        lengths = saes[0].directions([row.feature for row in one.rows]).norm(dim=-1).tolist()
        assert one.rows[0].coefficient * lengths[0] == pytest.approx(
            1.5 * one.rows[1].coefficient * lengths[1], rel=1e-5
        )


def test_random_controls_are_not_always_the_same_features():
    model = tiny("llama")
    saes = [random_sae(model, 1)]
    features = pd.DataFrame({"layer": 1, "feature": range(48), "frequency": np.linspace(0, 1, 48)})
    steering = empty_set(model, saes, rows=(SteeringRow(1, 20, 3.0),))

    def drawn(seed):
        return [one.rows[0].feature for one in controls.random_like(steering, features, saes, count=5, seed=seed)]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


def test_the_encoder_does_not_run_at_every_step(monkeypatch):
    """Its weights outweigh the work of one token: 24 steps of a batch are a few products, not 24."""
    made = tiny("llama")
    model = Model(made.name, made.net, made.tokenizer, frozenset(), made.fingerprint)  # nothing ends an answer early
    sae = random_sae(model, 1)
    rows = []
    encode = sae.net.encode
    monkeypatch.setattr(sae.net, "encode", lambda x: rows.append(len(x)) or encode(x))
    ids = prompts(model)
    for batch in answers(model, ids, max_new_tokens=24, saes=[sae]):
        assert all(len(tokens[0]) == 24 for tokens in batch.tokens)
    assert sum(rows) == 24 * len(ids), "every generation position is encoded once"
    assert len(rows) <= 3


def test_fluency_stands_beside_every_rate_of_the_report(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    run = fabricated.make_run()
    page = report.html(run)
    assert "Fluency lost" in page
    (one,) = report_contents.contents(run)["measured"]
    assert one.fluency_loss == pytest.approx(-0.1)
