"""The unigram control: the set's mean push on words as one constant on the logits, against NumPy and the plain way."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.generation import UNSTEERED
from corrsteer_core.engine.steering import steered, vectors_of
from corrsteer_core.evaluation import rivals
from corrsteer_core.evaluation.exam import exam_for
from corrsteer_core.evaluation.measure import evaluate_set
from corrsteer_core.evaluation.unigram import pushes
from corrsteer_core.models.hooks import LOGITS
from corrsteer_core.models.prompts import answer_text, render
from corrsteer_core.reporting.rate_rows import UNIGRAM
from corrsteer_core.reporting.rate_rows import rates as rate_rows
from corrsteer_core.reporting.verdict import verdict
from corrsteer_core.runs import measurements, stored_run
from corrsteer_core.tasks import get_task
from tests.made import runs as tiny
from tests.made.models import FAST, prompts, random_sae
from tests.made.models import tiny as tiny_model

LIMIT = 12


@pytest.fixture
def steering(loaded):
    run = tiny.make_run(*loaded)
    return stored_run.kept_sets(run)["A"].scaled(6.0)


def log_softmax(logits):
    """In float64, by NumPy."""
    logits = logits.double().numpy()
    return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


def push_by_hand(model, vectors, texts):
    """One prompt at a time through the whole model: mean of log p steered minus unsteered at the last prompt token."""
    changes = []
    for ids in texts:
        with torch.inference_mode():
            before = model.net(torch.tensor([ids])).logits[0, -1]
            with steered(model, vectors):
                after = model.net(torch.tensor([ids])).logits[0, -1]
        changes.append(log_softmax(after) - log_softmax(before))
    return np.mean(changes, axis=0)


@pytest.mark.parametrize("architecture", FAST)
def test_the_push_is_the_mean_change_of_log_probabilities(architecture):
    model = tiny_model(architecture)
    sae = random_sae(model, 1)
    one, other = ({sae.point: 5.0 * sae.directions([feature])[0]} for feature in (3, 7))
    found = pushes(model, prompts(model), [one, {}, other])
    for place, vectors in ((0, one), (2, other)):
        by_hand = push_by_hand(model, vectors, prompts(model))
        assert np.abs(by_hand).max() > 0.1
        assert found[place].numpy() == pytest.approx(by_hand, abs=1e-4)
    assert not found[1].any(), "what adds nothing pushes nothing"


@pytest.mark.parametrize("architecture", FAST)
def test_a_push_is_added_to_the_logits_at_every_step(architecture):
    """Against a loop that reads everything anew for each token; the variants beside it are left as they are."""
    model = tiny_model(architecture)
    push = torch.linspace(-3, 3, model.text_config.vocab_size)[torch.randperm(model.text_config.vocab_size)]
    texts = prompts(model)
    found = {}
    for batch in answers(model, texts, max_new_tokens=5, variants=[UNSTEERED, {LOGITS: push}, {LOGITS: -push}]):
        found.update(zip(batch.prompts, batch.tokens, strict=True))
    for place, ids in enumerate(texts):
        for variant, added in enumerate((0 * push, push, -push)):
            written = []
            while len(written) < 5 and not (written and written[-1] in model.end_tokens):
                with torch.inference_mode():
                    logits = model.net(torch.tensor([ids + written])).logits[0, -1] + added
                written.append(int(logits.argmax()))
            assert found[place][variant] == written


def test_at_scale_0_the_push_is_the_unsteered_text(loaded, steering):
    model, saes = loaded
    nothing = {point: 0 * vector for point, vector in vectors_of(steering, saes).items()}
    (push,) = pushes(model, prompts(model), [nothing])
    assert not push.any()
    found = evaluate_set(
        steering, get_task("sentiment"), scale=0.0, limit=LIMIT, control_count=1, model=model, saes=saes
    )
    assert found.controls[UNIGRAM].changed == 0


def test_the_control_is_measured_on_the_same_samples_with_the_push_of_the_validation_samples(
    loaded, steering, monkeypatch
):
    model, saes = loaded
    task = get_task("sentiment")
    exam = exam_for(steering, task, model, split="test", limit=LIMIT)
    asked = []
    monkeypatch.setattr(
        rivals, "pushes", lambda model, prompts, *more: asked.append(prompts) or pushes(model, prompts, *more)
    )
    found = evaluate_set(steering, task, limit=LIMIT, control_count=1, model=model, saes=saes)
    texts = [render(model, item.prompt, exam.style) for item in exam.validation]
    assert asked == [texts]
    assert texts != [render(model, item.prompt, exam.style) for item in exam.items]
    push = torch.tensor(push_by_hand(model, vectors_of(steering, saes), texts)).float()
    outcomes, changed = [], 0
    for item, before in zip(exam.items, found.samples["unsteered"], strict=True):
        ids, written = render(model, item.prompt, exam.style), []
        while len(written) < exam.max_new_tokens and not (written and written[-1] in model.end_tokens):
            with torch.inference_mode():
                written.append(int((model.net(torch.tensor([ids + written])).logits[0, -1] + push).argmax()))
        text = answer_text(model, written)
        outcomes.append(task.scorer(text, item))
        changed += text != before
    control = found.controls[UNIGRAM]
    assert control.steered_rate == pytest.approx(np.mean(outcomes))
    assert control.changed == changed > 0
    assert (control.n, control.unsteered_rate) == (found.comparison.n, found.comparison.unsteered_rate)
    assert UNIGRAM in found.against, "the set is compared with it sample by sample"
    (kept,) = measurements.evaluations(steering.run)["summary"]
    assert set(kept["controls"]) == {"random 1", "sign flipped", UNIGRAM}
    assert rate_rows(kept, "A")["label"].tolist()[-1] == "constant push on words"


def test_without_validation_samples_there_is_no_push_to_measure(loaded, steering, monkeypatch):
    from corrsteer_core.evaluation import measure

    model, saes = loaded
    real = measure.exam_for
    monkeypatch.setattr(measure, "exam_for", lambda *given, **more: replace(real(*given, **more), validation=()))
    found = evaluate_set(steering, get_task("tone"), limit=4, control_count=1, model=model, saes=saes)
    assert set(found.controls) == {"random 1", "sign flipped"}


def won(p: float, difference: float) -> dict:
    return {"difference": difference, "p": p, "positive_flips": 9, "negative_flips": 1}


def test_a_set_that_does_no_more_than_its_push_on_words_is_no_better_than_controls():
    summary = {
        "n": 100, "unsteered_rate": 0.4, "steered_rate": 0.6, "p": 1e-4, "positive_flips": 22, "negative_flips": 2,
        "controls": {"random 1": {"effect": 0.01}, UNIGRAM: {"effect": 0.18}}, "chosen_on": False,
        "against": {"random 1": won(1e-4, 0.19), UNIGRAM: won(0.3, 0.02)},
    }  # fmt: skip
    found = verdict(summary)
    assert found.kind == "no better"
    assert "a constant push on words does as much (+18.0 points)" in found.sentence
    summary["against"][UNIGRAM] = won(0.01, 0.02)
    found = verdict(summary)
    assert found.kind == "works"
    assert "a random set of like size: +1.0 points; its push on words as one constant: +18.0 points" in found.sentence


def test_the_push_alone_is_no_comparison_with_random_features():
    summary = {
        "n": 100, "unsteered_rate": 0.4, "steered_rate": 0.6, "p": 1e-4, "positive_flips": 22, "negative_flips": 2,
        "controls": {UNIGRAM: {"effect": 0.0}}, "chosen_on": False,
    }  # fmt: skip
    assert verdict(summary).kind == "uncontrolled"
