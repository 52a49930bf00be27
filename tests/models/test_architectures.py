"""Every architecture of the table on a tiny random model, against transformers; those without an entry, and wrong entries."""

import copy
import sys
from dataclasses import replace

import pytest
import torch
import transformers

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.generation import UNSTEERED
from corrsteer_core.models import architectures, hook_check, recurrent
from corrsteer_core.models.architectures import LAYOUTS
from corrsteer_core.models.hook_check import checked
from corrsteer_core.models.hooks import PARTS, HookPoint, hooked
from corrsteer_core.models.loading import load_model
from tests.engine.test_generation import by_transformers, by_us, vector
from tests.made.models import (
    ARCHITECTURES,
    FAST,
    MORE,
    RECURRENT,
    WIDTH,
    activations_at,
    made_of,
    prompts,
    small_config,
    tiny,
    tokenizer,
)

ALL = (*ARCHITECTURES, *MORE)
MIXED = ["linear_attention", "full_attention", "linear_attention"]
TRIED = tuple({"gemma3": "gemma3_text"}.get(one, one) for one in LAYOUTS)
LOOKS_BACK = ("mixtral", "phi3", "qwen3_moe", "olmo3", "gpt_oss")


def test_every_entry_of_the_table_is_tried():
    assert set(TRIED) == set(ALL)


@pytest.mark.parametrize("architecture", MORE)
def test_tokens_are_those_of_generate_unsteered_at_scale_0_and_steered(architecture):
    model, ids = tiny(architecture), prompts(tiny(architecture))
    vectors = {HookPoint(1): vector(1, 3.0), HookPoint(2, "resid_pre"): vector(2, 3.0)}
    nothing = {point: 0 * one for point, one in vectors.items()}
    plain = [by_transformers(model, prompt) for prompt in ids]
    pushed = [by_transformers(model, prompt, vectors) for prompt in ids]
    variants = (UNSTEERED, vectors, nothing)
    together = by_us(model, ids, variants, batch_size=5)
    assert [row[0] for row in together] == [row[2] for row in together] == plain
    assert [row[1] for row in together] == pushed
    assert [by_us(model, [prompt], variants)[0] for prompt in ids] == together
    assert len({tuple(tokens) for tokens in plain}) > 2
    assert plain != pushed


@pytest.mark.parametrize("architecture", LOOKS_BACK)
def test_windows_are_counted_in_positions(architecture):
    model = tiny(architecture, window=6)
    ids = prompts(model)
    assert by_us(model, ids, batch_size=5) == [[by_transformers(model, prompt)] for prompt in ids]
    assert by_us(model, ids) != by_us(tiny(architecture), ids)


@pytest.mark.parametrize("architecture", ALL)
def test_what_the_hooks_read_is_transformers_hidden_states(architecture):
    model = tiny(architecture)
    ids = prompts(model)[1]
    with torch.inference_mode():
        hidden = model.net(torch.tensor([ids]), output_hidden_states=True).hidden_states
    for layer in range(model.n_layers):
        assert torch.equal(activations_at(model, HookPoint(layer, "resid_pre"), ids), hidden[layer][0])
    for layer in range(model.n_layers - 1):
        assert torch.equal(activations_at(model, HookPoint(layer), ids), hidden[layer + 1][0])
    norm = model.net.get_submodule(model.layout.final_norm)
    last = norm(activations_at(model, HookPoint(model.n_layers - 1), ids))
    torch.testing.assert_close(last, hidden[-1][0])


@pytest.mark.parametrize("architecture", [one for one in ALL if one != "granite"])
def test_the_parts_of_a_block_add_up_and_have_the_width_that_is_said(architecture):
    model = tiny(architecture)
    ids = prompts(model)[1]
    for layer in range(model.n_layers):
        pre, attention, mlp, post = (
            activations_at(model, HookPoint(layer, kind), ids)
            for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post")
        )
        torch.testing.assert_close(pre + attention + mlp, post, atol=1e-5, rtol=1e-5)
        if architecture not in RECURRENT:
            heads = activations_at(model, HookPoint(layer, "attn_z"), ids)
            assert heads.shape[-1] == model.width("attn_z")


