"""Probabilities and KL of every token, against whole forward passes with hooks of their own and scipy's KL."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.generation import decode, prefill, tokens_by_row
from corrsteer_core.evaluation.trials import unsteered_and
from corrsteer_core.inspection import playground, token_probabilities
from corrsteer_core.models.hooks import HookPoint
from tests.made import runs as tiny
from tests.made.models import ARCHITECTURES, FAST, prompts
from tests.made.models import tiny as tiny_model


def drawn(model, scale=3.0) -> dict[HookPoint, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {HookPoint(layer): scale * torch.randn(model.d_model, generator=generator) for layer in (0, 2)}


def next_token_logits(model, vectors, ids: list[int], first: int) -> np.ndarray:
    """Of one position: a whole pass over the text so far, vectors added by plain hooks from position `first` on."""
    handles = []
    for point, vector in vectors.items():

        def hook(_module, _inputs, output, vector=vector):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden[:, first:] += vector

        handles.append(model.blocks[point.layer].register_forward_hook(hook))
    with torch.no_grad():
        logits = model.net(torch.tensor([ids])).logits[0, -1].double().numpy()
    for handle in handles:
        handle.remove()
    return logits


@pytest.mark.parametrize("architecture", FAST)
def test_probabilities_alternatives_and_kl_are_those_of_whole_passes(architecture):
    model = tiny_model(architecture)
    vectors = drawn(model)
    for prompt in prompts(model)[:3]:
        out = decode(model, prefill(model, [prompt]), max_new_tokens=6, variants=unsteered_and(vectors))
        for answer in tokens_by_row(out, 2):
            found = token_probabilities.steps(model, vectors, prompt, answer)
            assert [step.token for step in found] == answer
            for place, step in enumerate(found):
                ids = [*prompt, *answer[:place]]
                p = softmax(next_token_logits(model, {}, ids, 0))
                q = softmax(next_token_logits(model, vectors, ids, len(prompt) - 1))
                assert step.unsteered == pytest.approx(p[answer[place]], rel=1e-4)
                assert step.steered == pytest.approx(q[answer[place]], rel=1e-4)
                assert step.kl == pytest.approx(rel_entr(q, p).sum(), rel=1e-3, abs=1e-6)
                for choices, of in ((step.unsteered_choices, p), (step.steered_choices, q)):
                    best = np.argsort(-of)[:5]
                    assert [one.token for one in choices] == best.tolist()
                    assert [one.probability for one in choices] == pytest.approx(of[best].tolist(), rel=1e-4)


def test_greedy_texts_take_the_best_of_their_own_side():
    model = tiny_model("llama")
    vectors = drawn(model)
    prompt = prompts(model)[2]
    out = decode(model, prefill(model, [prompt]), max_new_tokens=12, variants=unsteered_and(vectors))
    unsteered, steered = tokens_by_row(out, 2)
    assert unsteered != steered
    for step in token_probabilities.steps(model, vectors, prompt, unsteered):
        assert step.token == step.unsteered_choices[0].token
    for step in token_probabilities.steps(model, vectors, prompt, steered):
        assert step.token == step.steered_choices[0].token


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_long_answer_is_looked_at_in_pieces_and_gives_the_same_numbers(architecture, monkeypatch):
    model = tiny_model(architecture)
    vectors, prompt, answer = drawn(model), prompts(model)[2], list(range(5, 15))
    whole = token_probabilities.steps(model, vectors, prompt, answer)
    at_once, reported = [], []
    monkeypatch.setattr(token_probabilities, "TOGETHER", 4)
    head = model.net.get_output_embeddings()
    handle = head.register_forward_hook(lambda _module, _inputs, output: at_once.append(output.shape[:2]))
    found = token_probabilities.steps(model, vectors, prompt, answer, progress=lambda *what: reported.append(what[1:]))
    handle.remove()
    assert at_once == [(2, 4), (2, 4), (2, 2)]
    assert reported == [(0, 10), (4, 10), (8, 10)]
    with torch.no_grad():
        logits = model.net(torch.tensor([[*prompt, *answer]])).logits[0]
    p = logits[len(prompt) - 1 : -1].double().softmax(-1)
    for place, (one, other) in enumerate(zip(found, whole, strict=True)):
        assert (one.token, one.text) == (other.token, other.text)
        assert one.unsteered == pytest.approx(other.unsteered, rel=1e-5)
        assert one.unsteered == pytest.approx(p[place, answer[place]].item(), rel=1e-4)
        assert (one.steered, one.kl) == pytest.approx((other.steered, other.kl), rel=1e-4, abs=1e-7)


def test_without_vectors_the_two_are_the_same():
    model = tiny_model("llama")
    prompt = prompts(model)[1]
    zero = {HookPoint(1): torch.zeros(model.d_model)}
    for step in token_probabilities.steps(model, zero, prompt, [5, 6, 7]):
        assert step.kl == 0.0
        assert step.unsteered == step.steered
        assert step.unsteered_choices == step.steered_choices


def test_special_tokens_have_names_and_empty_answers_no_tokens():
    model = tiny_model("llama")
    assert token_probabilities.steps(model, {}, [5], []) == []
    (step,) = token_probabilities.steps(model, {}, [5], [1])
    assert step.text == "<|im_end|>"
    with pytest.raises(CorrSteerError, match="no tokens"):
        token_probabilities.steps(model, {}, [], [1])


@pytest.mark.parametrize(
    ("one", "other", "at"),
    [([1, 2], [1, 2], None), ([], [], None), ([1, 2, 3], [1, 5, 3], 1), ([1, 2], [1, 2, 3], 2), ([], [4], 0)],
)
def test_where_two_texts_part(one, other, at):
    assert token_probabilities.parts_at(one, other) == at
    assert token_probabilities.parts_at(other, one) == at


def test_no_hook_is_left(monkeypatch):
    model = tiny_model("llama")
    with pytest.raises(IndexError):
        token_probabilities.steps(model, drawn(model), [5], [10**6, 10**6])
    assert not any(one._forward_hooks for one in model.net.modules())


def test_the_stream_tells_the_tokens_that_it_wrote():
    model, saes = tiny.load()
    steering = tiny.steering_set(model, saes, (1, 3, 5.0))
    written: list[list[int]] = []
    *_, last = playground.stream(model, saes, steering, "Tell me.", max_new_tokens=8, written=written)
    assert last == playground.side_by_side(steering, "Tell me.", max_new_tokens=8, model=model, saes=saes)
    assert [len(one) for one in written] == [8, 8] or any(set(one) & model.end_tokens for one in written)
    assert tuple(map(model.tokenizer.decode, written)) == last
