"""`python -m app.server PORT`: the Streamlit server, with what the pages need loaded before somebody waits for it.

The first page needs pandas, DuckDB and the core's torch-free half; loaded before the server answers, they cost the
browser nothing. What the next pages need follows in the background. Models load when a page asks for one.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from pathlib import Path

FIRST = ("app.main", "app.views.overview")
NEXT = ("corrsteer_core.evidence", "app.views.features")


def main(port: str) -> None:
    """Serve on this machine alone, until stopped."""
    for name in FIRST:
        import_module(name)
    threading.Thread(target=lambda: [import_module(name) for name in NEXT], name="loading", daemon=True).start()
    from streamlit.web import cli

    options = {"server.port": port, "server.address": "localhost", "server.headless": "true", "logger.level": "warning"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    cli.main(["run", str(Path(__file__).with_name("main.py")), *arguments])


if __name__ == "__main__":
    main(sys.argv[1])
