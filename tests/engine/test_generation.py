"""The one generation loop, against transformers' own `generate` and against itself in other batches."""

from dataclasses import replace

import pytest
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine import answer_work, generation
from corrsteer_core.engine.batches import answers, plan
from corrsteer_core.engine.choosing import constrained, sampled
from corrsteer_core.engine.generation import UNSTEERED, check_length, decode, prefill, read_opening, tokens_by_row
from corrsteer_core.engine.steering import steered
from corrsteer_core.models import limits
from corrsteer_core.models.hooks import HookPoint, hooked
from corrsteer_core.models.limits import prompts_that_fit, variants_that_fit
from tests.made import runs as tiny_run
from tests.made.models import ARCHITECTURES, FAST, WIDTH, WINDOWED, prompts, tiny

NEW = 7


def by_us(model, ids, variants=(UNSTEERED,), **settings):
    """[prompt][variant] -> tokens."""
    found = [None] * len(ids)
    for batch in answers(model, ids, max_new_tokens=NEW, variants=variants, **settings):
        for place, tokens in zip(batch.prompts, batch.tokens, strict=True):
            found[place] = tokens
    return found


def by_transformers(model, prompt, vectors=None):
    with torch.inference_mode(), steered(model, vectors or {}):
        ids = model.net.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=sorted(model.end_tokens),
            pad_token_id=1,
        )
    return ids[0, len(prompt) :].tolist()


def vector(seed, size=1.0):
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)) * size


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tokens_are_those_of_transformers_generate(architecture):
    model = tiny(architecture)
    ids = prompts(model)
    expected = [[by_transformers(model, prompt)] for prompt in ids]
    assert by_us(model, ids) == expected
    assert len({tuple(tokens[0]) for tokens in expected}) > 2, (
        "the models must answer differently for this to mean much"
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["resid_post", "resid_pre", "mlp_out", "attn_out"])
def test_steered_tokens_are_those_of_generate_under_the_context_manager(architecture, kind):
    model = tiny(architecture)
    vectors = {HookPoint(1, kind): vector(1, 3.0), HookPoint(2, kind): vector(2, 3.0)}
    ids = prompts(model)
    expected = [by_transformers(model, prompt, vectors) for prompt in ids]
    found = by_us(model, ids, (UNSTEERED, vectors))
    assert [tokens[1] for tokens in found] == expected
    assert any(tokens[0] != tokens[1] for tokens in found)


@pytest.mark.parametrize("architecture", FAST)
def test_batch_equals_alone(architecture):
    model = tiny(architecture)
    variants = (UNSTEERED, {HookPoint(1): vector(3, 2.0)}, {HookPoint(0): vector(4, 2.0), HookPoint(2): vector(5)})
    ids = prompts(model)
    alone = [by_us(model, [prompt], (variant,))[0][0] for prompt in ids for variant in variants]
    together = [tokens for row in by_us(model, ids, variants, batch_size=5) for tokens in row]
    assert together == alone


@pytest.mark.parametrize("architecture", WINDOWED)
def test_sliding_windows_count_positions_not_what_else_is_in_the_batch(architecture):
    """Padding, a common opening and other variants must take no room in a window."""
    model = tiny(architecture, window=6)
    ids = prompts(model) + opened(model)
    vectors = {HookPoint(0): vector(1, 3.0), HookPoint(2): vector(2, 3.0)}
    expected = [[by_transformers(model, prompt), by_transformers(model, prompt, vectors)] for prompt in ids]
    many = (UNSTEERED, vectors, {HookPoint(1): vector(5, 9.0)}, {HookPoint(1): vector(6, 9.0)})
    assert [row[:2] for row in by_us(model, ids, many)] == expected
    assert [row[:2] for row in by_us(model, ids[-3:], many)] == expected[-3:]
    wide = tiny(architecture)
    assert by_us(wide, ids) != by_us(model, ids), "the window must matter for this to mean much"


def opened(model):
    """Prompts of mixed lengths that begin alike, one of them with nothing but that and a last token."""
    texts = ["be brief and kind: why?", "be brief and kind: a", "be brief and kind: one two three"]
    return [model.tokenizer(text)["input_ids"] for text in texts]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_opening_read_once_changes_nothing(architecture, monkeypatch):
    model = tiny(architecture)
    ids = opened(model)
    assert read_opening(model, ids).length == len("be brief and kind: ")
    assert read_opening(model, ids[:1]) is None
    assert read_opening(model, prompts(model)) is None
    variants = (UNSTEERED, {HookPoint(1): vector(1, 3.0)})
    expected = [[by_transformers(model, prompt, vectors) for vectors in variants] for prompt in ids]
    read = []
    monkeypatch.setattr(answer_work, "read_opening", lambda *given: read.append(1) or read_opening(*given))
    assert by_us(model, ids, variants, batch_size=1) == expected
    assert by_us(model, ids, variants, batch_size=3) == expected
    assert len(read) == 2, "once for all batches"
    same = [ids[2], ids[2]]
    assert by_us(model, same, variants) == [expected[2], expected[2]]


