"""Where the app answers: an address that was given, checked; the link to a run in it, and whom that link reaches."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode, urlsplit

from corrsteer_core.base.errors import CorrSteerError

Reach = Literal["computer", "network", "others"]
"""Who can open an address: only the computer that the app runs on, those in its network, or others too."""
PAGE = "report"
"""Name of the page of the app that shows a run's report."""
LONGEST = 300
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)")
"""A name that browsers read as an IPv4 address in one of its old spellings: 127.1, 0x7f000001."""
_WITHIN = (".local", ".lan", ".home", ".internal", ".intranet", ".home.arpa")


@dataclass(frozen=True)
class Address:
    """The address of an app: scheme, name, port and path, in ASCII, without a slash at the end."""

    root: str
    reach: Reach

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[!-~]+", self.root) or re.search(r"[<>\"'?#@\\]", self.root):
            raise _wrong(self.root)

    def link(self, run: str) -> str:
        """The address of a run's page in the app; it lets in nobody whom the app does not let in anyway."""
        return f"{self.root}/{PAGE}?{urlencode({'run': run})}"


def address_of(given: str) -> Address:
    """The address of an app as somebody typed or copied it: a query, and so the token of its start, is left out.

    Raises CorrSteerError for what is no address of the web, and for one that holds a password.
    """
    if len(given) > LONGEST or not given.isprintable() or re.search(r"[\s\\<>\"'`{}|^]", given):
        raise _wrong(given)
    try:
        parts = urlsplit(given)
        port, host = parts.port, (parts.hostname or "").rstrip(".")
        name = host if ":" in host else host.encode("idna").decode()
        reach = _reach(name)
    except ValueError as error:  # UnicodeError too
        raise _wrong(given) from error
    if parts.scheme not in ("http", "https") or not name or "@" in parts.netloc:
        raise _wrong(given)
    where = f"[{name}]" if ":" in name else name
    path = quote(parts.path.rstrip("/"), safe="/%-._~")
    return Address(f"{parts.scheme}://{where}{'' if port is None else f':{port}'}{path}", reach)


def _wrong(given: str) -> CorrSteerError:
    return CorrSteerError(
        f"{given[:80]!r} is no address of the app: give one that begins with http:// or https:// and a name, without a password, "
        f"like https://steer.example.org."
    )


def _reach(name: str) -> Reach:
    """Whom a name of a computer reaches. Raises ValueError for what is no name."""
    try:
        ip = ipaddress.ip_address(name)
    except ValueError:
        if not _NAME.fullmatch(name) or _NUMBER.fullmatch(name):
            raise
        if name == "localhost" or name.endswith(".localhost"):
            return "computer"
        return "network" if "." not in name or name.endswith(_WITHIN) else "others"
    if "%" in name:  # an interface of this computer
        raise ValueError(name)
    known = getattr(ip, "ipv4_mapped", None) or ip
    if known.is_loopback or known.is_unspecified:
        return "computer"
    return "others" if known.is_global else "network"
