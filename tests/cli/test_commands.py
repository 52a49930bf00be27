"""The command line where something is amiss: one sentence and a status, before any work is done."""

import errno
import json
import re
from pathlib import Path

import duckdb
import pandas as pd
import pytest
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import inputs, main, values
from corrsteer_core.cli.endings import check_ending
from corrsteer_core.method import collecting, selecting, study
from corrsteer_core.models import loading
from corrsteer_core.runs import measurements, run_facts, stored_run
from corrsteer_core.runs.fit import FEWEST_PERMUTATIONS, FitSettings
from corrsteer_core.runs.reliability import convergence
from corrsteer_core.runs.steering_set import SteeringSet, save_set
from corrsteer_core.saes.sources import saes_in
from corrsteer_core.saes.train_config import LARGEST_SEED, TrainConfig
from corrsteer_core.storage.writing import Writer
from tests.made import fabricated


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def nothing_is_loaded(monkeypatch):
    monkeypatch.setattr(inputs, "set_up", lambda *_: pytest.fail("something was loaded"))


@pytest.fixture
def no_model_is_loaded(monkeypatch):
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))


def said(capsys, *arguments) -> str:
    """The one sentence that a command ends with."""
    capsys.readouterr()
    assert main.main([*map(str, arguments), "--quiet"]) == main.FAILED
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def refused(capsys, *arguments) -> str:
    """What is said of arguments that cannot be."""
    with pytest.raises(SystemExit):
        main.main([*map(str, arguments)])
    return capsys.readouterr().err


# --- before anything is loaded -------------------------------------------------------------------


def test_too_few_permutations_are_refused_before_anything_is_collected(capsys, nothing_is_loaded):
    assert "5 permutations were asked for; it takes at least 19" in said(
        capsys, "fit", "--task", "sentiment", "--permutations", 5
    )


def test_the_fewest_permutations_are_those_that_the_statistics_take():
    from corrsteer_core.correlation.chance import allowed

    assert allowed(FEWEST_PERMUTATIONS, 0.95) == 1
    assert allowed(FEWEST_PERMUTATIONS - 1, 0.95) == 0
    fabricated.make_run("sentiment-0fab1e00")
    collecting.refit("sentiment-0fab1e00", FitSettings(permutations=FEWEST_PERMUTATIONS))
    assert run_facts.facts("sentiment-0fab1e00").fit["permutations"] == FEWEST_PERMUTATIONS


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ("study", "--task", "sentiment", "--strategies", "S,X"),
            "argument --strategies: 'X' is not one of S, A, P, V",
        ),
        (("study", "--task", "sentiment", "--rankings", "X"), "argument --rankings: 'X' is not one of pearson_r, "),
        (("study", "--task", "sentiment", "--scales", "0,1"), "'0,1' holds a scale that is not above 0"),
        (("select", "RUN", "--strategy", "V", "--scales", "1,-1"), "'1,-1' holds a scale that is not above 0"),
        (("select", "RUN", "--strategy", "V", "--scales", "nan"), "not a finite number"),
        (("generate", "--set", "x", "--prompt", "x", "--temperature", "nan"), "is not a temperature"),
        (("generate", "--set", "x", "--prompt", "x", "--temperature", "-1"), "is not a temperature"),
        (("generate", "--set", "x", "--prompt", "\udcff"), "argument --prompt: '\\udcff' is not UTF-8 text"),
        (("fit", "--task", "sentiment", "--system", "\udcff"), "argument --system: '\\udcff' is not UTF-8 text"),
        (("study", "--task", "sentiment", "--controls", "-3"), "--controls: '-3' is not a whole number, 0 or above"),
        (("evaluate", "--set", "x", "--balance", "80"), "argument --balance: '80' is not a balance of two shares"),
        (
            ("evaluate", "--set", "x", "--balance", "90/20"),
            "argument --balance: '90/20' is not a balance of two shares",
        ),
        (("evaluate", "--set", "x", "--against", "luck"), "argument --against: 'luck' is not one of prompts, offset"),
        (
            ("evaluate", "--set", "x", "--against-shots", "0"),
            "argument --against-shots: '0' is not a whole number above 0",
        ),
        (("evaluate", "--set", "x", "--controls", "-3"), "argument --controls: '-3' is not a whole number, 0 or above"),
        (
            ("fit", "--task", "sentiment", "--seed", "-1"),
            "argument --seed: '-1' is not a whole number from 0 to 92233720",
        ),
        (
            ("generate", "--set", "x", "--prompt", "x", "--seed", 2**63),
            "argument --seed: '9223372036854775808' is not a",
        ),
        (
            ("train-sae", "x", "--out", "y", "--layers", "1", "--seed", 10**20),
            "argument --seed: '100000000000000000000'",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_by_the_option(capsys, arguments, problem):
    assert problem in refused(capsys, *arguments)


def test_names_are_read_once_each_and_a_sweep_goes_through_0():
    asked = main.parser().parse_args(["study", "--strategies", "V,S,V", "--rankings", "fisher_ratio"])
    assert (asked.strategies, asked.rankings) == (("V", "S"), ("fisher_ratio",))
    asked = main.parser().parse_args(["study"])
    assert (asked.strategies, asked.rankings) == (tuple(study.STRATEGIES), ())
    assert main.parser().parse_args(["sweep", "--set", "x", "--scales=-1,0,1"]).scales == (-1.0, 0.0, 1.0)


def test_a_file_with_its_scorer_is_no_named_task(capsys, no_model_is_loaded):
    message = said(capsys, "fit", "--task", "sentiment", "--scorer", "exact", "--data", "items.jsonl")
    assert "--scorer makes the file of --data a task of its own, which is not sentiment; leave out " in message


def test_a_study_reads_as_many_prompts_at_a_time_as_asked(capsys, monkeypatch):
    def collect(setup, *, batch_size, progress):
        raise CorrSteerError(f"{batch_size} prompts at a time")

    monkeypatch.setattr(inputs, "set_up", lambda *_: None)
    monkeypatch.setattr(collecting, "collect", collect)
    assert said(capsys, "study", "--task", "sentiment", "--batch-size", 3) == "error: 3 prompts at a time\n"


def test_train_sae_trains_on_as_many_tokens_as_its_configuration_says():
    asked = main.parser().parse_args(["train-sae", "x.txt", "--out", "y", "--layers", "1"])
    default = TrainConfig(layers=asked.layers)
    for name in ("tokens", "d_sae", "k", "architecture", "epochs", "seed"):
        assert getattr(asked, name) == getattr(default, name), name
    assert values.LARGEST_SEED == LARGEST_SEED


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (("refit", "RUN"), "Nothing of it is kept; it will begin again from the start."),
        (("fit", "--task", "sentiment"), "What is finished is kept; it goes on from there."),
    ],
)
def test_stopped_by_hand_a_command_says_what_is_left_of_its_work(capsys, monkeypatch, arguments, left):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(inputs, "set_up", stopped)
    monkeypatch.setattr(collecting, "refit", stopped)
    assert main.main([*arguments, "--quiet"]) == main.CANCELLED
    assert capsys.readouterr().err == f"stopped; run the same command again to go on. {left}\n"


