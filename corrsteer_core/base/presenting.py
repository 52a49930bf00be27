"""Whether the app is shown to a room: read-only, so that nothing that is kept changes and no path of this machine is named.

`python -m app --present` says so in the environment of its server, as it does with the token. Pages ask `on()` what to
offer; the functions that write ask `refuse()`, so that a page that forgot to ask can do no harm.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import cache_dir

VARIABLE = "CORRSTEER_PRESENT"
"""Environment variable that is not empty where the app is read-only."""
# A path begins a word: not in "and/or", not in an address, not the end of a tag.
_PATH = re.compile(
    r"(?<![\w:/<.~])(?:~|\.{1,2}|[A-Za-z]:)?[/\\][^\s'\"\u201c\u201d,;()<>]*[^\s'\"\u201c\u201d,;()<>.:]"
)


def on() -> bool:
    """Whether the app is read-only."""
    return bool(os.environ.get(VARIABLE))


def refuse(what: str) -> None:
    """Raise CorrSteerError where the app is read-only; `what` begins the sentence: "No job is started"."""
    if on():
        raise CorrSteerError(f"{what}: this app is open for looking and steering only, ask whoever started it.")


def named(source: str) -> str:
    """A model, SAE or file as visitors may know it: what lies in a folder of this machine by its last name alone."""
    return _last(source) if on() and _is_local(source) else source


def said(text: str) -> str:
    """A sentence as visitors may read it: every path of this machine by its last name alone."""
    if not on():
        return text
    for known in (cache_dir(), Path.home()):  # these may have spaces in them, which end a path elsewhere
        text = text.replace(f"{known}{os.sep}", os.sep)
    return _PATH.sub(lambda found: _last(found[0]), text)


def _is_local(source: str) -> bool:
    return bool(_PATH.match(source)) or Path(source).expanduser().exists()


def _last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
