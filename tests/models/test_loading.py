"""Models and SAEs from folders whose files are broken: refused in a sentence, never filled with random numbers."""

import hashlib
import json
import threading
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.loading import fingerprint, load_model
from corrsteer_core.saes.sae import load_saes, ref_of
from tests.made.models import ARCHITECTURES, random_sae, tiny

PROJECTION = "model.layers.0.mlp.down_proj.weight"


def saved(folder, architecture="llama"):
    """A tiny model in a folder."""
    made = tiny(architecture)
    made.net.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder


def refused(folder) -> str:
    with pytest.raises(CorrSteerError) as said:
        load_model(str(folder))
    assert "\n" not in str(said.value)
    return str(said.value)


def change_weights(folder, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_whole_checkpoint_is_taken_tied_weights_or_not(architecture, tmp_path):
    folder = saved(tmp_path, architecture)
    stored = load_file(folder / "model.safetensors")
    tied = tiny(architecture).net.config.tie_word_embeddings
    assert tied == (not any("lm_head" in name or "embed_out" in name for name in stored))
    assert load_model(str(folder), dtype=torch.float32).fingerprint == tiny(architecture).fingerprint


def test_the_type_that_a_model_is_loaded_in_does_not_change_its_fingerprint(tmp_path):
    folder = str(saved(tmp_path))  # of float32 numbers that bfloat16 does not hold
    assert load_model(folder, dtype=torch.bfloat16).fingerprint == load_model(folder, dtype=torch.float32).fingerprint


def test_a_checkpoint_in_bfloat16_has_the_fingerprint_of_its_very_values(tmp_path):
    """Runs in users' caches name it."""
    net = load_model(str(saved(tmp_path)), dtype=torch.bfloat16).net
    digest = hashlib.sha256()
    for name, weight in net.named_parameters():
        flat = weight.flatten().float().numpy()
        digest.update(f"{name}{tuple(weight.shape)}".encode() + flat[:: max(1, flat.size // 16)][:16].tobytes())
    assert fingerprint(net) == fingerprint(net.float()) == digest.hexdigest()[:12]


def test_a_checkpoint_without_some_weights_is_refused(tmp_path):
    folder = saved(tmp_path)
    change_weights(folder, lambda weights: weights.pop(PROJECTION))
    assert f"lacks 1 of the model's weights ({PROJECTION})" in refused(folder)


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    folder = saved(tmp_path)
    change_weights(folder, lambda weights: weights.update({PROJECTION: weights[PROJECTION][:-1].contiguous()}))
    assert f"The weight {PROJECTION} of {folder} has the shape (31, 64), where" in refused(folder)


@pytest.mark.parametrize("left", [0, 4, 5000, -1])
def test_a_file_of_weights_that_is_cut_short_is_refused(left, tmp_path):
    path = saved(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    assert f"The weights of {tmp_path} cannot be read" in refused(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "[1]"),
        ("config.json", "null"),
        ("config.json", "["),
        ("config.json", '{"model_type": "llama", "num_attention_heads": 0}'),
        ("config.json", '{"model_type": "llama", "hidden_size": "wide"}'),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "[1]"),
        ("tokenizer.json", "null"),
    ],
)
def test_a_broken_description_of_a_model_is_a_sentence(file, content, tmp_path):
    (saved(tmp_path) / file).write_text(content)
    assert f"The model '{tmp_path}' could not be loaded: " in refused(tmp_path)


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError])
def test_a_model_that_does_not_fit_is_a_sentence(tmp_path, monkeypatch, kind):
    saved(tmp_path)

    def full(*_, **__):
        raise kind("MPS backend out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    assert "does not fit in the memory of cpu" in refused(tmp_path)


# --- SAEs ----------------------------------------------------------------------------------------


@pytest.fixture
def sae(tmp_path):
    """The folder of an SAE of the tiny Llama."""
    random_sae(tiny("llama"), 1).net.save_model(tmp_path)
    return tmp_path


def refused_sae(folder) -> str:
    with pytest.raises(CorrSteerError) as said:
        load_saes([str(folder)], tiny("llama"))
    assert "\n" not in str(said.value)
    return str(said.value)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None])
def test_weights_of_an_sae_that_are_none_are_refused(sae, content):
    path = sae / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    assert f"The weights of the SAE in {sae} cannot be read" in refused_sae(sae)


