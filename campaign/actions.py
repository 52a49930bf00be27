"""What is done to a run in miniature: real commands on a tiny random model, and how their results are compared."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from campaign import tiny_embedded
from campaign.child import Ended, fork
from corrsteer_core.base import uploads
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import inputs, main
from corrsteer_core.runs.steering_set import SteeringSet, save_set
from corrsteer_core.storage import checking, reading, run_folder
from corrsteer_core.storage.writing import Writer

TABLES = ("samples", "activations", "features", "fits", "chance", "effects", "sets", "descriptions", "evaluations")
TIMES = "created"
LIMIT = 24
UPLOAD = b'{"prompt": "x", "target": "y"}\n' * 4000


@dataclass(frozen=True)
class Place:
    """Where the campaign works: the tiny model, its SAEs, and a finished run to start from."""

    folder: Path
    model: Path
    saes: Path
    template: Path
    """A cache with the finished run."""
    empty: Path
    run: str = ""

    def fitting(self) -> list[str]:
        """Arguments of `fit` for the run."""
        return [
            *("fit", "--task", "sentiment", "--model", str(self.model), "--sae", str(self.saes), "--no-chat"),
            *("--limit", str(LIMIT), "--max-new-tokens", "2", "--floor", "1", "--permutations", "19"),
            *("--batch-size", "4", "--dtype", "float32", "--quiet"),
        ]


@dataclass(frozen=True)
class Action:
    """One command, on a copy of a cache."""

    name: str
    arguments: tuple[str, ...] = ()
    """`CACHE` stands for the folder of the cache."""
    from_empty: bool = False
    outputs: tuple[str, ...] = ()
    """Files that it writes, beside the cache's own."""

    def run(self, cache: Path) -> int:
        """Do it, in the process at hand."""
        if self.name == "upload":
            return _uploaded()
        return main.main(self.words(cache))

    def words(self, cache: Path) -> list[str]:
        """The command's words, on a cache."""
        return [part.replace("CACHE", str(cache)) for part in self.arguments]


def _uploaded() -> int:
    """Keep an upload, and say what goes wrong as the page does."""
    try:
        uploads.keep_upload("mine.jsonl", UPLOAD)
    except CorrSteerError as error:
        print(f"error: {error}", flush=True)
        return 1
    return 0


def actions(place: Place) -> list[Action]:
    """Everything that is killed and failed."""
    run, kept = place.run, "CACHE/S.json"
    found = [
        Action("fit", tuple(place.fitting()), from_empty=True),
        Action("refit", ("refit", run, "--floor", "2", "--permutations", "25", "--quiet")),
        Action("select", ("select", run, "--strategy", "A", "--out", "CACHE/A.json", "--quiet"), outputs=("A.json",)),
        Action("try", ("select", run, "--strategy", "P", "--quiet")),
        Action("evaluate", ("evaluate", "--set", kept, "--limit", "6", "--controls", "1", "--quiet")),
        Action("describe", ("describe", run, "--top", "4", "--quiet")),
        Action("report", ("report", run, "--out", "CACHE/r.html", "--force", "--quiet"), outputs=("r.html",)),
        Action("backup", ("backup", run, "CACHE/b.duckdb", "--force", "--quiet"), outputs=("b.duckdb",)),
        Action("upload"),
        Action(
            "unpack",  # the embedded model, whose first answer waits for it
            ("generate", "--set", "CACHE/E.json", "--prompt", "x", "--max-new-tokens", "1", "--quiet"),
            outputs=tuple(f"{tiny_embedded.FOLDER}/{name}" for name in tiny_embedded.UNPACKED),
        ),
    ]
    for kind, ending in (("json", "json"), ("safetensors", "safetensors"), ("gguf", "gguf"), ("python", "py")):
        outputs = (f"x.{ending}", *(["x.safetensors"] if kind == "python" else []))
        words = ("export", "--set", kept, "--format", kind, "--out", f"CACHE/x.{ending}", "--force", "--quiet")
        found.append(Action(f"export {kind}", words, outputs=outputs))
    return found


