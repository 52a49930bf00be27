"""Tabs of a real browser that reload and click while a run is written: no page apologises, none stays empty."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from campaign.actions import Place, copied
from campaign.child import Child, fork
from campaign.served import PAGES, PATIENCE, TOKEN, server
from campaign.tally import Tally
from corrsteer_core.cli import main
from corrsteer_core.runs import stored_run

TABS = 3
CLICKABLE = (
    "[data-testid=stMain] :is([role=tab], summary, label:has(input[type=checkbox]), label:has(input[type=radio]))"
)
"""What a click opens or switches. Buttons start models and jobs: they are not pressed."""
_WRONG = re.compile("Traceback|something went wrong", re.IGNORECASE)


def browsers(place: Place, seed: int, seconds: float) -> Tally:
    """Everything that is done in one of the tabs is a trial, and every write beside it."""
    tally = Tally(f"visits and clicks in {TABS} tabs of Chromium while a run is written")
    if not shutil.which("chromium"):
        tally.left_out = "chromium is not installed"
        return tally
    cache = copied(place.template, place.folder / "browsed")
    until = time.monotonic() + seconds
    with server(cache) as (port, process):
        writer = _writer(place, cache, until)
        with _tabs(port) as tabs:
            _use(tabs, f"http://localhost:{port}", place.run, random.Random(seed), until, tally)
        _note_writes(tally, writer, seconds)
        tally.note("the server", "" if process.poll() is None else f"it ended with {process.returncode}")
    return tally


def _writer(place: Place, cache: Path, until: float) -> Child:
    """A process beside the browser that fits the run again and keeps sets, over and over."""
    link = place.folder / "writer"  # with a log of its own
    link.unlink(missing_ok=True)
    link.symlink_to(cache)

    def write() -> dict[str, Any]:
        done, wrong = 0, []
        steering = stored_run.kept_sets(place.run)["S"]
        while done == 0 or time.monotonic() < until:
            words = ["refit", place.run, "--floor", str(1 + done % 2 * 5), "--permutations", "19", "--quiet"]
            if status := main.main(words):
                wrong.append(f"refit ended with {status}")
            stored_run.keep_set(place.run, steering.with_rows(steering.rows, f"set {done % 5}"), wait=PATIENCE)
            done += 1
        return {"done": done, "wrong": wrong}

    return fork(write, link)


def _note_writes(tally: Tally, writer: Child, seconds: float) -> None:
    ended = writer.wait(seconds)
    found = ended.result or {"done": 0, "wrong": [ended.problem or f"the writer ended with {ended.status}"]}
    tally.trials += found["done"] - len(found["wrong"])
    for one in found["wrong"][:5]:
        tally.note("a write", one)


@contextmanager
def _tabs(port: int) -> Iterator[list[Any]]:
    """Tabs of one browser, which is let in."""
    with import_module("tests.made.browsers").a_browser() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(1000 * PATIENCE)
        context.request.get(f"http://localhost:{port}/?token={TOKEN}", max_redirects=0)
        yield [context.new_page() for _ in range(TABS)]


def _use(tabs: list[Any], address: str, run: str, rng: random.Random, until: float, tally: Tally) -> None:
    """One thing after the other in a tab that is drawn by lot; in the others pages are still being drawn meanwhile."""
    for tab in tabs:
        tab.goto(f"{address}/?run={run}")
    while time.monotonic() < until or tally.trials < TABS:
        tab = rng.choice(tabs)
        what = ""
        try:
            what = _acted(tab, address, run, rng)
            tally.note(what, _problem(tab) if rng.random() < 0.7 else "")  # else it is left while it is drawn
        except Exception as error:  # whatever it is, it is what somebody would have met
            tally.note(what or "a tab", f"{type(error).__name__}: {str(error)[:300]}")
            if len(tally.failures) > 5:
                return
    for tab in tabs:
        tally.note("a tab at the end", _problem(tab))


def _acted(tab: Any, address: str, run: str, rng: random.Random) -> str:
    """Do something in a tab; returns what."""
    match rng.randrange(5):
        case 0:
            tab.reload(wait_until="commit")
            return f"a reload of {tab.url}"
        case 1:
            page = rng.choice(PAGES[:-1])
            tab.goto(f"{address}/{page}?run={run}", wait_until="commit")
            return f"the page {page}"
        case 2:
            tab.go_back(wait_until="commit")
            if not tab.url.startswith(address):  # before the first page there is the browser's own
                tab.goto(f"{address}/?run={run}", wait_until="commit")
            return f"back to {tab.url}"
        case _:
            return _clicked(tab, rng)


def _clicked(tab: Any, rng: random.Random) -> str:
    found = [one for one in tab.locator(CLICKABLE).all() if one.is_visible()]
    if not found:
        return f"nothing to click on {tab.url}"
    chosen = rng.choice(found)
    try:
        name = chosen.inner_text(timeout=1000)[:40]
        chosen.click(timeout=3000)
    except import_module("playwright.sync_api").Error:  # drawn anew meanwhile: there is nothing to click any more
        return "a click that came too late"
    return f"a click on {name!r} of {tab.url}"


def _problem(tab: Any) -> str:
    """What is wrong with what a tab shows once it is drawn."""
    tab.wait_for_selector("[data-testid=stMain] :is(h1, [data-testid=stAlert])")
    tab.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')")
    text = tab.inner_text("body")
    found = _WRONG.search(text)
    return f"it says: {text[max(0, found.start() - 60) : found.end() + 200]}" if found else ""
