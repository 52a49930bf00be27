"""The tournament: a set beside better prompts and other rivals, each number against the plain way."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from corrsteer_core.api import study
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.engine.steering import steered
from corrsteer_core.evaluation.exam import exam_for
from corrsteer_core.evaluation.measure import evaluate_set, sweep
from corrsteer_core.evaluation.multiple_choice import choice_tokens
from corrsteer_core.method import contenders, difference_baseline
from corrsteer_core.method.evaluating import evaluate
from corrsteer_core.models.prompts import answer_text, render
from corrsteer_core.reporting import rival_groups, tournament_words
from corrsteer_core.reporting.rate_rows import BEYOND
from corrsteer_core.reporting.verdict import verdict
from corrsteer_core.runs import measurements, stored_run
from corrsteer_core.runs.against import ALL, RIVALS, Against, kinds_named
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.steering_set import save_set
from corrsteer_core.tasks import get_task, load_items
from tests.made import runs as tiny

LIMIT = 12
CAPITALS = PromptStyle(chat=True)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def loaded():
    model, saes = tiny.load()
    model.net.config.max_position_embeddings = 4096  # a byte is a token: worked examples are long
    yield model, saes
    model.net.config.max_position_embeddings = 256


@pytest.fixture
def steering(loaded):
    run = tiny.make_run(*loaded)
    return stored_run.kept_sets(run)["A"].scaled(6.0)


def answered(model, item, style, task, tokens):
    """The outcome of one item, by reading everything anew for each token."""
    ids, written = render(model, item.prompt, style), []
    while len(written) < tokens and not (written and written[-1] in model.end_tokens):
        with torch.inference_mode():
            written.append(int(model.net(torch.tensor([ids + written])).logits[0, -1].argmax()))
    return task.scorer(answer_text(model, written), item)


def generated(model, item, style, task, tokens):
    """The same by transformers' own generate, which can be steered."""
    ids = torch.tensor([render(model, item.prompt, style)])
    ends = {"eos_token_id": sorted(model.end_tokens), "pad_token_id": 1}
    written = model.net.generate(ids, attention_mask=ids * 0 + 1, max_new_tokens=tokens, do_sample=False, **ends)
    return task.scorer(answer_text(model, written[0, ids.shape[1] :].tolist()), item)


def test_every_contender_answers_the_same_samples_and_is_compared_sample_by_sample(loaded, steering):
    model, saes = loaded
    task, text = get_task("overrefusal"), "Always begin with a number"
    asked = Against(systems=(text, "Sorry, no"))
    found = evaluate(steering, task, against=asked, limit=LIMIT, max_new_tokens=5, model=model, saes=saes)
    exam = exam_for(steering, task, model, split="test", limit=LIMIT, max_new_tokens=5)
    assert found.samples["sample"].tolist() == [item.id for item in exam.items]
    mine, before = (found.samples[f"outcome_{side}"].to_numpy() for side in ("steered", "unsteered"))
    rows = found.summary()["tournament"]
    assert [row["rival"] for row in rows] == ["prompt: your text 1", "prompt: your text 2"]
    p = []
    for row, system in zip(rows, asked.systems, strict=True):
        theirs = np.array([answered(model, item, replace(exam.style, system=system), task, 5) for item in exam.items])
        up, down = int(((mine > 0.5) & (theirs < 0.5)).sum()), int(((mine < 0.5) & (theirs > 0.5)).sum())
        assert (row["positive_flips"], row["negative_flips"]) == (up, down)
        assert row["rate"] == pytest.approx(theirs.mean())
        assert row["effect"] == pytest.approx(theirs.mean() - before.mean())
        assert row["difference"] == pytest.approx(mine.mean() - theirs.mean())
        assert row["n"] == LIMIT
        p.append(scipy_stats.binomtest(up, up + down).pvalue if up + down else 1.0)
        assert row["prompt"]["system"] == system
    assert [row["p"] for row in rows] == pytest.approx(p)
    assert [row["p_corrected"] for row in rows] == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_the_prompts_of_a_task_and_examples_of_the_training_split(loaded, steering):
    model, saes = loaded
    task = get_task("sentiment")
    asked = Against(kinds=("prompts",), shots=2)
    found = evaluate(steering, task, against=asked, limit=LIMIT, model=model, saes=saes)
    rows = {row["rival"]: row for row in found.summary()["tournament"]}
    assert list(rows) == ["prompt: 2 examples", *(f"prompt: {one.name}" for one in task.prompts)]
    exam = exam_for(steering, task, model, split="test", limit=LIMIT)
    _, items = stored_run.stored(steering.run)
    fitted_on = {(item.prompt, item.target) for item in items if item.split == "train"}
    for name, row in rows.items():
        style = PromptStyle(row["prompt"]["chat"], row["prompt"]["system"], tuple(map(tuple, row["prompt"]["shots"])))
        assert set(style.shots) <= fitted_on
        outcomes = [answered(model, item, style, task, exam.max_new_tokens) for item in exam.items]
        assert row["rate"] == pytest.approx(np.mean(outcomes)), name
    assert len(rows["prompt: 2 examples"]["prompt"]["shots"]) == 2
    assert rows["prompt: be fair"]["prompt"]["system"] == task.prompts[0].system


