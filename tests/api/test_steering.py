"""Sets applied to models: exactly the positions of the method in transformers' own `generate`, and the right model only."""

import pytest
import torch

import corrsteer_core as cs
from corrsteer_core.engine.steering import vectors_of
from corrsteer_core.models.hooks import hooked
from tests.made import runs as tiny_run
from tests.made.operations import answered

TEXTS = ["a", "the cat sat", "on a mat, and it was happy there", "why?"]
NEW = 8


@pytest.fixture(scope="module")
def made():
    loaded, saes = tiny_run.load()
    model = cs.load_model(
        loaded.name, dtype="float32"
    )  # steering is exact in any dtype, comparing sums of logits is not
    v = cs.Steering.of(tiny_run.steering_set(model, saes, (1, 3, 9.0), (2, 5, -7.0), name="v"))
    return model, saes, v


def by_hand(model, vectors, ids):
    """Greedy tokens of one prompt, each from a pass over everything so far, steered from the last prompt token on."""
    start, ids = len(ids) - 1, list(ids)

    def adding(vector):
        def action(x):
            x = x.clone()
            x[:, start:] += vector
            return x

        return action

    for _ in range(NEW):
        with torch.inference_mode(), hooked({model.site(point): adding(one) for point, one in vectors.items()}):
            ids.append(int(model.net(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in model.end_tokens:
            break
    return ids[start + 1 :]


def batch_of(model, texts):
    """Texts as ids, padded on the left with an end token."""
    ids = [model.tokenizer(text)["input_ids"] for text in texts]
    width = max(map(len, ids))
    padded = torch.tensor([[1] * (width - len(one)) + one for one in ids])
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids])
    return {"input_ids": padded, "attention_mask": mask}


def cut(model, tokens):
    tokens = tokens.tolist()
    ends = [place for place, token in enumerate(tokens) if token in model.end_tokens]
    return tokens[: ends[0] + 1] if ends else tokens


def test_a_left_padded_batch_is_steered_at_exactly_the_generation_positions(made):
    model, saes, v = made
    inputs = batch_of(model, TEXTS)
    with torch.inference_mode(), v.applied(model):
        out = model.net.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    found = [cut(model, row) for row in out[:, inputs["input_ids"].shape[1] :]]
    expected = [by_hand(model, vectors_of(v, saes), model.tokenizer(text)["input_ids"]) for text in TEXTS]
    plain = [by_hand(model, {}, model.tokenizer(text)["input_ids"]) for text in TEXTS]
    assert found == expected
    assert found != plain


def test_rows_that_do_more_than_add_are_applied_at_exactly_their_positions(made):
    model, saes, v = made
    clamp = cs.SteeringRow(1, 3, 9.0, operation="clamp", while_fires=cs.Firing(1, 7))
    w = v.with_row(clamp).with_row(cs.SteeringRow(2, 5, 9.0, from_token=3))
    assert type(w) is cs.Steering
    inputs = batch_of(model, TEXTS)
    with torch.inference_mode(), w.applied(model):
        out = model.net.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    found = [cut(model, row) for row in out[:, inputs["input_ids"].shape[1] :]]
    ids = [model.tokenizer(text)["input_ids"] for text in TEXTS]
    assert found == [answered(model, saes, w.rows, one, NEW)[0] for one in ids]
    assert found != [answered(model, saes, v.rows, one, NEW)[0] for one in ids]
    with pytest.raises(cs.CorrSteerError, match="no fixed vector per layer: its row for feature 3 of layer 1"):
        w.vectors(model)
    table = (2 * w).table()
    assert table["does"].tolist() == [row.does for row in w.rows]
    assert table["added"].isna().tolist() == [True, False]
    assert table["added"][1] == 18.0


def test_beams_are_scored_as_the_steered_model_scores_them(made):
    """The score that beam search gives its best text is that of a pass over the whole text, steered as by hand."""
    model, saes, v = made
    inputs = batch_of(model, TEXTS)
    width = inputs["input_ids"].shape[1]
    asked = {"max_new_tokens": NEW, "do_sample": False, "num_beams": 4, "length_penalty": 0.0}
    with torch.inference_mode(), v.applied(model):
        out = model.net.generate(**inputs, **asked, return_dict_in_generate=True, output_scores=True)
    for text, row, score in zip(TEXTS, out.sequences[:, width:], out.sequences_scores, strict=True):
        assert float(score) == pytest.approx(whole_text(model, vectors_of(v, saes), text, cut(model, row)), abs=1e-3)
        assert float(score) != pytest.approx(whole_text(model, {}, text, cut(model, row)), abs=1e-3)


def whole_text(model, vectors, text, tokens):
    """Log-probability of tokens after a text, from one pass in which all generation positions are steered."""
    ids = model.tokenizer(text)["input_ids"]

    def adding(vector):
        def action(x):
            x = x.clone()
            x[:, len(ids) - 1 :] += vector
            return x

        return action

    with torch.inference_mode(), hooked({model.site(point): adding(one) for point, one in vectors.items()}):
        logp = model.net(torch.tensor([[*ids, *tokens[:-1]]])).logits[0, len(ids) - 1 :].log_softmax(-1)
    return float(logp[range(len(tokens)), tokens].sum())


def test_samples_are_drawn_from_the_steered_model(made):
    """With several sequences a prompt: the logits at every step are those of the steered pass over the whole text."""
    model, saes, v = made
    inputs = batch_of(model, TEXTS[:2])
    width = inputs["input_ids"].shape[1]
    torch.manual_seed(3)
    with torch.inference_mode(), v.applied(model):
        out = model.net.generate(
            **inputs, max_new_tokens=NEW, do_sample=True, top_k=0, num_return_sequences=3,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    texts = [text for text in TEXTS[:2] for _ in range(3)]
    for place, (text, row) in enumerate(zip(texts, out.sequences[:, width:], strict=True)):
        tokens = cut(model, row)
        drawn = sum(float(step[place].log_softmax(-1)[token]) for step, token in zip(out.logits, tokens, strict=False))
        assert drawn == pytest.approx(whole_text(model, vectors_of(v, saes), text, tokens), abs=1e-3)


def test_a_model_that_the_user_loaded_is_steered_alike(made):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, saes, v = made
    net = AutoModelForCausalLM.from_pretrained(model.name, trust_remote_code=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(model.name, trust_remote_code=False)
    inputs = tokenizer(TEXTS[1], return_tensors="pt")
    with torch.inference_mode(), v.applied(net, tokenizer):
        out = net.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    ids = inputs["input_ids"][0].tolist()
    assert cut(model, out[0, len(ids) :]) == by_hand(model, vectors_of(v, saes), ids)
    assert not any(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules())
    with pytest.raises(cs.CorrSteerError, match="tokenizer is needed too"), v.applied(net):
        pass
    net.get_input_embeddings().weight.data.add_(1)
    with pytest.raises(cs.CorrSteerError, match=r"'v' belongs to .*other weights"), v.applied(net, tokenizer):
        pass
    with pytest.raises(cs.CorrSteerError, match="cannot be applied to a str"), v.applied("gpt2"):
        pass


def test_after_an_error_no_hook_is_left(made):
    model, _, v = made
    with pytest.raises(ValueError), v.applied(model):
        raise ValueError
    assert not any(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.net.modules())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"use_cache": False}, "without a cache of keys and values.*use_cache=True"),
        ({"prompt_lookup_num_tokens": 3}, "tokens at once after others.*without an assistant model"),
        ({"prefill_chunk_size": 4}, "tokens at once after others.*without chunks"),
    ],
)
def test_what_would_be_steered_at_other_positions_is_refused(made, asked, message):
    model, _, v = made
    inputs = batch_of(model, ["the cat sat on the mat. the cat sat on the"])
    with torch.inference_mode(), v.applied(model), pytest.raises(cs.CorrSteerError, match=message):
        model.net.generate(**inputs, max_new_tokens=NEW, do_sample=False, **asked)