def test_an_sae_without_some_weights_is_refused(sae):
    path = sae / "sae_weights.safetensors"
    weights = load_file(path)
    del weights["W_dec"]
    save_file(weights, path)
    assert 'Missing key(s) in state_dict: "W_dec"' in refused_sae(sae)


@pytest.mark.parametrize("content", ["", "[1]", "null", "{}", '{"architecture": "nope"}', "[" * 100_000])
def test_a_broken_description_of_an_sae_is_a_sentence(sae, content):
    (sae / "cfg.json").write_text(content)
    assert f"The SAE in {sae} could not be loaded" in refused_sae(sae)


@pytest.mark.parametrize("metadata", [3, None, "x"])
def test_metadata_of_an_sae_that_are_none_are_a_sentence(sae, metadata):
    body = json.loads((sae / "cfg.json").read_text())
    (sae / "cfg.json").write_text(json.dumps({**body, "metadata": metadata}))
    assert f"The SAE in {sae} could not be loaded" in refused_sae(sae)


# --- several SAEs --------------------------------------------------------------------------------


@pytest.fixture
def saes(tmp_path):
    """A folder with SAEs of two layers of the tiny Llama."""
    for layer in (1, 2):
        random_sae(tiny("llama"), layer).net.save_model(tmp_path / f"layer_{layer}")
    return tmp_path


@pytest.mark.parametrize("before_6", [False, True])
def test_saes_of_layers_that_are_not_asked_for_are_not_read(saes, before_6):
    (saes / "layer_2" / "sae_weights.safetensors").unlink()
    if before_6:
        cfg = saes / "layer_2" / "cfg.json"
        cfg.write_text(json.dumps({"hook_point": json.loads(cfg.read_text())["metadata"]["hook_name"]}))
    assert [sae.layer for sae in load_saes([str(saes)], tiny("llama"), [1])] == [1]
    with pytest.raises(CorrSteerError, match="no SAE for layer 0 in .*; it has layers 1, 2"):
        load_saes([str(saes)], tiny("llama"), [0, 1])


def test_every_sae_is_checked_and_placed_before_the_next_is_read(saes, monkeypatch):
    from corrsteer_core.saes import sae as placing
    from corrsteer_core.saes import sources

    seen = []
    read, checked = sources._from_folder, placing.check_pairing
    monkeypatch.setattr(sources, "_from_folder", lambda folder: seen.append(folder.name) or read(folder))
    monkeypatch.setattr(placing, "check_pairing", lambda sae, model: seen.append(sae.layer) or checked(sae, model))
    load_saes([str(saes)], tiny("llama"))
    assert seen == ["layer_1", 1, "layer_2", 2]


def test_the_app_reads_each_sae_once_whatever_set_names_it(tmp_path, saes, monkeypatch):
    from app.shared.models import Bench
    from corrsteer_core.saes import named_saes

    model = load_model(str(saved(tmp_path / "model")))
    loaded = load_saes([str(saes)], model)
    first, second = (ref_of(sae) for sae in loaded)
    read, asked = named_saes.saes_of, []
    monkeypatch.setattr(named_saes, "saes_of", lambda refs, model: asked.append([*refs]) or read(refs, model))
    bench = Bench(model.name, "float32")
    (alone,) = bench.saes([second])
    both = bench.saes([first, second])
    assert [sae.layer for sae in both] == [1, 2]
    assert both[1] is alone
    assert bench.saes([first]) == both[:1]
    assert asked == [[second], [first]]


def test_whoever_gets_the_apps_model_finds_the_library_of_saes_imported(tmp_path, monkeypatch):
    """Of two threads that import it at once, one would meet half a module."""
    from app.shared.models import Bench
    from corrsteer_core.saes import sources

    done = threading.Event()

    def slowly():
        time.sleep(0.5)
        done.set()

    monkeypatch.setattr(sources, "import_library", slowly)
    Bench(str(saved(tmp_path / "model")), "float32").model()
    assert done.is_set()


def test_code_that_comes_with_a_model_is_never_run_nor_asked_for(tmp_path, monkeypatch):
    folder = saved(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    assert "comes with code of its own, which is never run" in refused(folder)
    assert not (tmp_path / "ran").exists()
