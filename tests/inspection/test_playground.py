"""The streamed answers: the same texts as computed at once, whole characters, and a model that is never left hooked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.engine.choosing import sampled
from corrsteer_core.inspection import playground
from corrsteer_core.inspection.playground import stream
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.runs.steering_set import Firing, SteeringRow
from corrsteer_core.saes.sae import Sae
from tests.made import runs as tiny

MULTIBYTE = "né 今日 👨\u200d👩 end"


@pytest.fixture
def loaded() -> tuple[Model, list[Sae]]:
    return tiny.load()


def hooks_on(model: Model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.net.modules())


@pytest.mark.parametrize("style", [PromptStyle(chat=False), PromptStyle(chat=True), PromptStyle(True, "Be brief.")])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_the_last_texts_are_those_computed_at_once(loaded, style: PromptStyle, temperature: float):
    model, saes = loaded
    steering = tiny.steering_set(model, saes, (1, 3, 5.0), (2, 7, -4.0), style=style)
    settings = {"max_new_tokens": 24, "choose": sampled(temperature, seed=3)}
    *_, last = stream(model, saes, steering, "Tell me more.", **settings)
    assert last == playground.side_by_side(steering, "Tell me more.", model=model, saes=saes, **settings)
    assert last[0] != last[1]


@pytest.mark.parametrize(
    "row",
    [
        SteeringRow(1, 3, 5.0, operation="clamp"),
        SteeringRow(1, 3, 0.0, operation="ablate", while_fires=Firing(1, 7)),
        SteeringRow(1, 3, 9.0, from_token=4),
    ],
)
def test_what_does_more_than_add_is_streamed_as_it_is_computed_at_once(loaded, row: SteeringRow):
    model, saes = loaded
    steering = tiny.steering_set(model, saes, (2, 7, -4.0), style=PromptStyle(chat=False)).with_row(row)
    *_, last = stream(model, saes, steering, "Tell me more.", scales=(0.0, 1.0, 2.0), max_new_tokens=24)
    assert last[0] == last[1]
    for scale, text in zip((1.0, 2.0), last[2:], strict=True):
        settings = {"scale": scale, "max_new_tokens": 24, "model": model, "saes": saes}
        assert (last[0], text) == playground.side_by_side(steering, "Tell me more.", **settings)
    assert last[0] != last[2]
    assert hooks_on(model) == 0


def test_each_scale_is_a_text_of_its_own_and_zero_is_the_unsteered_one(loaded):
    model, saes = loaded
    steering = tiny.steering_set(model, saes, (1, 3, 5.0))
    scales = (0.0, 1.0, 3.0)
    *_, last = stream(model, saes, steering, "Tell me.", scales=scales, max_new_tokens=16)
    assert len(last) == 4
    assert last[1] == last[0]
    for scale, text in zip(scales, last[1:], strict=True):
        alone = playground.side_by_side(
            replace(steering, scale=scale), "Tell me.", max_new_tokens=16, model=model, saes=saes
        )
        assert text == alone[1]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_the_steered_texts_may_answer_a_prompt_of_their_own(loaded, temperature: float):
    model, saes = loaded
    steering = tiny.steering_set(model, saes, (1, 3, 5.0))
    settings = {"max_new_tokens": 16, "choose": sampled(temperature, seed=3)}
    written: list[list[int]] = []
    texts = stream(
        model,
        saes,
        steering,
        "Tell me of cats.",
        steered_prompt="And of dogs?",
        scales=(0.0, 1.0),
        written=written,
        **settings,
    )
    *_, last = texts
    settings |= {"model": model, "saes": saes}
    own, other = (playground.side_by_side(steering, one, **settings) for one in ("Tell me of cats.", "And of dogs?"))
    assert last == (own[0], *other)  # scale 0: the other prompt unsteered
    assert len({*last}) == 3
    assert len(written) == 3
    assert hooks_on(model) == 0


def test_a_steered_prompt_that_does_not_fit_is_refused_too(loaded):
    model, saes = loaded
    with pytest.raises(CorrSteerError, match="do not fit"):
        next(stream(model, saes, tiny.steering_set(model, saes), "Go", steered_prompt="x" * 300, max_new_tokens=5))


def spelling(model: Model, text: str):
    """A way of choosing tokens that writes a text byte by byte and then ends."""
    ids = [*model.tokenizer(text)["input_ids"], min(model.end_tokens)]
    return lambda logits, step: torch.full((len(logits),), ids[step])


def test_characters_of_several_bytes_appear_whole(loaded):
    model, saes = loaded
    steering = tiny.steering_set(model, saes, (1, 3, 5.0))
    choose = spelling(model, MULTIBYTE)
    seen = [texts[1] for texts in stream(model, saes, steering, "Go", max_new_tokens=100, choose=choose)]
    assert len(seen) == len(MULTIBYTE.encode()) + 1
    assert all(MULTIBYTE.startswith(text) for text in seen)
    assert seen[-1] == MULTIBYTE
    assert set(seen) >= {MULTIBYTE[:length] for length in range(1, len(MULTIBYTE) + 1)}


def test_an_answer_cut_within_a_character_is_as_computed_at_once(loaded):
    model, saes = loaded
    steering = tiny.steering_set(model, saes, (1, 3, 5.0))
    choose = spelling(model, "ab今")
    *_, last = stream(model, saes, steering, "Go", max_new_tokens=3, choose=choose)
    assert last == playground.side_by_side(steering, "Go", max_new_tokens=3, model=model, saes=saes, choose=choose)
    assert last[1] == "ab\ufffd"


def test_no_hook_is_left_between_texts_after_closing_or_after_an_error(loaded):
    model, saes = loaded
    steering = tiny.steering_set(model, saes, (1, 3, 5.0))
    steps = stream(model, saes, steering, "Go", max_new_tokens=20)
    next(steps)
    assert hooks_on(model) == 0
    steps.close()
    assert hooks_on(model) == 0

    def broken(logits, step):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(stream(model, saes, steering, "Go", max_new_tokens=20, choose=broken))
    assert hooks_on(model) == 0


@pytest.mark.parametrize(
    ("prompt", "tokens", "fault"),
    [("  ", 5, "prompt is empty"), ("x" * 300, 5, "do not fit"), ("x", 0, "at least 1")],
)
def test_a_prompt_that_cannot_be_answered_is_refused_in_words(loaded, prompt: str, tokens: int, fault: str):
    model, saes = loaded
    with pytest.raises(CorrSteerError, match=fault):
        next(stream(model, saes, tiny.steering_set(model, saes), prompt, max_new_tokens=tokens))


def test_a_set_of_another_model_is_refused(loaded):
    model, saes = loaded
    foreign = replace(tiny.steering_set(model, saes, (1, 3, 5.0)), model_fingerprint="0" * 12)
    with pytest.raises(CorrSteerError, match="belongs to"):
        next(stream(model, saes, foreign, "Go", max_new_tokens=5))
