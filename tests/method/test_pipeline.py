"""A whole run through the command line on a tiny model from disk: numbers, interruption, and what is refused."""

import contextlib
import io
import json
import os
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from scipy import stats as scipy_stats

from benchmarks import results
from corrsteer_core.cli import main
from corrsteer_core.inspection import feature_profile
from corrsteer_core.method import candidates, selecting, validation
from corrsteer_core.models.loading import load_model
from corrsteer_core.models.prompts import render
from corrsteer_core.runs import feature_lists, stored_run
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.steering_set import SteeringRow, load_set, save_set
from corrsteer_core.saes.sae import load_saes
from corrsteer_core.storage import reading, run_folder, writing
from tests.made.kept_runs import copied
from tests.made.models import activations_at, random_sae, tiny
from tests.made.sets import empty_set

LAYERS = (1, 2)

N = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model, SAEs and a data file on disk; the outcome of an item depends on what the model says."""
    folder = tmp_path_factory.mktemp("files")
    made = tiny("llama")
    made.net.save_pretrained(folder / "model")
    made.tokenizer.save_pretrained(folder / "model")
    for layer in LAYERS:
        random_sae(made, layer).net.save_model(folder / "saes" / f"layer_{layer}")
    rows = []
    for place in range(N):
        split = ("train", "train", "validation", "test")[place % 4]
        target = "t|4|q"
        rows.append({"prompt": f"Number {place * 7919} is " + "so " * (place % 5), "target": target, "split": split})
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CORRSTEER_DTYPE", "")  # undone after a test that says --dtype
    return tmp_path / "cache"


def command(capsys, *arguments):
    """Exit status, parsed standard output, standard error."""
    capsys.readouterr()
    status = main.main([*map(str, arguments), "--json", "--quiet"])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else None, err


def fit_arguments(files, *more):
    return (
        "fit", "--data", files / "items.jsonl", "--scorer", "regex", "--model", files / "model",
        "--sae", files / "saes", "--max-new-tokens", 8, "--floor", 1, *more,
    )  # fmt: skip


RESULTS = {}
"""What `fit` printed, by its arguments."""


def fitted_once(files, *more):
    """What `fit` prints with these arguments, done once; the cache of the test gets a copy of the run.

    What `fit` itself does is tested with `command`.
    """
    asked = tuple(map(str, fit_arguments(files, *more)))

    def fit():
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert main.main([*asked, "--json", "--quiet"]) == 0
        RESULTS[asked] = json.loads(out.getvalue())
        return RESULTS[asked]["run"]

    run = copied(asked, fit)
    return RESULTS[asked] | {"database": str(run_folder.database_path(run))}


def tables(database):
    with duckdb.connect(database, read_only=True) as connection:
        return {
            name: connection.execute(f"SELECT * FROM {name}").df() for name in ("samples", "activations", "features")
        }


def test_the_foremost_features_are_described_where_that_is_asked_for(files, capsys):
    status, fitted, err = command(capsys, *fit_arguments(files, "--describe", 3))
    assert status == 0, err
    described = feature_lists.features(fitted["run"], feature_lists.FeatureFilter(described=True))
    assert set(described["feature"]) == set(feature_profile.foremost(fitted["run"], 3)["feature"])
    assert described["description"].str.len().min() > 0
    capsys.readouterr()
    fitted = fitted_once(files)
    assert feature_lists.described_features(fitted["run"]) == 0


def test_features_equal_an_independent_computation_from_samples_and_activations(files, capsys):
    status, fitted, err = command(capsys, *fit_arguments(files))
    assert status == 0, err
    found = tables(fitted["database"])
    samples = found["samples"]
    assert fitted["samples"] == len(samples) == N
    assert fitted["success_rate"] == pytest.approx(samples["outcome"].mean())
    assert 0 < samples["outcome"].mean() < 1, "the outcome must vary for this to mean anything"
    train = samples[samples["split"] == "train"].set_index("sample")["outcome"]
    compared = 0
    for row in found["features"].itertuples():
        mine = (
            found["activations"].query("layer == @row.layer and feature == @row.feature").set_index("sample")["value"]
        )
        z = mine.reindex(train.index).fillna(0).to_numpy(dtype=float)
        y = train.to_numpy()
        assert row.support == np.count_nonzero(z)
        assert row.frequency == pytest.approx(np.count_nonzero(z) / len(z))
        assert row.coefficient == pytest.approx(z[y > 0].mean())
        if np.ptp(z) > 0:
            assert row.r == pytest.approx(scipy_stats.pearsonr(z, y).statistic, abs=1e-9)
            compared += 1
    assert compared > 20
    assert [row["r"] for row in fitted["top"]] == sorted((row["r"] for row in fitted["top"]), reverse=True)


def test_stored_activations_equal_one_forward_pass_per_sample(files, capsys):
    fitted = fitted_once(files, "--batch-size", 7, "--dtype", "float32")
    found = tables(fitted["database"])
    model = load_model(str(files / "model"), dtype=torch.float32)
    saes = load_saes([str(files / "saes")], model)
    config, items = stored_run.stored(fitted["run"])
    assert config.style == PromptStyle(chat=True)
    outputs = found["samples"].set_index("sample")["output"]
    for item in items[:10]:
        ids = render(model, item.prompt, config.style)
        with torch.inference_mode():
            whole = model.net.generate(
                torch.tensor([ids]),
                max_new_tokens=8,
                do_sample=False,
                eos_token_id=sorted(model.end_tokens),
                pad_token_id=1,
            )[0]
        generated = [token for token in whole[len(ids) :].tolist() if token not in model.end_tokens]
        assert model.tokenizer.decode(generated, skip_special_tokens=True) == outputs[item.id]
        for sae in saes:
            z = sae.net.encode(activations_at(model, sae.point, whole.tolist())[len(ids) - 1 : len(whole) - 1]).amax(0)
            mine = (
                found["activations"].query("sample == @item.id and layer == @sae.layer").set_index("feature")["value"]
            )
            expected = pd.Series(z.numpy())[z.numpy() > 0]
            got = mine.reindex(expected.index).fillna(0).to_numpy()
            np.testing.assert_allclose(got, expected.to_numpy(), atol=1e-4)
            assert len(mine) <= len(expected) + 2  # silent features are absent (but for rounding around zero)


class Killed(BaseException):
    pass


BOTH = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@BOTH
@pytest.mark.parametrize("batches", [1, 2, 4])
def test_interrupted_and_resumed_the_run_has_the_same_numbers(files, capsys, cache, batches, dtype, monkeypatch):
    arguments = fit_arguments(files, "--batch-size", 7, "--dtype", dtype)
    fitted = fitted_once(files, "--batch-size", 7, "--dtype", dtype)
    whole = tables(fitted["database"])
    shutil.rmtree(cache / "runs")
    real, calls = writing.Writer.add_batch, []

    def dying(self, *positional, **named):
        if len(calls) == batches:
            raise Killed
        calls.append(1)
        return real(self, *positional, **named)

    monkeypatch.setattr(writing.Writer, "add_batch", dying)
    with pytest.raises(Killed):
        main.main([*map(str, arguments), "--quiet"])
    monkeypatch.setattr(writing.Writer, "add_batch", real)
    with writing.Writer(
        fitted["run"]
    ) as writer:  # a writer that failed publishes nothing; the next goes on from its file
        kept = writer.query("SELECT count(outcome) AS n FROM samples")["n"][0]
    assert 7 * batches <= kept < len(whole["samples"])  # batches of shorter prompts hold more
    # Another batch size now must change nothing: the run is bound to the first.
    status, again, _ = command(capsys, *fit_arguments(files, "--batch-size", 3, "--dtype", dtype))
    assert status == 0
    assert again["run"] == fitted["run"]
    for name, frame in tables(again["database"]).items():
        keys = [key for key in ("sample", "layer", "feature") if key in frame]
        left, right = (table.sort_values(keys, ignore_index=True) for table in (whole[name], frame))
        pd.testing.assert_frame_equal(left, right, check_exact=True)


def test_select_effects_evaluate_generate(files, capsys, tmp_path):
    fitted = fitted_once(files)
    run = fitted["run"]
    status, chosen, err = command(capsys, "select", run, "--strategy", "A", "--out", tmp_path / "a.json")
    assert status == 0, err
    assert {row["layer"] for row in chosen["rows"]} == set(LAYERS)
    status, _, err = command(capsys, "select", run, "--strategy", "V", "--longest", 1e9, "--out", tmp_path / "v.json")
    assert status == 0, err
    status, pruned, err = command(capsys, "select", run, "--strategy", "P", "--longest", 1e9)
    assert status == 0, err
    assert {row["layer"] for row in pruned["rows"]} <= {row["layer"] for row in chosen["rows"]}
    status, effects, _ = command(capsys, "effects", run)
    assert len(effects) == len(LAYERS) * 8 * 4
    one = effects[0]
    assert one["steered_rate"] - one["unsteered_rate"] == pytest.approx(
        (one["positive_flips"] - one["negative_flips"]) / one["n"]
    )
    status, features, _ = command(capsys, "features", run, "--layer", 1, "--top", 3)
    assert [row["layer"] for row in features] == [1, 1, 1]
    evaluate = ("evaluate", "--set", tmp_path / "a.json", "--data", files / "items.jsonl", "--scorer", "regex")
    status, found, err = command(capsys, *evaluate, "--split", "test", "--controls", 2)
    assert status == 0, err
    assert found["n"] == N // 4
    assert set(found["controls"]) == {"random 1", "random 2", "sign flipped", "unigram"}
    assert found["constrained"] == {}, "no multiple choice"
    assert found["verdict"]
    status, zero, _ = command(capsys, *evaluate, "--scale", 0)
    assert zero["unsteered_rate"] == zero["steered_rate"]
    assert (zero["positive_flips"], zero["negative_flips"], zero["changed"], zero["ser"]) == (0, 0, 0, None)
    assert zero["fluency"]["steered"] == zero["fluency"]["unsteered"]
    status, texts, _ = command(
        capsys, "generate", "--set", tmp_path / "a.json", "--prompt", "Number 5 is", "--max-new-tokens", 8, "--scale", 0
    )
    assert status == 0
    assert texts["unsteered"] == texts["steered"]


def test_study_measures_every_strategy_with_its_controls(files, capsys):
    arguments = ("study", *fit_arguments(files)[1:-2], "--controls", 2, "--rankings", "fisher_ratio", "--longest", 1e9)
    status, found, err = command(capsys, *arguments, "--per-layer", 2, "--scales", "1,2")
    assert status == 0, err
    sets = {row["set"]: row for row in found["sets"]}
    assert {"S", "A", "A, fisher ratio"} <= set(sets)
    assert sets["S"]["features"] == 1
    assert sets["A"]["features"] == len(LAYERS)
    command(capsys, "select", found["run"], "--strategy", "A", "--out", files / "study-a.json")
    evaluate = ("evaluate", "--set", files / "study-a.json", "--data", files / "items.jsonl", "--scorer", "regex")
    _, alone, _ = command(capsys, *evaluate, "--controls", 2)
    for name in ("n", "unsteered_rate", "steered_rate", "positive_flips", "negative_flips", "controls", "verdict"):
        assert sets["A"][name] == alone[name], name
    assert found["baseline"] is not None


def test_sweep_transfer_baseline_and_convergence_on_the_command_line(files, capsys, tmp_path):
    fitted = fitted_once(files)
    run = fitted["run"]
    for strategy in ("S", "A"):
        command(capsys, "select", run, "--strategy", strategy, "--out", tmp_path / f"{strategy}.json")
    status, rows, err = command(
        capsys, "sweep", "--set", tmp_path / "A.json", "--task", "capitals", "--task", "overrefusal",
        "--scales", "0,2", "--limit", 3,
    )  # fmt: skip
    assert status == 0, err
    assert [(row["task"], row["scale"]) for row in rows] == [
        ("capitals", 0.0), ("capitals", 2.0), ("overrefusal", 0.0), ("overrefusal", 2.0),
    ]  # fmt: skip
    assert all(row["effect"] == 0 for row in rows if row["scale"] == 0)
    assert any(row["pareto"] for row in rows)
    both = ("--set", tmp_path / "A.json", "--set", tmp_path / "S.json")
    status, rows, err = command(capsys, "transfer", *both, "--task", "capitals", "--limit", 3)
    assert status == 0, err
    assert [row["set"] for row in rows] == ["A", "S"]
    status, found, err = command(capsys, "baseline", run, "--longest", 1e9)
    assert status == 0, err
    assert {row["layer"] for row in found["tried"]} == set(LAYERS)
    status, rows, err = command(capsys, "convergence", run, "--top", 3)
    assert status == 0, err
    assert rows[-1]["overlap"] == 1.0
    status, rows, err = command(capsys, "features", run, "--intervals", "--top", 3, "--ranking", "mutual_information")
    assert status == 0, err
    assert all(row["r_low"] <= row["r"] <= row["r_high"] for row in rows)
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)


def test_sets_fitted_on_a_file_of_ones_own_are_measured_on_it_again(files, capsys, tmp_path, cache):
    runs = {}
    for name, limit in (("first", N), ("second", 24)):
        runs[name] = fitted_once(files, "--limit", limit)["run"]
        command(capsys, "select", runs[name], "--strategy", "A", "--out", tmp_path / f"{name}.json")
    first = ("--set", tmp_path / "first.json")
    both = (*first, "--set", tmp_path / "second.json")
    for named in ((), ("--task", "custom-items")):
        status, rows, err = command(capsys, "sweep", *first, *named, "--scales", "0,1", "--limit", 3)
        assert status == 0, err
        assert [(row["task"], row["scale"], row["n"]) for row in rows] == [
            ("custom-items", 0.0, 3), ("custom-items", 1.0, 3),
        ]  # fmt: skip
    status, rows, err = command(capsys, "transfer", *both, "--task", "custom-items", "--task", "capitals", "--limit", 3)
    assert status == 0, err
    assert [row["set"] for row in rows] == ["A"] * 4
    whose = {load_set(tmp_path / f"{name}.json").content: run for name, run in runs.items()}
    assert len(whose) == 2
    for task in ("custom-items", "capitals"):
        assert {row["content"]: row["run"] for row in rows if row["task"] == task} == whose
    shutil.rmtree(cache / "runs" / runs["first"])
    status, _, err = command(capsys, "sweep", *first)
    assert (status, "fitted on a file of your own (custom-items)" in err) == (1, True), err
    assert f"in the run {runs['first']}, which is not cached; make the run again" in err


def test_p_says_what_it_saw_in_each_layer(files, capsys):
    fitted = fitted_once(files)
    status, pruned, err = command(capsys, "select", fitted["run"], "--strategy", "P")
    assert status == 0, err
    assert [row["layer"] for row in pruned["seen"]] == list(LAYERS)
    kept = {row["layer"] for row in pruned["rows"]}
    for row in pruned["seen"]:
        assert row["kept"] == (row["layer"] in kept) == (row["steered_rate"] > row["unsteered_rate"])


def test_a_judge_that_cannot_be_had_is_an_error_and_no_other_metric(files, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    arguments = (
        "fit",
        "--task",
        "refusal",
        "--judge",
        "rejection-judge",
        "--model",
        files / "model",
        "--sae",
        files / "saes",
    )
    status, found, err = command(capsys, *arguments)
    assert (status, found) == (1, None)
    assert "distilroberta-base-rejection-v1" in err
    assert not list(run_folder.run_names())


def test_evaluate_measures_fluency_as_written_out_here(files, capsys, tmp_path):
    fitted = fitted_once(files)
    command(capsys, "select", fitted["run"], "--strategy", "A", "--out", tmp_path / "a.json")
    from corrsteer_core.engine.fluency import fluency

    model = load_model(str(files / "model"), dtype=torch.float32)
    prompts = [render(model, "Number 5 is", PromptStyle()), render(model, "No", PromptStyle())]
    outputs = [[[7, 9, 11], [7, 9], [5]], [[20], [], [20, 3, 4, 8]]]  # of each prompt, three variants
    expected = np.full((2, 3), np.nan)
    for place, prompt in enumerate(prompts):
        for variant, output in enumerate(outputs[place]):
            if output:
                with torch.inference_mode():
                    logp = model.net(torch.tensor([[*prompt, *output]])).logits[0].double().log_softmax(-1)
                rows = range(len(prompt) - 1, len(prompt) + len(output) - 1)
                chosen = [logp[row, token].item() for row, token in zip(rows, output, strict=True)]
                expected[place, variant] = -np.mean(chosen)
    np.testing.assert_allclose(fluency(model, prompts, outputs), expected, atol=1e-4)


def test_a_constant_outcome_is_said_and_not_ranked(files, capsys, tmp_path):
    data = tmp_path / "never.jsonl"
    data.write_text(
        "".join(
            json.dumps({"prompt": f"Say {place}", "target": "\u2603\u2603", "split": "train"}) + "\n"
            for place in range(8)
        )
    )
    arguments = ("--scorer", "contains", "--model", files / "model", "--sae", files / "saes", "--max-new-tokens", 2)
    status, fitted, err = command(capsys, "fit", "--data", data, *arguments)
    assert status == 0, err
    assert fitted["constant"] is True
    assert fitted["top"] == []
    assert tables(fitted["database"])["features"]["r"].isna().all()
    status, _, err = command(capsys, "select", fitted["run"], "--strategy", "S")
    assert status == 1
    assert "is constant (success rate 0%" in err


def test_mean_pooling_and_another_limit_are_other_runs(files, capsys):
    names = {fitted_once(files, *more)["run"] for more in ((), ("--pooling", "mean"), ("--limit", 20))}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--task", "sentimnt"), "There is no task 'sentimnt'"),
        (("--data", "/nowhere.jsonl"), "/nowhere.jsonl"),
        (("--model", "/no/model"), "model '/no/model' could not be loaded"),
        (("--sae", "/no/sae"), "could not load|no folder"),
        (("--layers", "1,7"), "no SAE for layer 7 in .*; it has layers 1, 2"),
        (("--scorer", "magic"), "no scorer 'magic'"),
        (("--system", "Be kind", "--no-chat"), "needs the chat template"),
    ],
)
def test_wrong_input_is_one_sentence_and_a_status(files, capsys, change, message, cache):
    import re

    base = list(fit_arguments(files))
    if "--task" in change:
        base = [part for part in base if part not in ("--scorer", "regex")]
    status, out, err = command(capsys, *base, *change)
    assert status == 1
    assert out is None
    assert re.search(message, err), err
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert not list(cache.glob("runs/*")), "nothing is cached for what could not start"


@pytest.mark.parametrize("line", ['{"prompt": "x"', '{"target": "x"}', "[1]", '{"prompt": 3}'])
def test_a_broken_line_is_named(files, capsys, tmp_path, line):
    data = tmp_path / "broken.jsonl"
    data.write_text('{"prompt": "a", "target": "b"}\n' + line + "\n")
    status, _, err = command(
        capsys, *[data if part == files / "items.jsonl" else part for part in fit_arguments(files)]
    )
    assert status == 1
    assert "line 2" in err.lower()
    assert str(data) in err


def test_an_empty_file_is_said(files, capsys, tmp_path):
    data = tmp_path / "empty.jsonl"
    data.write_text("")
    status, _, err = command(
        capsys, *[data if part == files / "items.jsonl" else part for part in fit_arguments(files)]
    )
    assert status == 1
    assert str(data) in err


def test_a_corrupted_cache_file_is_said_and_other_runs_stay(files, capsys):
    fitted = fitted_once(files)
    other = fitted_once(files, "--limit", 20)
    path = run_folder.database_path(fitted["run"])
    path.write_bytes(b"rubbish")
    for arguments in (("features", fitted["run"]), fit_arguments(files), ("select", fitted["run"], "--strategy", "A")):
        status, _, err = command(capsys, *arguments)
        assert status == 1
        assert "cannot be read" in err
    assert path.read_bytes() == b"rubbish"
    assert command(capsys, "features", other["run"])[0] == 0
    status, rows, err = command(capsys, "runs")
    assert status == 0
    assert [row["run"] for row in rows] == [other["run"]]
    assert "cannot be read" in err


def test_a_wrong_width_sae_is_refused(files, capsys, tmp_path):
    from sae_lens import StandardSAE, StandardSAEConfig

    sae = StandardSAE(StandardSAEConfig(d_in=64, d_sae=8, device="cpu", dtype="float32"))
    sae.cfg.metadata.hook_name = "blocks.1.hook_resid_post"
    sae.save_model(tmp_path / "wide")
    arguments = [tmp_path / "wide" if part == files / "saes" else part for part in fit_arguments(files)]
    status, _, err = command(capsys, *arguments)
    assert status == 1
    assert "reads 64 numbers" in err
    assert "has 32" in err


def test_every_command_has_help(capsys):
    (commands,) = (action.choices for action in main.parser()._actions if action.dest == "name")
    assert {"fit", "study", "evaluate", "train-sae"} <= set(commands)
    for name in commands:
        with pytest.raises(SystemExit) as stopped:
            main.main([name, "--help"])
        assert stopped.value.code == 0
        assert "usage:" in capsys.readouterr().out


def test_check_measures_every_sae(files, capsys):
    status, rows, err = command(capsys, "check", "--model", files / "model", "--sae", files / "saes", "--prompts", 4)
    assert status == 0, err
    assert [row["hook_point"] for row in rows] == [f"blocks.{layer}.hook_resid_post" for layer in LAYERS]
    assert "The SAE explains" in err, "random SAEs do not belong anywhere"
    assert rows[0]["explained_before"] < 1
    assert rows[1]["explained_after"] is None, "layer 2 is the last"


@BOTH
def test_interrupted_while_trying_features_the_finished_ones_are_kept(files, capsys, monkeypatch, dtype):
    """And goes on to the very numbers of work that was not interrupted, whatever else is in memory by then."""
    fitted = fitted_once(files, "--dtype", dtype)
    monkeypatch.setattr(candidates, "TRIED_TOGETHER", 20)
    whole = candidates.try_candidates(fitted["run"], longest=np.inf)
    with writing.Writer(fitted["run"]) as writer:
        writer.connection.execute("DELETE FROM effects")
    memory = psutil.virtual_memory()
    real, calls = validation.trial, []

    def dying(*positional, **named):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return real(*positional, **named)

    monkeypatch.setattr(validation, "trial", dying)
    with pytest.raises(Killed):
        candidates.try_candidates(fitted["run"], longest=np.inf)
    assert len(reading.query(fitted["run"], "SELECT * FROM effects")) == 40
    asked = []
    monkeypatch.setattr(validation, "trial", lambda *given, **named: asked.append(given[2]) or real(*given, **named))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=2**20, free=2**20))
    again = candidates.try_candidates(fitted["run"], longest=np.inf)
    assert [len(variants) for variants in asked] == [21, 5], "the unsteered one is measured with each group"
    keys = ["layer", "feature", "scale"]
    left, right = (table.sort_values(keys, ignore_index=True) for table in (whole, again))
    pd.testing.assert_frame_equal(left, right, check_exact=True)


@BOTH
def test_what_was_tried_before_is_left_out_of_its_group_and_moves_no_other(files, capsys, monkeypatch, dtype):
    fitted = fitted_once(files, "--dtype", dtype)
    monkeypatch.setattr(candidates, "TRIED_TOGETHER", 20)
    real, asked = validation.trial, []
    monkeypatch.setattr(validation, "trial", lambda *given, **named: asked.append(given[2]) or real(*given, **named))
    whole = candidates.try_candidates(fitted["run"], longest=np.inf)
    groups = asked.copy()
    asked.clear()
    known = whole.iloc[[3, 30]]
    with writing.Writer(fitted["run"]) as writer:
        writer.connection.execute("DELETE FROM effects")
        writer.add("effects", known)
    candidates.try_candidates(fitted["run"], longest=np.inf)
    assert [len(variants) - 1 for variants in groups] == [20, 20, 20, 4]
    assert [len(variants) - 1 for variants in asked] == [19, 19, 20, 4]


@pytest.mark.parametrize("strategy", ["V", "P"])
def test_what_is_chosen_does_not_depend_on_the_order_in_which_the_table_has_its_rows(files, capsys, strategy):
    """A copied table has another order, and candidates tie: what was tried, and who wins, stays."""
    fitted = fitted_once(files)
    name = selecting.select(fitted["run"], strategy, longest=np.inf).name

    def kept():
        chosen = reading.query(fitted["run"], "SELECT body, selection FROM sets WHERE name = ?", [name])
        return chosen.iloc[0].to_dict(), candidates.known_of_layers(
            fitted["run"], candidates.rankable_features(fitted["run"]), 1, np.inf
        )

    chosen, known = kept()
    with writing.Writer(fitted["run"]) as writer:
        writer.connection.execute("CREATE TEMP TABLE turned AS SELECT * FROM effects ORDER BY rowid DESC")
        writer.connection.execute("DELETE FROM effects")
        writer.connection.execute("INSERT INTO effects SELECT * FROM turned ORDER BY rowid")
    selecting.select(fitted["run"], strategy, longest=np.inf)
    again, still_known = kept()
    assert again == chosen
    pd.testing.assert_frame_equal(still_known, known, check_exact=True)


DATA = Path(os.environ.get("CORRSTEER_DATA") or Path(__file__).parents[3] / "shared" / "data")
"""The published sets, in files named as in `benchmarks.results`; a user has none."""


@pytest.mark.parametrize("task", results.FILES)
def test_a_benchmark_runs_from_fit_to_evaluate_on_its_real_items(files, capsys, tmp_path, task):
    if results.missing(task, DATA):
        pytest.skip("the published files are not on this machine")
    items = results.drawn(task, DATA, tmp_path)
    folder = shutil.copytree(files / "model", tmp_path / "model")  # a token a letter: it takes a long context
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))
    named = ("--task", task, "--data", items, "--limit", 24, "--max-new-tokens", 3)
    status, fitted, err = command(capsys, "fit", *named, "--model", folder, "--sae", files / "saes", "--floor", 1)
    assert status == 0, err
    assert fitted["samples"] == 24
    model = load_model(str(folder))
    rows = [SteeringRow(1, 3, 2.0), SteeringRow(2, 5, 2.0)]
    steering = empty_set(model, load_saes([str(files / "saes")], model), run=fitted["run"], task=task).with_rows(rows)
    save_set(steering, tmp_path / "set.json")
    status, found, err = command(capsys, "evaluate", "--set", tmp_path / "set.json", "--data", items, "--limit", 5)
    assert status == 0, err
    assert found["n"] == 5
    steered = found["unsteered_rate"] + (found["positive_flips"] - found["negative_flips"]) / 5
    assert found["steered_rate"] == pytest.approx(steered)
