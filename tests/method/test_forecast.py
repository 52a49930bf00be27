"""What a study will take, against what is loaded, counted by hand, and what the engine itself says."""

import json

import pytest
import torch
import transformers

from corrsteer_core.cli import main
from corrsteer_core.method import forecast
from corrsteer_core.models import devices
from corrsteer_core.models.limits import prompts_that_fit
from corrsteer_core.runs.against import CONTROLS, MATCHED
from corrsteer_core.runs.strategies import STRATEGIES
from tests.made.runs import D_SAE, LAYERS, load


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))


def test_a_configuration_alone_gives_what_the_loaded_model_and_its_saes_take():
    model, saes = load()
    here = forecast.memory_here(model, saes)
    told = forecast.memory_of_config(model.net.config, torch.float32, len(LAYERS), D_SAE, here.device)
    by_hand = sum(weight.numel() * 4 for weight in model.net.state_dict(keep_vars=True).values())
    tied = model.net.config.tie_word_embeddings
    assert here.weights == told.weights == by_hand - tied * 4 * model.net.get_input_embeddings().weight.numel()
    assert here.saes == told.saes == sum(4 * weight.numel() for sae in saes for weight in sae.net.state_dict().values())
    assert here.token == told.token
    assert told.left == here.device - here.weights - here.saes
    halved = forecast.memory_of_config(model.net.config, torch.bfloat16, 0, D_SAE, 1000)
    assert 2 * halved.weights == here.weights
    assert halved.table()["fits"] is (halved.weights < 1000)


def test_layers_with_states_take_no_keys_but_room_for_every_text():
    """Qwen 3.5's sizes: per text 18 layers of 16 float32 states of 128 x 128, twice; keys in the other 6 layers alone."""
    config = transformers.Qwen3_5TextConfig(
        vocab_size=1000, hidden_size=64, intermediate_size=64, num_hidden_layers=24, num_attention_heads=8,
        num_key_value_heads=2, head_dim=256, linear_num_value_heads=16,
    )  # fmt: skip
    memory = forecast.memory_of_config(config, torch.bfloat16, 0, D_SAE, 24 * forecast.GIB)
    assert memory.table()["states_mib_per_text"] == 2 * 18 * 16 * 128 * 128 * 4 / 2**20 == 36
    assert memory.token == 2 * 6 * 2 * (2 * 256) * 2  # growing, layers, keys and values, heads, bytes
    batch = forecast.prompts_at_once(memory, config, "cuda", 40, 24)
    assert batch == int(0.25 * memory.left / (memory.row + 8 * 1000)) < 256
    assert "states_mib_per_text" not in forecast.memory_here(load()[0], []).table()


def test_a_batch_is_as_large_as_the_engine_would_make_it():
    model, _ = load()
    memory = forecast.memory_here(model, [])
    prompts = [[1] * 40] * 100
    assert forecast.prompts_at_once(memory, model.net.config, "cpu", 40, 24) == prompts_that_fit(model, prompts, 24)


def test_the_answers_of_a_study_counted_by_hand():
    found = forecast.answers_of({"train": 100, "validation": 40, "test": 20}, layers=3)
    assert found[forecast.COLLECTING] == 160
    # V: 8 features of 3 layers at 4 scales, P: one of each layer at one; the unsteered answers with both.
    assert found[forecast.TRYING] == 40 * (96 + 1 + 3 + 1)
    assert found[forecast.MATCHING] == MATCHED * found[forecast.TRYING]
    assert found[forecast.MEASURING] == 20 * (1 + len(STRATEGIES) * (2 + CONTROLS) + 2 * MATCHED)


def test_the_command_times_this_machine_and_shares_the_hours_out(capsys):
    model, saes = load()
    sae_folder = saes[0].source.rpartition("/")[0]
    asked = ["plan", "--task", "sentiment", "--model", model.name, "--sae", sae_folder, "--no-chat", "--limit", "40"]
    assert main.main([*asked, "--dtype", "float32", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    *parts, total = found["study"]
    assert found["fits"] is True
    for row in (*parts, total):
        assert row["hours"] > 0
        assert row["hours_with_2_workers"] == pytest.approx(row["hours"] / 2)
    assert total["answers"] == sum(row["answers"] for row in parts)
    assert parts[0]["hours"] == pytest.approx(40 * found["seconds_per_answer"] / 3600)
    assert parts[1]["hours"] == pytest.approx(parts[1]["answers"] * found["seconds_per_steered_answer"] / 3600)


def test_memory_alone_is_told_without_loading_weights(capsys, monkeypatch, tmp_path):
    model, _ = load()
    model.net.config.save_pretrained(tmp_path / "bare")  # there are no weights
    asked = ["plan", "--model", str(tmp_path / "bare"), "--config-only", "--memory", "24", "--features", "64"]
    monkeypatch.setenv(devices.DTYPE_VARIABLE, "")  # the command sets both; as they were afterwards
    monkeypatch.setenv(devices.QUANTIZE_VARIABLE, "")
    assert main.main([*asked, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["dtype"] == "bfloat16", "as on a GPU"
    assert main.main([*asked, "--dtype", "float32", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    told = forecast.memory_of_config(model.net.config, torch.float32, model.n_layers, 64, 24 * forecast.GIB)
    assert {name: found[name] for name in told.table()} == told.table()
    assert main.main([*asked, "--dtype", "float32", "--quantize", "8bit", "--json", "--quiet"]) == 0
    packed = json.loads(capsys.readouterr().out)
    assert packed["dtype"] == "float32, int8 weights"
    assert packed["weights_gib"] < found["weights_gib"]
    assert main.main([*asked, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out) == packed, "the environment says the same"
    monkeypatch.setenv(devices.QUANTIZE_VARIABLE, "3bit")
    assert main.main([*asked, "--quiet"]) == main.FAILED
    assert "cannot be kept in '3bit'" in capsys.readouterr().err
    monkeypatch.setenv(devices.QUANTIZE_VARIABLE, "")
    assert main.main(["plan", "--model", str(tmp_path), "--config-only", "--quiet"]) == main.FAILED
    assert "name a hub id or a folder with config.json" in capsys.readouterr().err
