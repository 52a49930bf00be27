"""The hub path with the network off: fabricated caches in the real formats, loaded through the calls a user makes."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.engine.steering import vectors_of
from corrsteer_core.method import collecting
from corrsteer_core.models import loading
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.loading import load_model
from corrsteer_core.models.prompts import render
from corrsteer_core.runs import stored_run
from corrsteer_core.saes.sae import load_saes
from corrsteer_core.storage import reading
from tests.made import hub as files
from tests.made.hub import D_SAE, HEADS, Hub, raw
from tests.made.models import ARCHITECTURES, WIDTH, activations_at, tiny
from tests.made.places import ROOT

LAYER = 1


def registered(source: str) -> tuple[str, str]:
    """Repository and folder of a registered source, as SAELens resolves it."""
    from sae_lens.loading.pretrained_saes_directory import get_repo_id_and_folder_name

    release, _, id = source.partition("/")
    return get_repo_id_and_folder_name(release, id)


@dataclass(frozen=True)
class Pair:
    """A real model's name, an SAE for it, and where that SAE reads, said in terms of the model's own modules."""

    model: str
    architecture: str
    source: str
    point: HookPoint
    module: str
    side: str = "output"
    d_in: int = WIDTH
    centred: bool = False


GEMMA, LLAMA, TINY_GEMMA = "google/gemma-2-2b-it", "meta-llama/Llama-3.1-8B-Instruct", "google/gemma-3-270m-it"
PAIRS = {
    "Gemma Scope, residual": Pair(
        GEMMA, "gemma2", "gemma-scope-2b-pt-res-canonical/layer_1/width_16k/canonical", HookPoint(LAYER), "model.layers.1"
    ),
    "Gemma Scope, MLP": Pair(
        GEMMA, "gemma2", "gemma-scope-2b-pt-mlp-canonical/layer_1/width_16k/canonical", HookPoint(LAYER, "mlp_out"),
        "model.layers.1.post_feedforward_layernorm",
    ),
    "Gemma Scope, attention": Pair(
        GEMMA, "gemma2", "gemma-scope-2b-pt-att-canonical/layer_1/width_16k/canonical", HookPoint(LAYER, "attn_z"),
        "model.layers.1.self_attn.o_proj", "input", HEADS,
    ),
    "Llama Scope, residual": Pair(LLAMA, "llama", "llama_scope_lxr_8x/l1r_8x", HookPoint(LAYER), "model.layers.1"),
    "Llama Scope, MLP": Pair(
        LLAMA, "llama", "llama_scope_lxm_8x/l1m_8x", HookPoint(LAYER, "mlp_out"), "model.layers.1.mlp"
    ),
    "Llama Scope, attention": Pair(
        LLAMA, "llama", "llama_scope_lxa_8x/l1a_8x", HookPoint(LAYER, "attn_out"), "model.layers.1.self_attn"
    ),
    "Gemma Scope 2, residual": Pair(
        TINY_GEMMA, "gemma3_text", "gemma-scope-2-270m-it-res-all/layer_1_width_16k_l0_big", HookPoint(LAYER),
        "model.layers.1",
    ),
    "Gemma Scope 2, MLP": Pair(
        TINY_GEMMA, "gemma3_text", "gemma-scope-2-270m-it-mlp-all/layer_1_width_16k_l0_big",
        HookPoint(LAYER, "mlp_out"), "model.layers.1.post_feedforward_layernorm",
    ),
    "Gemma Scope 2, attention": Pair(
        TINY_GEMMA, "gemma3_text", "gemma-scope-2-270m-it-att-all/layer_1_width_16k_l0_big",
        HookPoint(LAYER, "attn_z"), "model.layers.1.self_attn.o_proj", "input", HEADS,
    ),
    "SAELens before 6, GPT-2": Pair(
        "openai-community/gpt2", "gpt2", "gpt2-small-res-jb/blocks.1.hook_resid_pre", HookPoint(LAYER, "resid_pre"),
        "transformer.h.1", "input", centred=True,
    ),
    **{
        f"SAELens, {architecture}": Pair(
            f"someone/{architecture}-7b", architecture, f"someone/{architecture}-saes/layer_1", HookPoint(LAYER),
            {"gpt2": "transformer.h.1", "gpt_neox": "gpt_neox.layers.1"}.get(architecture, "model.layers.1"),
        )
        for architecture in ARCHITECTURES
    },
}  # fmt: skip


def put(hub: Hub, pair: Pair, seed: int = 0) -> None:
    """The pair's model and SAE in the hub's cache."""
    hub.model(pair.model, pair.architecture)
    kind = pair.source.split("/")[0]
    numbers = raw(seed, pair.d_in, threshold=0.5)
    if pair.source.startswith("someone/"):
        repo, folder = pair.source.rsplit("/", 1)
        hub.sae(pair.source, numbers, files.saelens(repo, folder, pair.model, pair.point.name))
    elif kind.startswith("gemma-scope-2b"):
        hub.sae(pair.source, numbers, files.gemma_scope(*registered(pair.source)))
    elif kind.startswith("gemma-scope-2-"):
        hook = f"{pair.module}.{pair.side}"
        hub.sae(pair.source, numbers, files.gemma_scope_2(*registered(pair.source), pair.model.split("/")[1], hook))
    elif kind.startswith("llama"):
        scale, threshold = norm_factor(pair.source), 0.01
        numbers = raw(seed, pair.d_in, scale=scale)
        numbers = replace(numbers, threshold=np.full(D_SAE, threshold * scale, np.float32))
        hub.sae(pair.source, numbers, files.llama_scope(*registered(pair.source), pair.point.name, threshold))
    else:
        numbers = raw(seed, pair.d_in, threshold=0.0, subtract=True)
        hub.sae(pair.source, numbers, files.saelens_old(*registered(pair.source), "gpt2-small", pair.point.name))


def norm_factor(source: str) -> float:
    """The factor that the registry's file gives for scaling the input of a Llama Scope SAE."""
    release, _, id = source.partition("/")
    return next(one["norm_scaling_factor"] for one in registry_file()[release]["saes"] if one["id"] == id)


