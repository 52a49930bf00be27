"""Training SAEs on a tiny model: what is collected, what is measured, what a stopped training goes on with."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.hooks import HookPoint, hooked
from corrsteer_core.saes import activation_files
from corrsteer_core.saes.activation_files import collect
from corrsteer_core.saes.sae import load_saes
from corrsteer_core.saes.train_config import ARCHITECTURES, TrainConfig
from corrsteer_core.saes.training import train, train_saes
from corrsteer_core.saes.worth import worth
from tests.made.models import WIDTH, tiny

ROOT = Path(__file__).parents[2]
CONFIG = TrainConfig(layers=(1, 2), tokens=1600, d_sae=64, k=4, length=16, batch=128)
POINTS = [HookPoint(layer) for layer in CONFIG.layers]


def silent(stage, done, total):
    pass


def sequences(n=100):
    return np.random.default_rng(0).integers(2, 200, (n, CONFIG.length))


def loud(factor):
    """A model whose residual stream is as large as Gemma 3's, which float16 does not hold."""
    model = tiny.__wrapped__("llama")
    model.net.get_input_embeddings().weight.data *= factor
    return model


def residuals(model, layer):
    """(tokens, d_model) after a layer, the first position of every sequence left out."""
    seen = []
    with torch.inference_mode(), hooked({model.site(HookPoint(layer)): lambda x: seen.append(x.clone())}):
        model.net(torch.tensor(sequences()))
    return seen[0][:, 1:].reshape(-1, WIDTH)


def text_file(folder):
    """Some 5,000 tokens (bytes) of text."""
    rng = np.random.default_rng(1)
    words = ["cat", "mat", "sat", "dog", "happy", "grey", "the", "a", "runs", "sleeps"]
    lines = [" ".join(rng.choice(words, 8)) for _ in range(150)]
    path = folder / "text.txt"
    path.write_text("\n".join(lines))
    return path


def weights(folder):
    return {path.parent.name: load_file(path) for path in folder.glob("layer_*/*.safetensors")}


def assert_same_saes(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys() != set()
    for layer in one:
        for name in one[layer]:
            assert torch.equal(one[layer][name], other[layer][name]), (layer, name)


# --- collecting ----------------------------------------------------------------------------------


def test_residuals_of_any_size_are_collected_as_they_are(tmp_path):
    model = loud(1e6)
    stores = collect(model, sequences(), POINTS, tmp_path, silent)
    for point, store in stores.items():
        expected = residuals(model, point.layer)
        assert expected.abs().max() > np.finfo(np.float16).max
        torch.testing.assert_close(store.float(), expected, rtol=2**-8, atol=0)


def test_residuals_that_are_no_numbers_are_refused(tmp_path):
    with pytest.raises(CorrSteerError, match=r"What tiny-llama computes at blocks.1.hook_resid_post is not finite"):
        collect(loud(float("nan")), sequences(), POINTS, tmp_path, silent)


def test_what_was_collected_is_not_read_again_and_another_model_or_text_is(tmp_path, monkeypatch):
    read = []
    original = activation_files.activations
    monkeypatch.setattr(
        activation_files,
        "activations",
        lambda model, ids, points: read.append(len(ids)) or original(model, ids, points),
    )
    model = tiny("llama")
    whole = collect(model, sequences(), POINTS, tmp_path / "whole", silent)

    def stop(stage, done, total):
        if done >= 64:
            raise KeyboardInterrupt

    read.clear()
    with pytest.raises(KeyboardInterrupt):
        collect(model, sequences(), POINTS, tmp_path / "parts", stop)
    assert sum(read) == 64
    parts = collect(model, sequences(), POINTS, tmp_path / "parts", silent)
    assert sum(read) == 100
    for point in POINTS:
        assert torch.equal(parts[point], whole[point])
    collect(model, sequences(), POINTS, tmp_path / "parts", silent)
    assert sum(read) == 100
    for other in (
        lambda: collect(model, sequences() + 1, POINTS, tmp_path / "parts", silent),
        lambda: collect(tiny("gpt2"), sequences(), POINTS, tmp_path / "parts", silent),
        lambda: collect(model, sequences(), POINTS[:1], tmp_path / "parts", silent),
    ):
        read.clear()
        other()
        assert sum(read) == 100


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_sae_is_trained_and_its_card_says_how_well(tmp_path, architecture):
    model = loud(1e6) if architecture == "topk" else tiny("llama")
    config = TrainConfig(**{**vars(CONFIG), "architecture": architecture, "epochs": 20})
    texts = sequences()
    store = collect(model, texts, POINTS[:1], tmp_path, silent)[POINTS[0]]
    card = train(model, POINTS[0], texts, store, tmp_path / "sae", config, silent)
    assert (card["layer"], card["hook_name"]) == (1, "blocks.1.hook_resid_post")
    assert card["tokens_measured"] == 2 * 15, "the last 2 of 100 sequences"
    sae = SAE.load_from_disk(tmp_path / "sae", dtype="float32")
    assert sae.cfg.architecture() == ("topk" if architecture == "topk" else "jumprelu")
    x = store[-card["tokens_measured"] :].float()
    with torch.inference_mode():
        z = sae.encode(x)
        off = (sae.decode(z) - x).double()
    deviation = (x - x.mean(0)).double()
    assert card["variance_explained"] == pytest.approx(float(1 - off.pow(2).sum() / deviation.pow(2).sum()), abs=1e-3)
    assert card["variance_explained"] > 0.1
    assert card["l0"] == pytest.approx(float((z > 0).sum() / len(x)), abs=0.01)
    assert card["l0"] == pytest.approx(CONFIG.k, rel=0.3)
    assert card == worth(model, load_saes([str(tmp_path / "sae")], model)[0], texts[-2:], store[-30:])


def test_nested_dictionaries_are_nested(tmp_path):
    """Matryoshka's first 16th alone says more of its input than that of an SAE whose features have no order."""
    model = tiny("llama")
    texts = sequences()
    store = collect(model, texts, POINTS[:1], tmp_path, silent)[POINTS[0]]
    alone = {}
    for architecture in ("batchtopk", "matryoshka"):
        config = TrainConfig(**{**vars(CONFIG), "architecture": architecture, "epochs": 40, "d_sae": 128})
        train(model, POINTS[0], texts, store, tmp_path / architecture, config, silent)
        sae = SAE.load_from_disk(tmp_path / architecture, dtype="float32")
        x = store.float()
        with torch.inference_mode():
            z = sae.encode(x)
            z[:, 128 // 4 :] = 0
            alone[architecture] = (1 - (sae.decode(z) - x).pow(2).sum() / (x - x.mean(0)).pow(2).sum()).item()
    assert alone["matryoshka"] > alone["batchtopk"] + 0.05


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"architecture": "gated"}, "no architecture 'gated'; there are topk, batchtopk, matryoshka"),
        ({"architecture": "matryoshka", "d_sae": 8, "k": 2}, "8 features are too few to nest"),
    ],
)
def test_what_cannot_be_trained_is_said(asked, said):
    with pytest.raises(CorrSteerError, match=said):
        TrainConfig(**{**vars(CONFIG), **asked})


