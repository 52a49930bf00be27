"""Links with nonsense in them: every page is drawn, or says in a sentence what is wrong with the link."""

from __future__ import annotations

import base64
import json
import random
import zlib
from contextlib import closing, suppress
from typing import Any
from urllib.parse import quote_from_bytes

from campaign.actions import Place, copied
from campaign.served import PAGES, connected, drawn, server
from campaign.tally import Bounds, Tally

NAMES = ("run", "layer", "feature", "set", "page", "desk", "token", "embed", "other")
TOGETHER = 8
"""Links that one session opens one after the other, with what each leaves in it."""


def links(place: Place, seed: int, bounds: Bounds) -> Tally:
    """Every link is opened on one of the pages, in turn, in a session that had others before."""
    tally = Tally("links with nonsense")
    rng = random.Random(seed)
    cache = copied(place.template, place.folder / "served")
    words = _good_words(place)
    connection: Any = None
    with server(cache) as (port, process):
        for nth in bounds.numbers():
            page, query = PAGES[nth % len(PAGES)], hostile(rng, words)
            try:
                if connection is None:
                    connection = connected(port)
                problem = drawn(connection, page, query)
            except Exception as error:  # whatever it is, it is what a browser would have met
                problem = f"{type(error).__name__}: {error}"
            tally.note(f"{page}?{query[:300]} (seed {seed}, trial {nth})", problem)
            if (problem or nth % TOGETHER == TOGETHER - 1) and connection is not None:
                with suppress(Exception), closing(connection):
                    pass
                connection = None
        if connection is not None:
            connection.close()
        tally.note("the server", "" if process.poll() is None else f"it ended with {process.returncode}")
    return tally


def _good_words(place: Place) -> dict[str, list[str]]:
    """What a right link says, by name: nonsense alone would not come far."""
    kept = json.loads((place.template / "S.json").read_text())
    row = kept["rows"][0]
    page = {"format": "corrsteer-steer-page", "version": 1, "set": kept, "question": None}
    return {
        "run": [place.run],
        "layer": [str(row["layer"]), "1", "2"],
        "feature": [str(row["feature"]), "0", "47"],
        "set": ["S"],
        "page": [_packed(json.dumps(page).encode())],
    }


def _packed(content: bytes) -> str:
    """A page as the app's own links hold it."""
    return base64.urlsafe_b64encode(zlib.compress(content, 9)).decode().rstrip("=")


def hostile(rng: random.Random, words: dict[str, list[str]]) -> str:
    """A query: names that the app knows and others, values that are right, nearly right, and wrong."""
    parts = []
    for _ in range(rng.randrange(1, 6)):
        name = rng.choice(NAMES)
        value = _value(rng, words.get(name, ["x"]))
        content = value.encode(errors="surrogatepass")
        whole = content.decode(errors="replace")  # a websocket's text has no half of a pair
        parts.append(f"{name}={whole if rng.random() < 0.1 else quote_from_bytes(content)}")
    if rng.random() < 0.6:  # most pages say more of a run that is there
        parts.append(f"run={words['run'][0]}")
    if rng.random() < 0.1:
        parts.append(rng.choice(["&&&", "=", "%", "%zz=%", "a" * 5000, "%00", "%ff%fe=1", ";", "run"]))
    rng.shuffle(parts)
    return "&".join(parts)


def _value(rng: random.Random, good: list[str]) -> str:
    whole = rng.choice(good)
    match rng.randrange(4):
        case 0:
            return whole
        case 1:  # one character is another
            at = rng.randrange(len(whole))
            return whole[:at] + rng.choice("A0-_%\0é\u202e") + whole[at + 1 :]
        case 2 if len(whole) > 200:  # packed as it should be, of something else
            return _packed(_nonsense(rng, whole))
        case _:
            return rng.choice(WRONG)


def _nonsense(rng: random.Random, word: str) -> bytes:
    """A page whose content is off: a field that is gone or of another type, numbers without end, deep lists, many zeros."""
    body = json.loads(zlib.decompress(base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))))
    wrong: list[Any] = [None, [], {}, -1, 1e308, float("nan"), "x" * 2000, "\ud800", True, 10**30]
    field = rng.choice([*body["set"], "set", "question", "version"])
    owner = body if field in body else body["set"]
    owner[field] = rng.choice(wrong)
    if rng.random() < 0.2:
        return rng.choice([b"[" * 50_000, bytes(10**6), b"", b"null", b"{}", b"\xff\xfe"])
    return json.dumps(body).encode()


WRONG = (
    "", " ", "0", "-1", "1.5", "1e9", "nan", "NaN", "٣", "²", "99999999999999999999", "9" * 4000, "true", "None", "null", "[]",
    "{}", "../..", "/etc/passwd", "C:\\", "runs/../runs", "\0", "a\0b", "\u202e", "\ud800", "\n", "x" * 10_000, "🙂" * 500,
    "' OR 1=1 --", "\"; DROP TABLE runs; --", "$(id)", "%s%n", "<script>alert(1)</script>", "[x](javascript:alert(1))",
    "$x^2$", ":material/home:", "!!python/object", "__class__", "S", "V", "eJwDAAAAAAE", "==", "-", "_" * 8000,
)  # fmt: skip
"""Values that no page expects."""
