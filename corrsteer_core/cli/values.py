"""What the value of an option may be: each function reads one from the command line, or says what is wrong with it."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from corrsteer_core.base.addresses import Address, address_of
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs.sets.rows import OPERATIONS, Firing, SteeringRow
from corrsteer_core.tasks.columns import Columns, read

LARGEST_SEED = 2**63 - 1
# Named again where SAEs are trained, which loads torch; a test holds the two equal.


_FEATURE = r"(\d{1,9})/(\d{1,9})"
_NUMBER = r"([-+.\deE]{1,40})"
_ROW = re.compile(
    rf"{_FEATURE}\s+(?:(add|clamp|cap)\s+{_NUMBER}|(ablate))(?:\s+from\s+(\d{{1,9}}))?"
    rf"(?:\s+while\s+{_FEATURE}(?:\s*>\s*{_NUMBER})?)?"
)
ROW_WORDS = (
    "what is done with a feature, LAYER/FEATURE first: '12/7 add 3', '12/7 clamp 4', '12/7 cap 1.5' or '12/7 ablate'; then, if it "
    "is not always to act, 'from 2' (the second generated token) and 'while 8/99 > 0.5' (another feature is active); repeat"
)


def row(given: str) -> SteeringRow:
    """A row of a steering set in words, like 12/7 clamp 4 from 2 while 8/99 > 0.5; see ROW_WORDS."""
    found = _ROW.fullmatch(given.strip())
    numbers = [_number(found[group] or "0") for group in (4, 9)] if found else []
    if not found or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(
            f"{given[:80]!r} is not a row like '12/7 clamp 4 from 2 while 8/99 > 0.5'; what can be done is {', '.join(OPERATIONS)}"
        )
    waits = Firing(int(found[7]), int(found[8]), numbers[1]) if found[7] else None
    operation, start = found[3] or found[5], int(found[6] or 0)
    return SteeringRow(
        int(found[1]), int(found[2]), numbers[0], operation=operation, from_token=start, while_fires=waits
    )


def text(given: str) -> str:
    """Text that can be written as UTF-8."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{given!r} is not UTF-8 text") from None
    return given


def columns(given: str) -> Columns:
    """What a file calls our fields."""
    try:
        return read(text(given))
    except CorrSteerError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None


def address(given: str) -> Address:
    """Where the app answers."""
    try:
        return address_of(given)
    except CorrSteerError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None


def layers(given: str) -> tuple[int, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(int(part) for part in given.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{given!r} is not a list of layers like 8,15,22") from None


def scales(given: str) -> tuple[float, ...]:
    """Finite numbers with commas between them."""
    try:
        found = tuple(float(part) for part in given.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{given!r} is not a list of scales like 0.5,1,2") from None
    if not all(map(math.isfinite, found)):
        raise argparse.ArgumentTypeError(f"{given!r} holds a scale that is not a finite number")
    return found


def scales_above_0(given: str) -> tuple[float, ...]:
    """Scales of candidates: the coefficient says the direction, and at 0 nothing is tried."""
    found = scales(given)
    if min(found) <= 0:
        raise argparse.ArgumentTypeError(f"{given!r} holds a scale that is not above 0")
    return found


def some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Reads names with commas between them, each once."""

    def read(given: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name for name in given.split(",") if name))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(known)}")
        return names

    return read


def share(given: str) -> float:
    """A share above 0, which may be above 1."""
    found = _number(given)
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{given!r} is not a share above 0, like 0.05")
    return found


def shots_or_file(given: str) -> int | Path:
    """A number of examples above 0, or a file with some."""
    found = _whole(given)
    if found == 0:
        raise argparse.ArgumentTypeError(f"{given!r} is not a whole number above 0, nor a file with examples")
    return found or Path(given)


def balance(given: str) -> float:
    """A class balance like 80/20: the share of the first class."""
    first, _, second = given.partition("/")
    one, other = _number(first), _number(second)
    if not (one > 0 and other > 0 and abs(one + other - 100) < 1e-6):
        raise argparse.ArgumentTypeError(f"{given!r} is not a balance of two shares that make up 100, like 80/20")
    return one / 100


def temperature(given: str) -> float:
    """0 or above."""
    found = _number(given)
    if not 0 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"{given!r} is not a temperature of 0 or above, like 0.7")
    return found


def count(given: str) -> int:
    """A whole number, 0 or above."""
    found = _whole(given)
    if found is None:
        raise argparse.ArgumentTypeError(f"{given!r} is not a whole number, 0 or above")
    return found


def positive(given: str) -> int:
    """A whole number above 0."""
    found = _whole(given)
    if not found:
        raise argparse.ArgumentTypeError(f"{given!r} is not a whole number above 0")
    return found


def seed(given: str) -> int:
    """What NumPy and PyTorch take alike."""
    found = _whole(given)
    if found is None or found > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{given!r} is not a whole number from 0 to {LARGEST_SEED}")
    return found


def _number(given: str) -> float:
    try:
        return float(given)
    except ValueError:
        return math.nan


def _whole(given: str) -> int | None:
    """None for what is no whole number, or one of more digits than Python reads."""
    try:
        return int(given) if given.isdecimal() else None
    except ValueError:
        return None
