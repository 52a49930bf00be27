"""A real browser for tests, and one that the app lets in."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def visitor(browser, app):
    """Somebody's browser, which has been at the address with the token of the app (a FirstStart)."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.request.get(app.entrance, max_redirects=0)
    return context


@contextmanager
def a_browser(*flags):
    """Debian's chromium, without a window."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*FLAGS, *flags])
        yield opened
        opened.close()


@contextmanager
def a_page(browser, app, patience):
    """A page of somebody whom the app lets in; what it waits for may take `patience` milliseconds."""
    context = visitor(browser, app)
    opened = context.new_page()
    opened.set_default_timeout(patience)
    yield opened
    context.close()
