"""Answers to questions asked before, kept in memory between clicks until what they are about changes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from corrsteer_core.runs import run_facts
from corrsteer_core.storage import run_folder


class Stamp(NamedTuple):
    """Which state of which run's file an answer is about."""

    run: str
    folder: str
    changed: int
    file: int


def stamp(run: str) -> Stamp:
    """Changes whenever the run's file does."""
    status = run_folder.database_path(run).stat()
    return Stamp(run, str(run_folder.runs_dir()), status.st_mtime_ns, status.st_ino)


class FitStamp(NamedTuple):
    """Which samples and which fit of which run an answer is about."""

    run: str
    folder: str
    created: str
    collected: int
    fit: tuple[tuple[str, Any], ...]


def fit_stamp(run: str) -> FitStamp:
    """Changes with the run's answers and its fit; not when a set is saved, a measurement stored or a feature described."""
    facts: run_facts.RunFacts = ask(run_facts.facts, run)
    fit = tuple((facts.fit or {}).items())
    return FitStamp(run, str(run_folder.runs_dir()), str(facts.created), facts.collected, fit)


def ask(question: Callable[..., Any], run: str, *arguments: Any, **named: Any) -> Any:
    """The answer of one of the core's functions about a run (`run_facts.facts`), remembered until the run changes."""
    return _answer(question.__module__, question.__name__, stamp(run), arguments, named)


def ask_fit(question: Callable[..., Any], run: str, *arguments: Any, **named: Any) -> Any:
    """As `ask`, of a function that looks at the run's samples and fit alone: remembered until these change."""
    return _answer(question.__module__, question.__name__, fit_stamp(run), arguments, named)


@st.cache_data(max_entries=256, show_spinner=False)
def _answer(module: str, name: str, at: Stamp | FitStamp, arguments: tuple, named: dict[str, Any]) -> Any:
    return getattr(import_module(module), name)(at.run, *arguments, **named)


def picture(make: Callable[..., Any], *arguments: Any) -> Any:
    """The figure that one of the functions that draw (`figures.against_rivals`) makes of these numbers; never to be changed."""
    return _picture(make.__module__, make.__name__, arguments)


@st.cache_resource(max_entries=64, show_spinner=False)
def _picture(module: str, name: str, arguments: tuple) -> Any:
    return getattr(import_module(module), name)(*arguments)


def runs() -> pd.DataFrame:
    """The cached runs (see `run_facts.runs`), each remembered until it changes."""
    return _runs(tuple(map(stamp, run_folder.run_names())))


@st.cache_data(max_entries=8, show_spinner=False)
def _runs(at: tuple[Stamp, ...]) -> pd.DataFrame:
    return run_facts.runs([_run_row(one) for one in at])


@st.cache_data(max_entries=1000, show_spinner=False)
def _run_row(at: Stamp) -> dict[str, Any]:
    return run_facts.run_row(at.run)
