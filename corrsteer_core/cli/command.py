"""One command: its name, what it takes, what it does."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from corrsteer_core.base.progress import Reporter


@dataclass(frozen=True)
class Command:
    """A command of the command line; the table of all is `COMMANDS` in table.py."""

    name: str
    help: str
    """What it does, in one line without a full stop."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    """Gives a parser the arguments of this command."""
    run: Callable[[argparse.Namespace, Reporter], Any]
    """Does it, and returns the result: a dict, or a list of dicts for a table, with values that `printing.plain` knows."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z]+(-[a-z]+)*", self.name):
            raise ValueError(f"{self.name!r} is no name of a command; use small letters with hyphens between words")
        if not self.help or self.help.endswith("."):
            raise ValueError(
                f"the help of {self.name} is {self.help!r}; say in one line what it does, without a full stop"
            )


def no_arguments(parser: argparse.ArgumentParser) -> None:
    """For commands that take none of their own."""
