"""Clamp, cap, ablate and conditions: against the same worked out by hand, against each other's engine, and identities."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.answer_work import AnswerWork
from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.generation import UNSTEERED, decode, prefill, tokens_by_row
from corrsteer_core.engine.operations import Acting, saes_read, told
from corrsteer_core.engine.pooling import Pooler
from corrsteer_core.engine.steering import steered, variant_of, vectors_of
from corrsteer_core.inspection import token_probabilities
from corrsteer_core.models.hooks import HookPoint, hooked
from corrsteer_core.models.limits import conditions_of
from corrsteer_core.runs.steering_set import Firing, SteeringRow
from corrsteer_core.saes.sae import ref_of
from corrsteer_core.workers.pool import spread_over
from tests.made import runs as tiny_run
from tests.made.models import FAST, activations_at, each, prompts, random_sae, tiny
from tests.made.operations import answered, fired
from tests.made.sets import empty_set

NEW = 6
LAYERS = (0, 1, 2)
ROWS = {
    "clamp": (SteeringRow(1, 3, 6.0, operation="clamp"),),
    "clamp below 0": (SteeringRow(1, 3, -6.0, operation="clamp"),),
    "cap": (SteeringRow(0, 3, 0.5, operation="cap"), SteeringRow(2, 5, 0.0, operation="cap")),
    "ablate": (SteeringRow(1, 3, 0.0, operation="ablate"),),
    "ablate several": tuple(SteeringRow(1, feature, 0.0, operation="ablate") for feature in range(12)),
    "all at one layer": (
        SteeringRow(1, 3, 2.0, operation="clamp"),
        SteeringRow(1, 5, 4.0),
        SteeringRow(1, 7, 0.0, operation="ablate"),
        SteeringRow(1, 9, 0.2, operation="cap"),
        SteeringRow(2, 9, 3.0),
        SteeringRow(2, 4, 90.0, enabled=False, operation="clamp"),
    ),
    "from token": (SteeringRow(1, 3, 8.0, from_token=2), SteeringRow(2, 5, 5.0, operation="clamp", from_token=3)),
    "while": (SteeringRow(1, 3, 9.0, while_fires=Firing(0, 6)), SteeringRow(2, 5, 9.0, while_fires=Firing(2, 8, 1.5))),
    "while and from token": (
        SteeringRow(2, 3, 9.0, operation="clamp", from_token=1, while_fires=Firing(1, 6, 0.5)),
        SteeringRow(1, 4, 0.0, operation="ablate", while_fires=Firing(1, 6)),
        SteeringRow(1, 5, 0.0, operation="ablate", while_fires=Firing(0, 2)),
        SteeringRow(1, 8, 5.0),
    ),
}


def made(architecture, rows, scale=1.0):
    model = tiny(architecture)
    saes = [random_sae(model, layer) for layer in LAYERS]
    return model, saes, empty_set(model, saes, rows=rows, scale=scale, name="mine")


def by_us(model, ids, variants, **settings):
    """[prompt][variant] -> tokens."""
    found = [None] * len(ids)
    for batch in answers(model, ids, max_new_tokens=NEW, variants=variants, **settings):
        for place, tokens in zip(batch.prompts, batch.tokens, strict=True):
            found[place] = tokens
    return found


def logits_by_us(model, prompt, variant):
    steps = decode(model, prefill(model, [prompt]), max_new_tokens=NEW, variants=[variant])
    return [step.logits[0].clone() for step in steps if step.alive[0]]


def steps_of(model, prompt, variant):
    """(tokens, vocabulary)"""
    return torch.stack(logits_by_us(model, prompt, variant))


@pytest.mark.parametrize("architecture", FAST)
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_each_operation_and_condition_does_what_is_worked_out_by_hand(architecture, rows):
    model, saes, steering = made(architecture, rows, scale=1.5)
    variant = variant_of(steering, saes)
    different = 0.0
    for prompt in prompts(model):
        tokens, seen = answered(model, saes, rows, prompt, NEW, scale=1.5)
        plain, before = answered(model, saes, (), prompt, NEW)
        assert by_us(model, [prompt], [UNSTEERED, variant]) == [[plain, tokens]]
        torch.testing.assert_close(steps_of(model, prompt, variant), torch.stack(seen), atol=1e-3, rtol=1e-3)
        different = max(different, *(float((a - b).abs().max()) for a, b in zip(seen, before, strict=False)))
    assert different > 0.05, "it must change some answer for this to mean much"


@pytest.mark.parametrize("architecture", FAST)
def test_batch_equals_alone_whatever_acts_in_the_variants_beside(architecture):
    model, saes, steering = made(architecture, ())
    variants = [UNSTEERED, *(variant_of(steering.with_rows(rows), saes) for rows in ROWS.values())]
    ids = prompts(model)
    alone = [[by_us(model, [prompt], [variant])[0][0] for variant in variants] for prompt in ids]
    assert by_us(model, ids, variants) == alone
    assert by_us(model, ids, variants[::-1], batch_size=2) == [row[::-1] for row in alone]


@pytest.mark.parametrize(
    ("architecture", "kind"), each(FAST, ["resid_pre", "resid_post", "mlp_out", "attn_out", "attn_z"])
)
def test_generate_of_transformers_writes_the_same_at_every_kind_of_hook_point(architecture, kind):
    model = tiny(architecture)
    saes = [random_sae(model, 1, kind), random_sae(model, 2, kind)]
    rows = (
        SteeringRow(1, 3, 9.0, operation="clamp", while_fires=Firing(1, 5)),
        SteeringRow(1, 4, 0.0, operation="ablate"),
        SteeringRow(2, 5, 9.0, from_token=2, while_fires=Firing(1, 6)),
    )
    variant = variant_of(empty_set(model, saes, rows=rows), saes)
    assert all(isinstance(one, Acting) for one in variant.values())
    ours = by_us(model, prompts(model), [UNSTEERED, variant])
    theirs = []
    for prompt in prompts(model):
        settings = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": sorted(model.end_tokens)}
        given = {"attention_mask": torch.ones(1, len(prompt), dtype=torch.long), "pad_token_id": 1}
        with torch.inference_mode(), steered(model, variant):
            out = model.net.generate(torch.tensor([prompt]), **given, **settings)
        theirs.append(out[0, len(prompt) :].tolist())
    assert [steered_too for _, steered_too in ours] == theirs
    assert any(before != after for before, after in ours)


def test_every_generate_in_one_context_begins_to_count_anew_and_padding_is_no_token():
    model, saes, steering = made("llama", ROWS["from token"])
    ids = prompts(model)
    width = max(map(len, ids))
    padded = torch.tensor([[1] * (width - len(one)) + one for one in ids])
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids])
    expected = [answered(model, saes, steering.rows, prompt, NEW)[0] for prompt in ids]
    with torch.inference_mode(), steered(model, variant_of(steering, saes)):
        for _ in range(2):
            out = model.net.generate(padded, attention_mask=mask, max_new_tokens=NEW, do_sample=False)[:, width:]
            for row, tokens in zip(out.tolist(), expected, strict=True):
                assert row[: len(tokens)] == tokens


def test_a_cache_from_before_is_refused_where_tokens_are_counted_and_taken_where_not():
    model, saes, steering = made("llama", ROWS["from token"])
    prompt = torch.tensor([prompts(model)[1]])
    with torch.inference_mode():
        before = model.net(prompt[:, :-1], use_cache=True).past_key_values
        with (
            steered(model, variant_of(steering, saes)),
            pytest.raises(CorrSteerError, match="let generate read the whole"),
        ):
            model.net(prompt[:, -1:], past_key_values=before)
        before = model.net(prompt[:, :-1], use_cache=True).past_key_values
        with steered(model, variant_of(steering.with_rows(ROWS["clamp"]), saes)):
            model.net(prompt[:, -1:], past_key_values=before)


def test_the_probabilities_of_a_text_are_those_it_was_written_by():
    for rows in ROWS.values():
        model, saes, steering = made("llama", rows)
        variant = variant_of(steering, saes)
        for prompt in prompts(model)[:3]:
            tokens, seen = answered(model, saes, rows, prompt, NEW)
            found = token_probabilities.steps(model, variant, prompt, tokens)
            expected = torch.stack(seen).double().softmax(-1)[range(len(tokens)), tokens]
            assert [one.steered for one in found] == pytest.approx(expected.tolist(), rel=1e-3)
            unsteered = token_probabilities.steps(model, UNSTEERED, prompt, tokens)
            assert [one.unsteered for one in found] == pytest.approx([one.steered for one in unsteered], rel=1e-3)


# --- identities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_scale_0_is_the_unsteered_model_whatever_rows_do(rows, zero):
    model, saes, steering = made("llama", rows, scale=zero)
    variant = variant_of(steering, saes)
    assert not any(isinstance(one, Acting) or one.any() for one in variant.values())
    for prompt in prompts(model):
        assert torch.equal(steps_of(model, prompt, variant), steps_of(model, prompt, UNSTEERED))


def test_the_scale_multiplies_additions_alone():
    rows = ROWS["all at one layer"]
    model, saes, steering = made("llama", rows, scale=2.0)
    by_number = [replace(row, coefficient=2 * row.coefficient) if row.operation == "add" else row for row in rows]
    written = steering.with_rows(by_number).scaled(0.5)
    for prompt in prompts(model):
        one, other = (steps_of(model, prompt, variant_of(of, saes)) for of in (steering, written))
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_feature_clamped_to_what_it_is_anyway_changes_nothing():
    model, saes, steering = made("llama", ())
    for prompt in prompts(model):
        z = fired(saes[1], activations_at(model, HookPoint(1), prompt)[-1])
        active = int(z.argmax())
        for feature, value in ((active, float(z[active])), (int(z.argmin()), 0.0)):
            row = SteeringRow(1, feature, value, operation="clamp")
            found = steps_of(model, prompt, variant_of(steering.with_rows([row]), saes))[0]
            torch.testing.assert_close(found, steps_of(model, prompt, UNSTEERED)[0], atol=1e-5, rtol=1e-5)


def test_a_cap_above_every_activation_and_a_condition_that_never_holds_change_nothing():
    model, saes, steering = made("llama", ())
    for rows in (
        [SteeringRow(1, feature, 1e6, operation="cap") for feature in range(48)],
        [replace(row, from_token=NEW) for row in ROWS["all at one layer"]],
        [replace(row, while_fires=Firing(1, 8, 1e6)) for row in ROWS["all at one layer"]],
    ):
        variant = variant_of(steering.with_rows(rows), saes)
        for prompt in prompts(model):
            assert torch.equal(steps_of(model, prompt, variant), steps_of(model, prompt, UNSTEERED))


def test_a_condition_that_always_holds_is_none():
    model, saes, steering = made("llama", ())
    prompt = prompts(model)[2]
    tokens, _ = answered(model, saes, (SteeringRow(1, 3, 4.0),), prompt, NEW)
    fires = fired(saes[0], activations_at(model, HookPoint(0), [*prompt, *tokens])[len(prompt) - 1 : -1])
    always = int(fires.min(0).values.argmax())
    assert fires[:, always].min() > 0
    waiting = SteeringRow(1, 3, 4.0, while_fires=Firing(0, always))
    assert by_us(model, [prompt], [variant_of(steering.with_rows([waiting]), saes)]) == [[tokens]]


@pytest.mark.parametrize("features", [(3,), (3, 4, 5, 6), tuple(range(40))], ids=len)
def test_ablated_directions_are_gone_from_the_activation(features):
    model, saes, steering = made("llama", [SteeringRow(1, one, 7.0, operation="ablate") for one in features])
    directions = saes[1].net.W_dec[list(features)]
    seen = []
    with torch.inference_mode(), steered(model, variant_of(steering, saes)):
        with hooked({model.site(HookPoint(1)): lambda x: seen.append(x[0].clone())}):
            model.net(torch.tensor([prompts(model)[2]]))
    along = seen[0] @ directions.T
    assert along[-1].abs().max() < 1e-4
    assert along[0].abs().max() > 0.1, "only the last prompt token is a generation position"


def test_in_bfloat16_what_acts_is_worked_out_in_float32():
    model, saes = tiny_run.load(torch.bfloat16)
    rows = (SteeringRow(1, 3, 0.0, operation="ablate"), SteeringRow(2, 5, 3.0, operation="clamp"))
    variant = variant_of(empty_set(model, saes, rows=rows), saes)
    before, after = [], []
    for prompt in prompts(model):
        with torch.inference_mode():
            for kept, vectors in ((before, {}), (after, variant)):
                with (
                    steered(model, vectors),
                    hooked({model.site(HookPoint(1)): lambda x, kept=kept: kept.append(x[0, -1].float())}),
                ):
                    model.net(torch.tensor([prompt]))
    direction = saes[0].net.W_dec[3] / saes[0].net.W_dec[3].norm()
    for one, other in zip(before, after, strict=True):
        expected = (one - (one @ direction) * direction).bfloat16().float()
        torch.testing.assert_close(other, expected, atol=1e-3, rtol=1e-2)


def test_a_direction_that_is_nothing_is_ablated_by_doing_nothing():
    model, saes, steering = made("llama", [SteeringRow(1, 3, 0.0, operation="ablate")])
    dead = replace(saes[1])
    weight = dead.net.W_dec.data[3].clone()
    try:
        dead.net.W_dec.data[3] = 0.0
        variant = variant_of(steering, [saes[0], dead, saes[2]])
        prompt = prompts(model)[0]
        assert torch.equal(steps_of(model, prompt, variant), steps_of(model, prompt, UNSTEERED))
    finally:
        dead.net.W_dec.data[3] = weight


def test_what_is_pooled_beside_is_the_activation_as_it_comes():
    model, saes, steering = made("llama", ROWS["all at one layer"])
    prompt = prompts(model)[1]
    pooler = Pooler(model, saes[:2], 1)
    steps = decode(
        model, prefill(model, [prompt], pooler), max_new_tokens=1, variants=[variant_of(steering, saes)], watch=pooler
    )
    tokens_by_row(steps, 1)
    for sae, found in zip(saes[:2], pooler.result(), strict=True):
        expected = fired(sae, activations_at(model, sae.point, prompt)[-1])
        torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=1e-4)


def test_an_sae_whose_features_compete_is_asked_as_a_whole():
    from sae_lens import TopKSAE, TopKSAEConfig

    from corrsteer_core.saes.sae import _placed

    model = tiny("llama")
    torch.manual_seed(0)
    net = TopKSAE(TopKSAEConfig(d_in=32, d_sae=48, k=4, device="cpu", dtype="float32"))
    net.W_dec.data.normal_(std=0.3)
    net.W_enc.data.normal_()
    net.cfg.metadata.hook_name = "blocks.1.hook_resid_post"
    sae = _placed(net, "topk")
    for prompt in prompts(model):
        x = activations_at(model, sae.point, prompt)[-1:]
        z = sae.net.encode(x)[0]
        for feature in (int(z.argmax()), int(z.argmin())):
            row = SteeringRow(1, feature, 3.0, operation="clamp")
            variant = variant_of(empty_set(model, [sae], rows=(row,)), [sae])
            seen = []
            with torch.inference_mode(), steered(model, variant):
                with hooked({model.site(sae.point): lambda x, seen=seen: seen.append(x[0, -1].clone())}):
                    model.net(torch.tensor([prompt]))
            torch.testing.assert_close(seen[0], x[0] + (3.0 - z[feature]) * net.W_dec[feature], atol=1e-4, rtol=1e-4)


class _Elsewhere:
    """A worker without Ray: it has a copy of the work, and its results have been a file."""

    def __init__(self, saes):
        self.saes, self.asked = saes, 0

    def results(self, model, work, batches, only, on_progress):
        self.asked += 1
        assert not any(saes_read(vectors) for vectors in work.variants), "it would take its SAEs along"
        there = deepcopy(work)
        assert there.identity() == work.identity()
        assert all(ref in [ref_of(sae) for sae in self.saes] for ref in there.sae_refs)
        do = there.ready(model, self.saes, on_progress)
        for number in only:
            yield from work.decode(there.encode(list(do(batches[number]))))

    def conditions(self, model):
        return conditions_of(model)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_workers_do_what_a_set_does_and_are_sent_plain_values(rows):
    model, saes, steering = made("llama", rows)
    variants = [UNSTEERED, variant_of(steering, saes)]
    here = by_us(model, prompts(model), variants)
    for spare in (saes, saes[::-1]):
        elsewhere = _Elsewhere(spare)
        with spread_over(elsewhere):
            assert by_us(model, prompts(model), variants) == here
        assert elsewhere.asked == 1


def test_what_a_set_does_names_its_work():
    """Another row, another condition, another SAE: another job, so that no part of one is taken for the other's."""
    model, saes, steering = made("llama", ())
    others = [random_sae(model, layer, seed=1) for layer in LAYERS]
    sets = [variant_of(steering.with_rows(rows), saes) for rows in ROWS.values()]
    sets.append(variant_of(empty_set(model, others, rows=ROWS["clamp"]), others))
    works = [AnswerWork([[1, 2]], 3, [told(variant)], "max") for variant in sets]
    assert len({work.identity() for work in works}) == len(works)
    again = AnswerWork([[1, 2]], 3, [told(variant_of(steering.with_rows(ROWS["while"]), saes))], "max")
    assert again.identity() == works[list(ROWS).index("while")].identity()


