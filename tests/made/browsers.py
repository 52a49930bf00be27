"""A real browser for tests, and one that the app lets in."""

from __future__ import annotations

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def visitor(browser, app):
    """Somebody's browser, which has been at the address with the token of the app (a FirstStart)."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.request.get(app.entrance, max_redirects=0)
    return context
