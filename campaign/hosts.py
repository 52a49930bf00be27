"""A Ray cluster of two hosts: each has a network of its own and, every other time, does not see the other's cache.

Both are on this machine, joined by a bridge. The cable of the second is pulled, its processes are killed, or the command
is; every sample must be there once with the same numbers. Needs Linux, root and the command `ip`.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil

from campaign.actions import Action, Place, shared_out
from campaign.interruptions import Known, afterwards
from campaign.tally import Bounds, Tally

HOSTS = {"corrsteer-1": "10.77.0.1", "corrsteer-2": "10.77.0.2"}
FIRST, SECOND = HOSTS
BRIDGE = "corrsteer-br"
PORT = 6379
WAYS = ("nothing happens", "the cable is pulled", "the second host dies", "the command is killed")
MOMENTS = (6.0, 20.0)
"""Seconds after a command has begun: loading takes the first half."""
ALL_DONE = 600.0


def hosts(place: Place, known: Known, seed: int, bounds: Bounds) -> Tally:
    """Each command, each way, with the cache seen by both hosts and by the first alone."""
    tally = Tally("commands on two hosts", left_out=_lacking())
    if tally.left_out:
        return tally
    rng = random.Random(seed)
    chosen = shared_out(place)
    for nth in bounds.numbers():
        way = WAYS[nth % len(WAYS)]
        action = chosen[nth // len(WAYS) % len(chosen)]
        shared = bool(nth // len(WAYS) // len(chosen) % 2)
        moment = rng.uniform(*MOMENTS)
        cache = known.cache(action)
        with two_hosts(cache, shared=shared) as settings:
            problem = _tried(action, cache, way, moment, settings)
        seen = "one cache" if shared else "caches apart"
        tally.note(
            f"{action.name}, {way} after {moment:.1f} s, {seen} (seed {seed}, trial {nth})",
            problem or afterwards(place, known, action, cache),
        )
    return tally


def _lacking() -> str:
    """Why it cannot be done here; empty where it can."""
    if find_spec("ray") is None:
        return "Ray is not installed"
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("ip"):
        return "needs Linux, root and the command ip"
    return ""


@contextmanager
def two_hosts(hidden: Path, *, shared: bool) -> Iterator[dict[str, str]]:
    """A cluster of two workers, one on each host; gives the environment that a command joins it with.

    Unless it is `shared`, the second host finds an empty folder in place of `hidden`.
    """
    with ExitStack() as stack:
        stack.callback(_take_down)
        _take_down()
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("link", "set", BRIDGE, "up")
        for nth, (host, address) in enumerate(HOSTS.items(), 1):
            _ip("netns", "add", host)
            _ip("link", "add", cable(nth), "type", "veth", "peer", "name", "eth0", "netns", host)
            _ip("link", "set", cable(nth), "master", BRIDGE, "up")
            _ip("-n", host, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "eth0", "up")
            _ip("-n", host, "link", "set", "lo", "up")
        settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "OMP_NUM_THREADS": "1"}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hosts-", dir="/tmp")))
        for host in HOSTS:
            _begin_ray(host, folder / host, settings, None if shared or host == FIRST else hidden)
        yield settings


def _begin_ray(host: str, folder: Path, settings: dict[str, str], hidden: Path | None) -> None:
    own = folder / "cache"
    own.mkdir(parents=True)
    head = ["--head", "--port", str(PORT), "--include-dashboard=false"]
    where = head if host == FIRST else ["--address", f"{HOSTS[FIRST]}:{PORT}"]
    ray = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", *where, "--node-ip-address", HOSTS[host]),
        *("--num-cpus", "1", "--object-store-memory", str(200 * 2**20), "--temp-dir", str(folder / "ray")),
        "--disable-usage-stats",
    ]
    # A host's files are what its processes see: `ip netns exec` gives them mounts of their own.
    words = ["sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(hidden), *ray] if hidden else ray
    subprocess.run(
        ["ip", "netns", "exec", host, *words],
        env={**os.environ, **settings, "CORRSTEER_CACHE": str(own)}, check=True, capture_output=True, timeout=120,
    )  # fmt: skip


def _tried(action: Action, cache: Path, way: str, moment: float, settings: dict[str, str]) -> str:
    """What is wrong with how a command on the first host ended."""
    process = subprocess.Popen(
        [
            *("ip", "netns", "exec", FIRST, sys.executable, "-m", "corrsteer_core", *action.words(cache)),
            *("--ray", f"{HOSTS[FIRST]}:{PORT}"),
        ],
        env={**os.environ, **settings, "CORRSTEER_CACHE": str(cache)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if way != WAYS[0]:
        with suppress(subprocess.TimeoutExpired):
            process.wait(moment)
    if way == WAYS[1]:
        _ip("link", "set", cable(2), "down")
    elif way == WAYS[2]:
        _end(SECOND)
    elif way == WAYS[3]:
        process.kill()
        process.communicate()
        return ""
    try:
        printed, _ = process.communicate(timeout=ALL_DONE)
    except subprocess.TimeoutExpired:
        process.kill()
        return "it did not end"
    return "" if process.returncode == 0 else f"it ended with {process.returncode}: {printed[-400:]}"


def cable(nth: int) -> str:
    """What joins the n-th host to the bridge."""
    return f"corrsteer-v{nth}"


def _end(host: str) -> None:
    """Kill every process of a host."""
    found = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True, check=False).stdout.split()
    killed = []
    for number in found:
        with suppress(psutil.Error):
            one = psutil.Process(int(number))
            one.kill()
            killed.append(one)
    psutil.wait_procs(killed, timeout=10)


def _take_down() -> None:
    for host in HOSTS:
        _end(host)
        subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)
    for name in (*(cable(nth) for nth in range(1, len(HOSTS) + 1)), BRIDGE):
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
