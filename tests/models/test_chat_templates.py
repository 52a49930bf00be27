"""Templates that come with a model: what is damaged or endless in them ends in one sentence."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.hub_errors import PICKLED, first_line
from corrsteer_core.models import chat_templates
from corrsteer_core.models.chat_templates import rendered
from corrsteer_core.models.prompts import render
from corrsteer_core.runs.prompt_style import PromptStyle
from corrsteer_core.saes.training_texts import packed
from tests.made.models import TEMPLATE, tiny, tokenizer

CHAT = [{"role": "user", "content": "hello"}]
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}"
ENDS = "{% endfor %}{% endfor %}"
DEEP = f"{LOOPS}{LOOPS}{ENDS}{ENDS}"
GROWING = f"{{% set found = namespace(x=[1]) %}}{LOOPS}{{% set found.x = [found.x] %}}{ENDS}"
DAMAGED = {
    "{% for message in messages %}": "Unexpected end of template",
    "{{ messages | nothing }}": "No filter named",
    "{{ messages[0] + 1 }}": "unsupported operand",
    "{{ 1 // 0 }}": "by zero",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}": "recursion",
}


@pytest.fixture(autouse=True)
def _sooner(monkeypatch):
    monkeypatch.setattr(chat_templates, "STEPS", 50_000)


def model_with(template):
    made = tiny("llama")
    return replace(made, tokenizer=tokenizer(template))


@pytest.mark.parametrize("template", [DEEP, GROWING], ids=["deep", "growing"])
def test_loops_without_end_are_ended(template):
    with pytest.raises(CorrSteerError, match=r"had not ended after 50,000 steps; .* \(--no-chat\)"):
        render(model_with(template), "hello", PromptStyle(chat=True))
    with pytest.raises(CorrSteerError, match="had not ended"):
        render(model_with(template), "hello", PromptStyle(chat=True, system="Be brief."))
    with pytest.raises(CorrSteerError, match="had not ended"):
        list(packed([CHAT], tokenizer(template), length=4, plain_share=0.0, seed=0))


@pytest.mark.parametrize("template", list(DAMAGED))
def test_a_damaged_template_is_a_sentence(template):
    with pytest.raises(CorrSteerError, match="chat template is damaged") as said:
        render(model_with(template), "hello", PromptStyle(chat=True))
    assert DAMAGED[template] in str(said.value)


def test_a_template_that_refuses_a_chat_is_a_sentence():
    template = "{{ raise_exception('Only one turn, please') }}"
    with pytest.raises(CorrSteerError, match=r"refuses this chat \(Only one turn, please\)"):
        render(model_with(template), "hello", PromptStyle(chat=True))


def test_a_good_template_gives_what_it_gave_and_leaves_a_watch_of_others_alone():
    made = tokenizer(TEMPLATE)
    expected = made.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)

    def watch(frame, event, argument):
        return None

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        assert rendered(made, CHAT, add_generation_prompt=True) == expected
        assert sys.gettrace() is watch
    finally:
        sys.settrace(before)


def test_advice_to_load_a_file_with_its_code_is_not_passed_on(tmp_path):
    class Anything:
        pass

    Anything.__qualname__ = "Anything"
    globals()["Anything"] = Anything
    torch.save({"w": Anything()}, tmp_path / "w.pt")
    with pytest.raises(Exception, match="weights_only") as advice:
        torch.load(tmp_path / "w.pt")
    assert first_line(advice.value) == PICKLED
    assert "weights_only" not in PICKLED
