"""Pooled activations against a plain forward pass over one sample at a time, written out here."""

import pytest
import torch

from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.pooling import Pooler, sparse_rows
from tests.made.models import ARCHITECTURES, FAST, RECURRENT, activations_at, each, prompts, random_sae, tiny

NEW = 6


def pooled_by_us(model, saes, ids, pooling="max", **settings):
    found = {}
    for batch in answers(model, ids, max_new_tokens=NEW, saes=saes, pooling=pooling, **settings):
        for row, place in enumerate(batch.prompts):
            found[place] = (batch.tokens[row][0], [z[row] for z in batch.pooled])
    return [found[place] for place in range(len(ids))]


def plain(model, sae, prompt, generated, pooling="max"):
    """One forward pass over prompt and answer, the SAE at its own hook point, positions pooled by definition."""
    first = 0 if pooling == "all" else len(prompt) - 1  # the last prompt token predicts the first generated one
    last = len(prompt) + len(generated) - 1  # the last generated token predicts nothing that was generated
    z = sae.net.encode(activations_at(model, sae.point, [*prompt, *generated])[first:last])
    return z.mean(0) if pooling == "mean" else z.amax(0)


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *RECURRENT])
def test_pooled_values_equal_a_plain_forward_pass(architecture):
    model = tiny(architecture)
    saes = [random_sae(model, 0), random_sae(model, 2)]
    ids = prompts(model)
    for prompt, (generated, z) in zip(ids, pooled_by_us(model, saes, ids), strict=True):
        for sae, found in zip(saes, z, strict=True):
            torch.testing.assert_close(found, plain(model, sae, prompt, generated), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("pooling", ["max", "mean", "all"])
@pytest.mark.parametrize("architecture", FAST)
def test_poolings(architecture, pooling):
    model = tiny(architecture)
    sae = random_sae(model, 1)
    ids = prompts(model)
    for prompt, (generated, z) in zip(ids, pooled_by_us(model, [sae], ids, pooling), strict=True):
        torch.testing.assert_close(z[0], plain(model, sae, prompt, generated, pooling), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("pooling", ["max", "mean", "all"])
@pytest.mark.parametrize("architecture", FAST)
def test_what_prompts_begin_with_is_read_once_and_still_pooled(architecture, pooling):
    model = tiny(architecture)
    saes = [random_sae(model, 0), random_sae(model, 2)]
    texts = ["be brief and kind: why?", "be brief and kind: a", "be brief and kind: one two three"]
    ids = [model.tokenizer(text)["input_ids"] for text in texts]
    for size in (1, 3):
        found = pooled_by_us(model, saes, ids, pooling, batch_size=size)
        for prompt, (generated, z) in zip(ids, found, strict=True):
            for sae, values in zip(saes, z, strict=True):
                expected = plain(model, sae, prompt, generated, pooling)
                torch.testing.assert_close(values, expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(
    ("architecture", "kind"), each([*ARCHITECTURES, *RECURRENT], ["resid_pre", "mlp_out", "attn_out", "attn_z"])
)
def test_every_kind_of_hook_point_is_read(architecture, kind):
    model = tiny(architecture)
    sae = random_sae(model, 1, kind)
    ids = prompts(model)[:3]
    for prompt, (generated, z) in zip(ids, pooled_by_us(model, [sae], ids), strict=True):
        torch.testing.assert_close(z[0], plain(model, sae, prompt, generated), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("architecture", FAST)
def test_a_sample_pools_the_same_alone_and_in_a_batch(architecture):
    model = tiny(architecture)
    sae = random_sae(model, 1)
    ids = prompts(model)
    together = pooled_by_us(model, [sae], ids, batch_size=len(ids))
    for prompt, (generated, z) in zip(ids, together, strict=True):
        ((tokens, alone),) = pooled_by_us(model, [sae], [prompt])
        assert tokens == generated
        torch.testing.assert_close(alone[0], z[0], atol=2e-4, rtol=2e-4)


def test_one_token_tasks_have_one_position():
    """The last prompt token alone: missing the first generated token would leave nothing to pool."""
    model = tiny("llama")
    sae = random_sae(model, 1)
    ids = prompts(model)[:2]
    for batch in answers(model, ids, max_new_tokens=1, saes=[sae]):
        for row, place in enumerate(batch.prompts):
            assert len(batch.tokens[row][0]) == 1
            expected = plain(model, sae, ids[place], batch.tokens[row][0])
            assert (expected > 0).any()
            torch.testing.assert_close(batch.pooled[0][row], expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("pooling", ["max", "mean", "all"])
def test_nothing_after_the_end_token_is_pooled(pooling):
    model = tiny("llama")
    sae = random_sae(model, 1)
    ids = prompts(model)
    free = [tokens for tokens, _ in pooled_by_us(model, [sae], ids)]
    stop = free[0][1]
    model = type(model)(model.name, model.net, model.tokenizer, frozenset({*model.end_tokens, stop}), model.fingerprint)
    ended = pooled_by_us(model, [sae], ids, pooling)
    assert ended[0][0] == free[0][:2]
    assert len({len(generated) for generated, _ in ended}) > 1, "some must go on while others have ended"
    for prompt, (generated, z) in zip(ids, ended, strict=True):
        torch.testing.assert_close(z[0], plain(model, sae, prompt, generated, pooling), atol=2e-4, rtol=2e-4)


def test_the_chunk_size_changes_nothing():
    model = tiny("llama")
    saes = [random_sae(model, 1)]
    ids = prompts(model)

    def pooled(chunk):
        from corrsteer_core.engine.generation import decode, prefill

        pooler = Pooler(model, saes, len(ids), chunk=chunk)
        for _ in decode(model, prefill(model, ids, pooler), max_new_tokens=NEW, watch=pooler):
            assert pooler._waiting <= chunk + len(ids), "what waits to be encoded must not grow with the steps"
        return pooler.result()[0]

    torch.testing.assert_close(pooled(1), pooled(10_000))


def test_sparse_rows_are_the_nonzero_entries():
    pooled = torch.tensor([[0.0, 2.0, 0.0], [0.5, 0.0, 1.5]])
    rows, features, values = sparse_rows(pooled)
    assert rows.tolist() == [0, 1, 1]
    assert features.tolist() == [1, 0, 2]
    assert values.tolist() == [2.0, 0.5, 1.5]