def test_constrained_decoding_is_a_contender_by_itself(loaded, steering):
    model, saes = loaded
    task = get_task("capitals")
    other = replace(steering, task="")
    found = evaluate(
        other, task, control_count=0, against=Against(kinds=("constrained",)), limit=LIMIT, model=model, saes=saes
    )
    (row,) = found.summary()["tournament"]
    right = []
    for item in exam_for(other, task, model, split="test", limit=LIMIT).items:
        with torch.inference_mode():
            logits = model.net(torch.tensor([render(model, item.prompt, CAPITALS)])).logits[0, -1]
        allowed = choice_tokens(model, item.choices)
        right.append(task.scorer(model.tokenizer.decode([allowed[int(logits[allowed].argmax())]]), item))
    assert row["rate"] == pytest.approx(np.mean(right))
    mine = found.samples["outcome_steered"].to_numpy()
    assert row["positive_flips"] - row["negative_flips"] == int(mine.sum() - np.sum(right))


def test_the_offset_is_a_contender_by_what_is_right_with_it(loaded, steering):
    model, saes = loaded
    task, other = get_task("capitals"), replace(steering, task="")
    found = evaluate(other, task, control_count=0, against=Against(kinds=("offset",)), limit=40, model=model, saes=saes)
    (row,) = found.summary()["tournament"]
    assert row["rate"] == pytest.approx(found.summary()["offset"]["rate"])
    right, mine = found.samples["with_offset_unsteered"] > 0.5, found.samples["outcome_steered"] > 0.5
    assert (row["positive_flips"], row["negative_flips"]) == ((mine & ~right).sum(), (right & ~mine).sum())


def test_the_difference_of_activations_is_the_baselines(loaded, steering, monkeypatch):
    model, saes = loaded
    monkeypatch.setattr(difference_baseline.strategies, "beyond_noise", lambda effects: effects)
    monkeypatch.setattr(difference_baseline, "corrected_p", lambda before, after: np.zeros(after.shape[1]))
    task = get_task("sentiment")
    found = evaluate(
        steering, task, control_count=0, against=Against(kinds=("difference",)), limit=LIMIT, model=model, saes=saes
    )
    (row,) = found.summary()["tournament"]
    setup = contenders.reopen(steering.run, model)
    chosen = difference_baseline.baseline(setup)["chosen"]
    kept = measurements.samples(steering.run, ["train"])
    prompts = [render(model, prompt, steering.style) for prompt in kept["prompt"]]
    (point,) = (sae.point for sae in saes if sae.layer == chosen["layer"])
    found_by_hand = difference_baseline.difference_vectors(
        model, [point], prompts, kept["outcome"].to_numpy(), setup.config.max_new_tokens
    )
    exam = exam_for(steering, task, model, split="test", limit=LIMIT)
    with steered(model, {point: chosen["scale"] * found_by_hand[point]}):
        outcomes = [generated(model, item, exam.style, task, exam.max_new_tokens) for item in exam.items]
    assert row["rate"] == pytest.approx(np.mean(outcomes))
    mine = found.samples["outcome_steered"].to_numpy()
    assert row["difference"] == pytest.approx(mine.mean() - np.mean(outcomes))


