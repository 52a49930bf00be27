"""Few-shot examples: from the train split, never asked again, the same in fitting and evaluation."""

import json

import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.evaluation.exam import exam_for
from corrsteer_core.method import run_setup
from corrsteer_core.models.prompts import render
from corrsteer_core.runs import run_facts, stored_run
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.steering_set import load_set
from corrsteer_core.tasks import TASKS, custom_task, get_task, load_items, load_with_shots, without_shots
from tests.made.models import random_sae, tiny


def test_examples_come_from_train_and_are_gone_from_the_items():
    task = get_task("sentiment")
    every = load_items(task)
    shots, rest = load_with_shots(task, 4)
    taken = [item for item in every if item.prompt in {prompt for prompt, _ in shots}]
    assert len(shots) == len(taken) == 4
    assert {item.split for item in taken} == {"train"}
    assert {(item.prompt, item.target) for item in taken} == set(shots)
    assert rest == [item for item in every if item not in taken]


def test_strata_take_turns():
    shots, _ = load_with_shots(get_task("sentiment"), 6)
    answers = [answer for _, answer in shots]
    assert 2 <= answers.count("Positive") <= 4


def test_a_limit_changes_the_items_not_the_examples():
    task = get_task("sentiment")
    all_shots, _ = load_with_shots(task, 3)
    shots, items = load_with_shots(task, 3, limit=30)
    assert shots == all_shots
    assert len(items) == 30
    assert not {item.prompt for item in items} & {prompt for prompt, _ in shots}


def test_none_asked_is_the_items_as_they_are():
    task = get_task("capitals")
    assert load_with_shots(task, 0, limit=20) == ((), load_items(task, limit=20))


@pytest.mark.parametrize("name", ["refusal", "overrefusal"])
def test_a_task_without_answers_has_nothing_to_show(name):
    with pytest.raises(CorrSteerError, match="has no right answers to show"):
        load_with_shots(get_task(name), 2)


def test_a_pattern_is_no_answer(tmp_path):
    path = tmp_path / "patterns.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p{n}", "target": "a+"}) + "\n" for n in range(20)))
    with pytest.raises(CorrSteerError, match=r"scorer regex\) has no right answers"):
        load_with_shots(custom_task("regex", path), 1)


def test_more_examples_than_train_items_are_refused():
    with pytest.raises(CorrSteerError, match="ask for fewer"):
        load_with_shots(get_task("capitals"), 100_000)


def test_a_copy_that_differs_only_in_case_was_shown_too():
    items = load_items(get_task("capitals"))[:3]
    left = without_shots(items, [(items[0].prompt.upper() + "  ", "x")])
    assert left == items[1:]


def test_every_task_either_shows_answers_or_says_why_not():
    named = {name for name, task in TASKS.items() if task.hub is None and task.needs_target}
    named.remove("judgement")  # its targets say what an answer is like, not what it is
    assert named
    for name in named:
        assert len(load_with_shots(TASKS[name], 1)[0]) == 1
    with pytest.raises(CorrSteerError, match="has no right answers to show"):
        load_with_shots(TASKS["judgement"], 1)


@pytest.mark.parametrize("chat", [True, False])
def test_the_prompt_holds_the_examples_in_order(chat):
    model = tiny("llama")
    style = PromptStyle(chat, shots=(("1 + 1 =", "2"), ("2 + 2 =", "4")))
    text = model.tokenizer.decode(render(model, "3 + 3 =", style))
    if chat:
        assert text == (
            "<|im_start|>user\n1 + 1 =<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
            "<|im_start|>user\n2 + 2 =<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
            "<|im_start|>user\n3 + 3 =<|im_end|>\n<|im_start|>assistant\n"
        )
    else:
        assert text == "1 + 1 = 2\n\n2 + 2 = 4\n\n3 + 3 ="


def test_fitting_and_evaluation_put_prompts_the_same_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))
    made = tiny("llama")
    made.net.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    random_sae(made, 1).net.save_model(tmp_path / "saes")
    rows = [
        {"prompt": f"{n} is", "target": "abcdefgh"[n % 8], "split": ("train", "train", "validation", "test")[n % 4]}
        for n in range(48)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = [
        "fit", "--data", str(tmp_path / "items.jsonl"), "--scorer", "contains", "--model", str(tmp_path / "model"),
        "--sae", str(tmp_path / "saes"), "--max-new-tokens", "2", "--floor", "1", "--shots", "2", "--system", "Be brief.",
        "--no-chat", "--json", "--quiet",
    ]  # fmt: skip
    assert main.main(arguments) == 1
    assert "A system prompt needs the chat template" in capsys.readouterr().err
    arguments.remove("--no-chat")
    assert main.main([*arguments, "--chat"]) == 0
    run = json.loads(capsys.readouterr().out)["run"]
    config, items = stored_run.stored(run)
    assert config.style.chat
    assert config.style.system == "Be brief."
    assert len(config.style.shots) == 2
    shown = {prompt for prompt, _ in config.style.shots}
    assert len(items) == 46
    assert not shown & {item.prompt for item in items}
    again = run_facts.fit_arguments(run)
    assert "--shots=2" in again
    assert main.main([*again, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == run, "the same settings name the same run"
    setup = run_setup.reopen(run)
    assert setup.config == config

    # A set of this run is measured with its examples, and never on them.
    from corrsteer_core.runs.steering_set import save_set
    from tests.made.sets import empty_set

    steering = empty_set(setup.model, setup.saes, run=run, task=config.task, style=config.style)
    save_set(steering, tmp_path / "set.json")
    loaded = load_set(tmp_path / "set.json")
    assert loaded.style == config.style
    exam = exam_for(loaded, setup.task, setup.model, split="train")
    assert exam.style == config.style
    assert not shown & {item.prompt for item in exam.items}
    assert len(exam.items) == 22