@pytest.mark.parametrize("kind", PARTS)
def test_a_hook_point_that_an_architecture_lacks_is_refused(kind):
    with pytest.raises(CorrSteerError, match=rf"no hook point {HookPoint(1, kind).name}: .*granite.*residual stream"):
        tiny("granite").site(HookPoint(1, kind))


# --- the check at load ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ALL)
def test_every_architecture_passes_the_check_at_load(architecture, dtype):
    net = copy.deepcopy(tiny(architecture).net).to(dtype)
    assert checked("it", net) == LAYOUTS[net.config.model_type]


def test_the_check_is_two_short_passes_once_a_model_and_leaves_it_as_it_was(monkeypatch):
    net = tiny.__wrapped__("llama").net  # no other test has read its hidden states
    net.model.layers[1].train()
    read = []
    net.model.layers[0].register_forward_pre_hook(lambda module, args: read.append(args[0].shape[:2].numel()))
    weights = {name: weight.clone() for name, weight in net.named_parameters()}
    assert checked("it", net) is checked("it", net)
    assert len(read) == 2
    assert sum(read) <= 50
    assert net.model.layers[1].training
    assert not net.model.layers[0].training
    assert all(torch.equal(weight, weights[name]) for name, weight in net.named_parameters())
    assert sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in net.modules()) == 1
    hidden = net(torch.tensor([[5, 6, 7]]), output_hidden_states=True).hidden_states
    assert len(hidden) == 4, "transformers' own way to read them is not taken away"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"blocks": "model.elsewhere"}, "could not be read"),
        ({"mlp_out": "mlp.up_proj"}, "could not be read"),
        ({"mlp_out": "input_layernorm"}, "what attention and MLP are read to add"),
        ({"attn_out": "self_attn.v_proj"}, "could not be read"),
        ({"attn_out": "self_attn.q_proj"}, "what attention and MLP are read to add"),
        ({"attn_z": "no_such_module"}, "could not be read"),
        ({"final_norm": "model.layers.0.input_layernorm"}, "final norm"),
    ],
)
def test_a_wrong_entry_is_refused_in_one_sentence(wrong, said, monkeypatch):
    net = copy.deepcopy(tiny("llama").net)
    net.model.norm.weight.data += 0.5
    monkeypatch.setitem(LAYOUTS, "llama", replace(LAYOUTS["llama"], **wrong))
    with pytest.raises(CorrSteerError, match=said) as refused:
        checked("some/model", net)
    assert "some/model (architecture 'llama')" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("architecture", ["gemma2", "olmo3", "gemma3_text"])
def test_a_norm_behind_attention_and_mlp_that_an_entry_forgets_is_found(architecture, monkeypatch):
    net = copy.deepcopy(tiny(architecture).net)
    monkeypatch.setitem(LAYOUTS, architecture, LAYOUTS["llama"])
    with pytest.raises(CorrSteerError, match="what attention and MLP are read to add"):
        checked("it", net)


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ("self_attn.o_proj", "could not be read"),
        ("self_attn.o_proj|linear_attn.norm", "what attention and MLP are read to add"),
        ("self_attn.o_proj|input_layernorm", "what attention and MLP are read to add"),
    ],
)
def test_a_wrong_place_in_one_of_two_kinds_of_blocks_is_refused(places, said, monkeypatch):
    net = copy.deepcopy(tiny("qwen3_5_text").net)
    monkeypatch.setitem(LAYOUTS, "qwen3_5_text", replace(LAYOUTS["qwen3_5_text"], attn_out=places))
    with pytest.raises(CorrSteerError, match=said):
        checked("it", net)


