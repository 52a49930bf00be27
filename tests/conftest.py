"""What tests share: a quiet hub, the first start, which goes on beside the others, and who runs what."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests must not depend on a hub; what they load is local
# Tiny models gain nothing from a second thread, and the first start goes on beside the tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # the one process, or the one that hands tests out to others
        from tests.made.first_start import begin_session

        begin_session(whole=not config.option.markexpr)


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        from tests.made.first_start import end_session

        end_session()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Of several processes, the first tells the one that hands out what its models ran in."""
    if getattr(session.config, "workerinput", {}).get("workerid") == "gw0":
        session.config.workeroutput["ran_in"] = getattr(session.config, "ran_in", "")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.ran_in = getattr(node.config, "ran_in", "") or getattr(node, "workeroutput", {}).get("ran_in", "")


def pytest_terminal_summary(terminalreporter, config):
    """Say what the numbers depend on: type, device and threads of models here."""
    if said := getattr(config, "ran_in", ""):
        terminalreporter.write_line(said)


def _ran_in() -> str:
    import torch

    from corrsteer_core.models.devices import pick_dtype, place

    device, spread = place(None)
    dtype = str(pick_dtype(device)).removeprefix("torch.")
    return f"models ran in {dtype} on {device}{', all of them' if spread else ''}; torch threads: {torch.get_num_threads()}"


@pytest.hookimpl(trylast=True)  # when what is not asked for has been left out
def pytest_collection_modifyitems(items):
    """An order in which several processes end at about the same time.

    Each runs whole modules (`--dist loadfile`), so that what the tests of one share is made once. Modules of the
    embedded model come late: they wait for the first start, which takes minutes.
    """
    late = {item.path for item in items if item.get_closest_marker("embedded")}
    items.sort(key=lambda item: _turn(item.path, late))


def _turn(module: Path, late: set[Path]) -> int:
    """When a module is begun; those of one turn in the order of their names."""
    if module.name == "test_ray_pool.py":
        return 0  # Ray's workers take what others leave of the cores, and need time
    if module.name == "test_browser.py":
        return 2  # the longest; the first start is about done by then
    if module in late:
        return 4
    return 1 if module.relative_to(HERE).parts[0] < "project" else 3


def pytest_collection_finish(session):
    """All modules are loaded: what they hold, they hold to the end, so no search for garbage needs to go through it."""
    session.config.ran_in = _ran_in()  # before any test asks for another type
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # or libraries complain of what they find still there


@pytest.fixture(scope="session", autouse=True)
def _first_start_early(request):
    """Begin the first start with the first test if a later one needs it, so that it goes on beside the others."""
    if any("first_start" in item.fixturenames or "demo" in item.fixturenames for item in request.session.items):
        from tests.made.first_start import begin_first_start

        begin_first_start()


@pytest.fixture(scope="session", autouse=True)
def _the_users_own_cache_is_left_alone(tmp_path_factory):
    """Without a cache of its own, a test writes here, not into that of the checkout."""
    folder = tmp_path_factory.mktemp("no-cache-was-named")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORRSTEER_CACHE", str(folder))
        yield


@pytest.fixture(scope="session", autouse=True)
def _components_are_looked_for_once():
    """For each `AppTest`, Streamlit reads the metadata of every installed package: four fifths of what a page takes."""
    if "streamlit.testing.v1" in sys.modules:
        from streamlit.components.v2 import manifest_scanner

        once = functools.cache(manifest_scanner.scan_component_manifests)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(manifest_scanner, "scan_component_manifests", once)
            yield
    else:
        yield


@pytest.fixture(scope="session")
def first_start():
    """The app, started on an empty cache: the page is there at once, the demo's work goes on beside it."""
    from tests.made import first_start

    return first_start.first_start()


@pytest.fixture(scope="session")
def embedded_cache(tmp_path_factory):
    """A cache folder with nothing but the embedded model in it."""
    from tests.made.first_start import with_the_model

    folder = tmp_path_factory.mktemp("embedded") / "cache"
    with_the_model(folder)
    return folder


@pytest.fixture(scope="session")
def demo(first_start):
    """Name of the run that the first start leaves, waited for; the cache is the default one meanwhile."""
    from corrsteer_core.base import jobs
    from corrsteer_core.runs import run_facts
    from tests.made.first_start import PATIENCE

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORRSTEER_CACHE", str(first_start.cache))
        until = time.monotonic() + PATIENCE
        while not (run := run_facts.demo_run()):
            failed = [job for job in jobs.jobs() if job.state == "failed"]
            assert not failed, failed[0].error
            assert time.monotonic() < until, "the first start did not end"
            time.sleep(2)
        yield run
