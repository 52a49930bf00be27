"""What the Steer page holds, as a file and as a link: the set that is edited, what is asked, and how.

Pure: no page, no model. What comes back from a file or a link is as little to be trusted as any upload.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from dataclasses import asdict, dataclass
from typing import Any

from app.steer import editing
from app.steer.chat import Turn
from app.steer.playing import HOTTEST, LARGEST_SEED, LONGEST_PROMPT, MORE_SCALES, Question, most_tokens
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SteeringSet

FORMAT = "corrsteer-steer-page"
VERSION = 1
LONGEST_ANSWER = 100_000  # characters
LONGEST_LINK = 8_000  # characters; what mail programs and servers are sure to take
IN_THE_LINK = "The link"


@dataclass(frozen=True)
class Snapshot:
    """A set, and what it is asked with; `question` is None while there is no prompt."""

    steering: SteeringSet
    question: Question | None = None

    def to_json(self) -> str:
        """The page as text, for a file."""
        return json.dumps(self._body(), indent=1, allow_nan=False)

    def to_link(self) -> str | None:
        """The page as one word for a link; None when it is too long for one."""
        text = json.dumps(self._body(), separators=(",", ":"), allow_nan=False)
        word = base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
        return word if len(word) <= LONGEST_LINK else None

    def _body(self) -> dict[str, Any]:
        asked = None
        if self.question:
            asked = {name: value for name, value in asdict(self.question).items() if name != "steering"}
            if self.question.sample:  # its text is the run's
                asked["prompt"] = ""
        return {"format": FORMAT, "version": VERSION, "set": json.loads(self.steering.to_json()), "question": asked}


def from_link(word: str, run: str, config: RunConfig) -> Snapshot:
    """What a link holds, fit for the run at hand. Raises CorrSteerError that says what is wrong."""
    try:
        packed = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
        # A small word can unpack to gigabytes: never more than a file may hold.
        content = zlib.decompressobj().decompress(packed, editing.LONGEST_FILE)
    except (ValueError, binascii.Error, zlib.error) as error:
        raise CorrSteerError(
            f"{IN_THE_LINK} is damaged: what it says of the page cannot be read; ask for it again."
        ) from error
    return _read(content, IN_THE_LINK, run, config)


def from_file(content: bytes, file_name: str, run: str, config: RunConfig) -> Snapshot:
    """What an uploaded file holds, a set alone or the whole page. Raises CorrSteerError that says what is wrong."""
    if not _is_page(content):
        return Snapshot(editing.uploaded(content, file_name, run, config))
    return _read(content, f"The file {file_name}", run, config)


def _is_page(content: bytes) -> bool:
    return len(content) <= editing.LONGEST_FILE and f'"{FORMAT}"'.encode() in content[:200]


def _read(content: bytes, where: str, run: str, config: RunConfig) -> Snapshot:
    try:
        body = json.loads(content)
        if body["format"] != FORMAT or body["version"] != VERSION:
            raise CorrSteerError(f"{where} is not one that this version of the tool makes.")
        whole = json.dumps(body["set"]).encode()
        asked = body["question"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorrSteerError(f"{where} is damaged: what it says of the page cannot be read.") from error
    steering = editing.brought(whole, where, run, config)
    return Snapshot(steering, None if asked is None else _question(asked, where, steering, run, config))


def _question(asked: Any, where: str, steering: SteeringSet, run: str, config: RunConfig) -> Question:
    try:
        found = Question(
            steering,
            prompt=_text(asked["prompt"], LONGEST_PROMPT),
            run=run,
            sample=_text(asked["sample"], 1_000),
            scales=tuple(sorted({_number(one, -1e6, 1e6) for one in asked["scales"]})),
            max_new_tokens=_whole(asked["max_new_tokens"], 1, most_tokens(config)),
            temperature=_number(asked["temperature"], 0, HOTTEST),
            seed=_whole(asked["seed"], 0, LARGEST_SEED),
            chat=None if asked["chat"] is None else bool(asked["chat"]),
            turns=tuple(map(_turn, asked["turns"])),
        )
        if unknown := set(found.scales) - {steering.scale, *MORE_SCALES}:
            raise ValueError(f"the scale {min(unknown):g} is none that the page offers")
    except (KeyError, TypeError, ValueError) as error:
        raise CorrSteerError(f"{where} asks for what the page does not have: {error}.") from error
    return found


def _turn(value: Any) -> Turn:
    """A turn; of one that has a single answer, as earlier versions wrote them, it is both sides' own."""
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise ValueError("a turn was expected: what was said, and the answers")
    words, *answers = value
    unsteered, steered = (_text(answers[place], LONGEST_ANSWER) for place in (0, -1))
    return Turn(_text(words, LONGEST_PROMPT), unsteered, steered)


def _text(value: Any, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"a text of at most {longest:,} characters was expected")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text has half a surrogate pair") from error
    return value


def _number(value: Any, least: float, most: float) -> float:
    # Whole numbers are finite, but may be too large to be asked.
    infinite = isinstance(value, float) and not math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or infinite:
        raise ValueError(f"a number was expected where it has {str(value)[:40]!r}")
    if not least <= value <= most:
        raise ValueError(f"{str(value)[:40]} is not between {least:g} and {most:g}")
    return float(value)


def _whole(value: Any, least: int, most: int) -> int:
    number = _number(value, least, most)
    if number != int(number):
        raise ValueError(f"{value} is not a whole number")
    return int(number)
