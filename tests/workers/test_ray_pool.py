"""Workers through Ray: the same numbers whoever computes them, whoever dies, and nothing left when they are not wanted."""

import random
import signal
import sys
import threading
from contextlib import ExitStack

import duckdb
import numpy as np
import psutil
import pytest
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.fluency import fluency
from corrsteer_core.engine.gradients import following
from corrsteer_core.engine.reading_texts import read_texts
from corrsteer_core.engine.steering import variant_of, vectors_of
from corrsteer_core.evaluation.trials import trial, unsteered_and
from corrsteer_core.method import collecting, prediction
from corrsteer_core.method.run_setup import Setup, reopen
from corrsteer_core.models.conditions import threads
from corrsteer_core.models.loading import load_model
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import Firing, SteeringRow
from corrsteer_core.saes.activation_files import collect
from corrsteer_core.saes.sae import load_saes, ref_of
from corrsteer_core.storage.run_folder import database_path
from corrsteer_core.tasks import get_task, load_items
from corrsteer_core.workers import cluster, ray_pool
from corrsteer_core.workers.actor import Worker
from corrsteer_core.workers.parts import parts_dir
from corrsteer_core.workers.pool import spread_over
from tests.made.runs import load, make_run, steering_set

pytestmark = pytest.mark.ray
LIMIT = 40
TABLES = ("samples", "activations")


@pytest.fixture(scope="module")
def pools():
    """One worker and two, with one thread each, of one Ray."""
    pytest.importorskip("ray")
    with threads(1), ray_pool.RayPool(3):
        made = {count: ray_pool.RayPool(count) for count in (1, 2)}
        yield made
        for pool in made.values():
            pool.end_workers()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))


def set_up() -> Setup:
    model, saes = load()
    task = get_task("sentiment")
    items = load_items(task, limit=LIMIT)
    refs = tuple(ref_of(sae) for sae in saes)
    style = PromptStyle(chat=False)
    config = RunConfig("sentiment", model.name, model.fingerprint, model.arithmetic, refs, style, 4, limit=LIMIT)
    return Setup(config.run_id(items), config, model, saes, task, items)


def content(run: str) -> dict:
    """Every row of the tables that collecting fills, exactly."""
    with duckdb.connect(str(database_path(run)), read_only=True) as connection:
        return {table: connection.sql(f"FROM {table} ORDER BY ALL").fetchall() for table in TABLES}


def collected(where, monkeypatch, pool=None, **more) -> dict:
    """What a run collected in a cache of its own holds."""
    monkeypatch.setenv("CORRSTEER_CACHE", str(where))
    setup = set_up()
    if pool is None:
        with threads(1):
            collecting.collect(setup, batch_size=4, **more)
    else:
        with spread_over(pool):
            collecting.collect(setup, batch_size=4, **more)
    return content(setup.run)


def workers_of(pool) -> list[int]:
    import ray

    return [about["pid"] for about in ray.get([worker.about.remote() for worker in pool._workers])]


def test_a_run_is_the_same_from_this_process_one_worker_or_two(pools, tmp_path, monkeypatch):
    here = collected(tmp_path / "here", monkeypatch)
    assert len(here["samples"]) == LIMIT
    assert here["activations"]
    assert collected(tmp_path / "one", monkeypatch, pools[1]) == here
    assert collected(tmp_path / "two", monkeypatch, pools[2]) == here
    assert list(parts_dir().iterdir()) == [], "what is stored needs no parts any more"


