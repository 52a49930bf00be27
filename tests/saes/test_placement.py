"""SAEs that do not fit beside the model stay in main memory and are lent to its device: the same numbers, nothing left there."""

import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.steering import vectors_of
from corrsteer_core.method import forecast
from corrsteer_core.models.limits import weights_of
from corrsteer_core.saes import placement
from corrsteer_core.saes.sae import Sae, load_saes
from corrsteer_core.saes.worth import losses
from tests.made.models import prompts, random_sae
from tests.made.runs import D_SAE, load, steering_set

NEW = 6
EACH = 4 * (2 * D_SAE * 32 + D_SAE + 32)
"""Bytes of one of the tiny SAEs: encoder, decoder, two biases, in float32."""


def source(saes: list[Sae]) -> str:
    return str(Path(saes[0].source).parent)


def pooled(model, saes, pooling="max"):
    ids = prompts(model)
    found = {}
    for batch in answers(model, ids, max_new_tokens=NEW, saes=saes, pooling=pooling, batch_size=2):
        found |= {place: [z[row] for z in batch.pooled] for row, place in enumerate(batch.prompts)}
    return [z for place in range(len(ids)) for z in found[place]]


@pytest.mark.parametrize(("room", "lent"), [(0, [True, True]), (1.5 * EACH, [False, True]), (2 * EACH, [False, False])])
def test_as_many_lie_beside_the_model_as_there_is_room_for(monkeypatch, caplog, room, lent):
    model, saes = load()
    assert model.width("resid_post") == 32
    monkeypatch.setattr(placement, "room_for_saes", lambda *_: room)
    with caplog.at_level(logging.WARNING, "corrsteer"):
        again = load_saes([source(saes)], model)
    assert [sae.lent for sae in again] == lent
    told = f"{sum(lent)} of 2 SAEs do not fit beside {model.name} on cpu: they stay in main memory"
    assert (told in caplog.text) is any(lent)
    here = forecast.memory_here(model, again)
    assert (here.saes, here.lent) == (EACH * (2 - sum(lent)), EACH * sum(lent))
    assert ("saes_in_main_memory_gib" in here.table()) is any(lent)


@pytest.mark.parametrize("pooling", ["max", "mean", "all"])
def test_what_is_lent_gives_the_same_numbers_and_is_back_home_afterwards(pooling):
    model, saes = load()
    away = [replace(sae, lent=True) for sae in saes]
    before = [weight.data_ptr() for sae in saes for weight in sae.net.parameters()]
    for mine, theirs in zip(pooled(model, away, pooling), pooled(model, saes, pooling), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.any()
    steering = steering_set(model, saes, (1, 3, 4.0), (2, 5, 6.0))
    for point, vector in vectors_of(steering, away).items():
        assert torch.equal(vector, vectors_of(steering, saes)[point])
    z = torch.rand(3, D_SAE)
    assert torch.equal(away[0].decode(z), saes[0].net.decode(z))
    assert [weight.data_ptr() for sae in saes for weight in sae.net.parameters()] == before


def test_how_good_an_sae_is_does_not_depend_on_where_it_lies():
    model, saes = load()
    texts = torch.tensor([prompts(model)[2][:8]] * 2).numpy()
    mean = torch.zeros(saes[0].d_in)
    assert losses(model, replace(saes[0], lent=True), texts, mean) == losses(model, saes[0], texts, mean)


def test_weights_are_home_again_after_an_error_and_never_lent_twice_at_once():
    sae = replace(random_sae(load()[0], 1), lent=True)
    home = sae.net.W_enc.data_ptr()
    with pytest.raises(RuntimeError, match="must match the size"):
        sae.encode(torch.zeros(1, 5))
    assert sae.net.W_enc.data_ptr() == home
    x, wanted, wrong = torch.rand(64, 32), None, []
    wanted = sae.encode(x)

    def borrow():
        for _ in range(50):
            if not torch.equal(sae.encode(x), wanted):
                wrong.append(1)

    threads = [threading.Thread(target=borrow) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong
    assert sae.net.W_enc.data_ptr() == home


def test_the_room_is_half_of_what_the_model_leaves_of_a_gpu_and_no_limit_elsewhere(monkeypatch):
    model, _ = load()
    assert placement.room_for_saes(model, torch.device("cpu")) == float("inf")
    monkeypatch.setattr(placement, "memory_of", lambda device: 1000 + weights_of(model, device))
    assert placement.room_for_saes(model, torch.device("cuda", 0)) == 500
    monkeypatch.setattr(placement, "memory_of", lambda device: 0)
    monkeypatch.setattr(placement, "weights_of", lambda *_: 1000)
    assert placement.room_for_saes(model, torch.device("cuda", 0)) == 0


def test_weights_of_a_device_are_those_that_lie_on_it():
    model, _ = load()
    assert weights_of(model, torch.device("cuda", 1)) == 0
    assert weights_of(model, torch.device("cpu")) == weights_of(model) > 0


def test_a_plan_says_what_of_the_saes_a_smaller_gpu_leaves_in_main_memory():
    model, _ = load()
    config = model.net.config
    weights = forecast.memory_of_config(config, torch.float32, 0, D_SAE, 10**9).weights
    one = EACH
    for room, there in ((2 * one, 1), (4 * one, 2), (100 * one, 3), (-5, 0)):
        told = forecast.memory_of_config(config, torch.float32, 3, D_SAE, weights + room)
        assert (told.saes, told.lent) == (there * one, (3 - there) * one)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu_lent_weights_leave_nothing_there():
    net = nn.Linear(256, 256)
    device = torch.device("cuda", 0)
    before = torch.cuda.memory_allocated(device)
    with placement.lent(net, device):
        assert {weight.device for weight in net.parameters()} == {device}
    assert {weight.device.type for weight in net.parameters()} == {"cpu"}
    assert torch.cuda.memory_allocated(device) == before
