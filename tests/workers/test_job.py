"""Who gets which batch, and what becomes of it when workers die or never come: on workers that are no processes."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.conditions import Conditions, Limits
from corrsteer_core.workers import job
from corrsteer_core.workers.job import Job
from corrsteer_core.workers.parts import Parts
from corrsteer_core.workers.ray_pool import RayPool
from corrsteer_core.workers.units import Finished, Place, Unit

ALIKE = {"processor": "one", "torch": "2"}


class RayError(Exception):
    """As Ray raises it for a dead worker."""


class Asked:
    """A question on its way: what comes, an error that comes, or nothing for ever."""

    def __init__(self, answer: object) -> None:
        self.answer = answer


class Fake:
    """A worker that answers `does` batches and then dies; `comes` says whether it is ever there."""

    def __init__(self, parts: Parts, does: int = 1000, *, comes: bool = True, **about: str) -> None:
        self.parts, self.left, self.given = parts, does, []
        self.about = SimpleNamespace(remote=lambda: Asked(ALIKE | about if comes else None))
        self.do = SimpleNamespace(remote=self._do)

    def _do(self, held: list, unit: Unit) -> Asked:
        self.given.append(unit.number)
        self.left -= 1
        if self.left < 0:
            return Asked(RayError("it died"))
        return Asked(Finished(unit.number, self.parts.write(unit.number, b"%d" % unit.number)))


@pytest.fixture(autouse=True)
def ray(monkeypatch):
    def wait(asked: list[Asked], num_returns: int, timeout: float) -> tuple[list[Asked], list[Asked]]:
        return [one for one in asked if one.answer is not None][:num_returns], []

    def get(asked: Asked) -> object:
        if isinstance(asked.answer, RayError):
            raise asked.answer
        return asked.answer

    fake = SimpleNamespace(wait=wait, get=get, put=lambda work: work, exceptions=SimpleNamespace(RayError=RayError))
    monkeypatch.setitem(sys.modules, "ray", fake)


@pytest.fixture
def parts(tmp_path, monkeypatch) -> Parts:
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    return Parts.begun("job")


def begun(parts: Parts, workers: list[Fake], another=None, alike=lambda about: None) -> Job:
    units = {number: Unit("job", number, [number], str(parts.folder), parts.mark) for number in range(6)}
    return Job(workers, another or pytest.fail, alike, None, units, parts)  # type: ignore[arg-type]


def done(run: Job) -> list[bytes]:
    found = []
    for number in run.units:
        while (data := run.part(number)) is None:
            run.step()
        found.append(data)
    return found


def test_a_worker_that_finds_no_room_holds_nobody_up(parts, monkeypatch, caplog):
    """As when a machine of a cluster is lost: the worker in place of the dead one waits for room for ever."""
    monkeypatch.setattr(job, "LATE", -1.0)
    dying, living, never = Fake(parts, 1), Fake(parts), Fake(parts, comes=False)
    assert done(begun(parts, [dying, living], lambda dead: never)) == [b"%d" % number for number in range(6)]
    assert len(dying.given) == 2
    assert never.given == []
    assert "a worker died; its 1 prompts are given to another" in caplog.messages
    assert caplog.messages.count("1 of the workers are not there yet; the others go on without them") == 1


def test_nothing_is_given_to_a_worker_before_it_is_there(parts):
    late, first = Fake(parts, comes=False), Fake(parts)
    assert len(done(begun(parts, [late, first]))) == 6
    assert (late.given, len(first.given)) == ([], 6)


def test_a_job_ends_when_nobody_is_left(parts, monkeypatch):
    monkeypatch.setattr(job, "BEGINNING", 0.0)
    run = begun(parts, [Fake(parts, 2)], lambda dead: Fake(parts, comes=False))
    with pytest.raises(
        CorrSteerError, match=r"^No worker is left, and none could be started for 0 seconds: .* goes on from there"
    ):
        done(run)
    assert len(parts.there()) == 2, "what was finished is kept"


def test_a_newcomer_is_looked_at_before_it_gets_work(parts):
    def other(about: dict) -> None:
        raise CorrSteerError("another processor")

    worker = Fake(parts)
    with pytest.raises(CorrSteerError, match="another processor"):
        done(begun(parts, [worker], alike=other))
    assert worker.given == []


def test_workers_that_only_die_end_the_job(parts):
    run = begun(parts, [Fake(parts, 0)], lambda dead: Fake(parts, 0))
    with pytest.raises(CorrSteerError, match=rf"^Workers died {job.DEATHS + 1} times without finishing a batch"):
        done(run)


def test_workers_that_differ_are_refused_before_any_of_them_computes(parts, monkeypatch):
    pool, made = RayPool(3), [Fake(parts, comes=False), Fake(parts), Fake(parts, processor="another")]
    monkeypatch.setattr(pool, "_room", lambda kind, each_takes: 3)
    workers = iter(made)
    monkeypatch.setattr(pool, "_one", lambda place: next(workers))
    place = Place("tiny", "0" * 12, "float32", "", Conditions("cpu", 1, Limits(1, 1, 1)))
    with pytest.raises(CorrSteerError, match="The workers have different processors \\(another, one\\)"):
        pool._begun(place)
    assert [one.given for one in made] == [[], [], []]
