"""SAELens' registry as the tool reads it, beside SAELens' own reading; and the presets, all of whose SAEs must be in it."""

import json

import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.saes import registry
from corrsteer_core.saes.presets import PRESETS, get_preset


def command(capsys, *arguments):
    """Exit status, parsed standard output, standard error."""
    status = main.main([*arguments, "--json", "--quiet"])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else None, err


@pytest.fixture(scope="module")
def directory():
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return get_pretrained_saes_directory()


def test_releases_and_ids_are_those_that_saelens_resolves(directory):
    ours = registry.releases()
    assert ours.keys() == directory.keys()
    for name, theirs in directory.items():
        assert (ours[name].model, ours[name].repo) == (theirs.model, theirs.repo_id)
        assert {sae.id: sae.path for sae in ours[name].saes} == theirs.saes_map
        assert {sae.id: sae.neuronpedia for sae in ours[name].saes} == theirs.neuronpedia_id


@pytest.mark.parametrize(
    ("release", "id", "layer", "hook"),
    [
        ("gemma-scope-2b-pt-res-canonical", "layer_12/width_16k/canonical", 12, "resid_post"),
        ("gemma-scope-2b-pt-att-canonical", "layer_3/width_16k/canonical", 3, "attn_z"),
        ("gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_6", None, "embed"),
        ("gemma-scope-2-1b-it-mlp-all", "layer_7_width_16k_l0_big", 7, "mlp_out"),
        ("gemma-scope-2-1b-it-transcoders-all", "layer_7_width_16k_l0_big", 7, "transcoder"),
        ("llama_scope_lxr_8x", "l15r_8x", 15, "resid_post"),
        ("llama_scope_lxa_32x", "l31a_32x", 31, "attn_out"),
        ("llama_scope_lxm_8x", "l0m_8x", 0, "mlp_out"),
        ("gpt2-small-res-jb", "blocks.11.hook_resid_post", 11, "resid_post"),
        ("gpt2-small-res-jb", "blocks.11.hook_resid_pre", 11, "resid_pre"),
        ("gpt2-small-hook-z-kk", "blocks.4.hook_z", 4, "attn_z"),
        ("qwen-scope-3-8b-base-w64k-l50", "layer35", 35, "resid_post"),
        ("gpt2-small-resid-mid-v5-32k", "blocks.4.hook_resid_mid", 4, "resid_mid"),
    ],
)
def test_layer_and_hook_are_read_from_names(release, id, layer, hook):
    found = next(sae for sae in registry.releases()[release].saes if sae.id == id)
    assert (found.layer, found.hook, found.source) == (layer, hook, f"{release}/{id}")


def test_nearly_every_sae_has_a_layer():
    every = registry.search([])
    without = [sae for sae in every if sae.layer is None]
    assert len(every) > 10_000
    assert {sae.hook for sae in without} <= {"embed"}


def test_words_are_searched_together_and_case_aside(capsys):
    status, rows, err = command(capsys, "saes", "GEMMA-2-2B", "canonical", "resid_post")
    assert status == 0, err
    assert rows == [
        {"release": "gemma-scope-2b-pt-res-canonical", "model": "gemma-2-2b", "hook": "resid_post", "layers": "0-25",
         "saes": 58, "neuronpedia": 58, "refused": ""}
    ]  # fmt: skip
    status, every, _ = command(capsys, "saes")
    assert status == 0
    assert len(every) == len(registry.releases())


def test_a_release_by_name_lists_its_saes(capsys):
    status, rows, err = command(capsys, "saes", "gpt2-small-res-jb")
    assert status == 0, err
    assert len(rows) == 13
    assert rows[0] == {
        "source": "gpt2-small-res-jb/blocks.0.hook_resid_pre", "layer": 0, "hook": "resid_pre", "l0": 10.0,
        "neuronpedia": "gpt2-small/0-res-jb", "refused": "",
    }  # fmt: skip
    _, rows, _ = command(capsys, "saes", "gemma-scope-2b-pt-res-canonical", "layer_12/", "16k")
    assert [row["source"] for row in rows] == ["gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical"]


