"""Finished batches as files, and what a job is named after: without Ray."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from corrsteer_core.engine.answer_work import Answers, AnswerWork
from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.choosing import greedy, sampled
from corrsteer_core.engine.fluency import _Scores, _Work
from corrsteer_core.models.conditions import Conditions, Limits, threads
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.limits import conditions_of, held_to, limits_of, prompts_that_fit
from corrsteer_core.saes.sae import ref_of
from corrsteer_core.workers import arrays, parts
from corrsteer_core.workers.parts import Parts
from corrsteer_core.workers.pool import done, spread_over
from corrsteer_core.workers.work import job_name
from tests.made.models import tiny
from tests.made.runs import load

TEXTS = ["why?", "say a word", "one two three four five", "no", "be brief"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def asked():
    model, saes = load()
    prompts = [model.tokenizer(text)["input_ids"] for text in TEXTS]
    return model, saes, AnswerWork(prompts, 5, ({},), "max", tuple(ref_of(sae) for sae in saes))


def same(one: Answers, other: Answers) -> None:
    assert (one.prompts, one.tokens) == (other.prompts, other.tokens)
    np.testing.assert_array_equal(one.leads, other.leads)
    for mine, theirs in zip(one.pooled or [], other.pooled or [], strict=True):
        assert mine.dtype == theirs.dtype == torch.float32
        assert torch.equal(mine.cpu(), theirs.cpu())
    for mine, theirs in zip(one.class_logp, other.class_logp, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_answers_come_back_from_their_file_to_the_last_bit(asked):
    model, saes, work = asked
    found = list(work.ready(model, saes, lambda _: None)([0, 1, 2]))
    halves = list(work.ready(model, saes, lambda _: None)([3])) + list(work.ready(model, saes, lambda _: None)([4]))
    for results in (found, halves):
        back = work.decode(work.encode(results))
        assert len(back) == len(results)
        for one, other in zip(results, back, strict=True):
            same(one, other)
    assert any(float(z.max()) > 0 for z in found[0].pooled)


def test_likelihoods_of_classes_come_back_too(asked):
    model, _, _ = asked
    prompts = [model.tokenizer(text)["input_ids"] for text in TEXTS]
    classes = [((65, 66), (67,)) for _ in TEXTS]
    push = {HookPoint(1): torch.ones(model.d_model)}
    work = AnswerWork(prompts, 2, ({}, push), "max", (), classes)
    (found,) = work.ready(model, [], lambda _: None)([0, 3])
    assert found.pooled is None
    assert found.class_logp[0].shape == (2, 2)
    same(found, work.decode(work.encode([found]))[0])


def test_a_text_without_tokens_has_no_likelihood_in_the_file_either():
    work = _Work([[1]], [[[], [2]]])
    scores = _Scores([0], np.array([[np.nan, 1.25]]))
    (back,) = work.decode(work.encode([scores]))
    np.testing.assert_array_equal(back.nll, scores.nll)
    assert back.prompts == [0]


def test_a_job_is_named_after_all_that_its_numbers_depend_on(asked):
    model, _, work = asked
    conditions, batches = conditions_of(model), [[0, 1], [2, 3, 4]]
    own = job_name(model, conditions, work, batches)
    push = {HookPoint(1): torch.ones(model.d_model)}
    others = [
        job_name(replace(model, fingerprint="other"), conditions, work, batches),
        job_name(model, replace(conditions, threads=conditions.threads + 1), work, batches),
        job_name(model, conditions, work, [[0, 1, 2], [3, 4]]),
        *(
            job_name(model, conditions, replace(work, **changed), batches)
            for changed in (
                {"max_new_tokens": 6},
                {"pooling": "mean"},
                {"variants": (push,)},
                {"variants": ({}, push)},
                {"variants": ({HookPoint(2): push[HookPoint(1)]},)},
                {"prompts": [*work.prompts[:-1], [1, 2]]},
                {"pooled": work.pooled[:1]},
                {"classes": [((1,), (2,))] * 5},
            )
        ),
    ]
    assert len({own, *others}) == len(others) + 1
    assert job_name(model, conditions, replace(work, prompts=[list(one) for one in work.prompts]), batches) == own


def test_a_part_that_is_not_what_its_name_says_is_not_there():
    kept = Parts.begun("job")
    digest = kept.write(3, b"content")
    (path,) = kept.there().values()
    assert list(kept.there()) == [3]
    assert path == kept.path(3, digest)
    assert kept.read(path) == b"content"
    path.write_bytes(b"contenT")
    assert kept.read(path) is None
    assert kept.there() == {}
    kept.remove()
    assert not kept.folder.exists()


def test_parts_that_nobody_went_on_with_are_removed_in_the_end(monkeypatch):
    old = Parts.begun("old")
    now = parts.time.time()
    monkeypatch.setattr(parts.time, "time", lambda: now + parts.FORGOTTEN - 60)
    Parts.begun("newer")
    assert old.folder.exists()
    monkeypatch.setattr(parts.time, "time", lambda: now + parts.FORGOTTEN + 60)
    Parts.begun("newest")
    assert not old.folder.exists()


def test_a_model_held_to_a_run_is_cut_as_the_run_was_and_computes_in_its_threads(monkeypatch):
    model = tiny("llama")
    conditions = Conditions("cpu", torch.get_num_threads() + 1, Limits(2, 3, 50))
    assert Conditions.from_json(conditions.to_json()) == conditions
    held = held_to(model, conditions)
    assert limits_of(held) == conditions.limits
    assert prompts_that_fit(held, [[1] * 10], 5) == 2
    assert held_to(model, replace(conditions, device="cuda")).conditions is None
    assert held_to(held, None).conditions is None
    seen = []

    class Work:
        sae_refs = ()

        def ready(self, model, saes, on_progress):
            return lambda batch: iter([seen.append(torch.get_num_threads())])

    before = torch.get_num_threads()
    list(done(held, (), Work(), [[0]]))
    list(done(model, (), Work(), [[0]]))
    assert seen == [conditions.threads, before]
    assert torch.get_num_threads() == before
    with threads(None):
        assert torch.get_num_threads() == before


def test_arrays_come_back_to_the_last_bit():
    parts = [
        {"a": np.array([[0.1, np.nan], [-0.0, np.inf]]), "none": np.zeros((0, 3), np.float32)},
        {"a": np.arange(6, dtype=np.int16).reshape(1, 2, 3)[:, :, ::-1], "one": np.array(7)},
    ]
    back = arrays.decode(arrays.encode(parts))
    assert [list(part) for part in back] == [list(part) for part in parts]
    for mine, theirs in zip(parts, back, strict=True):
        for name, array in mine.items():
            assert (theirs[name].dtype, theirs[name].shape) == (array.dtype, array.shape)
            assert theirs[name].tobytes() == array.tobytes()


def test_what_is_drawn_at_random_is_done_here(asked):
    model, _, work = asked

    class Nobody:
        def results(self, *_):
            raise AssertionError("no worker can go on with the luck of another")

    with spread_over(Nobody()):
        list(answers(model, work.prompts, max_new_tokens=2, choose=sampled(1.0, seed=1)))
        with pytest.raises(AssertionError):
            list(answers(model, work.prompts, max_new_tokens=2, choose=greedy))