@cache
def registry_file() -> dict:
    """SAELens' registry, read anew for the tests; it is long."""
    import sae_lens
    import yaml

    return yaml.load((Path(sae_lens.__file__).parent / "pretrained_saes.yaml").read_text(), yaml.CSafeLoader)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache; the hub is switched off, and any attempt at the network fails the test."""
    from huggingface_hub import constants
    from sae_lens.loading import pretrained_saes_directory

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CORRSTEER_DEVICE", raising=False)
    # SAELens takes the sizes of Gemma Scope's SAEs from their names (2304 x 16384, 300 MB a file), not from the
    # file; its registry can override them, so that small files in the same format do.
    directory = pretrained_saes_directory.get_pretrained_saes_directory()
    for name, d_in in (("res", WIDTH), ("mlp", WIDTH), ("att", HEADS)):
        release = directory[f"gemma-scope-2b-pt-{name}-canonical"]
        monkeypatch.setattr(release, "config_overrides", {"d_in": d_in, "d_sae": D_SAE})
    tried = []

    def refuse(*arguments, **named):
        tried.append(arguments[1:2] or arguments)
        raise OSError("no network in tests")

    for owner, name in ((socket.socket, "connect"), (socket, "create_connection"), (socket, "getaddrinfo")):
        monkeypatch.setattr(owner, name, refuse)
    yield Hub(tmp_path / "hub")
    assert tried == [], "nothing may be asked of the network"


def activation_at(model, module: str, side: str, ids: list[int]) -> torch.Tensor:
    """(positions, d) at a module of the model, by a plain hook of torch's."""
    seen = []
    owner = model.net.get_submodule(module)
    if side == "input":
        handle = owner.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append((args or (kwargs["hidden_states"],))[0]), with_kwargs=True
        )
    else:
        handle = owner.register_forward_hook(
            lambda _, args, out: seen.append(out[0] if isinstance(out, tuple) else out)
        )
    with torch.inference_mode():
        model.net(torch.tensor([ids]))
    handle.remove()
    return seen[0][0]


