"""The one function that turns what is asked into token ids, for fitting, evaluation and playground alike."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.hub_errors import first_line
from corrsteer_core.models.chat_templates import rendered
from corrsteer_core.models.loading import Model
from corrsteer_core.runs.prompt_style import PromptStyle

Message = dict[str, str]


class Speaker(Protocol):
    """What it takes to put a prompt into a model's words: a Model, or its tokenizer without the weights (`words.Words`)."""

    @property
    def name(self) -> str: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def has_chat_template(self) -> bool: ...


class Prompts(Sequence[Sequence[int]]):
    """Token ids of many prompts, in one array: a list of lists takes eight times as much, and far more to be sent."""

    def __init__(self, prompts: Iterable[Sequence[int]]) -> None:
        self._ids, self._ends = array("i"), array("q", [0])
        for prompt in prompts:
            self._ids.extend(prompt)
            self._ends.append(len(self._ids))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        at = range(len(self))[place]
        return self._ids[self._ends[at] : self._ends[at + 1]]


def resolve_style(model: Speaker, *, chat: bool | None, task_chat: bool, system: str = "", shots=()) -> PromptStyle:
    """The style for a task: as asked (`chat`), else the task's own choice where the model has a template.

    Raises CorrSteerError when a chat template or system prompt is asked of a model without template.
    """
    if chat and not model.has_chat_template:
        raise CorrSteerError(
            f"{model.name} has no chat template; run without --chat, or use its instruction-tuned version."
        )
    use = (task_chat and model.has_chat_template) if chat is None else chat
    if system and not use:
        raise CorrSteerError("A system prompt needs the chat template; add --chat or leave the system prompt out.")
    return PromptStyle(use, system, tuple((str(prompt), str(answer)) for prompt, answer in shots))


def render(model: Model, prompt: str | Sequence[Message], style: PromptStyle) -> list[int]:
    """Token ids of a prompt (one text, or the turns of a chat that ends with the user's), ready to be answered.

    Raises CorrSteerError for an empty prompt or turns without a chat template.
    """
    text = prompt_text(model, prompt, style)
    # The template wrote the special tokens itself.
    found = model.tokenizer(text, add_special_tokens=False) if style.chat else model.tokenizer(text)
    if not found["input_ids"]:
        raise CorrSteerError("The prompt has no tokens; type something for the model to answer.")
    return found["input_ids"]


def prompt_text(model: Speaker, prompt: str | Sequence[Message], style: PromptStyle) -> str:
    """The text whose tokens `render` gives: the prompt with chat template, system prompt and examples. Raises as it does."""
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if not turns or not turns[-1]["content"].strip():
        raise CorrSteerError("The prompt is empty; type something for the model to answer.")
    return _chat_text(model, turns, style) if style.chat else _plain_text(model, turns, style)


def text_before(model: Speaker, style: PromptStyle) -> tuple[list[Message], str]:
    """What a style puts before every prompt: turns of a chat, and text that the first turn then begins with."""
    if not style.chat:
        system = f"{style.system}\n\n" if style.system else ""
        return [], system + "".join(f"{prompt} {answer}\n\n" for prompt, answer in style.shots)
    turns = [
        message
        for prompt, answer in style.shots
        for message in ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
    ]
    if not style.system:
        return turns, ""
    if _takes_system(model):
        return [{"role": "system", "content": style.system}, *turns], ""
    # Gemma's template refuses a system role; its makers put such text before the first user turn.
    prefix = f"{style.system}\n\n"
    return ([_beginning(prefix, turns[0]), *turns[1:]], "") if turns else ([], prefix)


def _takes_system(model: Speaker) -> bool:
    from jinja2 import TemplateError

    try:
        _templated(model, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
    except TemplateError:
        return False
    return True


def _chat_text(model: Speaker, turns: list[Message], style: PromptStyle) -> str:
    before, prefix = text_before(model, style)
    from jinja2 import TemplateError

    try:
        return _templated(model, [*before, _beginning(prefix, turns[0]), *turns[1:]])
    except TemplateError as error:
        raise CorrSteerError(
            f"The chat template of {model.name} refuses this chat ({first_line(error)}); change it, or leave the chat "
            f"template out (--no-chat)."
        ) from None


def _templated(model: Speaker, turns: list[Message]) -> str:
    # Templates of models that can think (Qwen3) have them do so unless told not to; others do not look at the name.
    return rendered(model.tokenizer, turns, add_generation_prompt=True, enable_thinking=False)


def _beginning(prefix: str, turn: Message) -> Message:
    return {**turn, "content": prefix + turn["content"]}


def _plain_text(model: Speaker, turns: list[Message], style: PromptStyle) -> str:
    if len(turns) > 1:
        raise CorrSteerError("A chat of several turns needs a model with a chat template; use a single prompt.")
    _, prefix = text_before(model, style)
    return prefix + turns[0]["content"]


def answer_text(model: Model, tokens: Sequence[int]) -> str:
    """The text of generated tokens, up to the first end token."""
    kept: list[int] = []
    for token in tokens:
        if token in model.end_tokens:
            break
        kept.append(token)
    return model.tokenizer.decode(kept, skip_special_tokens=True)