@pytest.mark.parametrize(
    ("release", "refused"),
    [
        ("gemma-scope-2b-pt-transcoders", "a transcoder, which reads in one place and writes in another"),
        ("mwhanna-qwen3-4b-transcoders", "a transcoder, which reads in one place and writes in another"),
        ("gemma-scope-2b-pt-res", "4: reads the embedding, before the first block"),
        ("gpt2-small-resid-mid-v5-32k", "reads between attention and MLP"),
        ("temporal-sae-gemma-2-2b", "a temporal one, whose features depend on the tokens before"),
        ("mistral-7b-res-wg", "rescales each input by its own norm"),
        ("gpt2-small-hook-z-kk", "reads attention heads with their value biases folded away"),
        ("qwen-scope-3.5-2b-base-w32k-l50", "its model has layers of linear attention, which this tool cannot read"),
        ("qwen-scope-3-8b-base-w64k-l50", ""),
    ],
)
def test_what_is_refused_is_listed_with_the_reason(capsys, release, refused):
    rows = {row["release"]: row for row in registry.by_release(registry.search([]))}
    assert rows[release]["refused"] == refused
    _, listed, _ = command(capsys, "saes", release)
    told = {row["refused"] for row in listed}
    assert told == ({"", refused.removeprefix("4: ")} if refused.startswith("4: ") else {refused})


def test_no_preset_is_of_saes_that_are_refused():
    by_source = {sae.source: sae.refused for sae in registry.search([])}
    assert {by_source[source] for preset in PRESETS.values() for source in preset.sources()} == {""}


def test_nothing_found_is_said(capsys):
    status, _, err = command(capsys, "saes", "no-such-model")
    assert status == 1
    assert "no SAE with 'no-such-model'" in err


def test_layers_in_few_characters():
    assert registry.ranges({0, 1, 2, 3, 8, 10, 11}) == "0-3, 8, 10-11"
    assert registry.ranges(set()) == ""


# --- presets -------------------------------------------------------------------------------------

LAYERS = {
    "gemma-2-2b-it": 26, "gemma-2-2b": 26, "llama-3.1-8b-instruct": 32, "llama-3.1-8b": 32, "gemma-3-270m-it": 18,
    "gemma-3-1b-it": 26, "qwen3-1.7b": 28, "qwen3-1.7b-base": 28, "qwen3-8b": 36, "qwen3-8b-base": 36, "gpt2-small": 12,
}  # fmt: skip
"""Blocks of each model, from its makers' model cards."""


def test_there_is_a_preset_for_each_model():
    assert {name: len(preset.ids) for name, preset in PRESETS.items()} == LAYERS


@pytest.mark.parametrize("name", LAYERS)
def test_every_sae_of_a_preset_is_in_the_registry_at_its_layer(name, directory):
    preset = get_preset(name)
    theirs = directory[preset.release]
    assert set(preset.ids) <= theirs.saes_map.keys()
    by_id = {sae.id: sae for sae in registry.releases()[preset.release].saes}
    assert [by_id[id].layer for id in preset.ids] == list(range(LAYERS[name]))
    assert {by_id[id].hook for id in preset.ids} == {"resid_pre" if name == "gpt2-small" else "resid_post"}
    assert preset.sources([3]) == [f"{preset.release}/{preset.ids[3]}"]


@pytest.mark.parametrize("name", LAYERS)
def test_a_presets_saes_were_trained_on_its_model_or_that_models_base(name, directory):
    from corrsteer_core.saes.sae import _family

    assert _family(PRESETS[name].model) == _family(directory[PRESETS[name].release].model)


def test_what_a_preset_does_not_have_is_refused(capsys):
    with pytest.raises(CorrSteerError, match="has SAEs for layers 0 to 11, not for 12"):
        get_preset("gpt2-small").sources([3, 12])
    with pytest.raises(CorrSteerError, match="There is no preset 'gpt3'; the presets are gemma-2-2b-it"):
        get_preset("gpt3")
    status, _, err = command(capsys, "fit", "--task", "sentiment", "--preset", "gpt2-small", "--sae", "embedded")
    assert status == 1
    assert "not both" in err


def test_presets_are_listed(capsys):
    status, rows, _ = command(capsys, "presets")
    assert status == 0
    assert [row["preset"] for row in rows] == list(PRESETS)