def test_what_cannot_be_measured_is_left_out_with_its_reason(loaded, steering):
    model, saes = loaded
    task = get_task("overrefusal")
    asked = Against(kinds=kinds_named(ALL))
    lost = replace(steering, run="", task="")
    found = evaluate(lost, task, against=asked, limit=6, max_new_tokens=3, model=model, saes=saes)
    summary = found.summary()
    assert [row["kind"] for row in summary["tournament"]] == ["prompt", "prompt"]
    assert {one["rival"]: one["why"] for one in summary["left_out"]} == {
        "one constant per class": "No constant per class can be fitted on overrefusal (3-token answers): it has no classes to tell apart.",
        "difference of activations": "The set's run is not cached, so there are no right and wrong answers to take a difference of.",
        "constrained decoding": "Answers to overrefusal (3-token answers) cannot be held to choices of one token each.",
    }  # fmt: skip
    assert "Not measured: constrained decoding. Answers to" in rival_groups.missing_rivals(summary)


def test_a_prompt_that_is_too_long_is_an_error_of_the_users_and_left_out_otherwise(loaded, steering, monkeypatch):
    model, saes = loaded
    monkeypatch.setattr(model.net.config, "max_position_embeddings", 256)
    task = get_task("sentiment")
    short = {"limit": 4, "model": model, "saes": saes}
    found = evaluate(steering, task, control_count=0, against=Against(kinds=("prompts",)), **short)
    assert [one.beside.rival for one in found.tournament] == ["prompt: be fair"]
    (_, left_out) = found.left_out
    assert left_out.rival == "prompt: 4 examples"
    assert "do not fit" in left_out.why
    with pytest.raises(CorrSteerError, match="do not fit"):
        evaluate(steering, task, control_count=0, against=Against(shots=4), **short)


def test_examples_of_a_file_are_shown_and_none_of_them_may_be_asked(loaded, steering, tmp_path):
    model, saes = loaded
    task = get_task("sentiment")
    file = tmp_path / "mine.jsonl"
    file.write_text(
        json.dumps({"text": "I loved it", "target": "Positive"})
        + "\n"
        + json.dumps({"prompt": "Bad?", "answer": "Yes"})
    )
    found = evaluate(steering, task, control_count=0, against=Against(examples=file), limit=4, model=model, saes=saes)
    (row,) = found.summary()["tournament"]
    shown = "Decide whether a review is positive or negative.\n\n'I loved it'\nSentiment:"
    assert [*map(tuple, row["prompt"]["shots"])] == [(shown, "Positive"), ("Bad?", "Yes")]
    asked = next(item for item in load_items(task, limit=40) if item.split == "validation")
    file.write_text(json.dumps({"prompt": asked.prompt.upper(), "answer": "Positive"}))
    with pytest.raises(
        CorrSteerError, match=r"1 of the examples in mine\.jsonl are among the test or validation samples"
    ):
        evaluate(steering, task, control_count=0, against=Against(examples=file), limit=4, model=model, saes=saes)
    file.write_text(json.dumps({"prompt": "No answer"}))
    with pytest.raises(CorrSteerError, match="Line 1 .* has no 'answer'"):
        evaluate(steering, task, control_count=0, against=Against(examples=file), limit=4, model=model, saes=saes)


@pytest.mark.parametrize("template", ["plain", "chat"])
def test_a_text_of_the_users_stands_before_every_prompt(loaded, template):
    model, _ = loaded
    style = PromptStyle(chat=template == "chat", system="Mind the irony.", shots=(("Good?", "Yes"),))
    text = model.tokenizer.decode(render(model, "Fine?", style))
    if template == "plain":
        assert text == "Mind the irony.\n\nGood? Yes\n\nFine?"
    else:
        assert text.startswith("<|im_start|>system\nMind the irony.<|im_end|>\n<|im_start|>user\nGood?")


