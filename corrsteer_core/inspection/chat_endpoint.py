"""A language model behind an address: one question, one answer, in the form of OpenAI's chat completions.

What comes back is a stranger's: it is read up to a size and a time, and looked at as JSON alone. Redirects are not followed,
since they would carry the key elsewhere. The key is in no message.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from corrsteer_core.base.addresses import Reach, address_of
from corrsteer_core.base.errors import CorrSteerError

KEY = "CORRSTEER_JUDGE_KEY"
"""Environment variable with the key that the endpoint asks for; empty where it asks for none."""
PATH = "/chat/completions"
LARGEST = 200_000
"""Bytes that are read of an answer."""
LONGEST_WAIT = 30.0
"""Seconds waited before another try at most, whatever the endpoint asks for."""
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}")


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers, under which name, and how long it is waited for."""

    address: str
    """Of https, or of http on this computer: https://api.example.org/v1."""
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 60.0
    """Seconds for a whole answer."""
    tries: int = 3
    pause: float = 2.0
    """Seconds before the second try; twice as many before each further one."""

    def __post_init__(self) -> None:
        if not _MODEL.fullmatch(self.model):
            raise CorrSteerError(
                f"{self.model[:80]!r} is no name of a model; give letters, digits and . _ : / @ + - alone, as its makers do."
            )
        if not all("!" <= one <= "~" for one in self.key):
            raise CorrSteerError(
                f"The key in {KEY} has a space or another character that a key cannot have; set it anew."
            )
        root, reach = _root(self.address)
        if root.startswith("http://") and reach != "computer":
            raise CorrSteerError(
                f"The judge at {root} would be asked without encryption; give an address that begins with https://, or one of this "
                f"computer (http://localhost:...)."
            )

    @property
    def url(self) -> str:
        """What is posted to."""
        return _root(self.address)[0].removesuffix(PATH) + PATH

    @property
    def said(self) -> str:
        """The judge in a sentence."""
        return f"{self.model} at {_root(self.address)[0]}"


def endpoint_of(address: str, model: str) -> Endpoint:
    """An endpoint with the key of the environment. Raises CorrSteerError for what cannot be asked."""
    return Endpoint(address, model, os.environ.get(KEY, ""))


def _root(address: str) -> tuple[str, Reach]:
    try:
        found = address_of(address)
    except CorrSteerError:
        raise CorrSteerError(
            f"{address[:80]!r} is no address of a judge: give one that begins with https:// and a name, without a password, like "
            f"https://api.example.org/v1."
        ) from None
    return found.root, found.reach


def answer(endpoint: Endpoint, turns: Sequence[dict[str, str]], *, most_tokens: int) -> str:
    """What the model says. Asks again, `tries` times in all, where that may help: too many questions, a fault of the server,
    no answer in time, an answer that is none. Raises CorrSteerError with what the last try came to.
    """
    body = {"model": endpoint.model, "messages": list(turns), "max_tokens": most_tokens, "temperature": 0}
    for place in range(endpoint.tries):
        try:
            return _asked(endpoint, json.dumps(body).encode())
        except _TryAgain as problem:
            if place + 1 == endpoint.tries:
                raise CorrSteerError(
                    f"The judge {endpoint.said} {problem}, {endpoint.tries} times; try later, or check the address."
                ) from problem
            time.sleep(min(LONGEST_WAIT, max(problem.wait, endpoint.pause * 2**place)))
    raise AssertionError("a try returns or raises")


class _TryAgain(Exception):
    """What a try came to, where another may do better."""

    def __init__(self, what: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.wait = wait


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None  # the answer is then the redirect itself: an HTTPError


def _asked(endpoint: Endpoint, body: bytes) -> str:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    headers |= {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
    request = urllib.request.Request(endpoint.url, body, headers)  # noqa: S310 - https, or this computer
    handlers: list[Any] = [_Stay]
    if _root(endpoint.address)[1] == "computer":
        handlers.append(urllib.request.ProxyHandler({}))
    until = time.monotonic() + endpoint.timeout
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=endpoint.timeout) as response:
            content = _read(response.read1, until)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(endpoint, error.code, error.headers.get("Retry-After", "")) from None
    except (OSError, HTTPException) as error:
        raise _TryAgain(f"did not answer ({type(error).__name__})") from error
    return _text(content)


def _refused(endpoint: Endpoint, status: int, after: str) -> Exception:
    """What to raise for a status other than success."""
    if status == 429 or status >= 500:
        return _TryAgain(
            f"answered with status {status}", float(after) if after.isdecimal() and len(after) < 6 else 0.0
        )
    what = f"; set {KEY} to a key that it takes" if status in (401, 403) else "; check the address and the model's name"
    return CorrSteerError(f"The judge {endpoint.said} answered with status {status}{what}.")


def _read(read: Callable[[int], bytes], until: float) -> bytes:
    """All of an answer, within its time and size."""
    content = b""
    while piece := read(16_384):
        content += piece
        if time.monotonic() > until:
            raise _TryAgain("took too long to answer")
        if len(content) > LARGEST:
            raise _TryAgain(f"answered with more than {LARGEST:,} bytes")
    return content


def _text(content: bytes) -> str:
    try:
        found = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _TryAgain("answered with something that is no chat completion") from error
    if not isinstance(found, str):
        raise _TryAgain("answered with something that is no chat completion")
    return found
