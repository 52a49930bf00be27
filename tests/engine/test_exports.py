"""What other programs get: the same vectors, and with them the same tokens from a plain transformers model."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import gguf
import pytest
import torch
import transformers
from safetensors import safe_open

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli.main import main
from corrsteer_core.engine import exports
from corrsteer_core.engine.steering import vectors_of
from corrsteer_core.inspection import playground
from corrsteer_core.models.architectures import LAYOUTS
from corrsteer_core.models.hooks import HookPoint
from corrsteer_core.models.loading import Model, load_model
from corrsteer_core.models.prompts import render
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.steering_set import SteeringRow, save_set
from corrsteer_core.saes.sae import load_saes
from tests.made.models import FAST, random_sae, tiny
from tests.made.sets import empty_set

PROMPTS = ["Tell me of the sea.", "why?", "a", "one two three four five six"]
STYLES = {
    "plain": PromptStyle(chat=False),
    "shots": PromptStyle(chat=False, shots=(("1+1?", "2"),)),
    "chat": PromptStyle(chat=True),
    "system": PromptStyle(True, "Be brief.", (("Hi", "Hello"),)),
}
HINTS = {"llama": "llama", "gemma2": "gemma2", "gpt2": "gpt2", "qwen3_5_text": "qwen35"}
KINDS = ("resid_pre", "mlp_out", "attn_out", "attn_z")


@pytest.fixture
def made(tmp_path, request):
    """A tiny model in a folder, loaded from it in float32, with SAEs of its blocks 1 and 2 and a set that uses both."""
    return saved_and_loaded(tmp_path, getattr(request, "param", "llama"), torch.float32)


def saved_and_loaded(tmp_path, architecture, dtype):
    whole = tiny(architecture)
    whole.net.save_pretrained(tmp_path / "model")
    whole.tokenizer.save_pretrained(tmp_path / "model")
    model = load_model(str(tmp_path / "model"), dtype=dtype)
    saes = [random_sae(model, layer) for layer in (1, 2)]
    rows = (SteeringRow(1, 3, 5.0), SteeringRow(2, 7, -4.0), SteeringRow(2, 9, 50.0, enabled=False))
    return model, saes, empty_set(model, saes, rows=rows, scale=1.5, name="mine", style=STYLES["plain"])


def steered_texts(made, prompts=PROMPTS, **settings) -> list[tuple[str, str]]:
    model, saes, steering = made
    return [
        playground.side_by_side(steering, prompt, max_new_tokens=16, model=model, saes=saes, **settings)
        for prompt in prompts
    ]


def script_of(made, folder, stem="steer"):
    """The exported script as a module, its vectors beside it."""
    model, saes, steering = made
    exports.write_new(folder, exports.exported(steering, "python", stem, model, saes))
    spec = importlib.util.spec_from_file_location("exported", folder / f"{stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- safetensors ---------------------------------------------------------------------------------


def test_the_tensors_are_the_steering_vectors_and_the_metadata_say_what_to_do(made, tmp_path):
    model, saes, steering = made
    (content,) = exports.exported(steering, "safetensors", "v", model, saes).values()
    (tmp_path / "v.safetensors").write_bytes(content)
    with safe_open(tmp_path / "v.safetensors", framework="pt") as file:
        assert sorted(file.keys()) == ["blocks.1.hook_resid_post", "blocks.2.hook_resid_post"]
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    torch.testing.assert_close(tensors["blocks.1.hook_resid_post"], 7.5 * saes[0].net.W_dec[3], rtol=0, atol=1e-6)
    torch.testing.assert_close(tensors["blocks.2.hook_resid_post"], -6.0 * saes[1].net.W_dec[7], rtol=0, atol=1e-6)
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert metadata["operation"] == "add at generation positions"
    assert (metadata["model"], metadata["model_fingerprint"]) == (model.name, model.fingerprint)
    assert (metadata["scale"], metadata["scale_applied"]) == ("1.5", "true")
    assert json.loads(metadata["features"]) == [[1, 3, 5.0], [2, 7, -4.0]]
    assert json.loads(metadata["hook_points"])["blocks.1.hook_resid_post"] == {
        "layer": 1, "kind": "resid_post", "module": "model.layers.1", "side": "output",
    }  # fmt: skip
    assert type(steering).from_json(metadata["steering_set"]) == steering


@pytest.mark.parametrize("made", FAST, indirect=True)
def test_the_vectors_steer_a_plain_transformers_model_to_the_same_tokens(made, tmp_path):
    """Hooks written here, generate() of transformers, a left-padded batch; against one prompt at a time of our own."""
    model, saes, steering = made
    (content,) = exports.exported(steering, "safetensors", "v", model, saes).values()
    (tmp_path / "v.safetensors").write_bytes(content)
    net = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()

    def adding(vector):
        def hook(_module, _inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden[:, -1] += vector

        return hook

    with safe_open(tmp_path / "v.safetensors", framework="pt") as file:
        for name, place in json.loads(file.metadata()["hook_points"]).items():
            net.get_submodule(place["module"]).register_forward_hook(adding(file.get_tensor(name)))
    model.tokenizer.pad_token = model.tokenizer.eos_token
    batch = model.tokenizer(PROMPTS, return_tensors="pt", padding=True, return_token_type_ids=False)
    with torch.inference_mode():
        out = net.generate(**batch, do_sample=False, max_new_tokens=16, eos_token_id=sorted(model.end_tokens))
    theirs = [export_text(model, ids) for ids in out[:, batch["input_ids"].shape[1] :].tolist()]
    ours = steered_texts(made)
    assert theirs == [steered for _, steered in ours]
    assert sum(unsteered != steered for unsteered, steered in ours) > 1


def export_text(model: Model, ids: list[int]) -> str:
    end = next((at for at, token in enumerate(ids) if token in model.end_tokens), len(ids))
    return model.tokenizer.decode(ids[:end], skip_special_tokens=True)


# --- the script ----------------------------------------------------------------------------------


@pytest.mark.parametrize("made", FAST, indirect=True)
@pytest.mark.parametrize("style", STYLES)
def test_the_script_gives_the_same_texts_from_a_padded_batch(made, style, tmp_path):
    model, saes, steering = made
    made = model, saes, replace(steering, style=STYLES[style])
    module = script_of(made, tmp_path)
    net, tokenizer = module.load()
    unsteered = module.answers(net, tokenizer, PROMPTS, max_new_tokens=16)
    with module.steered(net):
        steered = module.answers(net, tokenizer, PROMPTS, max_new_tokens=16)
    assert list(zip(unsteered, steered, strict=True)) == steered_texts(made)
    assert module.answers(net, tokenizer, PROMPTS, max_new_tokens=16) == unsteered  # no hook is left


@pytest.mark.parametrize("made", ["llama", "gpt2"], indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_the_script_steers_at_every_kind_of_hook_point(made, kind, tmp_path):
    model, _, _ = made
    saes = [random_sae(model, 1, kind)]
    steering = empty_set(model, saes, rows=(SteeringRow(1, 3, 9.0),), style=STYLES["plain"])
    module = script_of((model, saes, steering), tmp_path)
    net, tokenizer = module.load()
    with module.steered(net):
        steered = module.answers(net, tokenizer, PROMPTS, max_new_tokens=16)
    ours = steered_texts((model, saes, steering))
    assert steered == [text for _, text in ours]


def test_where_a_template_refuses_a_system_role_the_script_does_as_we_do(made, tmp_path):
    model, saes, steering = made
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    model.tokenizer.chat_template = refusing + model.tokenizer.chat_template
    model.tokenizer.save_pretrained(tmp_path / "model")
    for shots in ((), (("Hi", "Hello"),)):
        of_style = model, saes, replace(steering, style=PromptStyle(True, "Be brief.", shots))
        module = script_of(of_style, tmp_path, f"steer{len(shots)}")
        net, tokenizer = module.load()
        with module.steered(net):
            texts = module.answers(net, tokenizer, PROMPTS, max_new_tokens=16)
        assert texts == [text for _, text in steered_texts(of_style)]


def test_a_model_that_can_think_is_asked_not_to_by_the_script_as_by_us(made, tmp_path):
    model, saes, steering = made
    model.tokenizer.chat_template += (  # as Qwen3's ends
        "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
        "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    )
    model.tokenizer.save_pretrained(tmp_path / "model")
    asked = model.tokenizer.decode(render(model, "why?", STYLES["chat"]))
    assert asked.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    made = model, saes, replace(steering, style=STYLES["chat"])
    module = script_of(made, tmp_path)
    net, tokenizer = module.load()
    with module.steered(net):
        texts = module.answers(net, tokenizer, PROMPTS, max_new_tokens=16)
    assert texts == [text for _, text in steered_texts(made)]


def test_an_error_while_steered_leaves_no_hook(made, tmp_path):
    module = script_of(made, tmp_path)
    net, _ = module.load()
    with pytest.raises(ZeroDivisionError), module.steered(net):
        raise ZeroDivisionError
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in net.modules())


def test_the_command_line_writes_a_script_that_runs_alone(made, tmp_path, capsys, monkeypatch):
    model, saes, steering = made
    for sae in saes:
        sae.net.save_model(tmp_path / "saes" / f"layer_{sae.layer}")
    saes = load_saes([str(tmp_path / "saes")], model)
    steering = empty_set(model, saes, rows=steering.rows, name='x\'\n"""; print(1) #', style=STYLES["chat"])
    save_set(steering, tmp_path / "set.json")
    out = tmp_path / "out" / "steer.py"
    arguments = ["export", "--set", str(tmp_path / "set.json"), "--format", "python", "--out", str(out)]
    arguments += ["--dtype", "float32"]
    monkeypatch.setenv("CORRSTEER_DTYPE", "")  # undone after the test
    assert main([*arguments, "--quiet"]) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ["steer.py", "steer.safetensors"]
    capsys.readouterr()
    ran = subprocess.run(
        [sys.executable, out, *PROMPTS[:2]], capture_output=True, text=True, cwd=tmp_path, env=alone(), check=False
    )
    assert ran.returncode == 0, ran.stderr
    expected = "".join(
        f"prompt: {prompt}\nunsteered: {texts[0]}\nsteered: {texts[1]}\n\n"
        for prompt, texts in (
            (prompt, playground.side_by_side(steering, prompt, max_new_tokens=60, model=model, saes=saes))
            for prompt in PROMPTS[:2]
        )
    )
    assert ran.stdout == expected
    assert main([*arguments, "--quiet"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main([*arguments, "--quiet", "--force"]) == 0


def test_the_script_takes_another_place_of_the_model_and_another_length(made, tmp_path):
    model, saes, steering = made
    exports.write_new(tmp_path, exports.exported(steering, "python", "steer", model, saes))
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    words = [sys.executable, "steer.py", "--model", "elsewhere", "--max-new-tokens", "3", PROMPTS[0]]
    asked = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=alone(), check=False)
    assert asked.returncode == 0, asked.stderr
    texts = playground.side_by_side(steering, PROMPTS[0], max_new_tokens=3, model=model, saes=saes)
    assert asked.stdout == f"prompt: {PROMPTS[0]}\nunsteered: {texts[0]}\nsteered: {texts[1]}\n\n"


def alone() -> dict[str, str]:
    """An environment in which this project is not on Python's path."""
    import os

    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


# --- GGUF ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", FAST, indirect=True)
def test_a_control_vector_reads_back_equal_with_its_layers_shifted_by_none(made, tmp_path):
    model, saes, steering = made
    (content,) = exports.exported(steering, "gguf", "v", model, saes).values()
    (tmp_path / "v.gguf").write_bytes(content)
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    vectors = vectors_of(steering, saes)
    assert {tensor.name for tensor in reader.tensors} == {"direction.1", "direction.2"}
    for tensor in reader.tensors:
        layer = int(tensor.name.removeprefix("direction."))
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert tensor.shape.tolist() == [model.d_model]
        assert torch.equal(torch.tensor(tensor.data), vectors[HookPoint(layer)])

    def field(name: str):
        return reader.get_field(name).contents()

    assert field("general.architecture") == "controlvector"
    assert field("controlvector.model_hint") == HINTS[model.net.config.model_type]
    assert field("controlvector.layer_count") == 2
    assert type(steering).from_json(field("corrsteer.steering_set")) == steering


def test_llama_cpp_names_are_names_of_the_gguf_package():
    names = set(gguf.MODEL_ARCH_NAMES.values())
    assert {layout.llama_cpp or name for name, layout in LAYOUTS.items()} <= names


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_vector_for_anything_but_the_output_of_a_block_is_refused(made, kind):
    model, _, _ = made
    saes = [random_sae(model, 1, kind)]
    steering = empty_set(model, saes, rows=(SteeringRow(1, 3, 9.0),))
    with pytest.raises(CorrSteerError, match=r"output of blocks \(resid_post\)"):
        exports.exported(steering, "gguf", "v", model, saes)


def test_a_control_vector_for_block_0_is_refused(made):
    model, _, _ = made
    saes = [random_sae(model, 0)]
    steering = empty_set(model, saes, rows=(SteeringRow(0, 3, 9.0),))
    with pytest.raises(CorrSteerError, match="block 0"):
        exports.exported(steering, "gguf", "v", model, saes)


# --- what is refused -----------------------------------------------------------------------------


def test_json_needs_no_model_and_reads_back_equal(made):
    _, _, steering = made
    (content,) = exports.exported(steering, "json", "v").values()
    assert type(steering).from_json(content.decode()) == steering


@pytest.mark.parametrize("wanted", ["safetensors", "gguf", "python"])
def test_a_set_with_nothing_to_add_or_of_another_model_is_refused(made, wanted):
    model, saes, steering = made
    off = steering.with_rows([replace(row, enabled=False) for row in steering.rows])
    with pytest.raises(CorrSteerError, match="switched on"):
        exports.exported(off, wanted, "v", model, saes)
    with pytest.raises(CorrSteerError, match="belongs to"):
        exports.exported(replace(steering, model_fingerprint="0"), wanted, "v", model, saes)
    with pytest.raises(CorrSteerError, match="too long"):
        exports.exported(steering.scaled(1e38), wanted, "v", model, saes)
    with pytest.raises(CorrSteerError, match="needs the model"):
        exports.exported(steering, wanted, "v")


def test_nothing_is_written_where_one_of_the_files_is_there(tmp_path):
    (tmp_path / "b").write_text("mine")
    with pytest.raises(CorrSteerError, match="is there already"):
        exports.write_new(tmp_path, {"a": b"1", "b": b"2"})
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "b").read_text() == "mine"


def test_a_wrong_ending_is_said_with_the_right_one(made, tmp_path, capsys):
    save_set(made[2], tmp_path / "set.json")
    wrong = ["export", "--set", str(tmp_path / "set.json"), "--format", "gguf", "--out", str(tmp_path / "v.json")]
    assert main([*wrong, "--quiet"]) == 1
    assert "v.gguf" in capsys.readouterr().err