def test_blocks_in_another_order_than_they_are_run_in_are_refused(monkeypatch):
    net = copy.deepcopy(tiny("llama").net)
    net.turned = torch.nn.ModuleList(reversed(net.model.layers))
    monkeypatch.setitem(LAYOUTS, "llama", replace(LAYOUTS["llama"], blocks="turned"))
    with pytest.raises(CorrSteerError, match=r"resid_pre of layer 0 is not transformers' hidden_states\[0\]"):
        checked("it", net)


def test_what_is_added_and_does_not_arrive_is_refused(monkeypatch):
    """A block whose output is thrown away by who wraps it."""
    net = copy.deepcopy(tiny("llama").net)
    monkeypatch.setattr(
        hook_check, "hooked", lambda sites: hooked({site: _looking(one) for site, one in sites.items()})
    )
    with pytest.raises(CorrSteerError, match="what is added at resid_pre does not change what follows"):
        checked("it", net)


def _looking(action):
    def look(activation):
        action(activation)

    return look


def test_what_is_added_from_a_position_on_and_changes_those_before_is_refused():
    """A model that looks ahead."""
    net = copy.deepcopy(tiny("llama").net)
    for layer in net.model.layers:
        layer.register_forward_pre_hook(lambda module, args: (args[0] + 0.5 * args[0].mean(1, keepdim=True), *args[1:]))
    with pytest.raises(CorrSteerError, match="hidden_states|changes what precedes"):
        checked("it", net)


# --- architectures without an entry --------------------------------------------------------------


@pytest.mark.parametrize("architecture", FAST)
def test_one_without_an_entry_is_tried_at_the_usual_places(architecture, monkeypatch):
    net = copy.deepcopy(tiny(architecture).net)
    entry = LAYOUTS[architecture]
    monkeypatch.delitem(LAYOUTS, architecture)
    found = checked("it", net)
    assert (found.blocks, found.final_norm) == (entry.blocks, entry.final_norm)
    # Gemma's norms behind attention and MLP are at no usual place: the residual stream is all that is sure.
    # And so it is where the first block's attention has another name than the second's.
    few = architecture in ("gemma2", "qwen3_5_text")
    expected = ("", "", "") if few else (entry.mlp_out, entry.attn_out, entry.attn_z)
    assert (found.mlp_out, found.attn_out, found.attn_z) == expected


HYBRID = {
    "bamba": {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "attn_layer_indices": [1]},
    "granitemoehybrid": {
        "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "layer_types": ["mamba", "attention", "mamba"],
        "num_local_experts": 0, "shared_intermediate_size": 64,
    },
    "kimi_linear": {
        "linear_head_dim": 8, "linear_num_heads": 4, "layer_types": MIXED, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 8, "num_experts": 4, "num_experts_per_token": 2, "moe_intermediate_size": 16,
        "num_key_value_heads": 4,
    },
    "olmo_hybrid": {"layer_types": MIXED},
}  # fmt: skip
"""Without an entry, some layers of which keep a state."""


@pytest.mark.parametrize("architecture", ["cohere", "starcoder2", "seed_oss", "glm4", "ernie4_5", *HYBRID])
def test_families_of_transformers_without_an_entry_are_steered_as_generate_is(architecture):
    assert architecture not in LAYOUTS
    model = made_of(small_config(architecture, **HYBRID.get(architecture, {"head_dim": 8})), architecture)
    assert model.recurrent == (architecture in HYBRID)
    model = replace(model, checked=checked(architecture, model.net))
    ids = prompts(model)[:3]
    vectors = {HookPoint(1): vector(1, 3.0)}
    expected = [[by_transformers(model, prompt), by_transformers(model, prompt, vectors)] for prompt in ids]
    assert by_us(model, ids, (UNSTEERED, vectors)) == expected


