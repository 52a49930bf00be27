"""Models whose layers keep a state in place of keys and values: what is particular to them, against transformers alone."""

import copy
from dataclasses import replace

import pytest
import torch

from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.continuing import continued
from corrsteer_core.engine.fluency import fluency
from corrsteer_core.engine.generation import UNSTEERED, decode, prefill, read_opening, tokens_by_row
from corrsteer_core.engine.gradients.following import Answer
from corrsteer_core.models import limits
from corrsteer_core.models.conditions import Conditions, Limits
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.limits import bytes_per_row, bytes_per_token, limits_with, variants_that_fit
from tests.engine.test_generation import by_transformers, by_us, opened, vector
from tests.engine.test_gradients import (
    CLASSES,
    classes_of,
    difference,
    directions,
    double,
    margins_of,
    of_answers,
    whole_logits,
)
from tests.made.models import RECURRENT, prompts, tiny

NEW = 7
POINTS = [HookPoint(0), HookPoint(1, "resid_pre"), HookPoint(2, "mlp_out"), HookPoint(1, "attn_out")]
PUSHED = {HookPoint(1): vector(1, 3.0)}
everywhere = pytest.mark.parametrize("architecture", RECURRENT)


@everywhere
def test_what_prompts_begin_with_is_read_with_each_of_them(architecture):
    """The padding of a shorter prompt would come between it and the rest."""
    model = tiny(architecture)
    ids = opened(model)
    assert read_opening(model, ids) is None
    expected = [[by_transformers(model, prompt), by_transformers(model, prompt, PUSHED)] for prompt in ids]
    assert by_us(model, ids, (UNSTEERED, PUSHED), batch_size=1) == expected
    assert by_us(model, ids, (UNSTEERED, PUSHED), batch_size=3) == expected


@everywhere
@pytest.mark.parametrize("texts", [["a", "?"], ["a", "ab", "?"], ["ab", "cd"]])
def test_prompts_of_one_token_and_of_two(architecture, texts):
    """Nothing, or one token beside padding, is read before the first position that is steered."""
    model = tiny(architecture)
    ids = [model.tokenizer(text)["input_ids"] for text in texts]
    expected = [[by_transformers(model, prompt), by_transformers(model, prompt, PUSHED)] for prompt in ids]
    assert by_us(model, ids, (UNSTEERED, PUSHED), batch_size=3) == expected


def states_of(prefix):
    """Copies of everything that a prefix keeps."""
    layers = [vars(layer) for layer in prefix.cache.layers]
    kept = [
        part
        for layer in layers
        for name in ("conv_states", "recurrent_states")
        for part in layer.get(name, {}).values()
    ]
    kept += [layer[name] for layer in layers for name in ("keys", "values") if name in layer]
    return [part.clone() for part in kept if part is not None]


@everywhere
@pytest.mark.parametrize("short", [False, True])
def test_a_prefix_is_left_as_it_was_and_can_be_gone_on_from_again(architecture, short):
    """Short: of single tokens, so that nothing was read."""
    model = tiny(architecture)
    ids = [prompt[:1] for prompt in prompts(model)] if short else prompts(model)
    prefix = prefill(model, ids)
    before = states_of(prefix)
    assert bool(before) is not short
    variants = [UNSTEERED, PUSHED, {HookPoint(0): vector(2, 3.0)}]

    def texts():
        return tokens_by_row(decode(model, prefix, max_new_tokens=NEW, variants=variants), 3 * len(ids))

    def scored():
        return continued(model, prefix, [1, 0, 1], [[5, 6, 7], [8], [9, 10]])

    first, likely = texts(), scored()
    assert texts() == first
    assert torch.equal(scored(), likely)
    after = states_of(prefix)
    assert len(after) == len(before)
    assert all(map(torch.equal, after, before))
    assert first[::3] == [by_transformers(model, prompt) for prompt in ids]


@everywhere
def test_rows_that_have_ended_leave_with_their_states(architecture):
    model = tiny(architecture)
    ids = prompts(model)
    variants = (UNSTEERED, PUSHED, {HookPoint(0): vector(2, 3.0)})
    stops = {tokens[1] for row in by_us(model, ids, variants)[:3] for tokens in row[:2]}
    ended = replace(model, end_tokens=model.end_tokens | stops)
    steps = list(decode(ended, prefill(ended, ids), max_new_tokens=NEW, variants=variants))
    assert len(steps[-1].rows) < len(steps[0].rows), "rows must leave for this to mean much"
    expected = [by_transformers(ended, prompt, variant) for prompt in ids for variant in variants]
    assert tokens_by_row(iter(steps), len(expected)) == expected


@everywhere
def test_what_is_added_and_taken_away_again_leaves_the_unsteered_text(architecture):
    """At the end of one block and at the beginning of the next."""
    model = tiny(architecture)
    ids, push = prompts(model), vector(3, 2.0)
    both = {HookPoint(0): push, HookPoint(1, "resid_pre"): -push}
    variants = (UNSTEERED, both, {HookPoint(0): push})
    found = by_us(model, ids, variants)
    assert [row[1] for row in found] == [row[0] for row in found] == [by_transformers(model, prompt) for prompt in ids]
    assert [row[2] for row in found] != [row[0] for row in found]