# --- going on ------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.saes.test_training import CONFIG, text_file, tiny, train_saes
out, text, stage, at = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
def progress(now, done, total):
    if now == stage and done >= at:
        os.kill(os.getpid(), signal.SIGKILL)
train_saes(tiny("llama"), [text], out, CONFIG, progress)
"""


@pytest.mark.parametrize(
    ("stage", "at", "goes_on_with"),
    [
        pytest.param(
            *("collecting activations", 48, ["collecting activations", "training layer 1", "training layer 2"]),
            marks=pytest.mark.exhaustive,
        ),
        ("training layer 2", 10, ["training layer 2"]),
    ],
)
def test_killed_and_begun_again_it_ends_with_the_same_saes(tmp_path, stage, at, goes_on_with):
    text = text_file(tmp_path)
    rows = train_saes(tiny("llama"), [text], tmp_path / "whole", CONFIG, silent)
    asked = [sys.executable, "-c", KILLED, str(tmp_path / "parts"), str(text), stage, str(at)]
    killed = subprocess.run(
        asked, cwd=ROOT, check=False, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(weights(tmp_path / "parts")) < 2
    stages = []

    def note(now, done, total):
        if not stages or stages[-1] != now:
            stages.append(now)

    assert train_saes(tiny("llama"), [text], tmp_path / "parts", CONFIG, note) == rows
    assert [one for one in stages if not one.startswith("measuring")] == goes_on_with
    assert_same_saes(tmp_path / "whole", tmp_path / "parts")
    card, other = ((tmp_path / name / "card.json").read_text() for name in ("whole", "parts"))
    assert card == other
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["card.json", "layer_1", "layer_2"]


def test_what_is_done_is_not_done_again_and_further_layers_join_the_card(tmp_path):
    text, model = text_file(tmp_path), tiny("llama")
    first = train_saes(model, [text], tmp_path / "out", CONFIG, silent)

    def nothing(*_):
        pytest.fail("something was done again")

    assert train_saes(model, [text], tmp_path / "out", CONFIG, nothing) == first
    more = TrainConfig(**{**vars(CONFIG), "layers": (0, 2)})
    rows = train_saes(model, [text], tmp_path / "out", more, silent)
    assert [row["layer"] for row in rows] == [0, 2]
    assert rows[1] == first[1]
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert [row["layer"] for row in card["saes"]] == [0, 1, 2]
    assert card["config"]["architecture"] == "topk"


def test_activations_in_a_folder_of_their_own_serve_another_training(tmp_path):
    text, model, kept = text_file(tmp_path), tiny("llama"), tmp_path / "kept"
    train_saes(model, [text], tmp_path / "a", CONFIG, silent, kept)
    stages = set()
    other = TrainConfig(**{**vars(CONFIG), "architecture": "batchtopk"})
    train_saes(model, [text], tmp_path / "b", other, lambda stage, *_: stages.add(stage), kept)
    assert "training layer 1" in stages
    assert "collecting activations" not in stages
    assert kept.exists()


def test_saes_trained_otherwise_are_not_overwritten(tmp_path):
    text, model = text_file(tmp_path), tiny("llama")
    one = TrainConfig(**{**vars(CONFIG), "layers": (1,)})
    train_saes(model, [text], tmp_path / "out", one, silent)
    before = weights(tmp_path / "out")
    with pytest.raises(CorrSteerError, match=r"trained otherwise \(another config, see its card.json\)"):
        train_saes(model, [text], tmp_path / "out", TrainConfig(**{**vars(one), "k": 5}), silent)
    text.write_text(text.read_text().replace("cat", "cow"))
    with pytest.raises(CorrSteerError, match="another texts_fingerprint, see"):
        train_saes(model, [text], tmp_path / "out", one, silent)
    assert all(
        torch.equal(value, before["layer_1"][name]) for name, value in weights(tmp_path / "out")["layer_1"].items()
    )
