"""What features are said to mean: descriptions taken from Neuronpedia's files, and guesses of our own, marked as such.

Neuronpedia exports explanations as JSON (a list) or JSON lines, also gzipped, one object each with at
least `layer` ("20-gemmascope-res-16k": the layer, then the SAE's name), `index` and `description`, and
`modelId`. Loads no model.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from corrsteer_core.base import presenting
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import EMBEDDED_SAES
from corrsteer_core.base.uploads import known_as
from corrsteer_core.saes.registry import releases
from corrsteer_core.storage.reading import query
from corrsteer_core.storage.run_folder import run_path
from corrsteer_core.storage.writing import PATIENCE, Writer

NEURONPEDIA, OWN = "neuronpedia", "own"
"""Sources of descriptions, beside models (`by_model`). By their order in the alphabet Neuronpedia's come first and ours last."""
_BY_MODEL = "of "
GUESS = "Our own guess from promoted tokens and top texts"
"""What is said beside a description of source "own"."""
MOST_ACTIVE = "Most active at "
"""What a guess of our own begins with, where the texts show a token."""
LONGEST = 1000  # characters kept of a description
LARGEST = 2_000_000_000  # bytes of a file, unpacked
GUESSED = 60
"""Features that are described at once, those that were tried and those of the largest |r| first."""
QUOTED = 4  # tokens that a guess names of each kind

_LAYER = re.compile(r"^(\d{1,4})(?:-|$)")
_NEURONPEDIA_ID = re.compile(r"^[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}$")


@dataclass(frozen=True)
class Imported:
    """The result of importing a file."""

    kept: int
    """Features that have a description from it now."""
    repeated: int
    """Further descriptions of a feature, left out: the first one counts."""
    other: int
    """Records of other layers, SAEs or models than the run's, left out."""


def by_model(name: str) -> str:
    """The source of descriptions by a language model of this name."""
    return _BY_MODEL + name


def model_of(source: str) -> str:
    """The language model that a source names; "" where it is none."""
    return source.removeprefix(_BY_MODEL) if source.startswith(_BY_MODEL) else ""


def said_by(source: str) -> str:
    """Where a description comes from, in words."""
    model = model_of(source)
    return f"described by {model}" if model else {OWN: GUESS.lower()}.get(source, source)


# --- Neuronpedia ---------------------------------------------------------------------------------


def import_file(run: str, path: Path, *, largest: int = LARGEST) -> Imported:
    """Store the descriptions that a Neuronpedia export holds for a run's features, in place of earlier ones.

    `largest` is how many bytes it may have, unpacked. Records must be of one of the run's layers; where an SAE says
    its name on Neuronpedia, of that SAE.
    Raises CorrSteerError for a file that cannot be read or is of another form, and for one that holds
    nothing for this run.
    """
    run_path(run)
    saes = {sae["layer"]: sae for sae in json.loads(query(run, "SELECT config FROM runs")["config"][0])["saes"]}
    names = {layer: neuronpedia_id(sae["source"]) for layer, sae in saes.items()}
    found: dict[tuple[int, int], dict[str, Any]] = {}
    seen: dict[int, str] = {}
    repeated = other = 0
    for place, record in enumerate(_records(path, largest), 1):
        layer, feature, description, name = _checked(record, f"record {place} of {path.name}")
        if layer not in saes or feature >= saes[layer]["d_sae"] or (names[layer] and name and name != names[layer]):
            other += 1
            continue
        if name and seen.setdefault(layer, name) != name:
            raise CorrSteerError(
                f"{path.name} has descriptions of two SAEs for layer {layer}, {seen[layer]} and {name}, and the run's "
                f"SAE does not say which it is; give a file of one of them."
            )
        if (layer, feature) in found:
            repeated += 1
        elif description:
            row = {"layer": layer, "feature": feature, "source": "neuronpedia", "description": description}
            found[layer, feature] = {**row, "neuronpedia": name or names[layer]}
    if not found:
        raise CorrSteerError(
            f"{path.name} has no description for a feature of {run} (layers {', '.join(map(str, sorted(saes)))}); "
            f"{other:,} records are of other layers or SAEs."
        )
    keep(run, pd.DataFrame(found.values()))
    return Imported(len(found), repeated, other)