def test_a_tournament_is_kept_and_outlives_a_measurement_without_one(loaded, steering):
    model, saes = loaded
    task = get_task("sentiment")
    found = evaluate(
        steering, task, control_count=0, against=Against(systems=("Well",)), limit=6, model=model, saes=saes
    )
    (kept,) = measurements.evaluations(steering.run)["summary"]
    assert kept["tournament"] == json.loads(json.dumps(found.summary()["tournament"]))
    sweep(steering, [task], (steering.scale,), limit=6, model=model, saes=saes)
    (again,) = measurements.evaluations(steering.run)["summary"]
    assert again["tournament"] == kept["tournament"]
    evaluate(steering, task, control_count=1, limit=6, model=model, saes=saes)
    (again,) = measurements.evaluations(steering.run)["summary"]
    assert again["tournament"] == kept["tournament"]
    assert again["controls"]


def test_it_can_be_asked_for_in_python(loaded, steering):
    model, _ = loaded
    found = study.evaluate(
        steering, limit=6, against="prompts", against_system="Well", against_shots=1, balance=0.8, model=model
    )
    assert [one.beside.rival for one in found.tournament][:2] == ["prompt: your text", "prompt: 1 examples"]
    assert len(found.tournament) == 4
    assert found.task == "sentiment (80/20 by seed 0)"


def test_it_can_be_asked_for_on_the_command_line(steering, tmp_path, capsys):
    file = tmp_path / "a.json"
    save_set(steering, file)
    words = [
        "evaluate",
        "--set",
        str(file),
        "--limit",
        "6",
        "--split",
        "shifted",
        "--balance",
        "80/20",
        "--dtype",
        "float32",
    ]
    words += ["--against", "constrained", "--against-system", "Well.", "--against-system", "So.", "--quiet"]
    assert main.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["task"] == "sentiment (80/20 by seed 0)"
    assert [row["rival"] for row in found["tournament"]] == ["prompt: your text 1", "prompt: your text 2"]
    assert [one["rival"] for one in found["left_out"]] == [BEYOND, "constrained decoding"]
    assert main.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("tournament:")
    heads, first, second = (line.split() for line in lines[place + 1 : place + 4])
    assert heads[:4] == ["rival", "kind", "n", "rate"]
    assert (first[:4], second[:4]) == (["prompt:", "your", "text", "1"], ["prompt:", "your", "text", "2"])


def test_progress_of_a_tournament_is_one_bar_that_never_goes_back(loaded, steering):
    model, saes = loaded
    told = []
    evaluate(
        steering, get_task("capitals"), control_count=0, against=Against(kinds=tuple(RIVALS)), limit=5, model=model, saes=saes,
        progress=lambda stage, done, total: told.append((stage, done / total)),
    )  # fmt: skip
    assert {stage for stage, _ in told} == {"measuring"}
    shares = [share for _, share in told]
    assert shares == sorted(shares)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"kinds": ("luck",)}, "There is no rival 'luck'; a set can be put against prompts, offset"),
        ({"systems": (" ",)}, "is empty"),
        ({"shots": -1}, "-1 examples"),
    ],
)
def test_what_is_no_rival_is_refused(asked, words):
    with pytest.raises(CorrSteerError, match=words):
        Against(**asked)


def test_every_task_with_a_name_brings_two_better_prompts_and_no_more():
    from corrsteer_core.tasks import TASKS

    for name, task in TASKS.items():
        assert len({one.name for one in task.prompts}) == len(task.prompts) == 2, name
        assert all(bool(one.system.strip()) or one.shots for one in task.prompts)
        assert task.needs_target or not any(one.shots for one in task.prompts), f"{name} has no answers to show"


# --- words -----------------------------------------------------------------------------------------


