"""Which features fire on a text, against transformers' own hidden states and the SAE's weights by hand."""

import copy
import json

import numpy as np
import pytest
import torch

import corrsteer_core as cs
from corrsteer_core.api import models
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.cli.commands import firing as command
from corrsteer_core.engine.generation import decode, prefill, tokens_by_row
from corrsteer_core.inspection import fired_features, firing
from corrsteer_core.inspection.firing import Wanted, read
from corrsteer_core.inspection.logit_lens import promoted
from corrsteer_core.models.prompts import answer_text, render
from corrsteer_core.runs import feature_facts, stored_run
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.steering_set import save_set
from tests.made import runs as tiny_run
from tests.made.models import random_sae, tiny

TEXT = "the cat sat, and it was happy"
CHAT = PromptStyle(chat=True, system="Be brief.")
HOSTILE = "<img src=x onerror=alert(1)> \u202e\x1b[31m"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    monkeypatch.setenv("CORRSTEER_DTYPE", "float32")
    return tiny_run.make_run(*tiny_run.load())


def encoded(model, sae, tokens):
    """(tokens, d_sae) of one text: transformers' hidden states, and the encoder written out."""
    net = copy.deepcopy(model.net)  # transformers leaves hooks of its own on what it was asked for
    with torch.inference_mode():
        seen = net(torch.tensor([list(tokens)]), output_hidden_states=True).hidden_states
    x = seen[sae.layer + 1][0].float()  # the first is the embeddings
    return torch.relu((x - sae.net.b_dec) @ sae.net.W_enc + sae.net.b_enc).numpy()


def dense(found, sae):
    """What was found of one SAE, (tokens, d_sae), zeros where nothing fires."""
    rows = found.active[found.active["layer"] == sae.layer]
    out = np.zeros((len(found.text.tokens), sae.d_sae), np.float32)
    out[rows["token"], rows["feature"]] = rows["value"]
    return out


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize(("style", "new"), [(firing.PLAIN, 0), (firing.PLAIN, 5), (CHAT, 5)])
def test_every_activation_is_the_encoders_own_of_transformers_hidden_states(architecture, style, new, monkeypatch):
    monkeypatch.setattr(firing, "TOGETHER", 7)  # in several pieces
    model = tiny(architecture)
    saes = [random_sae(model, layer) for layer in (0, 1)]
    found = read(model, saes, TEXT, style, new_tokens=new)
    for sae in saes:
        expected = encoded(model, sae, found.text.tokens)
        np.testing.assert_allclose(dense(found, sae), expected, atol=2e-4, rtol=2e-4)
        assert 0.2 < (expected > 0).mean() < 0.8
    assert (found.active["value"] > 0).all()


def test_the_answer_is_the_models_own_unsteered_greedy_one():
    model = tiny("llama")
    found = read(model, [random_sae(model, 0)], TEXT, CHAT, new_tokens=6)
    prompt = render(model, TEXT, CHAT)
    expected = tokens_by_row(decode(model, prefill(model, [prompt]), max_new_tokens=6), 1)[0]
    assert list(found.text.prompt) == prompt
    assert list(found.text.answer) == expected


@pytest.mark.parametrize("text", ["x", "1", "x1", "xx", "1x1", TEXT, "assistant\n"])
@pytest.mark.parametrize("style", [firing.PLAIN, CHAT, PromptStyle(chat=False, shots=(("x", "1"),))])
def test_only_the_typed_tokens_are_the_text(text, style):
    model = tiny("llama")
    found = read(model, [random_sae(model, 0)], text, style)
    typed = [token for token, part in zip(found.text.prompt, found.parts, strict=True) if part == "text"]
    assert model.tokenizer.decode(typed) == text
    assert (found.parts.count("around") == 0) == (style == firing.PLAIN)


def test_the_tokens_that_count():
    model = tiny("llama")
    found = read(model, [random_sae(model, 0)], "abc", CHAT, new_tokens=4)
    typed = [place for place, part in enumerate(found.parts) if part == "text"]
    start = len(found.text.prompt)
    answer = [start + place for place, token in enumerate(found.text.answer) if token not in model.end_tokens]
    assert found.counted(Wanted()) == typed + answer
    assert found.counted(Wanted(where="generation")) == list(range(start - 1, start + len(found.text.answer) - 1))
    assert found.counted(Wanted(token=typed[1])) == [typed[1]]
    assert found.counted(Wanted(first=False)) == typed + answer  # the first token is the template's
    plain = read(model, [random_sae(model, 0)], "abc")
    assert plain.counted(Wanted(first=False)) == [1, 2]
    assert plain.counted(Wanted(where="generation")) == []
    with pytest.raises(CorrSteerError, match="no positions 'everywhere'"):
        Wanted(where="everywhere")