@pytest.mark.parametrize("architecture", FAST)
def test_variants_that_end_early_leave_and_the_others_go_on(architecture):
    model = tiny(architecture)
    ids = prompts(model)
    variants = [{HookPoint(1): vector(seed, 4.0)} for seed in range(6)]
    free = by_us(model, ids, variants)
    stops = {row[variant][place] for row in free for variant, place in ((0, 1), (3, 2), (4, 4))}
    ended = type(model)(
        model.name, model.net, model.tokenizer, frozenset(stops | set(model.end_tokens)), model.fingerprint
    )
    found = by_us(ended, ids, variants)
    for row, before in zip(found, free, strict=True):
        for tokens, longer in zip(row, before, strict=True):
            first = next((place for place, token in enumerate(longer) if token in stops), len(longer))
            assert tokens == longer[: first + 1]
    assert len({len(tokens) for row in found for tokens in row}) > 1
    sizes = [len(step.rows) for step in decode(ended, prefill(ended, ids), max_new_tokens=NEW, variants=variants)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0], "ended rows must leave"


def test_a_batch_holds_as_many_tokens_as_the_longest_prompts_took():
    ids = [[1] * length for length in (3, 90, 40, 41, 100, 5, 4, 2)]
    assert plan(ids, 2, max_new_tokens=10) == [[4, 1], [3, 2, 5, 6], [0, 7]]
    assert sorted(place for batch in plan(ids, 1, max_new_tokens=1) for place in batch) == list(range(len(ids)))


def test_a_batch_keeps_within_what_the_device_holds(monkeypatch):
    model = tiny("llama")
    monkeypatch.setattr(limits, "LIMITS", {"cpu": limits.Limits(prompts=64, rows=256, tokens=8192)})
    assert prompts_that_fit(model, [[1] * 40], 24) == 64
    assert prompts_that_fit(model, [[1] * 40], 240) == 8192 // 280
    assert prompts_that_fit(model, [[1] * 40], 1, variants=200) == 4
    assert variants_that_fit(model, 4, 40, 1) == 64
    assert variants_that_fit(model, 4, 40, 24) == 64
    assert variants_that_fit(model, 4, 1040, 24) == (2048 - 1040) // 24
    monkeypatch.setattr(limits, "memory_of", lambda device: 0)
    assert prompts_that_fit(model, [[1] * 40], 24) == 1
    assert variants_that_fit(model, 1, 40, 24) == 1


def test_what_else_is_in_memory_changes_no_batch(monkeypatch):
    """In bfloat16 a number depends on what is computed beside it, so a batch must not depend on the moment."""
    for free in (3, 70):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80))
        assert limits.memory_of(torch.device("cuda")) == 80
    model = tiny("gpt2")
    weights = 4 * sum(weight.numel() for weight in model.net.parameters())
    assert limits.weights_of(model) == weights
    token, row = 2 * 2 * 3 * 4 * 8 * 4, len(model.tokenizer) * 8
    monkeypatch.setattr(limits, "memory_of", lambda device: weights + 4 * 7 * row)
    assert limits.limits_of(model).rows == 7
    assert limits.limits_of(model).tokens == 7 * row // token


@pytest.mark.parametrize("architecture", FAST)
def test_scale_zero_is_unsteered_and_a_vector_and_its_negative_cancel(architecture):
    model = tiny(architecture)
    zero = {HookPoint(1): torch.zeros(WIDTH)}
    there_and_back = {HookPoint(1): vector(1, 5.0) - vector(1, 5.0)}
    for row in by_us(model, prompts(model), (UNSTEERED, zero, there_and_back)):
        assert row[0] == row[1] == row[2]


def test_the_first_generated_token_is_steered_and_the_prompt_before_it_is_not():
    model = tiny("llama")
    seen = {}

    def note(name):
        return lambda activation: seen.setdefault(name, []).append(activation.clone())

    ids = prompts(model)[2]
    added = vector(9, 4.0)
    prefix = prefill(model, [ids])
    keys_before = [layer.keys.clone() for layer in prefix.cache.layers]
    steps = decode(model, prefix, max_new_tokens=1, variants=(UNSTEERED, {HookPoint(1): added}))
    with hooked({model.site(HookPoint(2, "resid_pre")): note("after")}):
        first = next(steps)
    after = seen["after"][0][0]  # the prompt's variants, side by side
    torch.testing.assert_close(after[1], after[0] + added)  # exactly one position, exactly the vector
    assert not torch.equal(first.logits[0], first.logits[1])
    full = model.net(torch.tensor([ids]), use_cache=True).past_key_values
    for layer, keys in enumerate(keys_before):
        torch.testing.assert_close(keys, full.layers[layer].keys[:, :, : len(ids) - 1])
        assert torch.equal(prefix.cache.layers[layer].keys, keys), "decoding must leave the prefix as it was"


