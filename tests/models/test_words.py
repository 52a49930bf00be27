"""A model's words without its weights: the same text whose tokens a run gives to the model."""

from __future__ import annotations

import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.models.prompts import prompt_text, render, resolve_style
from corrsteer_core.models.words import words_of
from tests.made import runs as tiny

SHOTS = (("Is it late?", "No"), ("Is it early?", "Yes"))


@pytest.mark.parametrize("shots", [(), SHOTS])
@pytest.mark.parametrize("chat", [False, True])
def test_a_prompt_reads_as_the_model_gets_it(chat, shots):
    model, _ = tiny.load()
    words = words_of(model.name)
    assert words.has_chat_template
    style = resolve_style(words, chat=chat, task_chat=True, shots=shots)
    assert style == resolve_style(model, chat=chat, task_chat=True, shots=shots)
    text = prompt_text(words, "Is it now?", style)
    assert render(model, "Is it now?", style) == model.tokenizer(text, add_special_tokens=not chat)["input_ids"]
    assert ("Is it late?" in text) is bool(shots)
    if not chat:
        assert text == "".join(f"{prompt} {answer}\n\n" for prompt, answer in shots) + "Is it now?"


def test_a_model_that_is_not_here_is_a_sentence(tmp_path):
    with pytest.raises(CorrSteerError, match="not on this machine yet"):
        words_of(str(tmp_path / "nothing"))