def test_two_saes_of_one_layer_are_read_in_the_process_that_has_them():
    model, saes, steering = made("llama", ROWS["clamp"])
    other = random_sae(model, 1, seed=1)
    variants = [variant_of(steering, saes), variant_of(empty_set(model, [other], rows=ROWS["clamp"]), [other])]
    elsewhere = _Elsewhere(saes)
    with spread_over(elsewhere):
        assert by_us(model, prompts(model), variants) == by_us(model, prompts(model), variants)
    assert elsewhere.asked == 0


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_there_is_no_vector_of_a_set_that_does_not_just_add(rows):
    _, saes, steering = made("llama", rows)
    with pytest.raises(
        CorrSteerError, match=r"'mine' does is no fixed vector per layer: its row for feature \d+ of layer"
    ):
        vectors_of(steering, saes)
    off = steering.with_rows([replace(row, enabled=row.plain) for row in rows])
    assert vectors_of(off, saes).keys() == variant_of(off, saes).keys()


def test_a_number_too_long_to_compute_with_and_a_missing_sae_are_refused():
    _, saes, steering = made("llama", ())
    for operation in ("add", "clamp", "cap"):
        row = SteeringRow(1, 3, -1e30, operation=operation, from_token=1)
        with pytest.raises(CorrSteerError, match="too long for a float32"):
            variant_of(steering.with_rows([row]), saes)
    waiting = steering.with_rows(ROWS["while"][:1])
    with pytest.raises(CorrSteerError, match=r"needs the SAE random/0 of layer 0; load it"):
        variant_of(waiting, saes[1:])
    with pytest.raises(CorrSteerError, match="another SAE for layer 0"):
        variant_of(waiting, [random_sae(tiny("llama"), 0, seed=5), *saes[1:]])
    assert [sae.layer for sae in waiting.active_saes] == [0, 1]
