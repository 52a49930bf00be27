"""`python -m app`: start the app in the browser and, the first time, the demo's work beside it."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

from app import opening, serving
from app.demo import DEMO, DEMO_TITLE
from corrsteer_core.base import jobs, parent, presenting
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import seconds
from corrsteer_core.runs import run_facts

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
FIRST_PORT = 8501
PORTS_TRIED = 50
ENDINGS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""What asks us to end: Ctrl-C, a service, a terminal that closes."""


def main() -> int:
    """Run the server until it is stopped; returns its exit status."""
    options = _options()
    try:
        how = serving.serving(options.address, login=options.login, i_know=options.i_know)
        port = _free_port() if options.port is None else _checked(options.port)
    except CorrSteerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    os.environ[jobs.INSTANCE] = secrets.token_hex(8)  # the server's jobs have it from us
    if options.present:
        os.environ[presenting.VARIABLE] = "yes"  # and this
    token = os.environ.pop(serving.TOKEN, "") or opening.token()
    _listen()
    demo = None if presenting.on() else start_demo()
    server = _serve(port, how, token)
    try:
        inside, visited = how.inside(port), how.visited(port, token)
        return _until_it_ends(server, inside, visited, demo, browser=not options.no_browser)
    except KeyboardInterrupt:
        print("\nStopping; what is finished is kept, the next start goes on from there.", flush=True)
        return 0
    finally:
        for one in ENDINGS:
            signal.signal(one, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
        _end(server)
        for job in jobs.jobs():
            if job.state == "running" and job.instance == os.environ[jobs.INSTANCE]:
                jobs.stop(job.id)


def _until_it_ends(
    server: subprocess.Popen[bytes], inside: str, visited: str, demo: str | None, *, browser: bool
) -> int:
    """Say where the app is, open it, and wait for a server that only we are meant to end; returns our exit status."""
    with ExitStack() as kept:
        if _answers(inside, server):
            print(f"\nCorrSteer Explorer: {visited}   (Ctrl-C stops it)\n", flush=True)
            if browser and opening.has_display():
                kept.enter_context(opening.opened(visited))
        if demo:
            threading.Thread(target=_follow, args=(demo,), daemon=True).start()
        status = server.wait()
    print(f"error: {why_it_ended(status)}", file=sys.stderr, flush=True)
    return status if 0 < status < 128 else 1


def why_it_ended(status: int) -> str:
    """What to say of a server that ended by itself, by the status of its process (negative: a signal)."""
    if status == -getattr(signal, "SIGKILL", 9):
        how = "was killed (by somebody, or by the system for want of memory)"
    elif status < 0:
        how = f"was ended by {_signal_name(-status)}"
    else:
        how = f"ended with status {status}; if it said why, that stands above"
    return f"The app's server {how}. What is finished is kept: start the app again, which goes on from there."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def start_demo() -> str | None:
    """Start (or go on with) the demo's work unless it is done; returns the id of its job.

    Where it cannot be started, on a full disk say, that is printed, and the app opens without it.
    """
    try:
        return _demo()
    except (CorrSteerError, OSError) as error:
        print(f"warning: {error}", file=sys.stderr, flush=True)
        return None


def _demo() -> str | None:
    if running := jobs.running(DEMO):
        return running.id
    for job in jobs.jobs():
        if job.state == "finished" or job.arguments == DEMO:
            jobs.forget(job.id)  # of an earlier sitting: its news is old
    return None if run_facts.demo_run() else jobs.start(DEMO, DEMO_TITLE)


def _listen() -> None:
    """Let everything that asks us to end be a Ctrl-C, but for what is ignored on purpose (`nohup`)."""
    for one in ENDINGS:
        if one != signal.SIGINT and signal.getsignal(one) != signal.SIG_IGN:
            signal.signal(one, signal.default_int_handler)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app", description="Open CorrSteer Explorer in the browser.")
    parser.add_argument(
        "--port", type=int, help=f"port on this machine (default: the first free one from {FIRST_PORT})"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--present",
        action="store_true",
        help="read-only, to show: pages to look at and to steer, nothing is started or kept",
    )
    serving.add_arguments(parser)
    return parser.parse_args()


def _serve(port: int, how: serving.Serving, token: str) -> subprocess.Popen[bytes]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "app.server", str(port), *how.arguments()],
        cwd=ROOT,  # where the theme's .streamlit/config.toml is
        env={**os.environ, **parent.environment(), serving.TOKEN: token, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C comes to us, and we stop it
    )


def _free_port() -> int:
    for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        if not _taken(port):
            return port
    raise CorrSteerError(
        f"No port from {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1} is free; name another one with --port."
    )


def _checked(port: int) -> int:
    """A port that was asked for. Raises CorrSteerError if nobody can listen there."""
    if not 0 < port < 65536:
        raise CorrSteerError(f"{port} is not a port; name one from 1 to 65535, or leave out --port.")
    if _taken(port):
        raise CorrSteerError(f"Port {port} is in use by another program; name another one, or leave out --port.")
    return port


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _answers(inside: str, server: subprocess.Popen[bytes], patience: float = 60.0) -> bool:
    """Wait until the server answers; False if it ended or never did."""
    until = time.monotonic() + patience
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(f"{inside}{serving.HEALTH}", timeout=2).close()  # noqa: S310 - our own address
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return True
    return False


def _follow(id: str) -> None:
    """Show a job's progress in the terminal: on one line where that is possible, else every few seconds."""
    live = sys.stdout.isatty()
    with suppress(CorrSteerError):  # the browser may have dismissed it
        while (job := jobs.job(id)).state == "running":
            print(("\r" if live else "") + _line(job).ljust(78), end="" if live else "\n", flush=True)
            time.sleep(1.0 if live else 5.0)
        print(("\r" if live else "") + _ending(job).ljust(78), flush=True)


def _line(job: jobs.Job) -> str:
    left = "" if job.seconds_left is None else f", about {seconds(job.seconds_left)} left"
    return f"{job.share:4.0%}  {job.stage}{left}"


def _ending(job: jobs.Job) -> str:
    if job.state == "finished":
        return "100%  The first run is done; reload the page if it does not show it."
    return f"error: {job.error}" if job.state == "failed" else "The first run was stopped; start it again to go on."


def _end(server: subprocess.Popen[bytes], patience: float = 5.0) -> None:
    server.terminate()
    try:
        server.wait(patience)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    sys.exit(main())
