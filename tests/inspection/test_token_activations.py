"""Activations token by token against a plain forward pass of one text at a time, and against what a run stores."""

import numpy as np
import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.batches import answers
from corrsteer_core.inspection.token_activations import Text, activations, answered, feature_activations, spans, text_of
from corrsteer_core.models.prompts import answer_text, render
from corrsteer_core.runs.prompt_style import PromptStyle
from tests.made.models import ARCHITECTURES, FAST, activations_at, each, prompts, random_sae, tiny

NEW = 6
PLAIN = PromptStyle(chat=False)


def by_hand(model, sae, tokens):
    """SAE activations (tokens, d_sae) of one text, read alone."""
    return sae.net.encode(activations_at(model, sae.point, tokens))


def generated(model, saes, pooling="max", new=NEW):
    """Texts as generated, with the pooled activations that fitting stores."""
    ids = prompts(model)
    for batch in answers(model, ids, max_new_tokens=new, saes=saes, pooling=pooling):
        for row, place in enumerate(batch.prompts):
            yield Text(tuple(ids[place]), tuple(batch.tokens[row][0])), [z[row] for z in batch.pooled]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_values_equal_a_plain_forward_pass_of_each_text(architecture):
    model = tiny(architecture)
    sae = random_sae(model, 1)
    texts = [text for text, _ in generated(model, [sae])]
    for feature in (3, 40):
        for text, found in zip(texts, feature_activations(model, sae, feature, texts), strict=True):
            assert found.text == text
            expected = by_hand(model, sae, text.tokens)[:, feature]
            np.testing.assert_allclose(found.values, expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(("architecture", "kind"), each(FAST, ["resid_pre", "mlp_out", "attn_out", "attn_z"]))
def test_every_kind_of_hook_point_is_read(architecture, kind):
    model = tiny(architecture)
    sae = random_sae(model, 1, kind)
    texts = [Text(tuple(one)) for one in prompts(model)]
    for text, found in zip(texts, feature_activations(model, sae, 3, texts), strict=True):
        np.testing.assert_allclose(found.values, by_hand(model, sae, text.tokens)[:, 3], atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("new", [1, NEW])
@pytest.mark.parametrize("pooling", ["max", "mean", "all"])
@pytest.mark.parametrize("architecture", FAST)
def test_pooling_the_activations_gives_what_fitting_stores(architecture, pooling, new):
    model = tiny(architecture)
    sae = random_sae(model, 2)
    stored = list(generated(model, [sae], pooling, new))
    texts = [text for text, _ in stored]
    for feature in (0, 11, 29):
        for found, (_, (z,)) in zip(feature_activations(model, sae, feature, texts), stored, strict=True):
            assert found.pooled(pooling) == pytest.approx(float(z[feature]), abs=2e-4)


def test_several_layers_are_read_in_one_pass():
    model = tiny("llama")
    saes = [random_sae(model, layer) for layer in (0, 2)]
    texts = [Text(tuple(one)) for one in prompts(model)]
    for text, found in zip(texts, activations(model, saes, {0: [1, 4], 2: [9]}, texts), strict=True):
        np.testing.assert_allclose(found[0], by_hand(model, saes[0], text.tokens)[:, [1, 4]], atol=2e-4)
        np.testing.assert_allclose(found[2], by_hand(model, saes[1], text.tokens)[:, [9]], atol=2e-4)
    assert activations(model, saes, {0: [1]}, []) == []


def test_generation_positions_are_those_of_the_method():
    text = Text((5, 6, 7), (8, 9))
    assert list(text.generation_positions) == [2, 3]  # the last prompt token, then all generated ones but the last
    assert list(text.pooled_positions("all")) == [0, 1, 2, 3]
    assert list(Text((5, 6, 7)).generation_positions) == []
    one = Text((5,), (8,))
    assert list(one.generation_positions) == [0]


def test_prompt_answer_and_pooled_positions_are_told_apart():
    model = tiny("llama")
    (found,) = feature_activations(model, random_sae(model, 1), 0, [Text((40, 41, 42), (43, 44))])
    assert [found.is_answer(span) for span in found.spans] == [False, False, False, True, True]
    assert [found.is_pooled(span) for span in found.spans] == [False, False, True, True, False]
    assert [found.is_pooled(span, "all") for span in found.spans] == [True, True, True, True, False]


# --- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chat", [True, False])
def test_a_stored_answer_becomes_the_tokens_that_were_generated(chat):
    model = tiny("llama")
    style = PromptStyle(chat=chat)
    for prompt in ("the cat", "why?", "a b c d"):
        ids = render(model, prompt, style)
        ((batch,),) = [list(answers(model, [ids], max_new_tokens=8))]
        tokens = batch.tokens[0][0]
        text = answered(model, prompt, answer_text(model, tokens), len(tokens), style)
        assert text.prompt == tuple(ids)
        assert len(text.answer) == len(tokens)
        assert answer_text(model, text.answer) == answer_text(model, tokens)


def test_an_end_token_is_put_back():
    """The answer's last visible token was looked at, since the model went on to end the answer there."""
    model = tiny("llama")
    text = answered(model, "the cat", "ab", 3, PLAIN)
    assert answer_text(model, text.answer) == "ab"
    assert text.answer[-1] in model.end_tokens
    assert len(text.generation_positions) == 3


def test_an_answer_that_cannot_be_tokenized_back_is_generated_anew():
    model = tiny("llama")
    ids = render(model, "why?", PLAIN)
    ((batch,),) = [list(answers(model, [ids], max_new_tokens=5))]
    text = answered(model, "why?", "not what was written", 5, PLAIN)
    assert list(text.answer) == batch.tokens[0][0]


def test_a_text_of_ones_own_is_put_as_in_fitting():
    model = tiny("llama")
    text = text_of(model, "hello", PromptStyle(chat=True), "yes")
    assert list(text.prompt) == render(model, "hello", PromptStyle(chat=True))
    assert model.tokenizer.decode(text.answer) == "yes"
    assert text_of(model, "hello", PLAIN).answer == ()
    with pytest.raises(CorrSteerError, match="empty"):
        text_of(model, "  ", PLAIN)
    with pytest.raises(CorrSteerError, match="do not fit"):
        feature_activations(model, random_sae(model, 1), 0, [text_of(model, "x" * 400, PLAIN)])


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "héllo wörld",
        "日本語 text",
        "😀👩‍👩‍👧 joined",
        "a\x00b\u202ec",
        "\ufffd itself \ufffd",
        "",
        "tab\tand\nline",
    ],
)
def test_pieces_join_to_the_exact_text(text):
    model = tiny("llama")
    tokens = model.tokenizer(text)["input_ids"]
    found = spans(model, tokens)
    assert "".join(span.text for span in found) == text
    assert [span.start for span in found] == [0, *(span.stop for span in found[:-1])][: len(found)]
    assert not found or found[-1].stop == len(tokens)


def test_a_character_of_several_tokens_is_one_piece():
    model = tiny("llama")
    assert [span.text for span in spans(model, model.tokenizer("aé😀b")["input_ids"])] == ["a", "é", "😀", "b"]


def test_pieces_of_random_bytes_join_too():
    """A model may write bytes that are no text."""
    model = tiny("llama")
    rng = np.random.default_rng(0)
    for _ in range(50):
        tokens = rng.integers(0, len(model.tokenizer), 12).tolist()
        assert "".join(span.text for span in spans(model, tokens)) == model.tokenizer.decode(tokens)


def test_pieces_of_a_tokenizer_that_drops_the_first_space():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "▁the", "▁cat", "s", "<0xC3>", "<0xA9>", "▁"]
    made = Tokenizer(models.BPE(vocab={word: place for place, word in enumerate(words)}, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    model = tiny("llama")
    other = type(model)("spm", model.net, PreTrainedTokenizerFast(tokenizer_object=made), model.end_tokens)
    tokens = [1, 2, 3, 6, 4, 5, 1]
    found = spans(other, tokens)
    assert [span.text for span in found] == ["the", " cat", "s", " ", "é", " the"]
    assert "".join(span.text for span in found) == other.tokenizer.decode(tokens)
