"""`python -m benchmarks`: measure every row and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Row

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
ENGINE = ("collection", "wide", "steered", "sweep", "candidates", "side_by_side")
ROWS = (*ENGINE, "fit", "memory", "workers", "pages", "clicks")


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; 1 if a goal is missed and --strict was asked for."""
    options = _options(arguments)
    began, load = time.monotonic(), os.getloadavg()[0]
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing that is measured comes from a network
    from benchmarks import page
    from corrsteer_core.base.errors import CorrSteerError
    from corrsteer_core.base.files import write_text

    command = " ".join(["make bench" if not arguments and len(sys.argv) < 2 else "python -m benchmarks", *sys.argv[1:]])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    try:
        for name, measure in _measures(options.quick):
            if not options.only or name in options.only:
                print(f"{name} ...", flush=True)
                for row in measure():
                    rows.append(row)
                    print(page.line(row), flush=True)
                    # After every row: what is measured is kept, whatever becomes of the rest.
                    minutes = (time.monotonic() - began) / 60
                    text = page.written(rows, command, (load, os.getloadavg()[0]), minutes)
                    write_text(options.out, text)
    except CorrSteerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written to {options.out}")
    return 1 if options.strict and not all(row.met for row in rows) else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=ROWS, help="these rows only")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: to see that it runs, its numbers mean nothing"
    )
    parser.add_argument("--strict", action="store_true", help="end with status 1 if a goal is missed")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write (default: docs/benchmarks.md)")
    options = parser.parse_args(arguments)
    for part in ("quick", "only"):
        if getattr(options, part) and options.out == PAGE:
            parser.error(f"--{part} needs --out: docs/benchmarks.md holds every row at its full size")
    return options


def _measures(quick: bool) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
    """Name of every group of rows and what measures it; models are loaded when the first needs them."""
    for name in ENGINE:
        yield name, partial(_engine_rows, name, quick)
    yield "fit", partial(_in_a_cache_of_its_own, "fitting", "fit_from_cache", quick)
    yield "memory", partial(_in_this_cache, "memory", "peak", quick)
    yield "workers", partial(_in_this_cache, "workers", "spread", quick)
    yield "pages", partial(_in_a_cache_of_its_own, "pages", "interactive", quick)
    yield "clicks", partial(_in_a_cache_of_its_own, "pages", "clicks", quick)


_ENGINES: dict[tuple[str, bool], object] = {}


def _engine_rows(name: str, quick: bool) -> Iterator[Row]:
    import torch

    from benchmarks import engine, subjects

    chosen = ["tiny"] if quick else ["embedded", *(["gemma2_shape"] if torch.cuda.is_available() else [])]
    for subject in chosen:
        if (subject, quick) not in _ENGINES:
            made = getattr(subjects, subject)()
            _ENGINES[subject, quick] = engine.Engine(made, engine.QUICK if quick else engine.Sizes())
        measured = _ENGINES[subject, quick]
        wide = {"width": 256} if name == "wide" and quick else {}
        for row in getattr(measured, name)(**wide):
            yield row if len(chosen) == 1 else row.of(measured.subject.name)  # type: ignore[attr-defined]


def _in_a_cache_of_its_own(module: str, function: str, quick: bool) -> Iterator[Row]:
    """Rows that make runs: in a temporary cache, removed afterwards."""
    from importlib import import_module

    found = import_module(f"benchmarks.{module}")
    before = os.environ.get("CORRSTEER_CACHE")
    with tempfile.TemporaryDirectory(prefix="corrsteer-bench-") as folder:
        os.environ["CORRSTEER_CACHE"] = folder
        try:
            yield from getattr(found, function)(found.QUICK if quick else found.Sizes())
        finally:
            if before is None:
                del os.environ["CORRSTEER_CACHE"]
            else:
                os.environ["CORRSTEER_CACHE"] = before


def _in_this_cache(module: str, function: str, quick: bool) -> Iterator[Row]:
    """Rows that take the embedded model from where it lies."""
    from importlib import import_module

    found = import_module(f"benchmarks.{module}")
    yield from getattr(found, function)(found.QUICK if quick else found.Sizes())


if __name__ == "__main__":
    sys.exit(main())
