"""Where the app listens, under which names, and who is let in: decided before anything is started.

On this machine alone, a token in the address lets in whoever started the app. Served to others, everybody signs in with
an account (OpenID Connect, by Streamlit's `st.login`), which `.streamlit/secrets.toml` sets up: docs/serving.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from corrsteer_core.base.errors import CorrSteerError

ROOT = Path(__file__).resolve().parents[1]
HERE = ("localhost", "127.0.0.1")
"""Names of this machine, for itself alone."""
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - refused unless asked for twice
"""Addresses that stand for all of a machine's."""
ANY_NAME = "*"
TOKEN = "CORRSTEER_TOKEN"  # noqa: S105 - a name
"""Environment variable with the token that lets people in (command lines are seen by all users of a machine)."""
PARAMETER = "token"
"""Of an address, with the token."""
HEALTH = "/_stcore/health"
"""Says that the server is there, and nothing else: open to all programs of this machine."""
GUIDE = "docs/serving.md"
CALLBACK = "/oauth2callback"
ACCOUNT = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
"""What the section [auth] must hold for people to sign in."""
SECRETS = (Path.home() / ".streamlit" / "secrets.toml", ROOT / ".streamlit" / "secrets.toml")
"""Where Streamlit looks; the second has the last word."""


@dataclass(frozen=True)
class Serving:
    """How the app is served."""

    address: str = HERE[0]
    """Where it listens."""
    names: tuple[str, ...] = HERE
    """By which browsers know it; ANY_NAME where that cannot be known."""
    public: str = ""
    """The address under which people sign in; empty where the token lets them in."""

    @property
    def login(self) -> bool:
        """Whether people sign in."""
        return bool(self.public)

    def arguments(self) -> list[str]:
        """For the server's process."""
        return ["--address", self.address, "--names", ",".join(self.names), *(["--login"] if self.login else [])]

    def inside(self, port: int) -> str:
        """The address to ask the server at from this machine."""
        return f"http://{HERE[0] if self.address in (*HERE, *EVERYWHERE) else self.address}:{port}"

    def visited(self, port: int, token: str) -> str:
        """The address to open."""
        return self.public or f"{self.inside(port)}/?{PARAMETER}={token}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said about who reaches the app."""
    parser.add_argument(
        "--login", action="store_true", help=f"people sign in with an account, as {GUIDE} says, instead of the token"
    )
    parser.add_argument("--address", default=HERE[0], help="where to listen (default: %(default)s, this machine alone)")
    parser.add_argument(
        "--i-know", action="store_true", help="listen elsewhere although nobody has to sign in: the token must do"
    )


def serving(address: str, *, login: bool, i_know: bool) -> Serving:
    """How the app is served with these options. Raises CorrSteerError where that would let in anybody."""
    if login:
        public = _public(secrets())
        own = () if address in (*HERE, *EVERYWHERE) else (address,)
        return Serving(address, (*HERE, *own, str(urlsplit(public).hostname)), public)
    if address in HERE:
        return Serving(HERE[0])
    if not i_know:
        raise CorrSteerError(
            f"On {address} other machines could reach the app, and it would have only a token to tell people apart by, "
            f"sent without encryption: let people sign in with --login ({GUIDE} says how), or add --i-know if that is "
            f"what you want."
        )
    return Serving(address, (ANY_NAME,))


def secrets(files: Sequence[Path] | None = None) -> dict[str, Any]:
    """What Streamlit will find of secrets, the sections of the last file first. Raises CorrSteerError for a damaged one."""
    found: dict[str, Any] = {}
    for path in files if files is not None else SECRETS:
        try:
            found.update(tomllib.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise CorrSteerError(f"{path} cannot be read ({error}); correct it, {GUIDE} has an example.") from None
    return found


def _public(known: Mapping[str, Any]) -> str:
    """The app's address for those who sign in. Raises CorrSteerError if nobody could sign in, or anybody."""
    auth = known.get("auth", {})
    missing = [name for name in ACCOUNT if not isinstance(auth.get(name), str) or not auth[name]]
    if missing:
        raise CorrSteerError(
            f"Nobody could sign in: the section [auth] of {SECRETS[-1]} has no {', '.join(missing)}; "
            f"{GUIDE} has an example."
        )
    back = urlsplit(auth["redirect_uri"])
    if not back.hostname or back.path != CALLBACK:
        raise CorrSteerError(
            f"redirect_uri in {SECRETS[-1]} is {auth['redirect_uri']!r}; it must be the app's address followed by "
            f"{CALLBACK}."
        )
    if not people(known):
        raise CorrSteerError(
            f"Everybody with an account there could sign in: name those who may in {SECRETS[-1]}, as [corrsteer] "
            f'people = ["ada@example.org"].'
        )
    if importlib.util.find_spec("authlib") is None:
        raise CorrSteerError("To sign in takes a package that is not installed: pip install 'streamlit[auth]'.")
    return str(auth["redirect_uri"]).removesuffix(CALLBACK)


def people(known: Mapping[str, Any]) -> frozenset[str]:
    """The addresses of those who may use an app that people sign in to."""
    section = known.get("corrsteer", {})
    named = section.get("people", []) if isinstance(section, Mapping) else []
    named = named if isinstance(named, Sequence) and not isinstance(named, str) else []
    return frozenset(one.strip().lower() for one in named if isinstance(one, str) and one.strip())