def _checked(record: Any, where: str) -> tuple[int, int, str, str | None]:
    """Layer, feature, description and the SAE's name of a record. Raises CorrSteerError for one of another form."""
    if not isinstance(record, dict):
        raise CorrSteerError(
            f"{where} is no JSON object; a Neuronpedia export has objects with layer, index, description."
        )
    layer, index, text = (record.get(name) for name in ("layer", "index", "description"))
    number = _LAYER.match(str(layer)) if isinstance(layer, (str, int)) and not isinstance(layer, bool) else None
    if number is None:
        raise CorrSteerError(f'{where} has no layer like "20-gemmascope-res-16k" or 20 in its field "layer".')
    whole = isinstance(index, (str, int)) and not isinstance(index, bool) and re.fullmatch(r"[0-9]{1,9}", str(index))
    if not whole:
        raise CorrSteerError(f'{where} has no feature number in its field "index".')
    if not isinstance(text, str):
        raise CorrSteerError(f'{where} has no text in its field "description".')
    name = f"{record.get('modelId')}/{layer}" if "-" in str(layer) else ""  # a layer alone names no SAE
    return int(number[1]), int(str(index)), _storable(text), name if _NEURONPEDIA_ID.match(name) else None


def _storable(text: str) -> str:
    """On one line, cut to a length, without what a database cannot hold; how it is shown is up to whoever shows it."""
    whole = "".join(one for one in text if one != "\0" and not 0xD800 <= ord(one) < 0xE000)
    return " ".join(whole.split())[:LONGEST]


def _records(path: Path, largest: int) -> Iterator[Any]:
    """The records of a JSON or JSON-lines file, gzipped or not. Raises CorrSteerError for what is neither."""
    text = _text(path, largest)
    if text.lstrip()[:1] == "[":
        try:
            yield from json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorrSteerError(f"{path.name} begins like a JSON list, but is none: {_reason(error)}.") from error
        return
    # Not splitlines(): JSON strings may hold U+2028 and its like as they are.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CorrSteerError(f"Line {number} of {path.name} is no JSON: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    return str(error).partition(";")[0]  # what follows is advice for programmers


def _text(path: Path, largest: int) -> str:
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise CorrSteerError(f"{path.name} has more than {largest:,} bytes; import the files of single layers.")
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise CorrSteerError(f"The file {known_as(path)} cannot be read ({error}).") from error
    except UnicodeDecodeError as error:
        raise CorrSteerError(
            f"The file {known_as(path)} is no UTF-8 text; give Neuronpedia's JSON or JSON-lines file."
        ) from error


def neuronpedia_id(source: str) -> str | None:
    """An SAE's name on Neuronpedia (model/sae), from the metadata of its folder or SAELens' registry; None without one."""
    embedded = source.removeprefix("embedded/")
    folder = EMBEDDED_SAES / embedded if embedded != source else Path(source)
    if (folder / "cfg.json").is_file():
        try:
            name = (
                json.loads((folder / "cfg.json").read_text(encoding="utf-8")).get("metadata", {}).get("neuronpedia_id")
            )
        except (OSError, ValueError, AttributeError):
            return None  # a folder that has been damaged since is reported where its SAE is loaded
    else:
        name = _registered_id(*source.partition("/")[::2])
    return name if isinstance(name, str) and _NEURONPEDIA_ID.match(name) else None


def _registered_id(release: str, sae_id: str) -> str | None:
    found = releases().get(release)
    return next((sae.neuronpedia for sae in found.saes if sae.id == sae_id), None) if found else None


def neuronpedia_link(name: str | None, feature: int) -> str | None:
    """The page of a feature on Neuronpedia; None where the SAE has no name there."""
    return f"https://www.neuronpedia.org/{name}/{feature}" if name and _NEURONPEDIA_ID.match(name) else None


# --- our own -------------------------------------------------------------------------------------


def own_guess(promoted: Sequence[str], peaks: Sequence[str]) -> str:
    """A description from the tokens a feature promotes and the tokens of its top texts at which it was most active."""
    parts = []
    if named := distinct(peaks):
        parts.append(MOST_ACTIVE + _quoted(named))
    if named := distinct(promoted):
        parts.append(f"makes {_quoted(named)} likelier")
    text = "; ".join(parts)
    return _storable(text[:1].upper() + text[1:])


def distinct(tokens: Sequence[str]) -> list[str]:
    """The first few tokens that differ in more than case and space; signs only where there are no words."""
    found: dict[str, str] = {}
    for token in tokens:
        if bare := token.strip():
            found.setdefault(bare.lower(), bare)
    words = [one for one in found.values() if sum(map(str.isalnum, one)) > 1]
    return (words or list(found.values()))[:QUOTED]


def _quoted(tokens: Sequence[str]) -> str:
    return ", ".join(f"\u201c{token}\u201d" for token in tokens)


def keep(run: str, rows: pd.DataFrame) -> None:
    """Store descriptions (layer, feature, source, description, and neuronpedia, promoted where known)."""
    presenting.refuse("No description is kept")
    columns = ["layer", "feature", "source", "description", "neuronpedia", "promoted"]
    with Writer(run, wait=PATIENCE) as store:
        store.add("descriptions", rows.reindex(columns=columns).astype({"neuronpedia": "string", "promoted": "string"}))
