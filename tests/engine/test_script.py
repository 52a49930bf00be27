"""The exported script of sets that do more than add: the tool's own texts, and the logits of the same worked out by hand."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli.main import main
from corrsteer_core.engine import exports
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.prompts import render
from corrsteer_core.runs.steering_set import Firing, SteeringRow, save_set
from corrsteer_core.saes.sae import _placed, load_saes
from tests.engine.test_bfloat16 import scored
from tests.engine.test_exports import KINDS, PROMPTS, STYLES, alone, saved_and_loaded, script_of, steered_texts
from tests.engine.test_operations import LAYERS, ROWS
from tests.made.models import FAST, random_sae
from tests.made.operations import answered
from tests.made.sets import empty_set

NEW = 16
WAITING = (
    SteeringRow(1, 3, 9.0, operation="clamp", while_fires=Firing(1, 5)),
    SteeringRow(1, 4, 0.0, operation="ablate"),
    SteeringRow(2, 5, 9.0, from_token=2, while_fires=Firing(1, 6)),
    SteeringRow(2, 7, 0.5, operation="cap"),
)


@pytest.fixture(scope="module", params=FAST)
def model(request, tmp_path_factory):
    return saved_and_loaded(tmp_path_factory.mktemp("model"), request.param, torch.float32)[0]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return saved_and_loaded(tmp_path_factory.mktemp("model"), "llama", torch.float32)[0]


def made_of(model, rows, saes=None, **named):
    saes = [random_sae(model, layer) for layer in LAYERS] if saes is None else saes
    return model, saes, empty_set(model, saes, rows=rows, name="mine", style=STYLES["plain"], **named)


def texts_of(module, prompts=PROMPTS):
    """The script's answers (unsteered, steered), twice in one context: the second begins to count anew."""
    net, tokenizer = module.load()
    before = module.answers(net, tokenizer, prompts, max_new_tokens=NEW)
    with module.steered(net):
        texts = module.answers(net, tokenizer, prompts, max_new_tokens=NEW)
        assert module.answers(net, tokenizer, prompts, max_new_tokens=NEW) == texts
    assert module.answers(net, tokenizer, prompts, max_new_tokens=NEW) == before  # no hook is left
    return list(zip(before, texts, strict=True))


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_the_texts_are_the_tools_own_and_the_logits_those_worked_out_by_hand(model, rows, tmp_path):
    made = made_of(model, rows, scale=1.5)
    module = script_of(made, tmp_path)
    assert texts_of(module) == steered_texts(made)
    net, tokenizer = module.load()
    different = 0.0
    for prompt in PROMPTS:
        with module.steered(net):
            tokens, logits = scored(net, tokenizer, prompt)
        by_hand, seen = answered(model, made[1], rows, render(model, prompt, STYLES["plain"]), NEW, scale=1.5)
        assert tokens == by_hand
        torch.testing.assert_close(torch.stack(logits), torch.stack(seen), atol=1e-3, rtol=1e-3)
        different = max(different, float((scored(net, tokenizer, prompt)[1][-1] - seen[-1]).abs().max()))
    assert different > 0.05, "it must change some answer for this to mean much"


@pytest.mark.parametrize("style", ["shots", "system"])
def test_prompts_are_put_as_when_the_features_were_found(llama, style, tmp_path):
    model, saes, steering = made_of(llama, WAITING)
    made = model, saes, replace(steering, style=STYLES[style])
    assert texts_of(script_of(made, tmp_path)) == steered_texts(made)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_hook_point(model, kind, tmp_path):
    made = made_of(model, WAITING, [random_sae(model, 1, kind), random_sae(model, 2, kind)])
    if kind == "attn_z" and model.recurrent:
        with pytest.raises(CorrSteerError, match="no hook point blocks.1.attn.hook_z: no module of its architecture"):
            script_of(made, tmp_path)
        return
    found = texts_of(script_of(made, tmp_path))
    assert found == steered_texts(made)
    assert any(before != after for before, after in found)


# --- what is read of the SAEs --------------------------------------------------------------------


def sae_of(model, kind, layer=1, **settings):
    """A random SAE of a kind of SAELens', about half of whose features would fire if each were asked alone."""
    import sae_lens

    torch.manual_seed(layer)
    name = {"standard": "Standard", "jumprelu": "JumpReLU", "gated": "Gated", "topk": "TopK"}[kind]
    config = getattr(sae_lens, f"{name}SAEConfig")(d_in=model.d_model, d_sae=48, **settings)
    net = getattr(sae_lens, f"{name}SAE")(config)
    for weight in net.parameters():
        weight.data.normal_()
    net.W_dec.data.mul_(0.3)
    net.cfg.metadata.hook_name = f"blocks.{layer}.hook_resid_post"
    return _placed(net, f"{kind}/{layer}")


