"""The rows about the app: how soon its pages can be used, in a real browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from app.features import ranking_table
from benchmarks.fabricate import make_run, measure, rank_all
from benchmarks.measure import Row
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs import feature_lists, reliability, run_facts

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
PATIENCE = 60_000  # ms
SETTLED = """() => [...document.querySelectorAll('[data-testid=stStatusWidget], [data-testid=stSkeleton]')]
    .every(element => !element.checkVisibility())"""  # what a closed expander holds is drawn when it is opened


@dataclass(frozen=True)
class Sizes:
    """The run that the pages show."""

    samples: int = 400
    layers: int = 26
    d_sae: int = 16_384
    rows: int = 1_000_000
    repeats: int = 5


QUICK = Sizes(40, 2, 64, 1000, 1)
EMBEDDED = Sizes(460, 6, 2304, 88_000, 5)
"""As large as the run that the first start makes."""
WITHOUT_MODEL = {"Features": "Features", "Evaluate": "Evaluate", "Report": "Report", "Overview": "Runs"}
"""Pages that need no model, by name, and a heading of each."""


def interactive(sizes: Sizes) -> Iterator[Row]:
    """Seconds from asking for a page until it is drawn and answers.

    The first page in a new browser window of a server just started; *Features* by a click on its name, and by its
    link in a new window, which draws Streamlit's own frame first.
    """
    from playwright.sync_api import sync_playwright

    run = make_run(samples=sizes.samples, layers=sizes.layers, d_sae=sizes.d_sae, rows=sizes.rows)
    rank_all(run, layers=sizes.layers, d_sae=sizes.d_sae, samples=sizes.samples)
    first: list[float] = []
    again: list[float] = []
    empty: list[float] = []
    linked: list[float] = []
    features: list[float] = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        nothing = Path(folder) / "nothing.py"  # what Streamlit and the browser take by themselves
        nothing.write_text('import streamlit as st\n\nst.header("Runs")\n')
        browser = playwright.chromium.launch(executable_path=_chromium(), args=FLAGS)
        _blank(browser)  # the browser's own start is not the app's
        for _ in range(sizes.repeats):
            with _server("streamlit", "run", str(nothing), "--server.headless", "true", "--server.port") as url:
                empty.append(_seconds(browser, url, "Runs"))
            with _server("app.server") as url:
                first.append(_seconds(browser, url, "Runs"))
                again.append(_seconds(browser, url, "Runs"))
                features.append(_clicked(browser, url))
                linked.append(_seconds(browser, f"{url}/features?run={run}", "Features", "stDataFrame"))
        browser.close()
    detail = f"the server just started; {median(again):.2f} s for the next window"
    floor = f"an empty Streamlit page, server just started, takes {median(empty):.2f} s here; the rest is ours"
    row = Row("first page", "-", median(first), (min(first), max(first)), 2.0, unit="s", detail=f"{detail}; {floor}")
    yield row.because(floor)
    count = f"{sizes.layers * sizes.d_sae:,}"
    yield Row(
        f"Features on {count} rows", "-", median(features), (min(features), max(features)), 1.0, unit="s",
        detail=f"by a click, the first time anyone opens it; {median(linked):.2f} s by its link in a new window",
    ).because(f"the page's questions to the database take {_asked(run):.2f} s, the rest is drawing it")  # fmt: skip


def clicks(sizes: Sizes) -> Iterator[Row]:
    """Seconds from a click on the name of a page, seen before, until it is drawn, on a run like the first start's.

    With features tried and a set measured beside 19 controls: its pictures and tables are what takes time to draw.
    """
    from playwright.sync_api import sync_playwright

    size = EMBEDDED if sizes is not QUICK else QUICK
    run = make_run(samples=size.samples, layers=size.layers, d_sae=size.d_sae, rows=size.rows)
    rank_all(run, layers=size.layers, d_sae=size.d_sae, samples=size.samples)
    measure(run)
    taken: dict[str, list[float]] = {name: [] for name in WITHOUT_MODEL}
    begun: dict[str, list[float]] = {name: [] for name in WITHOUT_MODEL}
    with sync_playwright() as playwright, _server("app.server") as url:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=FLAGS)
        with _window(browser) as page:
            page.goto(url)
            _wait_for(page, "Runs")
            for turn in range(sizes.repeats + 1):
                for name, heading in WITHOUT_MODEL.items():
                    started = time.perf_counter()
                    page.get_by_test_id("stSidebarNav").get_by_text(name, exact=True).click()
                    page.get_by_role("heading", name=heading, exact=True).first.wait_for()
                    if turn:
                        begun[name].append(time.perf_counter() - started)
                    _wait_for(page, heading)
                    if turn:
                        taken[name].append(time.perf_counter() - started)
        browser.close()
    every = [seconds for each in taken.values() for seconds in each]
    detail = ", ".join(
        f"{name} {median(taken[name]):.2f} s (its heading after {median(begun[name]):.2f} s)" for name in WITHOUT_MODEL
    )
    yield Row(
        "a click on a page's name, embedded model's size", "-", median(every), (min(every), max(every)), 0.3, unit="s",
        detail=f"pages that need no model, each seen before: {detail}",
    ).because("drawing what changes, in the browser")  # fmt: skip


def _asked(run: str) -> float:
    """Seconds that the questions of the Features page take by themselves, each asked once."""
    wanted = feature_lists.FeatureFilter(support=(run_facts.facts(run).fit or {}).get("floor", 0))
    started = time.perf_counter()
    for question in (run_facts.facts, run_facts.chance, feature_lists.best_effects, feature_lists.described_features):
        question(run)
    feature_lists.count_features(run, wanted)
    reliability.intervals(
        run, feature_lists.features(run, wanted, limit=ranking_table.ROWS), resamples=ranking_table.RESAMPLES
    )
    return time.perf_counter() - started


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        raise CorrSteerError("The rows about pages need chromium; install it, or leave them out with --only.")
    return found


def _blank(browser) -> None:
    context = browser.new_context()
    context.new_page().goto("about:blank")
    context.close()


def _seconds(browser, url: str, heading: str, element: str = "") -> float:
    """From the request in a new window until the page is drawn."""
    with _window(browser) as page:
        started = time.perf_counter()
        page.goto(url)
        _wait_for(page, heading, element)
        return time.perf_counter() - started


def _clicked(browser, url: str) -> float:
    """From a click on *Features* on the first page until it is drawn."""
    with _window(browser) as page:
        page.goto(url)
        _wait_for(page, "Runs")
        started = time.perf_counter()
        page.get_by_test_id("stSidebarNav").get_by_text("Features").click()
        _wait_for(page, "Features", "stDataFrame")
        return time.perf_counter() - started


@contextmanager
def _window(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    yield page
    context.close()


def _wait_for(page, heading: str, element: str = "") -> None:
    """Until the heading (and the table) is there and nothing is being drawn any more."""
    page.get_by_role("heading", name=heading, exact=True).first.wait_for()
    if element:
        page.locator(f"[data-testid={element}] canvas").first.wait_for()
    page.wait_for_function(SETTLED)


@contextmanager
def _server(*command: str) -> Iterator[str]:
    """A server in a process of its own, `python -m COMMAND PORT`, stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, str(port)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://localhost:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=2).close()  # noqa: S310
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)