def test_steered_answers_and_their_fluency_are_the_same_too(pools):
    model, saes = load()
    items = load_items(get_task("sentiment"), limit=24)
    variants = unsteered_and(vectors_of(steering_set(model, saes, (1, 3, 9.0), (2, 5, 6.0)), saes), {})
    asked = {"style": PromptStyle(chat=False), "scorer": get_task("sentiment").scorer, "max_new_tokens": 4}
    classes = [((65,), (66, 67)) for _ in items]

    def measured():
        found = trial(model, items, variants, classes=classes, **asked)
        prompts = [[1, 2, 3 + place] for place in range(len(items))]
        return found, fluency(model, prompts, found.tokens)

    with threads(1):
        here = measured()
    for pool in pools.values():
        with spread_over(pool):
            there = measured()
        assert there[0].tokens == here[0].tokens
        assert there[0].texts == here[0].texts
        np.testing.assert_array_equal(there[0].leads, here[0].leads)
        np.testing.assert_array_equal(np.stack(there[0].class_logp), np.stack(here[0].class_logp))
        np.testing.assert_array_equal(there[1], here[1])


def test_what_does_more_than_add_is_the_same_too(pools):
    model, saes = load()
    prompts = [[1, 2, 3 + place, 7] for place in range(12)]
    rows = (
        SteeringRow(1, 3, 2.0, operation="clamp"),
        SteeringRow(1, 5, 0.0, operation="ablate"),
        SteeringRow(1, 6, 0.0, operation="ablate", while_fires=Firing(1, 8)),
        SteeringRow(2, 5, 0.1, operation="cap"),
        SteeringRow(2, 9, 6.0, from_token=2),
        SteeringRow(2, 4, 7.0),
    )
    variants = ({}, variant_of(steering_set(model, saes).with_rows(rows), saes))

    def found():
        return list(answers(model, prompts, max_new_tokens=5, variants=variants, batch_size=3))

    with threads(1):
        here = found()
    assert any(one[0] != one[1] for batch in here for one in batch.tokens), "it must change an answer"
    for pool in pools.values():
        with spread_over(pool):
            there = found()
        for mine, theirs in zip(here, there, strict=True):
            assert (mine.prompts, mine.tokens) == (theirs.prompts, theirs.tokens)
            np.testing.assert_array_equal(mine.leads, theirs.leads)


def test_machines_of_a_cluster_may_join_a_little_later(monkeypatch, caplog):
    ray = pytest.importorskip("ray")
    cores = iter([2, 2, 5, 5, 6])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": float(next(cores))})
    monkeypatch.setattr(ray_pool.time, "sleep", lambda seconds: None)
    assert ray_pool.RayPool(3, "there:6379")._room("CPU", 2) == 3
    assert caplog.messages == ["there is room for 1 of 3 workers; waiting for machines to join the cluster"]
    monkeypatch.setattr(ray_pool, "JOINING", 0.0)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 5.0})
    assert ray_pool.RayPool(3, "there:6379")._room("CPU", 2) == 2, "not for ever"
    assert ray_pool.RayPool(None, "there:6379")._room("GPU", 1) == 0
    assert ray_pool.RayPool(9)._room("CPU", 1) == 5, "nobody joins a Ray of our own"


def test_weights_in_fewer_bits_reach_workers_that_do_not_see_this_process_s_environment(monkeypatch):
    pytest.importorskip("bitsandbytes")
    name = load()[0].name
    model = load_model(name, dtype=torch.float32, quantize="8bit")
    told = []
    monkeypatch.setattr(ray_pool.RayPool, "_begun", lambda self, place: told.append(place) or [])
    pool = ray_pool.RayPool(1)
    pool._workers_for(model, pool.conditions(model))
    there = Worker(told[0])._loaded()
    assert (there.fingerprint, there.arithmetic) == (model.fingerprint, model.arithmetic)