SAES = {
    "standard": {},
    "standard whose bias is not taken off": {"apply_b_dec_to_input": False},
    "jumprelu": {},
    "gated": {},
    "gated whose bias is not taken off": {"apply_b_dec_to_input": False},
    "topk": {"k": 6},
    "topk by length of directions": {"k": 6, "rescale_acts_by_decoder_norm": True},
}


@pytest.mark.parametrize("kind", SAES)
@pytest.mark.parametrize("centred", [False, True])
def test_every_kind_of_sae_is_read_as_its_library_reads_it(llama, kind, centred, tmp_path):
    saes = [sae_of(llama, kind.split()[0], layer, **SAES[kind]) for layer in (1, 2)]
    for sae in saes:
        sae.net.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": centred}
    made = made_of(llama, WAITING, saes)
    module = script_of(made, tmp_path)
    assert texts_of(module) == steered_texts(made)
    with safe_open(tmp_path / "steer.safetensors", framework="pt") as file:
        places = json.loads(file.metadata()["places"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    x = 2 * torch.randn(200, llama.d_model)
    for sae in saes:
        name = sae.point.name
        own = {key.partition("/")[2]: one for key, one in tensors.items() if key.startswith(f"{name}/")}
        found = module.activations(x, places[name], own)
        seen = x - x.mean(1, keepdim=True) if centred else x
        expected = sae.net.encode(seen)[:, places[name]["features"]]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert 0 < (expected > 0).float().mean() < 0.95
        assert own["W_enc"].shape[1] == (48 if kind.startswith("topk") else len(places[name]["features"]))


def test_a_file_holds_what_the_rows_need_and_no_more(llama, tmp_path):
    rows = (
        SteeringRow(1, 3, 2.0),
        SteeringRow(2, 5, 4.0, operation="ablate"),
        SteeringRow(2, 7, 4.0, from_token=1, while_fires=Firing(0, 9, 0.25)),
    )
    model, saes, steering = made_of(llama, rows, scale=2.0)
    files = exports.exported(steering, "python", "v", model, saes)
    assert list(files) == ["v.py", "v.safetensors"]
    (tmp_path / "v.safetensors").write_bytes(files["v.safetensors"])
    with safe_open(tmp_path / "v.safetensors", framework="pt") as file:
        metadata, shapes = file.metadata(), {name: list(file.get_tensor(name).shape) for name in file.keys()}  # noqa: SIM118
        added = file.get_tensor("blocks.1.hook_resid_post/vector")
    width = model.d_model
    assert shapes == {
        "blocks.0.hook_resid_post/vector": [width], "blocks.0.hook_resid_post/W_enc": [width, 1],
        "blocks.0.hook_resid_post/b_enc": [1], "blocks.0.hook_resid_post/b_dec": [width],
        "blocks.0.hook_resid_post/threshold": [1], "blocks.1.hook_resid_post/vector": [width],
        "blocks.2.hook_resid_post/vector": [width], "blocks.2.hook_resid_post/directions": [2, width],
    }  # fmt: skip
    torch.testing.assert_close(added, 4.0 * saes[1].net.W_dec[3], rtol=0, atol=1e-6)
    places = json.loads(metadata["places"])
    assert [place["module"] for place in places.values()] == ["model.layers.0", "model.layers.1", "model.layers.2"]
    assert places["blocks.0.hook_resid_post"]["conditions"] == [[0, 0, 0.25]]
    assert [row["coefficient"] for row in places["blocks.2.hook_resid_post"]["rows"]] == [4.0, 8.0]
    assert metadata["format"] == "corrsteer-steering-operations"
    assert (metadata["model"], metadata["model_fingerprint"]) == (model.name, model.fingerprint)
    assert type(steering).from_json(metadata["steering_set"]) == steering


def test_the_script_imports_torch_and_transformers_alone(llama):
    model, saes, steering = made_of(llama, WAITING)
    tree = ast.parse(exports.exported(steering, "python", "v", model, saes)["v.py"])
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    assert found == {"argparse", "json", "contextlib", "pathlib", "torch", "safetensors", "transformers"}


def test_a_direction_that_is_nothing_and_a_scale_of_0_change_nothing(llama, tmp_path):
    sae = random_sae(llama, 1)
    sae.net.W_dec.data[4] = 0.0
    dead = made_of(llama, (SteeringRow(1, 4, 0.0, operation="ablate"),), [sae])
    off = made_of(llama, ROWS["all at one layer"], scale=0.0)
    for stem, made in (("dead", dead), ("off", off)):
        assert all(before == after for before, after in texts_of(script_of(made, tmp_path, stem)))


def test_an_error_while_steered_leaves_no_hook(llama, tmp_path):
    module = script_of(made_of(llama, WAITING), tmp_path)
    net, _ = module.load()
    with pytest.raises(ZeroDivisionError), module.steered(net):
        raise ZeroDivisionError
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in net.modules())


def test_the_command_line_writes_one_that_runs_alone(llama, tmp_path, monkeypatch):
    for layer in LAYERS:
        random_sae(llama, layer).net.save_model(tmp_path / "saes" / f"layer_{layer}")
    saes = load_saes([str(tmp_path / "saes")], llama)
    made = made_of(llama, WAITING, saes)
    save_set(made[2], tmp_path / "set.json")
    out = tmp_path / "out" / "steer.py"
    monkeypatch.setenv("CORRSTEER_DTYPE", "")  # undone after the test
    asked = ["export", "--set", str(tmp_path / "set.json"), "--format", "python", "--out", str(out)]
    assert main([*asked, "--dtype", "float32", "--quiet"]) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ["steer.py", "steer.safetensors"]
    ran = subprocess.run(
        [sys.executable, out, *PROMPTS[:2]], capture_output=True, text=True, cwd=tmp_path, env=alone(), check=False
    )
    assert ran.returncode == 0, ran.stderr
    texts = [line.partition(": ")[2] for line in ran.stdout.splitlines() if line.startswith("prompt: ")]
    assert texts == PROMPTS[:2]
    module = script_of(made, tmp_path)
    net, tokenizer = module.load()
    with module.steered(net):
        for text in module.answers(net, tokenizer, PROMPTS[:2]):
            assert f"\nsteered: {text}\n" in ran.stdout


# --- what is refused -----------------------------------------------------------------------------


def pursuing(model):
    from sae_lens import MatchingPursuitSAE, MatchingPursuitSAEConfig

    torch.manual_seed(0)
    net = MatchingPursuitSAE(MatchingPursuitSAEConfig(d_in=model.d_model, d_sae=48))
    net.W_dec.data.normal_()
    net.cfg.metadata.hook_name = HookPoint(1).name
    return _placed(net, "pursuit/1")


@pytest.mark.parametrize(
    "row",
    [
        SteeringRow(1, 3, 2.0, operation="clamp"),
        SteeringRow(1, 3, 2.0, operation="cap"),
        SteeringRow(2, 3, 2.0, while_fires=Firing(1, 5)),
    ],
    ids=lambda row: row.does,
)
def test_a_feature_that_takes_another_kind_of_sae_to_read_is_refused_in_a_sentence(llama, row):
    model, saes, steering = made_of(llama, (SteeringRow(1, 9, 1.0), row), [pursuing(llama), random_sae(llama, 2)])
    with pytest.raises(CorrSteerError) as refused:
        exports.exported(steering, "python", "v", model, saes)
    assert "how active features of layer 1 are, as its SAE is a matching_pursuit one" in str(refused.value)
    assert f"the row for feature 3 of layer {row.layer} depends on it ({row.does}); export it as json" in str(
        refused.value
    )


def test_rows_that_depend_on_no_feature_do_not_ask_what_kind_of_sae_it_is(llama, tmp_path):
    rows = (SteeringRow(1, 3, 0.0, operation="ablate"), SteeringRow(1, 4, 9.0, from_token=2))
    made = made_of(llama, rows, [pursuing(llama)])
    found = texts_of(script_of(made, tmp_path))
    assert found == steered_texts(made)
    assert any(before != after for before, after in found)


@pytest.mark.parametrize("wanted", ["safetensors", "gguf"])
def test_the_other_formats_can_only_add(llama, wanted):
    model, saes, steering = made_of(llama, WAITING)
    with pytest.raises(CorrSteerError, match=r"can only add .* export it as json or python, or switch that row off"):
        exports.exported(steering, wanted, "v", model, saes)
