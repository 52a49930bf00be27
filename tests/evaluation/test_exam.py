"""What a set is measured on: nothing its run has seen, scored as its run was."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.evaluation import measure
from corrsteer_core.evaluation.exam import Balance, exam_for
from corrsteer_core.evaluation.measure import transfer
from corrsteer_core.method import collecting, run_setup, validation
from corrsteer_core.runs import measurements, run_facts, stored_run
from corrsteer_core.runs.steering_set import SteeringRow, SteeringSet
from corrsteer_core.storage import deleting, run_folder, writing
from corrsteer_core.tasks import custom_task, get_task, load_items, load_shifted
from tests.made import runs as tiny

ROWS = 120


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "own.jsonl", ROWS)


def write(path: Path, count: int) -> Path:
    rows = [{"prompt": f"Item {place} of the list", "target": "ab"[place < ROWS // 2]} for place in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fitted(loaded, task, **settings):
    """A set of a run that was set up and has its samples in the cache; nothing was generated."""
    model, saes = loaded
    setup = run_setup.set_up(task, model=model, sae=[sae.source for sae in saes], max_new_tokens=2, **settings)
    with writing.Writer(setup.run) as writer:
        writer.begin(setup.config, setup.items, 8)
    steering = validation.empty_of(setup).with_rows([SteeringRow(1, 3, 4.0)], f"of seed {setup.config.seed}")
    return steering, {item.prompt: item.split for item in setup.items}


def prompts(exam):
    return {item.prompt for item in exam.items}


def test_rows_added_to_the_file_do_not_move_those_that_were_fitted_on(loaded, file):
    task = custom_task("contains", file)
    steering, known = fitted(loaded, task, scorer="contains", data=file)
    write(file, ROWS + 1)
    asked = {split: prompts(exam_for(steering, task, loaded[0], split=split)) for split in ("validation", "test")}
    dealt_anew = {item.prompt for item in load_items(task, data=file) if item.split == "test"}
    assert any(known.get(prompt) == "train" for prompt in dealt_anew), "the case is one in which it matters"
    for split, found in asked.items():
        assert {known.get(prompt, split) for prompt in found} == {split}
    assert asked["test"] >= {prompt for prompt, split in known.items() if split == "test"}


def test_a_file_by_another_name_does_not_move_them_either(loaded, file, tmp_path):
    """Rows copied to another file are the rows of a task of another name; the set has seen them all the same."""
    task = custom_task("contains", file)
    steering, known = fitted(loaded, task, scorer="contains", data=file, shots=2)
    shown = {prompt for prompt, _ in steering.style.shots}
    other = write(tmp_path / "copy.jsonl", ROWS + 7)
    copied = custom_task("contains", other)
    exam = exam_for(steering, copied, loaded[0], split="test")
    dealt_anew = {item.prompt for item in load_items(copied) if item.split == "test"}
    assert any(known.get(prompt, "test") != "test" for prompt in dealt_anew), "the case is one in which it matters"
    assert {known.get(prompt, "test") for prompt in prompts(exam)} == {"test"}
    assert len(shown) == 2
    assert not shown & prompts(exam)


def test_what_was_asked_otherwise_stands_beside_the_runs_own_measurement(loaded, file, tmp_path):
    model, saes = loaded
    steering, _ = fitted(loaded, get_task("sentiment"), limit=40)
    steering = replace(steering, name="V")
    stored_run.keep_set(steering.run, steering)
    task = get_task("sentiment")
    measure.evaluate_set(steering, task, limit=6, model=model, saes=saes)
    own = run_facts.headline(steering.run)
    other = tmp_path / "other.jsonl"
    rows = [{"prompt": f"Review {place}:", "target": "Positive", "split": "test"} for place in range(20)]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    measure.evaluate_set(steering, task, data=other, model=model, saes=saes)
    measure.evaluate_set(steering, task, limit=6, max_new_tokens=1, model=model, saes=saes)
    found = measurements.evaluations(steering.run)
    assert sorted(zip(found["task"], found["n"], strict=True)) == [
        ("sentiment", 6), ("sentiment (1-token answers)", 6), ("sentiment (other.jsonl)", 20),
    ]  # fmt: skip
    assert run_facts.headline(steering.run) == own
    assert own["n"] == 6


def test_the_runs_own_file_and_length_are_no_remark(loaded, file):
    task = custom_task("contains", file)
    steering, _ = fitted(loaded, task, scorer="contains", data=file)
    exam = exam_for(steering, task, loaded[0], split="test", data=Path(file), max_new_tokens=2)
    assert exam.name == task.name
    assert exam == exam_for(steering, task, loaded[0], split="test")


@pytest.mark.parametrize("name", ["simpleqa", "own"])
def test_a_file_that_is_gone_is_named_and_a_copy_of_it_does(loaded, tmp_path, name):
    rows = [
        {"problem": f"Item {place}?", "prompt": f"Item {place}", "answer": "a", "target": "a"} for place in range(60)
    ]
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task, scorer = (custom_task("contains", file), "contains") if name == "own" else (get_task(name), "")
    steering, known = fitted(loaded, task, scorer=scorer, data=file)
    copy = file.rename(tmp_path / "moved.jsonl")
    with pytest.raises(
        CorrSteerError, match=r"items\.jsonl, from which the run .* has its samples, is not there any more"
    ):
        exam_for(steering, task, loaded[0], split="test")
    exam = exam_for(steering, task, loaded[0], split="test", data=copy)
    assert {known[prompt] for prompt in prompts(exam)} == {"test"}


def test_a_transfer_asks_each_set_what_its_own_run_held_back(loaded, file):
    task = get_task("simpleqa")
    rows = [{"problem": f"Item {place}", "answer": "a"} for place in range(ROWS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, of_one = fitted(loaded, task, data=file, seed=0)
    two, of_two = fitted(loaded, task, data=file, seed=1)
    assert of_one != of_two
    found = transfer([one, two, one], [task], model=loaded[0])
    assert [result.name for result in found] == ["of seed 0", "of seed 1", "of seed 0"]
    found = found[:2]
    for result, known in zip(found, (of_one, of_two), strict=True):
        assert {known[prompt] for prompt in result.samples["prompt"]} == {"test"}
        assert len(result.samples) == Counter(known.values())["test"]


def test_sets_with_one_exam_are_measured_together(loaded, file, monkeypatch):
    task = get_task("sentiment")
    steering, _ = fitted(loaded, task, limit=40)
    other = steering.with_rows([SteeringRow(2, 1, 1.0)], "other")
    asked = []
    real = measure.measured_sets
    monkeypatch.setattr(
        measure, "measured_sets", lambda exam, sets, *more: asked.append(len(sets)) or real(exam, sets, *more)
    )
    transfer([steering, other], [task], limit=4, model=loaded[0])
    assert asked == [2]


def test_a_set_whose_run_is_unknown_is_not_measured_on_samples_it_may_have_seen(loaded, file):
    task = custom_task("contains", file)
    steering, _ = fitted(loaded, task, scorer="contains", data=file)
    deleting.delete_run(steering.run)
    with pytest.raises(CorrSteerError, match="not known which samples were held back"):
        exam_for(steering, task, loaded[0], split="test")


@pytest.mark.parametrize("name", ["tone", "capitals"])
def test_shifted_items_can_be_measured_on_where_the_run_is_unknown(loaded, name):
    """They are in no split, so no seed moves them."""
    task = get_task(name)
    steering = SteeringSet(loaded[0].name, loaded[0].fingerprint, (), run=f"{name}-0fab1e00", task=name)
    exam = exam_for(steering, task, loaded[0], split="shifted")
    assert prompts(exam) == {item.prompt for item in load_shifted(task)}
    assert {item.split for item in exam.validation} == {"validation"}
    assert not prompts(exam) & {item.prompt for item in exam.validation}


def test_a_file_of_shifted_rows_alone_can_be_measured_on(loaded, tmp_path):
    path = tmp_path / "elsewhere.jsonl"
    rows = [{"prompt": f"Elsewhere {place}", "target": "a", "split": "shifted"} for place in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    steering = SteeringSet(loaded[0].name, loaded[0].fingerprint, (), task="another")
    exam = exam_for(steering, custom_task("contains", path), loaded[0], split="shifted", data=path)
    assert len(exam.items) == 5
    assert exam.validation == exam.training == ()


def test_where_every_row_names_its_split_an_unknown_run_does_not_matter(loaded):
    task = get_task("sentiment")
    steering, known = fitted(loaded, task)
    before = prompts(exam_for(steering, task, loaded[0], split="test"))
    deleting.delete_run(steering.run)
    assert prompts(exam_for(steering, task, loaded[0], split="test")) == before
    assert {known[prompt] for prompt in before} == {"test"}


def test_another_scorer_than_the_runs_is_refused(loaded, file):
    steering, _ = fitted(loaded, custom_task("contains", file), scorer="contains", data=file)
    with pytest.raises(CorrSteerError, match="scored by contains, and exact was asked for"):
        exam_for(steering, custom_task("exact", file), loaded[0], split="test")


def test_a_judge_scores_a_task_of_ones_own_when_it_is_opened_again(loaded, file, monkeypatch):
    judged = []

    def judge(output, item):
        return 0.25

    def with_judge(task, name):
        judged.append(name)
        return replace(task, scorer=judge)

    for user in (stored_run, run_setup):
        monkeypatch.setattr(user, "with_judge", with_judge)
    task = custom_task("contains", file)
    steering, _ = fitted(loaded, task, scorer="contains", judge="similarity-judge", data=file)
    config, items = stored_run.stored(steering.run)
    assert stored_run.task_of(config).scorer("", items[0]) == 0.25
    assert exam_for(steering, task, loaded[0], split="test").task.scorer("", items[0]) == 0.25
    opened = stored_run.task_of(config)  # what a sweep of the set asks for
    assert exam_for(steering, opened, loaded[0], split="test").task.scorer("", items[0]) == 0.25
    assert judged == ["similarity-judge"] * 5


def test_a_limit_takes_strata_in_turn(loaded, file):
    """Files are often ordered by subject; the first rows would be of one."""
    rows = [{"prompt": f"Item {place}", "target": "ab"[place >= ROWS // 2], "split": "test"} for place in range(ROWS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = custom_task("contains", file)
    steering = replace(tiny.steering_set(*loaded, (1, 3, 4.0)), task="")
    exam = exam_for(steering, task, loaded[0], split="test", limit=20)
    assert Counter(item.target for item in exam.items) == {"a": 10, "b": 10}


def test_an_answer_too_long_for_the_context_leaves_no_run(loaded):
    model, saes = loaded
    setup = run_setup.set_up(
        get_task("sentiment"), model=model, sae=[sae.source for sae in saes], limit=20, max_new_tokens=10**6
    )
    with pytest.raises(CorrSteerError, match="do not fit"):
        collecting.collect(setup)
    assert not run_folder.is_cached(setup.run)


@pytest.mark.parametrize("split", ["test", "shifted"])
@pytest.mark.parametrize("share", [0.8, 0.2, 0.5])
def test_a_class_balance_is_the_most_samples_of_that_balance(loaded, split, share):
    task, model = get_task("sentiment"), loaded[0]
    steering, _ = fitted(loaded, task)
    whole = exam_for(steering, task, model, split=split)
    exam = exam_for(steering, task, model, split=split, balance=Balance(share, 3))
    before, after = (Counter(item.target for item in one.items) for one in (whole, exam))
    assert after["Positive"] / after.total() == pytest.approx(share, abs=0.005)
    kept = {name: after[name] / before[name] for name in before}
    assert max(kept.values()) == 1, "of one class none is left out, so that no larger such balance can be drawn"
    assert prompts(exam) <= prompts(whole)
    assert len(exam.items) == len(prompts(exam)), "no sample is there twice"
    assert {item.id for item in exam.validation} == {item.id for item in whole.validation}, (
        "offsets are fitted as before"
    )
    assert exam.name == f"sentiment ({100 * share:g}/{100 - 100 * share:g} by seed 3)"


def test_the_seed_says_which_samples_a_balance_leaves_out(loaded):
    task, model = get_task("sentiment"), loaded[0]
    steering, _ = fitted(loaded, task)
    one, same, other = (
        prompts(exam_for(steering, task, model, split="test", balance=Balance(0.8, seed))) for seed in (0, 0, 1)
    )
    assert one == same != other


def test_a_balance_is_kept_beside_the_plain_measurement(loaded):
    model, saes = loaded
    task = get_task("sentiment")
    steering = stored_run.kept_sets(tiny.make_run(*loaded))["A"]
    for balance in (None, Balance(0.8)):
        measure.evaluate_set(steering, task, limit=10, balance=balance, model=model, saes=saes)
    assert set(measurements.evaluations(steering.run)["task"]) == {"sentiment", "sentiment (80/20 by seed 0)"}
    plain, balanced = (
        Counter(measurements.evaluated_samples(steering.run, "A", name, "test", 1.0)["target"])
        for name in ("sentiment", "sentiment (80/20 by seed 0)")
    )
    assert plain == {"Positive": 5, "Negative": 5}
    assert balanced == {"Positive": 8, "Negative": 2}


def test_a_balance_of_what_has_no_classes_or_too_few_samples_is_refused(loaded):
    steering, _ = fitted(loaded, get_task("tone"))
    with pytest.raises(CorrSteerError, match="no classes to balance"):
        exam_for(steering, get_task("tone"), loaded[0], split="test", balance=Balance(0.8))
    steering, _ = fitted(loaded, get_task("sentiment"))
    with pytest.raises(CorrSteerError, match="a class would have none"):
        exam_for(steering, get_task("sentiment"), loaded[0], split="test", balance=Balance(0.9999))