@pytest.mark.parametrize("kind", [prediction.CLASSES, prediction.ANSWERS])
def test_predicted_effects_are_the_same_too(pools, tmp_path, monkeypatch, kind):
    model, saes = load()
    classes = {prediction.CLASSES: ((65,), (66, 67)), prediction.ANSWERS: None}[kind]
    monkeypatch.setattr(prediction, "tokens_of", lambda model, task, items: classes and [classes] * len(items))
    monkeypatch.setattr(following, "POSITIONS", 8)  # several batches

    def predicted(name, *around):
        monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / name))
        run = make_run(model, saes)
        with ExitStack() as stack:
            for context in around:
                stack.enter_context(context)
            assert prediction.predict(run, setup=reopen(run, model))["kind"] == kind
        with duckdb.connect(str(database_path(run)), read_only=True) as connection:
            return connection.sql("FROM predictions ORDER BY ALL").fetchall()

    here = predicted("here", threads(1))
    assert len({row[5] for row in here}) > len(here) / 2, "features differ"
    for count, pool in pools.items():
        assert predicted(str(count), spread_over(pool), threads(1)) == here


@pytest.mark.parametrize("stopped", [(2,), pytest.param((1, 2), marks=pytest.mark.exhaustive)])
def test_activations_of_texts_are_the_same_too_and_go_on_where_they_were(pools, tmp_path, stopped):
    model, saes = load()
    sequences = np.random.default_rng(0).integers(2, 200, (100, 16))
    points = [sae.point for sae in saes]

    def files(name, progress=lambda *_: None):
        stores = collect(model, sequences, points, tmp_path / name, progress, read_texts)
        return {point: store.view(torch.int16).clone() for point, store in stores.items()}

    def stop(stage, done, total):
        if done >= 48:
            raise KeyboardInterrupt

    with threads(1):
        here = files("here")
    assert all(float(one.view(torch.bfloat16).float().std()) > 0 for one in here.values())
    for count, pool in pools.items():
        with spread_over(pool):
            if count in stopped:
                with pytest.raises(KeyboardInterrupt):
                    files(str(count), stop)
            seen = []
            there = files(str(count), lambda stage, done, total, seen=seen: seen.append(done))
        assert count not in stopped or seen[0] == 64, "what is in the files is not read again"
        for point in points:
            assert torch.equal(there[point], here[point])