def test_one_with_blocks_at_no_usual_place_is_refused(monkeypatch):
    net = copy.deepcopy(tiny("gpt_neox").net)
    monkeypatch.delitem(LAYOUTS, "gpt_neox")
    monkeypatch.setattr(architectures, "_BLOCKS", ("model.layers",))
    with pytest.raises(CorrSteerError, match="'gpt_neox', whose blocks .* at none of the usual places"):
        checked("it", net)


@pytest.mark.parametrize(
    ("architecture", "settings", "kind"),
    [
        ("qwen3_5_text", {"layer_types": ["linear_attention"] * 3}, "linear_attention"),
        ("falcon_h1", {}, "hybrid"),
        ("falcon", {"alibi": True}, "alibi"),
    ],
)
def test_layers_that_all_keep_a_state_do_both_or_count_keys_are_refused(architecture, settings, kind):
    net = made_of(small_config(architecture, **settings), architecture).net
    with pytest.raises(CorrSteerError, match=f"layers of the kind {kind}, which"):
        checked("it", net)


def test_a_state_that_the_configuration_does_not_tell_of_is_found(monkeypatch):
    """Two texts side by side share it."""
    net = copy.deepcopy(tiny("qwen3_5_text").net)
    monkeypatch.setattr(hook_check, "_refuse_others", lambda name, net: None)
    monkeypatch.setattr(hook_check, "is_recurrent", lambda config: False)
    with pytest.raises(CorrSteerError, match="when another stands beside it|could not be read"):
        checked("it", net)


@pytest.mark.parametrize("architecture", RECURRENT)
def test_a_state_that_padding_changes_is_found(architecture, monkeypatch):
    net = copy.deepcopy(tiny(architecture).net)
    module = sys.modules[type(net).__module__]
    monkeypatch.setattr(module, "apply_mask_to_padding_states", lambda hidden, mask: hidden)
    with pytest.raises(CorrSteerError, match=r"layer \d reads a text otherwise behind padding and in parts"):
        checked("it", net)


def test_a_model_that_forgets_its_state_when_it_reads_several_tokens_is_refused():
    """Jamba goes on from its state with one token at a time, and begins anew with two."""
    settings = {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "mamba_d_state": 8}
    net = made_of(small_config("jamba", **settings), "jamba").net
    with pytest.raises(CorrSteerError, match=r"layer \d reads a text otherwise behind padding and in parts"):
        checked("it", net)


def test_a_state_that_is_not_copied_with_its_row_is_found(monkeypatch):
    def mixed_up(layer, rows):
        real(layer, (rows + 1) % 2)

    real = recurrent.KeptStates.batch_select_indices
    monkeypatch.setattr(recurrent.KeptStates, "batch_select_indices", mixed_up)
    with pytest.raises(CorrSteerError, match=r"layer \d reads a text otherwise behind padding and in parts"):
        checked("it", copy.deepcopy(tiny("qwen3_5_text").net))


def test_a_checkpoint_with_an_eye_is_read_as_its_language_model(tmp_path):
    """Qwen 3.5 of the hub sees pictures too; transformers' causal model is the part that reads and writes texts."""
    text = tiny("qwen3_5_text")
    seeing = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
    config = transformers.Qwen3_5Config(text_config=text.net.config.to_dict(), vision_config=seeing)
    whole = transformers.Qwen3_5ForConditionalGeneration(config)
    whole.model.language_model.load_state_dict(text.net.model.state_dict())
    whole.lm_head.load_state_dict(text.net.lm_head.state_dict())
    whole.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    model = load_model(str(tmp_path), dtype=torch.float32, device="cpu")
    assert model.layout == LAYOUTS["qwen3_5_text"]
    assert by_us(model, prompts(model)) == by_us(text, prompts(text))


def test_lack_of_memory_is_not_taken_for_another_architecture(monkeypatch):
    def full(*_):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(hook_check, "_read", full)
    with pytest.raises(RuntimeError, match="primitive"):
        hook_check._tried("tiny", tiny("llama").net, architectures.LAYOUTS["llama"])
