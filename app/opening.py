"""Opening a browser at an address with a token, which the command line of the browser must not show.

All users of a machine see all command lines. So the browser is given a file that only its user can read, which sends it
on to the address.
"""

from __future__ import annotations

import html
import os
import secrets
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from corrsteer_core.base import files
from corrsteer_core.base.paths import cache_dir

TOKEN_BYTES = 24


def token() -> str:
    """A new one, which nobody can guess."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def has_display() -> bool:
    """Whether there is a screen for a browser."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def opened(address: str) -> Iterator[None]:
    """The browser, opened at an address; what it is sent there by is removed when the context is left."""
    with ExitStack() as kept:
        with suppress(OSError):  # no room for it: the address stands in the terminal
            page = kept.enter_context(files.scratch_folder(cache_dir())) / "open.html"
            _write_private(page, f'<!doctype html><meta http-equiv="refresh" content="0;url={html.escape(address)}">')
            webbrowser.open(page.resolve().as_uri())
        yield


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