def as_trained(x: torch.Tensor, pair: Pair) -> np.ndarray:
    """What the SAE of a pair was trained to see of an activation."""
    numbers = x.float().numpy()
    return numbers - numbers.mean(-1, keepdims=True) if pair.centred else numbers


@pytest.mark.parametrize("name", PAIRS)
def test_an_sae_encodes_and_decodes_as_its_file_says(hub, name):
    pair = PAIRS[name]
    put(hub, pair)
    model = load_model(pair.model, dtype=torch.float32)
    (sae,) = load_saes([pair.source], model)
    expected = hub.saes[pair.source]
    assert (sae.point, sae.source, sae.d_in, sae.d_sae) == (pair.point, pair.source, pair.d_in, D_SAE)
    ids = model.tokenizer("Where do these features fire?")["input_ids"]
    x = activation_at(model, pair.module, pair.side, ids)
    torch.testing.assert_close(activations_at(model, sae.point, ids), x, rtol=0, atol=0)
    seen = as_trained(x, pair)
    z = expected.encode(seen)
    assert 0 < (z > 0).mean() < 1, "some features fire, and some do not"
    np.testing.assert_allclose(sae.encode(x).numpy(), z, rtol=1e-4, atol=1e-4 * np.abs(z).max())
    back = expected.decode(z)
    np.testing.assert_allclose(sae.net.decode(sae.encode(x)).numpy(), back, rtol=1e-4, atol=1e-4 * np.abs(back).max())
    directions = expected.directions()
    np.testing.assert_allclose(sae.directions([3, 7]).numpy(), directions[[3, 7]], rtol=1e-4, atol=1e-5)


def command(capsys, *arguments):
    """Exit status, parsed standard output, standard error."""
    capsys.readouterr()
    status = main.main([*map(str, arguments), "--json", "--quiet"])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else None, err


def items(folder: Path) -> Path:
    """Items of which every second one is scored as right whatever the model says, so that the outcome varies."""
    path = folder / "items.jsonl"
    with path.open("w") as file:
        for place in range(32):
            split = ("train", "train", "train", "test")[place % 4]
            target = ".*" if place % 3 else "never, ever"
            row = {"prompt": f"Number {place * 7919} is " + "so " * (place % 5), "target": target, "split": split}
            file.write(json.dumps(row) + "\n")
    return path


def fit(folder: Path, *more) -> tuple:
    asked = ("fit", "--data", items(folder), "--scorer", "regex", "--max-new-tokens", 3, "--floor", 1)
    return (*asked, "--permutations", 20, *more)


WHOLE_WAY = [name for name in PAIRS if not name.endswith(("qwen2", "mistral", ", gpt2", ", llama"))]
QUICK = ("Gemma Scope, residual", "Llama Scope, residual", "Gemma Scope 2, attention", "SAELens before 6, GPT-2")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.exhaustive) for name in WHOLE_WAY]
)
def test_from_fit_to_a_chosen_set_without_a_network(hub, name, capsys, tmp_path, monkeypatch):
    pair = PAIRS[name]
    put(hub, pair)
    monkeypatch.setattr(loading, "pick_dtype", lambda device: torch.float32)
    status, fitted, err = command(capsys, *fit(tmp_path, "--model", pair.model, "--sae", pair.source))
    assert status == 0, err
    stored = reading.query(fitted["run"], "SELECT * FROM activations")
    assert len(stored) > 0
    config, samples = stored_run.stored(fitted["run"])
    model = load_model(pair.model)
    for item in samples[:4]:
        mine = stored[stored["sample"] == item.id].set_index("feature")["value"]
        z = pooled(model, pair, hub.saes[pair.source], render(model, item.prompt, config.style), config.max_new_tokens)
        (fired,) = np.nonzero(z)
        got = mine.reindex(range(D_SAE)).fillna(0).to_numpy()
        np.testing.assert_allclose(got, z, rtol=1e-3, atol=1e-3 * z.max())
        assert len(fired)
    status, chosen, err = command(capsys, "select", fitted["run"], "--strategy", "S", "--out", tmp_path / "s.json")
    assert status == 0, err
    (row,) = chosen["rows"]
    (sae,) = load_saes([pair.source], model)
    steering = stored_run.kept_sets(fitted["run"])["S"]
    vector = vectors_of(steering, [sae])[pair.point].numpy()
    expected = row["coefficient"] * hub.saes[pair.source].directions()[row["feature"]]
    np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max() + 1e-6)