def test_the_most_active_features_come_first_with_their_token_and_number_of_tokens():
    model = tiny("llama")
    saes = [random_sae(model, layer) for layer in (0, 1)]
    found = read(model, saes, TEXT)
    by_hand = {sae.layer: encoded(model, sae, found.text.tokens)[1:] for sae in saes}
    rows = fired_features.strongest(found, Wanted(first=False))
    assert rows["value"].is_monotonic_decreasing
    assert len(rows) == sum((one > 0).any(0).sum() for one in by_hand.values())
    for row in rows.head(20).itertuples():
        column = by_hand[row.layer][:, row.feature]
        assert row.value == pytest.approx(column.max(), rel=1e-3)
        assert row.token == 1 + column.argmax()
        assert row.tokens == (column > 0).sum()
        assert row.share == pytest.approx(column.max() / by_hand[row.layer].max(), rel=1e-3)
    some = rows.head(5)
    course = fired_features.values(found, some, Wanted(first=False))
    for at, row in enumerate(some.itertuples()):
        np.testing.assert_allclose(course[at], by_hand[row.layer][:, row.feature], atol=2e-4, rtol=2e-4)


def test_layers_tokens_and_single_features_can_be_picked():
    model = tiny("llama")
    found = read(model, [random_sae(model, layer) for layer in (0, 1)], TEXT)
    every = fired_features.strongest(found)
    keys = set(zip(every["layer"], every["feature"], strict=True))
    assert set(fired_features.strongest(found, Wanted(layers=(1,)))["layer"]) == {1}
    some = frozenset([*sorted(keys)[:2], (0, 10_000)])
    kept = fired_features.strongest(found, Wanted(among=some))
    assert set(zip(kept["layer"], kept["feature"], strict=True)) == some & keys
    assert fired_features.strongest(found, Wanted(among=frozenset())).empty
    at = fired_features.strongest(found, Wanted(token=3))
    assert set(at["token"]) == {3}
    assert len(at) == (found.active["token"] == 3).sum()
    assert at.merge(every, on=["layer", "feature"])[["tokens_x", "tokens_y"]].nunique(axis=1).eq(1).all()


def test_features_that_fire_nearly_everywhere_can_be_left_out():
    model = tiny("llama")
    sae = random_sae(model, 0)
    for text in (TEXT, "abcd", "a"):
        found = read(model, [sae], text)
        times = (encoded(model, sae, found.text.tokens) > 0).sum(0)
        some = np.flatnonzero((times > 0) & ((times <= len(text) / 2) | (times <= 2)))
        assert sorted(fired_features.strongest(found, Wanted(everywhere=False))["feature"]) == some.tolist()
    at_one = fired_features.strongest(read(model, [sae], TEXT), Wanted(everywhere=False, token=3))
    every = fired_features.strongest(read(model, [sae], TEXT), Wanted(token=3))
    assert 0 < len(at_one) < len(every)


def test_the_text_piece_by_piece():
    model = tiny("llama")
    found = read(model, [random_sae(model, layer) for layer in (0, 1)], "a 😀 b")
    pieces = fired_features.by_piece(found, top=2)
    assert pieces["text"].tolist() == ["a", " ", "😀", " ", "b"]
    for row, stop in zip(pieces.itertuples(), [*pieces["token"][1:], len(found.text.tokens)], strict=True):
        here = found.active[found.active["token"].between(row.token, stop - 1)]
        assert row.features == len(here.drop_duplicates(["layer", "feature"]))
        assert row.strongest[0][2] == pytest.approx(here["value"].max())
        assert len(row.strongest) == 2
    emoji = fired_features.strongest(found, Wanted(token=2))
    assert set(emoji["token"]) <= set(range(2, 6))
    assert len(emoji) == pieces["features"][2]


def test_what_is_empty_or_too_long_is_refused_in_a_sentence():
    model = tiny("llama")
    saes = [random_sae(model, 0)]
    for text, problem in (
        ("  \n", "The text is empty"),
        ("x" * 8_001, "The text has 8,001 characters; at most 8,000 are read at a time"),
        ("x" * 3_000, "The text is 3,000 tokens long as this model reads it"),
        ("x" * 300, "do not fit"),
    ):
        with pytest.raises(CorrSteerError, match=problem):
            read(model, saes, text)


def test_how_far_it_is_is_told_with_no_hook_on_the_model():
    model = tiny("llama")
    reported = []

    def progress(*what):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.net.modules())
        reported.append(what)

    read(model, [random_sae(model, 0)], "abc", CHAT, new_tokens=3, progress=progress)
    assert {stage for stage, _, _ in reported} == {
        "answering", "reading the text", "looking for features, layer by layer",
    }  # fmt: skip

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(model, [random_sae(model, 0)], "abc", progress=stop)


