"""`python -m app.server PORT`: the Streamlit server, with what the pages need loaded before somebody waits for it.

The first pages need pandas, DuckDB, SciPy and the core's torch-free half: loaded before the server answers, they cost
the browser nothing, and nothing loads beside a page that is being drawn. Models load when a page asks for one.
"""

from __future__ import annotations

import inspect
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from corrsteer_core.base import parent
from corrsteer_core.base.errors import CorrSteerError

LOADED = ("app.main", "app.overview.page", "app.features.page", "PIL.Image", "pyarrow.pandas_compat")


def main(port: str) -> None:
    """Serve on this machine alone, until stopped or until the process that started it is gone."""
    parent.end_with_it(signal.SIGTERM, patience=5.0)
    from streamlit import logger

    logger.set_log_level("error")  # pages that load before there is a server are no mistake, as it would warn
    for name in LOADED:
        import_module(name)
    inspect.stack()  # Streamlit does this when it first draws anything, and a first time takes as long as all modules do
    from streamlit.web import cli

    from corrsteer_core.runs import run_facts
    from corrsteer_core.storage import run_folder

    for run in run_folder.run_names()[:1]:
        with suppress(CorrSteerError):  # what is wrong with it is said on the page
            run_facts.facts(run)  # which leaves its file open

    options = {"server.port": port, "server.address": "localhost", "server.headless": "true", "logger.level": "warning"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    cli.main(["run", str(Path(__file__).with_name("main.py")), *arguments])


if __name__ == "__main__":
    main(sys.argv[1])