def test_a_row_stops_at_any_end_token_and_others_go_on():
    model = tiny("llama")
    ids = prompts(model)
    free = [row[0] for row in by_us(model, ids)]
    stop = free[2][3]  # what prompt 2 says fourth now ends answers
    ended = type(model)(model.name, model.net, model.tokenizer, frozenset({*model.end_tokens, stop}), model.fingerprint)
    for tokens, before in zip([row[0] for row in by_us(ended, ids)], free, strict=True):
        expected = before[: before.index(stop) + 1] if stop in before else before
        assert tokens == expected
    assert len(by_us(ended, ids)[2][0]) <= 4


def test_an_exception_or_an_abandoned_generation_leaves_no_hook():
    model = tiny("llama")
    ids = prompts(model)
    before = by_us(model, ids)
    vectors = {HookPoint(1): vector(1, 9.0)}

    def broken(logits, step):
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        by_us(model, ids, (vectors,), choose=broken)
    abandoned = decode(model, prefill(model, ids), max_new_tokens=NEW, variants=(vectors,))
    next(abandoned)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.net.modules())
    with pytest.raises(ValueError), steered(model, vectors):
        raise ValueError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.net.modules())
    assert by_us(model, ids) == before


def test_how_far_a_batch_is_is_told_after_every_token_and_may_end_it(monkeypatch):
    model = tiny("llama")
    endless = replace(model, end_tokens=frozenset())
    ids, reported = prompts(model)[:4], []
    variants = (UNSTEERED, {HookPoint(1): vector(1, 9.0)}, {HookPoint(1): vector(2, 9.0)})
    expected = by_us(endless, ids, variants)
    monkeypatch.setattr(answer_work, "variants_that_fit", lambda *_: 2)
    assert by_us(endless, ids, variants, batch_size=4, on_progress=reported.append) == expected
    # Two variants together, then the third: 14 and 7 tokens of a text in all.
    steps = [2 * step for step in range(1, NEW + 1)] + [2 * NEW + step for step in range(1, NEW + 1)]
    assert reported == pytest.approx([4 * step / (3 * NEW) for step in steps])

    def stopped(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        by_us(endless, ids, variants, on_progress=stopped)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.net.modules())


def test_sampling_uses_the_same_luck_for_every_variant_and_another_for_every_seed():
    model = tiny("llama")
    ids = prompts(model)
    row = by_us(model, ids[:1], (UNSTEERED, UNSTEERED), choose=sampled(1.0, seed=3))[0]
    assert row[0] == row[1]
    texts = {tuple(by_us(model, ids[:1], choose=sampled(1.0, seed=seed))[0][0]) for seed in range(5)}
    assert len(texts) > 1
    assert by_us(model, ids, choose=sampled(0.0, seed=1)) == by_us(model, ids)


def test_sampling_follows_the_softmax():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    choose = sampled(0.5, seed=0)
    counts = torch.bincount(torch.cat([choose(logits, step) for step in range(4000)]), minlength=3) / 4000
    torch.testing.assert_close(counts, (logits[0] / 0.5).softmax(-1), atol=0.03, rtol=0)


def test_constrained_decoding_picks_the_best_of_the_allowed():
    logits = torch.tensor([[5.0, 1.0, 3.0, 2.0], [0.0, 9.0, 1.0, 4.0]])
    assert constrained([2, 3])(logits, 0).tolist() == [2, 3]


FULL = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    MemoryError(),
]
"""What the devices raise."""


@pytest.mark.parametrize("error", FULL)
def test_out_of_memory_halves_the_batch_and_changes_nothing(monkeypatch, error):
    model = tiny("llama")
    ids = prompts(model)
    expected = by_us(model, ids)
    real = answer_work.prefill

    def cramped(model, texts, watch=None, opening=None):
        if len(texts) > 2:
            raise error
        return real(model, texts, watch, opening)

    monkeypatch.setattr(answer_work, "prefill", cramped)
    assert by_us(model, ids, batch_size=5) == expected


