"""The app's pages: every folder of `app/` whose `__init__.py` has a PAGE; its `page.py` draws it.

What a folder says here is read at every start; its `page.py`, which may load torch, when the page is first opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules

import app
from corrsteer_core.base import presenting


@dataclass(frozen=True)
class PageInfo:
    """What the navigation shows of a page."""

    title: str
    icon: str
    """As Streamlit names it: ":material/home:"."""
    place: int
    """Pages stand in the order of their places; the first is opened when the link names none."""
    writes: bool = False
    """It only starts what writes: where the app is read-only, it is not there."""


def pages() -> dict[str, PageInfo]:
    """The pages by the name of their folder, in their order."""
    folders = [one.name for one in iter_modules(app.__path__) if one.ispkg]
    found = {name: getattr(import_module(f"app.{name}"), "PAGE", None) for name in folders}
    known = {name: page for name, page in found.items() if page and not (page.writes and presenting.on())}
    return dict(sorted(known.items(), key=lambda one: one[1].place))