def pooled(model, pair: Pair, numbers, ids: list[int], new: int) -> np.ndarray:
    """Maximum of each feature over the generation positions, from transformers' own generate and NumPy."""
    with torch.inference_mode():
        whole = model.net.generate(
            torch.tensor([ids]),
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=sorted(model.end_tokens),
            pad_token_id=1,
        )[0].tolist()
    x = as_trained(activation_at(model, pair.module, pair.side, whole), pair)
    return numbers.encode(x[len(ids) - 1 : len(whole) - 1]).max(0)


def test_a_preset_by_name_takes_some_of_its_layers(hub, capsys, tmp_path):
    sources = [f"gpt2-small-res-jb/blocks.{layer}.hook_resid_pre" for layer in (1, 2)]
    hub.model("openai-community/gpt2", "gpt2")
    for seed, source in enumerate(sources):
        name = source.partition("/")[2]
        write = files.saelens_old(*registered(source), "gpt2-small", name)
        hub.sae(source, raw(seed, threshold=0.0, subtract=True), write)
    status, fitted, err = command(capsys, *fit(tmp_path, "--preset", "gpt2-small", "--layers", "1,2"))
    assert status == 0, err
    config, _ = stored_run.stored(fitted["run"])
    assert config.model == "openai-community/gpt2"
    assert [ref.source for ref in config.saes] == sources


BLOCKED = """
import socket, sys

def refuse(*arguments, **named):
    print("NETWORK", arguments, file=sys.stderr)
    raise OSError("no network in tests")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


def test_a_terminal_with_nothing_but_the_hubs_own_variables_set(tmp_path):
    """The very command, as a process of its own, with the cache where HF_HOME says."""
    pair = PAIRS["Gemma Scope 2, residual"]
    put(Hub(tmp_path / "home" / "hub"), pair)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCKED)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE", "CORRSTEER"))
    }
    environment = {
        **kept, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "CORRSTEER_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(tmp_path / "site"),
    }  # fmt: skip
    arguments = fit(tmp_path, "--model", pair.model, "--sae", pair.source, "--json", "--quiet")
    done = subprocess.run(
        [sys.executable, "-m", "corrsteer_core", *map(str, arguments)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr
    assert json.loads(done.stdout)["samples"] == 32


# --- types and scales ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Gemma Scope, residual", "Llama Scope, residual"])
def test_a_model_in_bfloat16_is_read_in_float32(hub, name):
    from corrsteer_core.engine.batches import answers

    pair = PAIRS[name]
    put(hub, pair)
    model = load_model(pair.model, dtype=torch.bfloat16)
    (sae,) = load_saes([pair.source], model)
    assert {weight.dtype for weight in sae.net.parameters()} == {torch.float32}
    ids = model.tokenizer("Half the bits")["input_ids"]
    x = activation_at(model, pair.module, pair.side, ids)
    assert x.dtype == torch.bfloat16
    z = hub.saes[pair.source].encode(x.float().numpy())
    np.testing.assert_allclose(sae.encode(x).numpy(), z, rtol=1e-4, atol=1e-4 * z.max())
    steered = {sae.point: 3.0 * sae.directions([5])[0]}
    (batch,) = answers(model, [ids], max_new_tokens=4, variants=[{}, steered])
    assert len(batch.tokens[0]) == 2
    (batch,) = answers(model, [ids], max_new_tokens=4, saes=[sae])
    assert batch.pooled[0].dtype == torch.float32


def test_centring_gpt2_is_centring_what_its_weights_write(hub):
    """TransformerLens' option, done by hand: the same answers, and residuals whose mean is 0."""
    pair = PAIRS["SAELens before 6, GPT-2"]
    put(hub, pair)
    model, other = load_model(pair.model, dtype=torch.float32), load_model(pair.model, dtype=torch.float32)
    (sae,) = load_saes([pair.source], model)
    assert sae.centred
    net = other.net.transformer
    with torch.no_grad():
        for written in (net.wte.weight, net.wpe.weight):
            written.copy_(written - written.mean(-1, keepdim=True))
        for block in net.h:
            for layer in (block.attn.c_proj, block.mlp.c_proj):
                layer.weight.copy_(layer.weight - layer.weight.mean(-1, keepdim=True))
                layer.bias.copy_(layer.bias - layer.bias.mean())
    ids = model.tokenizer("The mean is nothing to it")["input_ids"]
    left = activation_at(model, pair.module, pair.side, ids)
    right = activation_at(other, pair.module, pair.side, ids)
    assert left.mean(-1).abs().max() > 0.01, "the published model's residual has a mean"
    torch.testing.assert_close(sae.read(left), right, atol=1e-5, rtol=1e-4)