# --- files and folders ---------------------------------------------------------------------------


@pytest.mark.parametrize("out", [".", "/", "x", "x.txt"])
def test_a_report_or_export_that_is_no_file_is_a_sentence(capsys, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    run = fabricated.make_run()
    assert "A report is a file that ends in .html; name it " in said(capsys, "report", run, "--out", out)
    (tmp_path / "set.json").write_text(measurements.sets(run)["body"].iloc[0])
    message = said(capsys, "export", "--set", "set.json", "--format", "gguf", "--out", out)
    assert "An export as gguf is a file that ends in .gguf; name it " in message


def test_a_better_name_is_proposed():
    with pytest.raises(CorrSteerError, match="name it out.html"):
        check_ending(Path("."), "A report", ".html")
    with pytest.raises(CorrSteerError, match="name it a/x.html"):
        check_ending(Path("a/x.pdf"), "A report", ".html")


@pytest.mark.parametrize("file", ["/nonexistent/x", ".", "/dev/null/x"])
def test_a_progress_file_that_cannot_be_written_is_a_sentence(capsys, tmp_path, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    run = fabricated.make_run()
    assert f"Progress cannot be written to {file}: " in said(capsys, "refit", run, "--progress-file", file)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"], "nothing half-written is left"


def test_progress_is_written_whatever_the_files_name(tmp_path):
    for name in ("progress", "progress.json", ".progress"):
        Reporter(file=tmp_path / name, quiet=True)("working", 1, 2)
        assert json.loads((tmp_path / name).read_text())["share"] == 0.5
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device", "/cache/runs/x"), duckdb.IOException("No space left on device")]
)
def test_a_full_disk_is_a_sentence(capsys, monkeypatch, error):
    def full(*_, **__):
        raise error

    run = fabricated.make_run()
    monkeypatch.setattr(collecting, "refit", full)
    message = said(capsys, "refit", run)
    assert "No space left on device" in message
    assert "check that there is free space and that this user may write there (results are kept in " in message


def test_a_cache_that_cannot_be_written_is_a_sentence(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(inputs, "set_up", lambda *_: Writer("run").__enter__())
    assert "Not a directory; check" in said(capsys, "fit", "--task", "sentiment")


class ArrayMemoryError(MemoryError):
    """NumPy's."""


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), r"MPS backend out of memory [^)]*\)"),
        (torch.OutOfMemoryError("CUDA out of memory.\nMuch more is said of it."), "CUDA out of memory."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "DefaultCPUAllocator: can't [a-z :]*"),
        (ArrayMemoryError("Unable to allocate 8.00 TiB for an array"), "Unable to allocate 8.00 TiB for an array"),
        (duckdb.OutOfMemoryException("no block"), "no block"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_device_without_memory_is_a_sentence(capsys, monkeypatch, error, cause):
    def full(*_, **__):
        raise error

    run = fabricated.make_run()
    monkeypatch.setattr(collecting, "refit", full)
    message = said(capsys, "refit", run)
    assert re.search(rf"too little memory for this \({cause}\); give shorter prompts", message), message


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ConnectionError("a bug"), OSError(errno.EBADF, "a bug")])
def test_a_bug_is_still_a_traceback(monkeypatch, error):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(collecting, "refit", broken)
    with pytest.raises(type(error), match="a bug"):
        main.main(["refit", fabricated.make_run(), "--quiet"])