def test_padding_on_the_right_is_refused(made):
    model, _, v = made
    ids = torch.tensor([[5, 6, 7, 1], [5, 6, 7, 8]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    with v.applied(model), pytest.raises(cs.CorrSteerError, match="padded on the right.*padding_side = 'left'"):
        model.net.generate(ids, attention_mask=mask, max_new_tokens=2)


def test_a_single_pass_without_cache_is_steered_at_its_last_position(made):
    model, saes, v = made
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode(), v.applied(model):
        for _ in range(2):
            token = int(model.net(ids, use_cache=False).logits[0, -1].argmax())
    assert token == by_hand(model, vectors_of(v, saes), ids[0].tolist())[0]


def test_saved_loaded_and_reckoned_with_it_stays_what_it_is(made, tmp_path):
    model, saes, v = made
    (2 * v).save(tmp_path / "v.json")
    back = cs.load_set(tmp_path / "v.json")
    assert back == 2 * v
    for one in (back, -v, v + v, v - 2 * v, v.scaled(3)):
        assert isinstance(one, cs.Steering)
    found = (v + v).vectors(model)
    for point, vector in vectors_of(v, saes).items():
        torch.testing.assert_close(found[point.name], 2 * vector)
    assert back.table()["added"].tolist() == [18.0, -14.0]
