"""Gradients with respect to a vector at the generation positions, against central differences of whole texts in float64."""

import copy
from dataclasses import replace

import pytest
import torch

from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.gradients import following
from corrsteer_core.engine.gradients.following import Answer, answer_gradients, class_gradients, longest_of, planned
from corrsteer_core.models.few_rows import use_few_rows
from corrsteer_core.models.hooks import HookPoint, hooked
from tests.made import runs as tiny_run
from tests.made.models import ARCHITECTURES, FAST, WINDOWED, prompts, tiny

CLASSES = ((5, 9), (40,), (77, 78, 79))
STEP = 1.5e-3  # norms are computed in float32 whatever the model's type: a smaller step would measure rounding
POINTS = [
    HookPoint(0),
    HookPoint(1, "resid_pre"),
    HookPoint(2, "mlp_out"),
    HookPoint(1, "attn_out"),
    HookPoint(2, "attn_z"),
]


def double(model):
    """The same model in float64."""
    return replace(model, net=copy.deepcopy(model.net).double())


def whole_logits(model, prompt, answer, point, vector):
    """Logits at the generation positions of a text read whole and alone, a vector added at those positions."""
    text = torch.tensor([[*prompt, *answer[:-1]]])

    def action(activation):
        added = torch.zeros_like(activation)
        added[:, len(prompt) - 1 :] = vector
        return activation + added

    with torch.inference_mode(), hooked({model.site(point): action}):
        return model.net(text).logits[0, len(prompt) - 1 :]


def difference(function, point, direction):
    """Central difference of a function of (point, vector) along a direction, at 0."""
    return (function(point, STEP * direction) - function(point, -STEP * direction)) / (2 * STEP)


def directions(model, point, count=2):
    torch.manual_seed(5)
    return torch.randn(count, model.width(point.kind), dtype=torch.float64)


def classes_of(logits, classes):
    """Log-probabilities of classes, from logits (vocabulary,); () is every other token."""
    logp, named = logits.log_softmax(-1), {token for ids in classes for token in ids}
    others = [token for token in range(len(logp)) if token not in named]
    return torch.stack([logp[list(ids) or others].logsumexp(-1) for ids in classes])


def of_classes(model, points, ids, classes):
    """`class_gradients` of all prompts, batch by batch."""
    follow = class_gradients(model, points, ids, classes)
    for batch in planned(model, ids):
        yield from follow(batch)


def of_answers(model, points, ids, said, batch_size=None):
    """`answer_gradients` of all prompts, batch by batch."""
    follow = answer_gradients(model, points, ids, said)
    for batch in planned(model, ids, longest_of(said), batch_size):
        yield from follow(batch)


def margins_of(model, ids, classes, points=POINTS):
    """Gradients of every prompt, by its place: probabilities (K,), {point: (K, d)}, success {point: (d,)} of class 1."""
    found = {}
    for batch in of_classes(model, points, ids, classes):
        success = batch.success([1] * len(batch.prompts))
        for row, place in enumerate(batch.prompts):
            of_row = {point: batch.margins[point][row] for point in points}
            found[place] = batch.probabilities[row], of_row, {point: success[point][row] for point in points}
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_class_gradients_are_those_of_finite_differences(architecture):
    model = tiny(architecture, window=6 if architecture in WINDOWED else None)
    exact, ids = double(model), prompts(model)
    found = margins_of(model, ids, [CLASSES] * len(ids))
    for place, prompt in enumerate(ids[1:4], 1):
        probabilities, margins, success = found[place]
        for point in POINTS:
            for direction in directions(model, point):

                def logp(point, vector, prompt=prompt):
                    return classes_of(whole_logits(exact, prompt, [0], point, vector)[0], CLASSES)

                slopes = difference(lambda *given: logp(*given) - logp(*given)[0], point, direction)
                torch.testing.assert_close(margins[point].double() @ direction, slopes, rtol=2e-3, atol=2e-4)
                slope = difference(lambda *given: logp(*given).softmax(-1)[1], point, direction)
                torch.testing.assert_close(success[point].double() @ direction, slope, rtol=3e-3, atol=1e-4)
        torch.testing.assert_close(
            probabilities.double(),
            logp(POINTS[0], torch.zeros(32, dtype=torch.float64)).softmax(-1),
            rtol=1e-4,
            atol=1e-6,
        )