def shared_out(place: Place) -> list[Action]:
    """Those whose work is shared among workers."""
    return [one for one in actions(place) if one.name in ("fit", "try")]


def content(cache: Path, outputs: Sequence[str], run: str) -> dict[str, Any]:
    """What a cache holds, as hashes that do not depend on when it was written."""
    found: dict[str, Any] = {"files": {name: hashed(cache / name) for name in outputs if name != "b.duckdb"}}
    found["uploads"] = sorted(hashed(path) for path in (cache / "uploads").rglob("*.jsonl"))
    if run in run_folder.run_names():
        with reading.Reader(run) as opened:
            for table in TABLES:
                columns = opened.query(f"SELECT * FROM {table} LIMIT 0").columns
                kept = ", ".join(f'"{name}"' for name in columns if name != TIMES)
                rows = opened.connection.execute(f"SELECT bit_xor(hash(one)) FROM (SELECT {kept} FROM {table}) AS one")
                found[table] = str(rows.fetchone())
    return found


def hashed(path: Path) -> str:
    """A hash of a file; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def problems_of_cache() -> list[str]:
    """What is not whole in this process's cache, what a process left unfinished not counted: that is for the next one to remove."""
    found = checking.check_cache()
    return [
        f"{one.kind} {one.name}: {one.problem}" for one in found if one.problem and one.kind not in ("leftover", "SAE")
    ]


def copied(source: Path, to: Path) -> Path:
    """A cache for one trial."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(source, to)
    return to


def prepared(folder: Path) -> Place:
    """The tiny model and a finished run, made once."""
    models = import_module("tests.made.models")
    made = models.tiny("llama")
    made.net.save_pretrained(folder / "model")
    made.tokenizer.save_pretrained(folder / "model")
    for layer in (1, 2):
        models.random_sae(made, layer, d_sae=48).net.save_model(folder / "saes" / f"layer_{layer}")
    empty, template = folder / "empty", folder / "template"
    empty.mkdir()
    template.mkdir()
    place = Place(folder, folder / "model", folder / "saes", template, empty)
    run = _made(place)
    place = Place(folder, folder / "model", folder / "saes", template, empty, run)
    for words in (
        ["select", run, "--strategy", "S", "--out", str(template / "S.json"), "--quiet"],
        ["report", run, "--out", str(template / "r.html"), "--quiet"],
        ["backup", run, str(template / "b.duckdb"), "--quiet"],
    ):
        _succeeded(fork(lambda words=words: main.main(words), template).wait())  # type: ignore[misc]
    for name in ("x.json", "x.safetensors", "x.gguf", "x.py"):
        (template / name).write_bytes(b"old " * 1000)
    _prepare_embedded(place)
    return place


def _prepare_embedded(place: Place) -> None:
    """The embedded model's package in miniature, and an empty set of its model."""
    tiny_embedded.make_package(place.folder / "packages")
    sys.path.insert(0, str(place.folder / "packages"))

    def made() -> None:
        inputs.quiet_libraries()
        model = import_module("corrsteer_core.models.loading").load_model()
        save_set(SteeringSet(model.name, model.fingerprint, ()), place.template / "E.json")

    _succeeded(fork(made, place.folder / "unpacked").wait())


def _made(place: Place) -> str:
    """Name of a collected and fitted run, some of whose answers are called right: the random model never is."""

    def fitted() -> list[str]:
        if main.main(place.fitting()) != 0:
            raise RuntimeError("the run could not be made")
        (run,) = run_folder.run_names()
        with Writer(run) as store:
            store.connection.execute("UPDATE samples SET outcome = (hash(sample) % 2)::DOUBLE")
        if main.main(["refit", run, "--floor", "1", "--permutations", "19", "--quiet"]) != 0:
            raise RuntimeError("the run could not be fitted")
        return [run]

    return str(_succeeded(fork(fitted, place.template).wait()).result[0])


def _succeeded(ended: Ended) -> Ended:
    if ended.status != 0:
        raise RuntimeError(f"the campaign could not be prepared: {ended.printed[-2000:]}")
    return ended


os.environ.setdefault("HF_HUB_OFFLINE", "1")
