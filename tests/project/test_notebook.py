"""The notebook runs from its first cell to its last, and what is kept in it is of the kind that running it gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def kinds(cell):
    """What a cell gave: printed text, and each result's kinds."""
    return [sorted(one.get("data", {})) or one.get("name") for one in cell.outputs if one.get("name") != "stderr"]


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_outputs_are_kept_and_small():
    kept = code_of(nbformat.read(NOTEBOOK, as_version=4))
    assert [cell.execution_count for cell in kept] == list(range(1, len(kept) + 1))
    assert sum(bool(cell.outputs) for cell in kept) >= 7
    assert any("application/vnd.plotly.v1+json" in of for cell in kept for of in kinds(cell))
    assert NOTEBOOK.stat().st_size < 100_000
    assert str(ROOT) not in NOTEBOOK.read_text(encoding="utf-8")


FEWER = {"limit=150": "limit=48", "limit=100": "limit=12", "controls=2": "controls=1"}


@pytest.mark.embedded
@pytest.mark.parametrize("fewer", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_it_runs_and_gives_what_is_kept(embedded_cache, tmp_path, monkeypatch, fewer):
    from nbclient import NotebookClient

    monkeypatch.setenv("CORRSTEER_CACHE", str(embedded_cache))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kept = [kinds(cell) for cell in code_of(notebook)]
    for cell in code_of(notebook) if fewer else []:
        for asked, instead in FEWER.items():
            cell.source = cell.source.replace(asked, instead)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [kinds(cell) for cell in code_of(notebook)] == kept