def row(rival, kind, rate, won, lost, p, n=100):
    return {
        "rival": rival, "kind": kind, "n": n, "rate": rate, "rate_interval": [rate - 0.1, rate + 0.1], "effect": rate - 0.4,
        "difference": (won - lost) / n, "difference_interval": [0, 1], "positive_flips": won, "negative_flips": lost,
        "p": p / 2, "p_corrected": p,
    }  # fmt: skip


def works(*rows):
    return {
        "n": 100, "unsteered_rate": 0.4, "steered_rate": 0.6, "p": 1e-4, "positive_flips": 22, "negative_flips": 2,
        "unsteered_interval": [0.3, 0.5], "steered_interval": [0.5, 0.7],
        "controls": {"random 1": {"effect": 0.01}}, "chosen_on": False, "tournament": list(rows),
    }  # fmt: skip


BEATEN = row("prompt: a rule", "prompt", 0.45, 18, 3, 0.004)


@pytest.mark.parametrize(
    ("rows", "kind", "words"),
    [
        ([BEATEN], "works", "The set is the best of 2 contenders; next is the prompt “a rule” with 45.0%"),
        (
            [BEATEN, row("prompt: a policy", "prompt", 0.8, 2, 22, 0.001)],
            "outdone",
            "A better prompt does more: success rises from 40.0% to 60.0% on 100 samples (p < 0.001), but the prompt “a policy” "
            "reaches 80.0% (the set against it: +2 / −22 samples, p = 0.001 corrected).",
        ),
        (
            [BEATEN, row("difference of activations", "difference", 0.58, 5, 3, 0.7)],
            "outdone",
            "A difference of activations does as much",
        ),
        ([row("one constant per class", "offset", 0.65, 2, 7, 0.4)], "outdone", "One constant per class does as much"),
        ([row("constrained decoding", "constrained", 0.6, 3, 3, 1.0)], "outdone", "Holding the answers to the choices"),
    ],
)
def test_the_verdict_names_the_best_and_says_when_the_set_is_not_it(rows, kind, words):
    found = verdict(works(*rows))
    assert found.kind == kind
    assert words in found.sentence


def test_the_best_is_named_beside_any_other_verdict():
    better = row("prompt: a policy", "prompt", 0.8, 2, 22, 0.001)
    said = "The best of 2 contenders is the prompt “a policy” with 80.0%"
    for change in ({"p": 0.5}, {"steered_rate": 0.2}, {"chosen_on": True}, {"controls": {"random 1": {"effect": 0.3}}}):
        found = verdict({**works(better), **change})
        assert found.kind != "outdone"
        assert said in found.sentence
    assert verdict({**works(better), "controls": {}}).kind == "outdone", (
        "a better prompt is known before random features"
    )


def test_an_evaluation_without_a_tournament_says_nothing_of_it():
    summary = works()
    assert verdict(summary).kind == "works"
    del summary["tournament"]
    assert "contenders" not in verdict(summary).sentence
    assert tournament_words.rates(summary, "V").empty
    assert tournament_words.table(summary) == []


def test_the_chart_has_all_contenders_the_best_first_and_the_table_the_same_numbers():
    summary = works(BEATEN, row("difference of activations", "difference", 0.7, 5, 15, 0.08))
    rows = tournament_words.rates(summary, "V")
    assert rows["label"].tolist() == ["unsteered", "difference of activations", "V", "prompt: a rule"]
    assert rows["kind"].tolist() == ["unsteered", "control", "steered", "control"]
    assert rows["effect"].tolist() == pytest.approx([0, 0.3, 0.2, 0.05])
    assert tournament_words.table(summary) == [
        ("difference of activations", "70.0%", "+30.0 points", "+5 / −15", "p = 0.08"),
        ("prompt: a rule", "45.0%", "+5.0 points", "+18 / −3", "p = 0.004"),
    ]


def test_plain_measurements_ask_for_no_contender(loaded, steering):
    found = evaluate_set(steering, get_task("sentiment"), limit=4, model=loaded[0], saes=loaded[1])
    assert found.summary()["tournament"] == []
    assert [one.rival for one in found.left_out] == [BEYOND], "the tiny tokenizer has no tokens for classes"