@pytest.mark.parametrize("architecture", FAST)
def test_gradients_foretell_what_the_tools_own_steering_does(architecture):
    """The positions are those that `decode` steers: the same slope there, within float32."""
    model = tiny(architecture)
    ids, point = prompts(model), HookPoint(1)
    direction = directions(model, point)[0].float()
    step = 2e-2 / direction.norm()
    variants = [{point: step * direction}, {point: -step * direction}]
    found = margins_of(model, ids, [CLASSES] * len(ids), [point])
    for batch in answers(model, ids, max_new_tokens=1, variants=variants, classes=[CLASSES] * len(ids)):
        for place, logp in zip(batch.prompts, batch.class_logp, strict=True):
            slopes = (logp[0] - logp[1]) / (2 * float(step))
            expected = found[place][1][point] @ direction
            torch.testing.assert_close(torch.tensor(slopes - slopes[0]).float(), expected, rtol=2e-2, atol=2e-2)


def test_classes_may_differ_from_prompt_to_prompt_and_one_may_be_all_the_rest():
    model = tiny("llama")
    exact, ids = double(model), prompts(model)
    own = [CLASSES, CLASSES[:2], ((5, 9), ()), CLASSES, CLASSES[:2]]
    found = margins_of(model, ids, own, [HookPoint(0)])
    direction = directions(model, HookPoint(0))[0]
    for place, (prompt, classes) in enumerate(zip(ids, own, strict=True)):

        def logp(point, vector, prompt=prompt, classes=classes):
            return classes_of(whole_logits(exact, prompt, [0], point, vector)[0], classes)

        probabilities, margins, success = found[place]
        slopes = difference(lambda *given: logp(*given) - logp(*given)[0], HookPoint(0), direction)
        along = margins[HookPoint(0)].double() @ direction
        torch.testing.assert_close(along[: len(classes)], slopes, rtol=2e-3, atol=2e-4)
        assert not along[len(classes) :].any()
        assert not probabilities[len(classes) :].any()
        assert probabilities.sum().item() == pytest.approx(1)
        slope = difference(lambda *given: logp(*given).softmax(-1)[1], HookPoint(0), direction)
        torch.testing.assert_close(success[HookPoint(0)].double() @ direction, slope, rtol=3e-3, atol=1e-4)


