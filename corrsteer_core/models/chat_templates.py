"""Chat templates, which are programs that come with a model: they run in a sandbox, for so many steps, and fail in a sentence.

The sandbox is transformers' own (Jinja's): a template reaches nothing outside. What it lacks is an end: loops in loops
go on for hours.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.hub_errors import first_line

STEPS = 1_000_000
"""Lines of a template's program that one chat may take; those we know take some ten per message."""
_FILE = "<template>"  # what Jinja calls the file of a template's program


class _Endless(BaseException):
    """Not an Exception: templates and libraries must not catch it."""


def rendered(tokenizer: Any, turns: Sequence[Any], **options: Any) -> str:
    """The text of a chat by the tokenizer's template.

    Raises jinja2.TemplateError where the template itself refuses the chat, CorrSteerError where it is damaged or endless.
    """
    from jinja2 import TemplateError, TemplateSyntaxError

    try:
        with _limited(STEPS):
            return str(tokenizer.apply_chat_template(list(turns), tokenize=False, **options))
    except TemplateSyntaxError as error:
        raise _damaged(error) from None
    except TemplateError:
        raise
    except _Endless:
        raise CorrSteerError(
            f"The model's chat template had not ended after {STEPS:,} steps; its loops are endless or too long: repair "
            f"it in the model's folder, or leave the chat template out (--no-chat)."
        ) from None
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise _damaged(error) from None


def _damaged(error: BaseException) -> CorrSteerError:
    return CorrSteerError(
        f"The model's chat template is damaged ({first_line(error)}); repair it in the model's folder, or leave the chat "
        f"template out (--no-chat)."
    )


@contextmanager
def _limited(steps: int) -> Iterator[None]:
    """Ends what templates do in this thread after so many steps; Python has no other way to stop a loop from outside."""
    left = steps

    def step(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise _Endless
        return step

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        return step(frame, event, argument) if frame.f_code.co_filename == _FILE else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)
