"""The embedded default, for real: the model, its SAEs, and the main job from an empty cache to a measured set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.steering import vectors_of
from corrsteer_core.evaluation.trials import trial, unsteered_and
from corrsteer_core.method import collecting, evaluating, run_setup, selecting
from corrsteer_core.models.devices import DTYPES
from corrsteer_core.models.loading import load_model
from corrsteer_core.models.prompts import render, resolve_style
from corrsteer_core.reporting.verdict import verdict
from corrsteer_core.runs import feature_lists, measurements, run_facts, stored_run
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.strategies import BY_RATE
from corrsteer_core.saes.reconstruction import explained, looks_broken
from corrsteer_core.saes.sae import load_saes
from corrsteer_core.tasks import get_task, load_items

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module", autouse=True)
def cache(first_start):
    """The cache of the first start. (The app unpacks the model there; loading it here waits for that.)"""
    before = os.environ.get("CORRSTEER_CACHE")
    os.environ["CORRSTEER_CACHE"] = str(first_start.cache)
    yield
    if before is None:
        del os.environ["CORRSTEER_CACHE"]
    else:
        os.environ["CORRSTEER_CACHE"] = before


@pytest.fixture(scope="module")
def model(demo):
    return load_model()  # in one thread: two that wait for each other beside another process's crawl


@pytest.fixture(scope="module")
def saes(model):
    return load_saes(["embedded"], model)


def test_its_template_and_its_end_tokens(model):
    assert model.has_chat_template
    assert model.tokenizer.convert_tokens_to_ids("<|im_end|>") in model.end_tokens
    text = model.tokenizer.decode(render(model, "Hello", PromptStyle(chat=True)))
    assert text.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")


def test_the_saes_span_the_depth_and_belong_to_their_hook_points(model, saes):
    """The reconstruction error is far lower at an SAE's own hook point than one block away."""
    assert len(saes) >= 6
    assert {8, 15, 22} <= {sae.layer for sae in saes}
    prompts = [
        render(model, item.prompt, PromptStyle(chat=True)) for item in load_items(get_task("overrefusal"), limit=5)
    ]
    for sae, (own, *neighbours) in zip(saes, explained(model, saes, prompts), strict=True):
        assert own.variance_explained > 0.6, sae.source
        assert len(neighbours) == 2
        assert own.variance_explained > max(one.variance_explained for one in neighbours), sae.source
        assert looks_broken(own, *neighbours) is None


def test_the_card_says_what_the_weights_are(saes):
    card = json.loads((ROOT / "corrsteer_core" / "saes_smollm2" / "card.json").read_text())
    assert [row["layer"] for row in sorted(card["saes"], key=lambda row: row["layer"])] == [sae.layer for sae in saes]
    for sae in saes:
        assert sae.d_sae == card["config"]["d_sae"]
        assert sae.net.cfg.k == card["config"]["k"]
    size = sum(path.stat().st_size for path in (ROOT / "corrsteer_core" / "saes_smollm2").rglob("*") if path.is_file())
    assert size <= 45e6


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def pair(request, model):
    """The model in each type, whatever this machine takes by itself, with its SAEs."""
    loaded = load_model(dtype=DTYPES[request.param])
    return loaded, load_saes(["embedded"], loaded)


def test_alone_and_in_a_batch_of_mixed_lengths(pair):
    """The same numbers in float32; in bfloat16 the same but for rounding, which may part a text where two tokens are close."""
    model, saes = pair
    items = load_items(get_task("refusal"), limit=5)
    ids = [render(model, item.prompt, PromptStyle(chat=True)) for item in items]

    def pooled(prompts):
        found = {}
        for batch in answers(model, prompts, max_new_tokens=6, saes=saes):
            for row, place in enumerate(batch.prompts):
                found[place] = (batch.tokens[row][0], [z[row] for z in batch.pooled])
        return found

    def distances(one, other):
        return [((z - other_z).norm() / z.norm()).item() for z, other_z in zip(one, other, strict=True)]

    together, own, others = pooled(ids), [], []
    for place, prompt in enumerate(ids):
        tokens, alone = pooled([prompt])[0]
        if tokens == together[place][0]:
            own.append(distances(alone, together[place][1]))
        others += [distances(alone, together[other][1]) for other in range(len(ids)) if other != place]
    exact = model.dtype == torch.float32
    assert len(own) == len(ids) if exact else len(own) >= len(ids) * 3 / 4
    assert np.max(own) < 1e-4 if exact else np.mean(own) < 0.1
    assert np.mean(others) > 0.5, "another prompt's features would not pass"