# --- wrong pairings ------------------------------------------------------------------------------


def refused(hub: Hub, architecture: str, name: str, source: str, **named) -> str:
    """What is said when a model is given an SAE in SAELens' format that does not belong to it."""
    hub.model(name, architecture)
    repo, folder = source.rsplit("/", 1)
    about = {"model": name, "hook": "blocks.1.hook_resid_post", **named}
    d_in = about.pop("d_in", WIDTH)
    hub.sae(source, raw(0, d_in), files.saelens(repo, folder, about.pop("model"), about.pop("hook"), **about))
    loaded = load_model(name, dtype=torch.float32)
    with pytest.raises(CorrSteerError) as said:
        load_saes([source], loaded)
    assert "\n" not in str(said.value)
    return str(said.value)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"d_in": 64}, "reads 64 numbers, but google/gemma-2-2b has 32 at blocks.1.hook_resid_post"),
        ({"hook": "blocks.1.attn.hook_z"}, "reads 32 numbers, but google/gemma-2-2b has 64 at blocks.1.attn.hook_z"),
        ({"model": "gemma-2-9b"}, "was trained on gemma-2-9b, not on google/gemma-2-2b"),
        ({"model": "google/gemma-3-1b-pt"}, "was trained on google/gemma-3-1b-pt, not on google/gemma-2-2b"),
        ({"hook": "blocks.3.hook_resid_post"}, "google/gemma-2-2b has layers 0 to 2"),
        ({"hook": "blocks.1.hook_resid_mid"}, "reads at 'blocks.1.hook_resid_mid', which this tool cannot place in a model; it looked for"),
        ({"hook": "blocks.1.hook_mlp_in", "hook_name_out": "blocks.1.hook_mlp_out"}, "is a transcoder"),
        ({"hook": ""}, "does not say where it reads"),
        ({"normalize_activations": "layer_norm"}, "rescales each input by its own norm (layer_norm)"),
        ({"normalize_activations": "constant_norm_rescale"}, "rescales each input by its own norm (constant_norm_rescale)"),
        ({"normalize_activations": "expected_average_only_in"}, "expects its input scaled (expected_average_only_in)"),
    ],
)  # fmt: skip
def test_a_wrong_pairing_is_refused_in_one_sentence(hub, named, expected):
    assert expected in refused(hub, "gemma2", "google/gemma-2-2b", "someone/saes/one", **named)