# --- with a run ----------------------------------------------------------------------------------


def test_a_run_adds_r_effect_and_meaning(run):
    model, saes = tiny_run.load()
    found = firing.read_for(run, TEXT, model, saes)
    rows = fired_features.table(run, found)
    for row in rows.head(10).itertuples():
        known = feature_facts.one_feature(run, row.layer, row.feature)
        assert row.r == pytest.approx(known["r"], nan_ok=True)
    by_r = fired_features.table(run, found, ranked=True, sort="r")
    assert by_r["r"].notna().all()
    assert by_r["r"].is_monotonic_decreasing
    assert fired_features.table(run, found, sort="tokens")["tokens"].is_monotonic_decreasing
    with pytest.raises(CorrSteerError, match="cannot be sorted by 'luck'"):
        fired_features.table(run, found, sort="luck")
    named = fired_features.named(found, rows.head(3), model, saes)
    first = named.iloc[0]
    (tokens,) = promoted(model, saes[tiny_run.LAYERS.index(first["layer"])], [first["feature"]])
    assert tokens.promoted[0].text.strip() in first["meaning"]
    assert first["at"] == TEXT[first["token"]]


def test_a_prompt_is_put_as_the_runs_were_and_answered_at_their_length(run):
    model, saes = tiny_run.load()
    config, _ = stored_run.stored(run)
    found = firing.read_for(run, TEXT, model, saes, answer=True)
    assert list(found.text.prompt) == render(model, TEXT, config.style)
    assert 1 <= len(found.text.answer) <= config.max_new_tokens
    said = fired_features.positions(found)
    assert f"Every token of your text ({len(TEXT)}) and of the answer ({found.parts.count('answer')}) counts" in said
    assert "A run looks only at the last prompt token and every generated token but the last." in said
    only = fired_features.positions(found, Wanted(where="generation"))
    assert f"Only the {len(found.text.answer)} positions that a run looks at count" in only


def test_the_command_says_what_the_core_finds(run, capsys, tmp_path):
    model, saes = tiny_run.load()
    save_set(stored_run.kept_sets(run)["A"], tmp_path / "a.json")
    found = firing.read_for(run, TEXT, model, saes)
    rows = fired_features.table(run, found, Wanted(first=False))
    assert main.main(["fires", run, TEXT, "--without-first", "--top", "4", "--json", "--quiet"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["feature"] for one in said["features"]] == rows["feature"].head(4).tolist()
    assert [one["value"] for one in said["features"]] == pytest.approx(rows["value"].head(4).tolist(), rel=1e-3)
    assert said["more"] == len(rows) - 4
    assert main.main(["fires", run, TEXT, "--set", str(tmp_path / "a.json"), "--json", "--quiet"]) == 0
    of_set = json.loads(capsys.readouterr().out)["features"]
    assert {(one["layer"], one["feature"]) for one in of_set} <= {(1, 3), (2, 5)}
    assert main.main(["fires", run, TEXT, "--answer", "--generation", "--quiet", "--layers", "2", "--ranked"]) == 0
    assert "Only the " in capsys.readouterr().out
    asked = firing.read_for(run, TEXT, model, saes, answer=True)
    assert main.main(["fires", run, TEXT, "--answer", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == answer_text(model, asked.text.answer)
    assert command.SORTS == fired_features.SORTS


def test_what_cannot_be_asked_of_the_command_is_refused(run, capsys):
    assert main.main(["fires", run, TEXT, "--generation", "--quiet"]) == main.FAILED
    assert "--generation asks for positions of an answer, and there is none; add --answer." in capsys.readouterr().err
    assert main.main(["fires", run, " ", "--quiet"]) == main.FAILED
    assert "The text is empty" in capsys.readouterr().err


def test_a_hostile_text_does_nothing_to_the_terminal(run, capsys):
    assert main.main(["fires", run, HOSTILE, "--quiet", "--top", "100000"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_a_notebook_gets_the_same_table(run):
    model, saes = tiny_run.load()
    models.held(model)
    opened = cs.open_run(run, model)
    found = firing.read_for(run, TEXT, model, saes)
    rows = fired_features.table(run, found, Wanted(layers=(2,)), sort="r")
    given = opened.fires(TEXT, layers=(2,), sort="r", top=7)
    assert given["feature"].tolist() == rows["feature"].head(7).tolist()
    assert given["value"].tolist() == pytest.approx(rows["value"].head(7).tolist())
    assert list(given.columns) == [
        "layer", "feature", "value", "share", "token", "tokens", "r", "coefficient", "support", "effect", "at", "meaning",
    ]  # fmt: skip
    assert set(opened.fires(TEXT, among={(1, 3)})["feature"]) <= {3}
