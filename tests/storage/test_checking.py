"""What is damaged in the cache is found and said, what is whole is called whole, and repairing loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from corrsteer_core.base import uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.storage import checking, database, run_folder
from tests.made import fabricated
from tests.made.places import ROOT
from tests.storage.test_faults import damaged_block, everything

RUN = "sentiment-0fab1e00"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wrong(*, repair: bool = False) -> dict[str, str]:
    return {f"{one.kind} {one.name}": one.problem for one in checking.check_cache(repair=repair) if not one.whole}


def a_model(cache: Path) -> Path:
    folder = cache / "models" / "tiny"
    folder.mkdir(parents=True)
    save_file({"w": np.ones((4, 4), np.float32)}, folder / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    return folder


def a_job(cache: Path) -> Path:
    folder = cache / "jobs" / "20260101-000000-abcdef"
    folder.mkdir(parents=True)
    about = {"id": folder.name, "title": "old", "arguments": ["fit"], "started": "2026-01-01T00:00:00+00:00"}
    (folder / "job.json").write_text(json.dumps(about))
    (folder / "log").touch()
    return folder


def test_a_whole_cache_is_called_whole(cache, capsys):
    fabricated.make_run(RUN)
    a_model(cache)
    a_job(cache)
    uploads.keep_upload("x.csv", b"prompt\nx\n")
    assert wrong() == {}
    kinds = {one.kind for one in checking.check_cache()}
    assert kinds == {"run", "model", "SAE", "upload", "job"}
    assert main.main(["check-cache"]) == 0
    assert RUN in capsys.readouterr().out


def test_a_damaged_run_is_found_and_what_an_interrupted_command_left_takes_its_place(cache, capsys):
    fabricated.make_run(RUN)
    before = everything(RUN)
    path = run_folder.database_path(RUN)
    whole = path.read_bytes()
    path.write_bytes(damaged_block(whole))
    assert "is damaged" in wrong()[f"run {RUN}"]
    assert main.main(["check-cache"]) == 1
    assert "add --repair" in capsys.readouterr().err
    assert wrong(repair=True).keys() == {f"run {RUN}"}, "there is nothing to repair it from"
    (path.parent / database.PRIVATE).write_bytes(whole)
    assert main.main(["check-cache", "--repair"]) == 0
    assert wrong() == {}
    assert everything(RUN) == before
    assert len(list(path.parent.glob("run.damaged-*.duckdb"))) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("cut", [0, 5, -3])
def test_a_model_that_is_not_whole_is_put_aside(cache, name, cut):
    folder = a_model(cache)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:cut] if name.endswith("safetensors") else b"{"[: abs(cut)])
    assert name in wrong()["model tiny"]
    assert wrong(repair=True) == {}
    assert not folder.exists()
    assert (cache / "damaged" / "models" / "tiny" / name).exists()


def test_an_upload_a_set_and_a_job_that_were_changed_are_found_and_put_aside(cache):
    path = uploads.keep_upload("x.csv", b"prompt\nx\n")
    path.write_bytes(b"prompt\ny\n")
    job = a_job(cache)
    (job / "job.json").write_text("{")
    kept = cache / "sets" / RUN / "v-00000000.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    assert wrong().keys() == {f"upload {path.name}", f"job {job.name}", f"set {kept.name}"}
    assert wrong(repair=True) == {}
    assert not path.exists()
    assert (cache / "damaged" / "uploads" / path.parent.name / path.name).read_bytes() == b"prompt\ny\n"
    assert wrong() == {}
    assert uploads.keep_upload("x.csv", b"prompt\nx\n").read_bytes() == b"prompt\nx\n"


def test_an_upload_that_is_given_again_mends_a_damaged_one():
    path = uploads.keep_upload("x.csv", b"prompt\nx\n")
    path.write_bytes(b"pro")
    assert uploads.keep_upload("x.csv", b"prompt\nx\n").read_bytes() == b"prompt\nx\n"


def test_what_a_killed_process_left_is_found_and_removed(cache):
    (cache / "models").mkdir(parents=True)
    code = "import sys; from pathlib import Path; from corrsteer_core.base import files; files.scratch_path(Path(sys.argv[1])).mkdir()"
    subprocess.run([sys.executable, "-c", code, str(cache / "models")], check=True, cwd=ROOT)
    assert [one.kind for one in checking.check_cache() if one.problem] == ["leftover"]
    assert wrong(repair=True) == {}
    assert list((cache / "models").iterdir()) == []


def test_a_backup_is_a_whole_copy_and_replaces_nothing_unasked(cache, tmp_path, capsys):
    fabricated.make_run(RUN)
    out = tmp_path / "kept" / "copy.duckdb"
    assert main.main(["backup", RUN, str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answered"] == sum(fabricated.SPLITS.values())
    assert out.read_bytes() == run_folder.database_path(RUN).read_bytes()
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert main.main(["backup", RUN, str(out)]) == 1
    assert main.main(["backup", RUN, str(out), "--force"]) == 0
    path = run_folder.database_path(RUN)
    path.write_bytes(damaged_block(path.read_bytes()))
    with pytest.raises(CorrSteerError, match="is damaged"):
        checking.backup(RUN, tmp_path / "other.duckdb")
    assert not (tmp_path / "other.duckdb").exists()


def test_a_backup_taken_while_the_run_is_written_is_whole(cache, tmp_path):
    from corrsteer_core.storage.writing import Writer
    from tests.storage.test_database import CONFIG, ITEMS, add

    with Writer("r") as writer:
        writer.begin(CONFIG, ITEMS, 1)
        for done, item in enumerate(ITEMS, 1):
            add(writer, [item.id])
            writer.publish(now=True)
            assert checking.backup("r", tmp_path / f"{done}.duckdb").answered == done