def whole_logp(model, prompt, answer):
    """Log-probability of each token of an answer in a text read whole and alone: (tokens,) float64."""
    with torch.inference_mode():
        logits = model.net(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    return logits.double().log_softmax(-1)[range(len(answer)), list(answer)]


@everywhere
def test_fluency_of_given_outputs_is_what_transformers_logits_say(architecture):
    model = tiny(architecture)
    ids = prompts(model)
    outputs = [[[5, 6, 7, 8], [9], [5, 6]] for _ in ids]
    found = fluency(model, ids, outputs)
    for prompt, of_prompt, row in zip(ids, outputs, found, strict=True):
        expected = [-whole_logp(model, prompt, output).mean().item() for output in of_prompt]
        assert row.tolist() == pytest.approx(expected, abs=1e-4)


@everywhere
def test_class_probabilities_alone_and_in_a_batch_are_those_of_the_whole_text(architecture):
    """Within rounding: a head's decays are summed from the beginning of a row, which padding takes part in."""
    model = tiny(architecture)
    ids = prompts(model)
    asked = {"max_new_tokens": 1, "variants": (UNSTEERED, PUSHED), "classes": [CLASSES] * len(ids)}
    for size in (1, 5):
        for batch in answers(model, ids, **asked, batch_size=size):
            for place, logp in zip(batch.prompts, batch.class_logp, strict=True):
                for variant, added in ((0, 0.0), (1, PUSHED[HookPoint(1)])):
                    logits = whole_logits(model, ids[place], [0], HookPoint(1), added)[0]
                    expected = classes_of(logits.double(), CLASSES)
                    torch.testing.assert_close(torch.tensor(logp[variant]), expected, rtol=1e-4, atol=1e-4)


def test_gradients_of_classes_are_those_of_finite_differences():
    model = tiny("qwen3_5_text")
    exact, ids = double(model), prompts(model)
    found = margins_of(model, ids, [CLASSES] * len(ids), POINTS)
    for place, prompt in enumerate(ids[:4]):
        for point in POINTS:
            for direction in directions(model, point):

                def margins(point, vector, prompt=prompt):
                    logp = classes_of(whole_logits(exact, prompt, [0], point, vector)[0], CLASSES)
                    return logp - logp[0]

                slopes = difference(margins, point, direction)
                torch.testing.assert_close(found[place][1][point].double() @ direction, slopes, rtol=5e-3, atol=1e-3)


def test_gradients_of_answers_are_those_of_finite_differences():
    """Through the states: a vector added at a token changes those after it."""
    model = tiny("qwen3_5_text")
    exact, ids = double(model), prompts(model)
    said = [
        Answer((5, 6, 7), True),
        Answer((9,), False),
        Answer((10, 11), True),
        Answer((5, 5, 5, 5), False),
        Answer((), True),
    ]
    for batch in of_answers(model, POINTS, ids, said):
        for row, place in enumerate(batch.prompts):
            answer, prompt = said[place], ids[place]
            tokens = [*answer.tokens, *([1] if answer.ended else [])]
            for point in POINTS:
                for direction in directions(model, point, 1):

                    def logp(point, vector, prompt=prompt, tokens=tokens):
                        logits = whole_logits(exact, prompt, tokens, point, vector)
                        return logits.log_softmax(-1)[range(len(tokens)), tokens].sum()

                    slope = difference(logp, point, direction)
                    found = batch.gradients[point][row].double() @ direction
                    torch.testing.assert_close(found, slope, rtol=1e-2, atol=3e-3)


# --- in bfloat16 ---------------------------------------------------------------------------------


@everywhere
def test_in_bfloat16_a_batch_is_each_alone_within_a_rounding(architecture):
    model = tiny(architecture)
    model = replace(model, net=copy.deepcopy(model.net).bfloat16())
    ids = prompts(model)
    (together,) = [step.logits.double() for step in decode(model, prefill(model, ids), max_new_tokens=1)]
    for row, prompt in enumerate(ids):
        (alone,) = [step.logits.double()[0] for step in decode(model, prefill(model, [prompt]), max_new_tokens=1)]
        with torch.inference_mode():
            whole = model.net(torch.tensor([prompt])).logits[0, -1].double()
        for other in (alone, whole):
            assert (together[row] - other).norm() / other.norm() < 0.05


# --- memory --------------------------------------------------------------------------------------


@everywhere
def test_bytes_of_a_text_are_those_of_its_keys_and_states(architecture):
    model = tiny(architecture)
    (prompt,) = prompts(model)[2:3]
    cache = prefill(model, [prompt]).cache
    states = [kept for layer in cache.layers for kept in getattr(layer, "recurrent_states", {}).values()]
    keys = [kept for layer in cache.layers if hasattr(layer, "keys") for kept in (layer.keys, layer.values)]
    assert len(states) == 2
    assert len(keys) == 2
    read = len(prompt) - 1
    assert bytes_per_row(model.text_config) == 2 * sum(kept.nbytes for kept in states)
    assert bytes_per_token(model.text_config, torch.float32) * read == 2 * sum(kept.nbytes for kept in keys)
    assert bytes_per_row(tiny("llama").text_config) == 0


def test_states_count_where_rows_are_limited(monkeypatch):
    config = tiny("qwen3_5_text").text_config
    monkeypatch.setitem(limits.LIMITS, "cpu", Limits(10**6, 10**6, 10**6))
    row = config.vocab_size * 2 * 4 + bytes_per_row(config)
    assert limits_with(4 * 100 * row, 1, config, "cpu").rows == 100


def test_every_variant_takes_the_room_of_its_prompt():
    conditions = Conditions("cpu", 1, Limits(64, 256, 4096))
    model, other = (replace(tiny(one), conditions=conditions) for one in ("qwen3_5_text", "llama"))
    assert variants_that_fit(model, 4, 90, 10) == 10  # 4 x 10 rows of 100 tokens
    assert variants_that_fit(model, 4, 2, 2) == 64  # 256 rows
    assert variants_that_fit(model, 64, 90, 10) == 1
    assert variants_that_fit(other, 4, 90, 10) == 64
