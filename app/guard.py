"""Who gets an answer of the server, and what every answer says: a layer around Streamlit's own, for all of its addresses.

Whoever started the app knows its token, which stands in the address that the terminal shows, as Jupyter does it. The
first visit with it leaves a cookie, which no script can read and no other site can make the browser send; the token then
goes out of the address, so that links that are copied from there let nobody in. Everybody else gets one sentence.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, MutableMapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.serving import HEALTH, PARAMETER

HEADERS = (
    (b"content-security-policy", b"frame-ancestors 'none'"),  # no other page may lay itself over this one
    (b"x-frame-options", b"DENY"),  # the same, for browsers that do not know the first
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""Of every answer."""
NOT_LET_IN = (
    "This app answers only whoever started it: open the address that it printed in the terminal, the one with "
    f"?{PARAMETER}=, and this browser is let in until the app is started again."
)
ELSEWHERE = "This app does not answer pages and names from elsewhere: open it under the address that it printed."
_PAGE = '<!doctype html><html lang="en"><title>CorrSteer Explorer</title>{head}<body><p>{text}</p></body></html>'
_ONCE_MORE = '<meta http-equiv="refresh" content="0">'


class Guard:
    """Lets through what may talk to the app inside, and says why not to the rest."""

    def __init__(self, app: ASGIApp, *, token: str, names: Collection[str], cookie: str) -> None:
        """`token`: empty where the app lets people in by itself. `names`: by which it is known; empty for any.

        `cookie`: its name. Cookies are for all ports of a machine; two apps must not take each other's.
        """
        self.app = app
        self.token = token
        self.mark = hashlib.sha256(f"corrsteer:{token}".encode()).hexdigest()  # what the cookie holds: not the token
        self.names = frozenset(names)
        self.cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let Streamlit do it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        asked = HTTPConnection(scope)
        answer = self._answer(asked)
        if answer is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "http":
            await answer(scope, receive, _with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 1008})  # a bare 403: no page reads more of it

    def _answer(self, asked: HTTPConnection) -> Response | None:
        """What to answer in the app's place; None to let it through."""
        if not self._is_ours(asked):
            return _sentence(ELSEWHERE)
        if not self.token or asked.scope["path"] == HEALTH:
            return None
        remembered = _same(asked.cookies.get(self.cookie), self.mark)
        given = asked.query_params.get(PARAMETER)
        if asked.scope["type"] == "http" and given is not None and (remembered or _same(given, self.token)):
            return self._remembering(asked)
        if remembered:
            return None
        return _again() if _comes_from_elsewhere(asked) else _sentence(NOT_LET_IN)

    def _is_ours(self, asked: HTTPConnection) -> bool:
        """Whether a request names this server, and comes from a page of its own if from any.

        Streamlit, asked by a page of another origin, would look up this machine's address on the internet.
        """
        host = asked.headers.get("host", "")
        origin = asked.headers.get("origin")
        if origin is not None and _place(origin) != host.lower():
            return False
        return not self.names or _name(host) in self.names

    def _remembering(self, asked: HTTPConnection) -> Response:
        """The same address without the token, and a cookie in its place."""
        rest = urlencode([(name, value) for name, value in asked.query_params.multi_items() if name != PARAMETER])
        path = "/" + quote(asked.scope["path"].lstrip("/\\"))
        answer = RedirectResponse(f"{path}?{rest}" if rest else path, status_code=303, headers=_UNKEPT)
        secure = asked.headers.get("x-forwarded-proto", asked.url.scheme) == "https"
        answer.set_cookie(self.cookie, self.mark, httponly=True, samesite="strict", secure=secure)
        return answer


_UNKEPT = {"cache-control": "no-store"}


def _same(given: str | None, known: str) -> bool:
    """Whether it is the one, found out in a time that says nothing of how much of it is right."""
    return given is not None and hmac.compare_digest(given.encode(), known.encode())


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            _add_headers(message)
        await send(message)

    return sent


def _add_headers(message: MutableMapping[str, Any]) -> None:
    ours = {name for name, _ in HEADERS}
    kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in ours]
    message["headers"] = [*kept, *HEADERS]


def _comes_from_elsewhere(asked: HTTPConnection) -> bool:
    """Whether a page was opened by a link on another site (a mail, a chat): the browser then keeps the cookie back."""
    told = asked.headers.get("sec-fetch-site"), asked.headers.get("sec-fetch-dest")
    return asked.scope["type"] == "http" and told == ("cross-site", "document")


def _again() -> Response:
    """A page that asks for itself once more: now it is asked for by a page of ours, and the cookie comes along."""
    return HTMLResponse(_PAGE.format(head=_ONCE_MORE, text="Opening CorrSteer Explorer"), headers=_UNKEPT)


def _sentence(text: str) -> Response:
    return HTMLResponse(_PAGE.format(head="", text=text), status_code=403, headers=_UNKEPT)


def _place(origin: str) -> str:
    """Name and port of an origin, as they stand in a Host header."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""
