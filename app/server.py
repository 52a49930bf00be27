"""`python -m app.server PORT`: the Streamlit server, with what the pages need loaded before somebody waits for it.

The first pages need pandas, DuckDB, SciPy and the core's torch-free half: loaded before the server answers, they cost
the browser nothing, and nothing loads beside a page that is being drawn. Models load when a page asks for one.
"""

from __future__ import annotations

import argparse
import inspect
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.serving import ANY_NAME, HERE, TOKEN
from corrsteer_core.base import parent
from corrsteer_core.base.errors import CorrSteerError

if TYPE_CHECKING:
    from streamlit.starlette import App

LOADED = ("app.main", "app.overview.page", "app.features.page", "PIL.Image", "pyarrow.pandas_compat")


def main(words: list[str]) -> None:
    """Serve until stopped or until the process that started it is gone."""
    options = _options(words)
    parent.end_with_it(signal.SIGTERM, patience=5.0)
    _load()
    names = options.names.split(",")
    served(options.port, names, login=options.login).run(config=_settings(options.port, options.address, names))


def served(port: int, names: list[str], *, login: bool = False) -> App:
    """The app with its guard. Whoever signs in needs no token; without one, started by hand, it is open to this machine."""
    from starlette.middleware import Middleware
    from streamlit.starlette import App

    from app.guard import Guard
    from app.login import VARIABLE

    token = os.environ.pop(TOKEN, "")  # our jobs have no use for it
    if login:
        os.environ[VARIABLE] = "yes"
    known = [] if ANY_NAME in names else names
    guard = Middleware(Guard, token="" if login else token, names=known, cookie=f"corrsteer-{port}")
    return App(Path(__file__).with_name("main.py"), middleware=[guard])


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app.server", description="Serve the app, without a browser.")
    parser.add_argument("port", type=int)
    parser.add_argument("--address", default=HERE[0], help="where to listen (default: %(default)s)")
    parser.add_argument("--names", default=",".join(HERE), help="names that browsers know it by (default: %(default)s)")
    parser.add_argument("--login", action="store_true", help="people sign in")
    return parser.parse_args(words)


def _load() -> None:
    """What takes its time, done before the server answers."""
    from streamlit import logger

    logger.set_log_level("error")  # pages that load before there is a server are no mistake, as it would warn
    for name in LOADED:
        import_module(name)
    inspect.stack()  # Streamlit does this when it first draws anything, and a first time takes as long as all modules do
    from corrsteer_core.runs import run_facts
    from corrsteer_core.storage import run_folder

    for run in run_folder.run_names()[:1]:
        with suppress(CorrSteerError):  # what is wrong with it is said on the page
            run_facts.facts(run)  # which leaves its file open


def _settings(port: int, address: str, names: list[str]) -> dict[str, Any]:
    from uvicorn.config import LOGGING_CONFIG

    LOGGING_CONFIG["loggers"]["uvicorn"]["level"] = "WARNING"  # that it started is our own line
    LOGGING_CONFIG["loggers"]["uvicorn.error"]["level"] = "WARNING"
    return {
        "server.port": port,
        "server.address": address,
        "server.headless": True,
        "server.allowedHosts": names,
        "browser.serverAddress": names[-1] if names[-1] != ANY_NAME else address,
        "logger.level": "warning",
        "logger.hideWelcomeMessage": True,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