@pytest.mark.embedded
@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_embedded_model_gives_the_same_too(pools, embedded_cache, monkeypatch, dtype):
    """Tokens, features, class probabilities, unsteered and steered, to the last bit, in both types."""
    monkeypatch.setenv("CORRSTEER_CACHE", str(embedded_cache))
    model = load_model(dtype=dtype)
    saes = load_saes(["embedded"], model)
    items = load_items(get_task("sentiment"), limit=24)
    prompts = [model.tokenizer(item.prompt)["input_ids"] for item in items]
    push = {sae.point: 8 * sae.directions([7])[0] for sae in saes}

    def found():
        read = answers(model, prompts, max_new_tokens=3, saes=saes, batch_size=6)
        steered = answers(
            model, prompts, max_new_tokens=3, variants=({}, push), classes=[((65,), (66, 67))] * len(prompts)
        )
        return list(read), list(steered)

    with threads(1):
        here = found()
    for pool in pools.values():
        with spread_over(pool):
            there = found()
        for mine, theirs in zip([*here[0], *here[1]], [*there[0], *there[1]], strict=True):
            assert (mine.prompts, mine.tokens) == (theirs.prompts, theirs.tokens)
            np.testing.assert_array_equal(mine.leads, theirs.leads)
            assert all(map(torch.equal, mine.pooled or [], theirs.pooled or []))
            for one, other in zip(mine.class_logp, theirs.class_logp, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.exhaustive
def test_workers_that_are_killed_lose_and_double_nothing(pools, tmp_path, monkeypatch):
    here = collected(tmp_path / "here", monkeypatch)
    chance, stop, killed = random.Random(1), threading.Event(), []

    def kill():
        while not stop.wait(0.4 + chance.random()) and len(killed) < 6:
            for process in psutil.Process().children(recursive=True):
                if "ray::Worker" in " ".join(process.cmdline()) and chance.random() < 0.5:
                    killed.append(process.pid)
                    process.send_signal(signal.SIGKILL)

    murderer = threading.Thread(target=kill)
    murderer.start()
    try:
        assert collected(tmp_path / "there", monkeypatch, pools[2]) == here
    finally:
        stop.set()
        murderer.join()
    assert killed
    pools[2].end_workers()


def test_what_is_stopped_goes_on_and_a_damaged_part_is_computed_again(pools, tmp_path, monkeypatch):
    here = collected(tmp_path / "here", monkeypatch)

    def stopped(stage, done, total):
        if len(list(parts_dir().glob("*/*.parquet"))) >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collected(tmp_path / "there", monkeypatch, pools[2], progress=stopped)
    assert pools[2]._workers == [], "nobody waits for them"
    left = sorted(parts_dir().glob("*/*.parquet"))
    assert left
    left[-1].write_bytes(left[-1].read_bytes()[:-9])
    assert collected(tmp_path / "there", monkeypatch, pools[2]) == here


def test_a_worker_that_sees_other_files_sends_its_part(pools, tmp_path, monkeypatch):
    here = collected(tmp_path / "here", monkeypatch)
    monkeypatch.setattr(ray_pool.Parts, "mark", property(lambda self: "of another machine"))
    assert collected(tmp_path / "there", monkeypatch, pools[2]) == here


def test_a_batch_that_fails_three_times_ends_the_work_with_its_reason(pools, monkeypatch):
    model, _ = load()
    prompts = [[1, 2, 3]] * 3 + [[1, 2, 10**6]]  # there is no such token
    with (
        spread_over(pools[2]),
        pytest.raises(CorrSteerError, match=r"A batch of 4 prompts failed 3 times on the workers: .*index"),
    ):
        list(answers(model, prompts, max_new_tokens=2))


@pytest.mark.exhaustive
def test_workers_with_other_weights_are_refused(pools):
    from dataclasses import replace

    model, _ = load()
    with spread_over(pools[1]), pytest.raises(CorrSteerError, match="A worker found other weights under the name"):
        list(answers(replace(model, fingerprint="other"), [[1, 2]], max_new_tokens=1))


def test_workers_end_within_ten_seconds(pools, tmp_path, monkeypatch):
    collected(tmp_path / "there", monkeypatch, pools[2])
    alive = workers_of(pools[2])
    assert len(set(alive)) == 2
    assert {psutil.Process(pid).nice() - psutil.Process().nice() for pid in alive} == {cluster.NICENESS}
    pools[2].end_workers()
    _, still = psutil.wait_procs([psutil.Process(pid) for pid in alive if psutil.pid_exists(pid)], timeout=10)
    assert still == []


@pytest.mark.exhaustive
def test_ray_is_started_again_after_it_was_ended():
    pytest.importorskip("ray")
    model, _ = load()
    for _ in range(2):
        with ray_pool.RayPool(1) as pool, spread_over(pool):
            assert len(list(answers(model, [[1, 2]], max_new_tokens=1))) == 1


def test_workers_on_different_processors_are_refused():
    alike = [{"processor": "A100", "torch": "2.13"}] * 2
    ray_pool._check_alike(alike)
    for changed, name in (({"processor": "H100"}, "A100, H100"), ({"torch": "2.12"}, "2.12, 2.13")):
        with pytest.raises(CorrSteerError, match=name):
            ray_pool._check_alike([*alike, alike[0] | changed])


def test_a_reopened_run_is_held_to_what_it_was_begun_with(tmp_path, monkeypatch):
    setup = set_up()
    with threads(1):
        collecting.collect(setup)
    assert reopen(setup.run, setup.model).model.conditions.threads == 1
    model, saes = load()
    assert reopen(make_run(model, saes), model).model.conditions is None, "a run of before"


def test_without_ray_one_sentence_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main.main(["runs", "--workers", "2"]) == main.FAILED
    assert "pip install 'ray>=2.60'" in capsys.readouterr().err
    assert main.main(["runs"]) == 0