@pytest.mark.parametrize(
    "kind", ["transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder", "abstopk"]
)
@pytest.mark.parametrize("d_out", [WIDTH, WIDTH // 2])
def test_what_is_no_usual_sae_is_known_by_its_architecture(tmp_path, kind, d_out):
    """Some transcoders are saved without a word of where they write."""
    from sae_lens.registry import get_sae_class

    made, settings = get_sae_class(kind)
    own = {"k": 4} if kind == "abstopk" else {"d_out": d_out, "apply_b_dec_to_input": False}
    net = made(settings(d_in=WIDTH, d_sae=48, device="cpu", dtype="float32", **own))
    net.cfg.metadata.hook_name = "blocks.1.hook_resid_post"
    net.save_model(tmp_path)
    said = (
        "is an AbsTopK one, whose features fire with either sign"
        if kind == "abstopk"
        else "is a transcoder, which reads at blocks.1"
    )
    with pytest.raises(CorrSteerError, match=said):
        load_saes([str(tmp_path)], tiny("llama"))


def test_heads_without_their_value_biases_are_refused(hub):
    said = refused(
        hub, "gpt2", "openai-community/gpt2", "someone/saes/z", model="gpt2-small", hook="blocks.1.attn.hook_z",
        model_from_pretrained_kwargs={"fold_value_biases": True},
    )  # fmt: skip
    assert "value biases folded away" in said


def test_the_release_of_gpt2s_heads_is_refused_before_it_is_downloaded(hub):
    hub.model("openai-community/gpt2", "gpt2")
    with pytest.raises(CorrSteerError, match="gpt2-small-hook-z-kk/blocks.1.hook_z reads .* value biases folded away"):
        load_saes(["gpt2-small-hook-z-kk/blocks.1.hook_z"], load_model("openai-community/gpt2", dtype=torch.float32))


def test_a_registered_sae_of_another_model_is_refused_before_anything_is_generated(hub, capsys, tmp_path, monkeypatch):
    pair = PAIRS["Llama Scope, residual"]
    put(hub, pair)
    hub.model("mistralai/Mistral-7B-v0.1", "mistral")
    monkeypatch.setattr(collecting, "collect", lambda *_, **__: pytest.fail("it ran"))
    asked = fit(tmp_path, "--model", "mistralai/Mistral-7B-v0.1", "--sae", pair.source)
    status, _, err = command(capsys, *asked)
    assert status == 1
    assert err.count("\n") == 1
    assert f"The SAE {pair.source} was trained on meta-llama/Llama-3.1-8B, not on mistralai/Mistral-7B-v0.1" in err


def test_a_transcoder_of_gemma_scope_2_is_refused(hub):
    source = "gemma-scope-2-270m-it-transcoders-all/layer_1_width_16k_l0_big_affine"
    hub.model(TINY_GEMMA, "gemma3_text")
    hook = "model.layers.1.pre_feedforward_layernorm.output"
    hub.sae(source, raw(0), files.gemma_scope_2(*registered(source), "gemma-3-270m-it", hook, skip=True))
    with pytest.raises(CorrSteerError, match="is a transcoder"):
        load_saes([source], load_model(TINY_GEMMA, dtype=torch.float32))


def test_gemma_scope_2_without_its_config_file_is_read_from_its_name(hub):
    pair = PAIRS["Gemma Scope 2, MLP"]
    hub.model(pair.model, pair.architecture)
    hub.sae(pair.source, raw(0), files.gemma_scope_2(*registered(pair.source), "", "", config=False))
    (sae,) = load_saes([pair.source], load_model(pair.model, dtype=torch.float32))
    assert sae.point == pair.point


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("--model", "google/gemma-2-2b-it"),
            "The model google/gemma-2-2b-it is not in the hub's cache on this machine",
        ),
        (
            ("--model", "someone/llama-7b", "--sae", "llama_scope_lxr_8x/l1r_8x"),
            "The SAE llama_scope_lxr_8x/l1r_8x is not in the hub's cache on this machine",
        ),
        (("--model", "someone/llama-7b", "--sae", "llama_scope_lxr_8x/l99r_8x"), "l99r_8x not found in release"),
        (("--model", "someone/llama-7b", "--sae", "no_such_release/x"), "a release that SAELens knows"),
        (("--model", "someone/llama-7b", "--sae", "folder"), "There is no folder folder"),
        (
            ("--model", "someone/llama-7b", "--sae", "someone/nothing/layer_1"),
            "The SAE someone/nothing/layer_1 is not in the hub's cache",
        ),
    ],
)
def test_what_is_not_in_the_cache_is_said_in_a_sentence(hub, capsys, tmp_path, arguments, expected):
    hub.model("someone/llama-7b", "llama")
    status, _, err = command(capsys, *fit(tmp_path, *arguments))
    assert status == 1
    assert expected in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
