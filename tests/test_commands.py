"""The command line where something is amiss: one sentence and a status, before any work is done."""

import json

import duckdb
import fabricated
import pytest
import torch

from corrsteer_core import cli, commands, options, pipeline, reader, study
from corrsteer_core.errors import CorrSteerError
from corrsteer_core.evidence import convergence
from corrsteer_core.fit import FEWEST_PERMUTATIONS, FitSettings
from corrsteer_core.progress import Reporter
from corrsteer_core.store import Writer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def nothing_is_loaded(monkeypatch):
    monkeypatch.setattr(commands, "_set_up", lambda *_: pytest.fail("something was loaded"))


def said(capsys, *arguments) -> str:
    """The one sentence that a command ends with."""
    capsys.readouterr()
    assert cli.main([*map(str, arguments), "--quiet"]) == cli.FAILED
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def refused(capsys, *arguments) -> str:
    """What is said of arguments that cannot be."""
    with pytest.raises(SystemExit):
        cli.main([*map(str, arguments)])
    return capsys.readouterr().err


# --- before anything is loaded -------------------------------------------------------------------


def test_too_few_permutations_are_refused_before_anything_is_collected(capsys, nothing_is_loaded):
    assert "5 permutations were asked for; it takes at least 19" in said(
        capsys, "fit", "--task", "sentiment", "--permutations", 5
    )


def test_the_fewest_permutations_are_those_that_the_statistics_take():
    from corrsteer_core.correlation import _allowed

    assert _allowed(FEWEST_PERMUTATIONS, 0.95) == 1
    assert _allowed(FEWEST_PERMUTATIONS - 1, 0.95) == 0
    fabricated.make_run("sentiment-0fab1e00")
    pipeline.refit("sentiment-0fab1e00", FitSettings(permutations=FEWEST_PERMUTATIONS))
    assert reader.facts("sentiment-0fab1e00").fit["permutations"] == FEWEST_PERMUTATIONS


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("study", "--task", "sentiment", "--strategies", "S,X"), "argument --strategies: 'X' is none of S, A, P, V"),
        (("study", "--task", "sentiment", "--rankings", "X"), "argument --rankings: 'X' is none of pearson_r, "),
        (("study", "--task", "sentiment", "--scales", "0,1"), "'0,1' holds a scale that is not above 0"),
        (("select", "RUN", "--strategy", "V", "--scales", "1,-1"), "'1,-1' holds a scale that is not above 0"),
        (("select", "RUN", "--strategy", "V", "--scales", "nan"), "not a finite number"),
        (("generate", "--set", "x", "--prompt", "x", "--temperature", "nan"), "is not a temperature"),
        (("generate", "--set", "x", "--prompt", "x", "--temperature", "-1"), "is not a temperature"),
        (("generate", "--set", "x", "--prompt", "\udcff"), "argument --prompt: '\\udcff' is not UTF-8 text"),
        (("fit", "--task", "sentiment", "--system", "\udcff"), "argument --system: '\\udcff' is not UTF-8 text"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_the_option(capsys, arguments, problem):
    assert problem in refused(capsys, *arguments)


def test_names_are_read_once_each_and_a_sweep_goes_through_0():
    asked = options.parser().parse_args(["study", "--strategies", "V,S,V", "--rankings", "fisher_ratio"])
    assert (asked.strategies, asked.rankings) == (("V", "S"), ("fisher_ratio",))
    asked = options.parser().parse_args(["study"])
    assert (asked.strategies, asked.rankings) == (study.STRATEGIES, ())
    assert options.parser().parse_args(["sweep", "--set", "x", "--scales=-1,0,1"]).scales == (-1.0, 0.0, 1.0)


# --- files and folders ---------------------------------------------------------------------------


@pytest.mark.parametrize("out", [".", "/", "x", "x.txt"])
def test_a_report_or_export_that_is_no_file_is_a_sentence(capsys, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    run = fabricated.make_run()
    assert "A report is a file that ends in .html; name it " in said(capsys, "report", run, "--out", out)
    (tmp_path / "set.json").write_text(reader.sets(run)["body"].iloc[0])
    message = said(capsys, "export", "--set", "set.json", "--format", "gguf", "--out", out)
    assert "An export as gguf is a file that ends in .gguf; name it " in message


def test_a_better_name_is_proposed():
    with pytest.raises(CorrSteerError, match="name it out.html"):
        commands._check_ending(commands.Path("."), "A report", ".html")
    with pytest.raises(CorrSteerError, match="name it a/x.html"):
        commands._check_ending(commands.Path("a/x.pdf"), "A report", ".html")


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
    monkeypatch.setattr(pipeline, "refit", full)
    message = said(capsys, "refit", run)
    assert "No space left on device" in message
    assert "see that there is room and that it may be written (results are kept in " in message


def test_a_cache_that_cannot_be_written_is_a_sentence(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(commands, "_set_up", lambda *_: Writer("run").__enter__())
    assert "Not a directory: " in said(capsys, "fit", "--task", "sentiment")


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError])
def test_a_device_without_memory_is_a_sentence(capsys, monkeypatch, kind):
    def full(*_, **__):
        raise kind("CUDA out of memory.\nMuch more is said of it.")

    run = fabricated.make_run()
    monkeypatch.setattr(pipeline, "refit", full)
    assert "too little memory for this (CUDA out of memory.); give shorter prompts" in said(capsys, "refit", run)


def test_a_bug_is_still_a_traceback(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(pipeline, "refit", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["refit", fabricated.make_run(), "--quiet"])


# --- runs ----------------------------------------------------------------------------------------


def test_what_needs_a_fit_says_so(capsys):
    run = fabricated.make_run(fitted=False, measured=False)
    for command in ("convergence", "features"):
        assert f"The run {run} has been collected but not fitted yet" in said(capsys, command, run)
    with pytest.raises(CorrSteerError) as by_evidence:
        convergence(run)
    with pytest.raises(CorrSteerError) as by_pipeline:
        pipeline.fit_summary(run)
    assert str(by_evidence.value) == str(by_pipeline.value)


def test_a_seed_of_any_size_is_taken():
    from corrsteer_core.generation import sampled

    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    seeds = (0, 3, -3, 10**15, -(10**15), 10**40 + 7)
    chosen = {seed: [int(sampled(1.0, seed)(logits, step)) for step in range(40)] for seed in seeds}
    assert len({tuple(tokens) for tokens in chosen.values()}) == len(seeds)