def test_an_error_that_is_not_about_memory_is_not_tried_again(monkeypatch):
    tried = []

    def broken(model, texts, *_):
        tried.append(len(texts))
        raise RuntimeError("a bug")

    monkeypatch.setattr(answer_work, "prefill", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        by_us(tiny("llama"), prompts(tiny("llama")), batch_size=5)
    assert tried == [5]


def test_what_pytorch_keeps_on_an_apple_gpu_is_given_back(monkeypatch):
    given = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: given.append("mps"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append("cuda"))
    limits._let_go(torch.device("mps"))
    limits._let_go(torch.device("cuda"))
    assert given == ["mps", "cuda"]
    assert limits.LIMITS["mps"].tokens < limits.ELSEWHERE.tokens


def test_a_prompt_that_memory_does_not_hold_alone_is_a_sentence(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(answer_work, "prefill", full)
    with pytest.raises(
        CorrSteerError, match="A prompt of 32 tokens with answers of 7 does not fit in the memory of cpu"
    ):
        by_us(tiny("llama"), prompts(tiny("llama")))


def test_groups_of_variants_give_what_all_at_once_gives(monkeypatch):
    model = tiny("gpt2")
    ids = prompts(model)
    variants = [{HookPoint(1): vector(seed, 2.0)} for seed in range(7)]
    expected = by_us(model, ids, variants)
    monkeypatch.setattr(answer_work, "variants_that_fit", lambda *_: 3)
    assert by_us(model, ids, variants, batch_size=3) == expected


def test_what_does_not_fit_the_context_is_said():
    model = tiny("llama")
    with pytest.raises(CorrSteerError, match="250 tokens and 20 new ones do not fit"):
        check_length(model, [[5] * 250], 20)
    with pytest.raises(CorrSteerError, match="at least 1"):
        check_length(model, [[5]], 0)


def test_rows_of_a_cache_are_chosen_on_the_device_of_each_layer(monkeypatch):
    """Under a device map later layers keep their keys elsewhere; "meta" is a second device that every machine has."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    from corrsteer_core.engine.keys_and_values import select_rows as _select

    cache = DynamicCache()
    cache.layers = [DynamicLayer(), DynamicSlidingWindowLayer(8), DynamicLayer()]
    keys = torch.arange(24.0).view(3, 1, 4, 2)
    cache.layers[0].update(keys, -keys)
    cache.layers[1].update(keys.to("meta"), keys.to("meta"))
    asked = []
    real = DynamicLayer.batch_select_indices

    def noted(layer, rows):
        asked.append((layer.keys.device.type, rows.device.type))
        return real(layer, rows)

    monkeypatch.setattr(DynamicLayer, "batch_select_indices", noted)
    _select(cache, torch.tensor([2, 0, 2]))
    assert asked == [("cpu", "cpu"), ("meta", "meta")], "a layer that no key has reached is left alone"
    assert torch.equal(cache.layers[0].keys, keys[[2, 0, 2]])
    assert torch.equal(cache.layers[0].values, -keys[[2, 0, 2]])
    assert cache.layers[1].keys.shape == (3, 1, 4, 2)


def test_rows_that_leave_and_outputs_that_are_scored_are_chosen_so(monkeypatch):
    from transformers import DynamicCache

    from corrsteer_core.engine.continuing import continued

    monkeypatch.setattr(DynamicCache, "batch_select_indices", None)
    model = tiny("llama")
    ids = prompts(model)
    stops = {row[0][1] for row in by_us(model, ids)[:3]}
    ended = type(model)(model.name, model.net, model.tokenizer, model.end_tokens | stops, model.fingerprint)
    sizes = [len(step.rows) for step in decode(ended, prefill(ended, ids), max_new_tokens=NEW)]
    assert sizes[-1] < sizes[0], "rows must leave for this to mean much"
    assert continued(model, prefill(model, ids), [1, 0], [[5, 6], [7]]).shape == (2, 2)


def test_tokens_by_row_leaves_out_what_came_after_the_end():
    model = tiny("llama")
    steps = list(decode(model, prefill(model, prompts(model)), max_new_tokens=3))
    steps[1].alive = steps[1].alive & (torch.arange(5) != 0)
    assert len(tokens_by_row(iter(steps), 5)[0]) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_variants_that_add_nothing_are_the_unsteered_text_itself(dtype, monkeypatch):
    """Also in bfloat16, where a row is rounded by what is computed beside it."""
    model, _ = tiny_run.load(dtype)
    point = HookPoint(1)
    pushed = {point: torch.full((WIDTH,), 3.0)}
    variants = [UNSTEERED, {point: torch.zeros(WIDTH)}, pushed, {}]
    asked = []
    real = answer_work.decode
    monkeypatch.setattr(
        answer_work, "decode", lambda *given, **named: asked.append(named["variants"]) or real(*given, **named)
    )
    for batch in answers(model, prompts(model), max_new_tokens=12, variants=variants):
        for of_prompt in batch.tokens:
            assert of_prompt[0] == of_prompt[1] == of_prompt[3]
    assert {len(group) for group in asked} == {2}, "what adds nothing is decoded once"
    assert generation.set_apart(variants) == ([UNSTEERED, pushed], [0, 0, 1, 0])