def test_a_name_that_is_too_long_is_named(capsys, monkeypatch):
    name = "long" * 80
    shown = f"'{name[:60]}…' is too long for the name of a file or folder"
    fabricated.make_run()
    for command in ("features", "refit"):
        assert shown in said(capsys, command, name)
    monkeypatch.setattr(inputs, "set_up", lambda asked, _: saes_in(asked.sae[0], "model"))
    assert shown in said(capsys, "fit", "--task", "sentiment", "--sae", name)


# --- runs ----------------------------------------------------------------------------------------


def test_what_needs_a_fit_says_so(capsys):
    run = fabricated.make_run(fitted=False, measured=False)
    for command in ("convergence", "features"):
        assert f"The run {run} has been collected but not fitted yet" in said(capsys, command, run)
    with pytest.raises(CorrSteerError) as by_evidence:
        convergence(run)
    with pytest.raises(CorrSteerError) as by_pipeline:
        stored_run.fit_summary(run)
    assert str(by_evidence.value) == str(by_pipeline.value)


def test_features_of_a_layer_that_the_run_has_not_are_no_empty_table(capsys):
    run = fabricated.make_run()
    assert f"The run {run} has no SAE of layer 99; its layers are 8, 15, 22." in said(
        capsys, "features", run, "--layer", 99
    )


def test_effects_are_told_with_their_size(capsys):
    run = fabricated.make_run()
    assert main.main(["effects", run, "--json", "--quiet"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert (rows[0]["layer"], rows[0]["feature"], rows[0]["scale"]) == (*fabricated.BEST_EFFECT, 8.0)
    for row in rows:
        assert row["effect"] == pytest.approx(row["steered_rate"] - row["unsteered_rate"])


@pytest.mark.parametrize(
    ("strategy", "why"),
    [
        ("P", "no feature of A helps alone"),
        ("V", "no candidate's effect is beyond noise and the luck of so many tries"),
    ],
)
def test_an_empty_set_says_why_it_is_empty(capsys, monkeypatch, strategy, why):
    run = fabricated.make_run()
    empty = SteeringSet("model", "m0", ())
    monkeypatch.setattr(selecting, "select", lambda *_, **__: empty)
    monkeypatch.setattr(selecting, "seen_by_p", lambda *_, **__: pd.DataFrame(columns=["run"]))
    assert main.main(["select", run, "--strategy", strategy, "--quiet"]) == 0
    assert capsys.readouterr().err == f"{why} on the validation split; the set is empty\n"


def test_a_set_without_a_task_is_measured_on_what_is_named(capsys, tmp_path):
    save_set(SteeringSet("model", "m0", ()), tmp_path / "set.json")
    for command in ("sweep", "transfer"):
        assert "name the tasks to measure on with --task" in said(capsys, command, "--set", tmp_path / "set.json")


def test_a_seed_of_any_size_is_taken():
    from corrsteer_core.engine.choosing import sampled

    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    seeds = (0, 3, -3, 10**15, -(10**15), 10**40 + 7)
    chosen = {seed: [int(sampled(1.0, seed)(logits, step)) for step in range(40)] for seed in seeds}
    assert len({tuple(tokens) for tokens in chosen.values()}) == len(seeds)
