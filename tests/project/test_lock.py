"""The locked packages are those that are asked for, each with its hashes; what an audit says of them."""

from __future__ import annotations

import json
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from campaign import audit, lock
from tests.made.places import ROOT

PINNED = re.compile(r"([a-z0-9.-]+)==([^ ;]+)(?: ; [^\\]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def locked(name: str) -> dict[str, str]:
    """Every package of a lock file with its version; fails on a line that is anything else."""
    text = (ROOT / name).read_text(encoding="utf-8")
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    assert PINNED.sub("", body) == ""
    return {canonicalize_name(found[1]): found[2] for found in PINNED.finditer(body)}


def test_what_is_asked_for_is_locked_in_a_version_that_fits():
    versions = locked("requirements.lock")
    asked = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert len(asked) > 15
    for line in asked:
        wanted = Requirement(line)
        assert versions[canonicalize_name(wanted.name)] in wanted.specifier, line


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-model.lock"])
def test_a_lock_names_no_place_to_get_it_from(name):
    assert locked(name)
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text


def test_the_lock_says_how_it_was_made():
    assert (ROOT / "requirements.lock").read_text(encoding="utf-8").startswith(lock.HEAD)


def answer(*packages: dict) -> str:
    return json.dumps({"dependencies": list(packages), "fixes": []})


GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": []}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("out", "err", "status", "said"),
    [
        (answer(GOOD, GOOD), "", 0, "No vulnerability of the 2 locked packages is known."),
        (answer(GOOD, BAD, SKIPPED), "", 1, "b 2: PYSEC-1"),
        (
            answer(GOOD, SKIPPED),
            "",
            2,
            "was not reached (1 of 2 packages were not found there: Dependency not found on PyPI)",
        ),
        (answer(), "", 2, "no package was looked at"),
        ("", "x\nConnectionError: \x1b[2Jrefused\n", 2, "was not reached (ConnectionError: \\x1b[2Jrefused)"),
        ("", "", 2, "was not reached (it printed nothing)"),
    ],
)
def test_an_audit_never_calls_good_what_it_could_not_look_up(out, err, status, said):
    found, words = audit.told(out, err)
    assert found == status
    assert said in words
    assert "\n" not in words