@pytest.mark.parametrize("split", ["test", "shifted"])
def test_the_main_job_finds_features_that_make_the_tone_positive(demo, split):
    """In float32 and in bfloat16, on samples that had no part in the choice; the whole job says that it works."""
    evaluation = measurements.evaluations(demo)
    of_the_set = (evaluation["name"] == run_facts.DEMO_SET) & (evaluation["split"] == split)
    summary = evaluation[of_the_set].iloc[0]["summary"]
    random = [one["effect"] for name, one in summary["controls"].items() if name.startswith("random")]
    assert summary["effect"] > 0.05
    assert summary["controls"]["sign flipped"]["effect"] < summary["effect"]
    if run_facts.DEMO_LIMIT not in os.environ:
        assert verdict(summary).kind == "works"
        assert summary["effect"] > max(random)
        assert len(random) == 19
        assert summary["effect"] > summary["controls"]["unigram"]["effect"]


@pytest.fixture(scope="module")
def sentiment(demo, model):
    """A run of sentiment with V chosen by the rate, as the literature does."""
    setup = run_setup.set_up(get_task("sentiment"), model=model)
    collecting.collect(setup)
    collecting.refit(setup.run)
    chosen = selecting.select(setup.run, "V", objective="rate", setup=setup)
    evaluating.evaluate(chosen, setup.task, control_count=3, matched=0, model=model, saes=setup.saes)
    return setup.run


@pytest.mark.exhaustive
def test_a_shifted_prior_is_told_from_a_better_model(sentiment):
    """In float32 and in bfloat16, whichever set is chosen: one constant per class does as much, and nothing is left."""
    evaluation = measurements.evaluations(sentiment)
    summary = evaluation[evaluation["name"] == BY_RATE].iloc[0]["summary"]
    assert summary["n"] >= 160
    assert summary["offset"]["effect"] > 0.05, "one constant for each class"
    assert summary["beyond_prior"]["effect"] < 0.03
    assert abs(summary["auc"]["steered"] - summary["auc"]["unsteered"]) < 0.02
    assert verdict(summary).kind in ("shifts", "inconclusive", "not shown"), "whatever it is, it does not work"
    assert summary["controls"]["sign flipped"]["effect"] < 0


@pytest.mark.exhaustive
def test_the_highest_r_is_not_the_best_effect(sentiment):
    effects = feature_lists.effects(sentiment)
    highest_r = effects.loc[effects["r"].idxmax()]
    best_effect = effects.loc[effects["effect"].idxmax()]
    assert (highest_r["layer"], highest_r["feature"]) != (best_effect["layer"], best_effect["feature"])
    assert best_effect["effect"] > 0


def test_a_second_demo_does_nothing_again(demo):
    def measured():
        evaluations = measurements.evaluations(demo)  # of its set alone: other tests may measure more at the same time
        return evaluations[evaluations["name"] == run_facts.DEMO_SET]["created"].tolist()

    before = measured()
    assert before
    arguments = [sys.executable, "-m", "corrsteer_core", "demo", "--json"]
    again = subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True, text=True)
    assert json.loads(again.stdout)["run"] == demo
    assert measured() == before


EVERY_ITEM = 10_000  # more than any of these tasks has
SOME = 6


@pytest.mark.parametrize("limit", [SOME, pytest.param(EVERY_ITEM, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("name", ["sentiment", "refusal", "overrefusal", "capitals"])
def test_scale_zero_is_the_unsteered_text(demo, model, saes, name, limit):
    """That it is for any model, whatever it is asked, is tested with tiny models (`tests/engine`)."""
    task = get_task(name)
    every = load_items(task)
    items = every[:: max(1, len(every) // limit)][:limit]  # from all over the task
    assert len(items) == min(limit, len(every))
    assert 150 <= len(every) < EVERY_ITEM
    steering = stored_run.kept_sets(demo)["A"]
    style = resolve_style(model, chat=None, task_chat=task.chat)
    # Twelve tokens: what differs at scale 0 differs from the first on, and longer answers take minutes.
    asked = {"style": style, "scorer": task.scorer, "max_new_tokens": min(task.max_new_tokens, 12)}
    found = trial(model, items, unsteered_and(vectors_of(steering.scaled(0.0), saes)), **asked)
    assert len(found.tokens) == len(items)
    assert [row[1] for row in found.tokens] == [row[0] for row in found.tokens]
    hard = trial(model, items[:12], unsteered_and(vectors_of(steering.scaled(4.0), saes)), **asked)
    assert any(row[1] != row[0] for row in hard.tokens), "steering hard must change something"