def answered(count):
    """Answers of several lengths, some ended; one is nothing but its end."""
    made = [Answer((60, 7, 30, 12), True), Answer((9,), False), Answer((), True), Answer((8, 8, 90), False)]
    return [*made, Answer((33, 71), True)][:count]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_policy_gradients_are_those_of_finite_differences(architecture):
    """Of E[(y - mean y) log p(o | x)] over samples, o a sample's own output."""
    model = tiny(architecture, window=6 if architecture in WINDOWED else None)
    exact, ids = double(model), prompts(model)
    said, y = answered(len(ids)), torch.tensor([1.0, 0.0, 1.0, 0.4, 0.0], dtype=torch.float64)
    weight, ends = y - y.mean(), sorted(model.end_tokens)

    def objective(point, vector):
        total = torch.zeros((), dtype=torch.float64)
        for prompt, answer, of_sample in zip(ids, said, weight, strict=True):
            whole = [*answer.tokens, *ends[:1]] if answer.ended else list(answer.tokens)
            logp = whole_logits(exact, prompt, whole, point, vector).log_softmax(-1)
            total += of_sample * sum(logp[step, token] for step, token in enumerate(answer.tokens))
            if answer.ended:
                total += of_sample * logp[-1, ends].logsumexp(-1)
        return total / len(ids)

    sums = {point: torch.zeros(model.width(point.kind), dtype=torch.float64) for point in POINTS}
    for batch in of_answers(model, POINTS, ids, said, batch_size=2):
        for point in POINTS:
            sums[point] += weight[batch.prompts] @ batch.gradients[point].double() / len(ids)
    for point in POINTS:
        for direction in directions(model, point):
            slope = difference(objective, point, direction)
            torch.testing.assert_close(sums[point] @ direction, slope, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sample_alone_has_the_gradients_it_has_in_a_batch(architecture):
    model = tiny(architecture)
    ids, said = prompts(model), answered(5)
    together = margins_of(model, ids, [CLASSES] * len(ids))
    logp, policy = {}, {}
    for batch in of_answers(model, POINTS, ids, said):
        for row, place in enumerate(batch.prompts):
            logp[place] = batch.logp[row]
            policy[place] = {point: batch.gradients[point][row] for point in POINTS}
    assert sorted(policy) == list(range(len(ids)))
    for place, prompt in enumerate(ids):
        _, margins, _ = margins_of(model, [prompt], [CLASSES])[0]
        (alone,) = of_answers(model, POINTS, [prompt], [said[place]])
        torch.testing.assert_close(alone.logp[0], logp[place], rtol=1e-4, atol=1e-4)
        for point in POINTS:
            torch.testing.assert_close(margins[point], together[place][1][point], rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(alone.gradients[point][0], policy[place][point], rtol=1e-3, atol=1e-4)


def test_the_quick_layers_of_a_cpu_let_gradients_through():
    plain, ids = tiny("llama"), prompts(tiny("llama"))[:3]  # three rows: the quick order of the product
    quick = replace(plain, net=copy.deepcopy(plain.net))
    use_few_rows(quick.net)
    expected, found = (margins_of(model, ids, [CLASSES] * 3) for model in (plain, quick))
    for place in range(3):
        for point in POINTS:
            torch.testing.assert_close(found[place][1][point], expected[place][1][point], rtol=1e-3, atol=1e-4)


def test_a_body_in_bfloat16_has_the_gradients_of_float32_within_its_rounding():
    exact, _ = tiny_run.load(torch.float32)
    rounded, _ = tiny_run.load(torch.bfloat16)
    ids, points = prompts(exact), [HookPoint(0), HookPoint(2)]
    expected = margins_of(exact, ids, [CLASSES] * len(ids), points)
    found = margins_of(rounded, ids, [CLASSES] * len(ids), points)
    for point in points:
        one = torch.stack([found[place][1][point][1:] for place in range(len(ids))]).flatten()
        other = torch.stack([expected[place][1][point][1:] for place in range(len(ids))]).flatten()
        assert one.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.98
        assert one.norm().item() == pytest.approx(other.norm().item(), rel=0.1)


def hooks_on(model):
    return [
        module
        for module in model.net.modules()
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    ]


def test_no_hook_stays_on_the_model_when_something_is_raised(monkeypatch):
    model = tiny("llama")
    ids = prompts(model)
    seen = []

    def failing(*given):
        seen.extend(hooks_on(model))
        raise RuntimeError("stopped")

    monkeypatch.setattr(following, "forced", failing)
    for work in (
        of_classes(model, POINTS, ids, [CLASSES] * len(ids)),
        of_answers(model, POINTS, ids, answered(len(ids))),
    ):
        with pytest.raises(RuntimeError, match="stopped"):
            list(work)
    assert seen
    assert hooks_on(model) == []
    monkeypatch.undo()
    list(of_classes(model, POINTS, ids, [CLASSES] * len(ids)))
    assert hooks_on(model) == []
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.net.parameters())


def test_memory_that_does_not_hold_a_batch_halves_it(monkeypatch):
    model = tiny("llama")
    ids = prompts(model)
    expected = margins_of(model, ids, [CLASSES] * len(ids))
    whole = following.forced

    def small(model, prefix, rows, outputs):
        if len(outputs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(model, prefix, rows, outputs)

    monkeypatch.setattr(following, "forced", small)
    found = list(of_classes(model, POINTS, ids, [CLASSES] * len(ids)))
    assert max(len(batch.prompts) for batch in found) == 2
    assert sorted(place for batch in found for place in batch.prompts) == list(range(len(ids)))
    for batch in found:
        for row, place in enumerate(batch.prompts):
            torch.testing.assert_close(
                batch.margins[POINTS[0]][row], expected[place][1][POINTS[0]], rtol=1e-3, atol=1e-4
            )
