"""Texts beside one another as HTML: one bordered column each, what differs marked, every character harmless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corrsteer_core.base.text_diff import Side, escaped
from corrsteer_core.reporting.palette import STEERED, UNSTEERED

STYLE = f"""<style>
.cs-texts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(215px, 1fr)); gap: 0.75rem; }}
.cs-text {{ border: 1px solid rgba(128, 128, 128, .32); border-top: 3px solid {UNSTEERED}; border-radius: 6px;
  padding: 0.55rem 0.8rem 0.7rem; min-width: 0; }}
.cs-text.cs-steered {{ border-top-color: {STEERED}; }}
.cs-head {{ display: flex; flex-wrap: wrap; justify-content: space-between; gap: .1rem .8rem; font-size: .87rem;
  margin-bottom: .35rem; }}
.cs-title {{ font-weight: 600; }}
.cs-body, .cs-prompt {{ white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; line-height: 1.55; }}
.cs-body {{ min-height: 1.6em; }}
.cs-prompt {{ max-height: 11.5rem; overflow-y: auto; padding: .6rem .8rem; border-radius: 6px; font-size: .93rem;
  background: rgba(128, 128, 128, .1); }}
.cs-chat {{ display: flex; flex-direction: column-reverse; max-height: 32rem; overflow-y: auto; scrollbar-width: thin;
  border: 1px solid rgba(128, 128, 128, .32); border-radius: 6px; padding: .6rem; }}
.cs-chat > div {{ display: grid; gap: .6rem; }}
.cs-texts.cs-chats {{ grid-template-columns: 1fr 1fr; gap: .6rem; }}
.cs-chat .cs-text {{ padding: .45rem .65rem .55rem; font-size: .95rem; }}
@media (max-width: 640px) {{ .cs-texts.cs-chats {{ grid-template-columns: 1fr; }} }}
.cs-said {{ white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; line-height: 1.55;
  padding: .4rem .65rem; border-radius: 6px; background: rgba(128, 128, 128, .1); font-size: .95rem; }}
.cs-foot, .cs-empty {{ font-size: .85rem; opacity: .75; }}
.cs-foot {{ margin-top: .45rem; }}
.cs-right, .cs-wrong {{ border-radius: 999px; padding: 0 .55rem; font-size: .82rem; white-space: nowrap; }}
.cs-right {{ background: rgba(63, 143, 139, .28); }}
.cs-wrong {{ background: rgba(176, 100, 135, .24); }}
@media (prefers-reduced-motion: no-preference) {{ .cs-caret {{ animation: cs-blink 1s steps(2) infinite; }} }}
@keyframes cs-blink {{ 50% {{ opacity: 0; }} }}
del.cs-only-unsteered, ins.cs-only-steered {{ text-decoration: none; border-radius: 2px; padding: 0 1px; }}
del.cs-only-unsteered {{ background: rgba(79, 124, 172, .20); border-bottom: 2px dotted {UNSTEERED}; }}
ins.cs-only-steered {{ background: rgba(217, 115, 13, .20); border-bottom: 2px solid {STEERED}; }}
.cs-flips {{ width: 100%; table-layout: fixed; border-collapse: collapse; font-size: .93rem; }}
.cs-flips th {{ text-align: left; font-weight: 600; padding: .35rem .6rem;
  border-bottom: 2px solid rgba(128, 128, 128, .4); }}
.cs-flips td {{ vertical-align: top; padding: .45rem .6rem; border-bottom: 1px solid rgba(128, 128, 128, .25); }}
.cs-flips th {{ width: 29%; }}
.cs-flips th:first-child {{ width: 42%; }}
.cs-cell {{ display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline; gap: .1rem .8rem; }}
.cs-cell .cs-body {{ min-height: 0; }}
</style>"""


@dataclass(frozen=True)
class Column:
    """One text with what is said about it. `markup` is HTML that is safe already; the rest is escaped here."""

    title: str
    side: Side
    markup: str
    outcome: float | None = None
    """The scorer's verdict, if there is one."""
    foot: str = ""
    writing: bool = False
    """Whether more of the text is still to come."""


def texts(columns: Sequence[Column], *, chats: bool = False) -> str:
    """The columns as HTML, to be shown together with STYLE. Those of two `chats` stay side by side but on a phone."""
    kind = "cs-texts cs-chats" if chats and len(columns) == 2 else "cs-texts"
    return f'<div class="{kind}">{"".join(map(_column, columns))}</div>'


def prompt(text: str) -> str:
    """A prompt in a box of its own."""
    return f'<div class="cs-prompt" tabindex="0" role="region" aria-label="Prompt">{escaped(text)}</div>'


def conversation(turns: Sequence[tuple[str, Sequence[Column]]]) -> str:
    """What was said so far as HTML: the user's words of each turn, and the answers to them below, side by side.

    It scrolls where it is long and shows its end first (turned round by STYLE: browsers begin at the foot of such a box).
    """
    said = "".join(
        f'<div class="cs-said"><span class="cs-title">You:</span> {escaped(words)}</div>{texts(answers, chats=True)}'
        for words, answers in turns
    )
    return f'<div class="cs-chat" tabindex="0" role="region" aria-label="What was said so far"><div>{said}</div></div>'


def verdict(outcome: float | None) -> str:
    """What the scorer says of a text, as HTML."""
    if outcome is None:
        return ""
    if outcome > 0.5:
        return '<span class="cs-right">✓ success</span>'
    return '<span class="cs-wrong">✗ no success</span>'


def body(markup: str) -> str:
    """The HTML of a text, or a word in place of one that shows nothing."""
    return markup if markup.strip() else '<span class="cs-empty">(nothing visible)</span>'


def _column(column: Column) -> str:
    text = column.markup if column.writing else body(column.markup)
    caret = '<span class="cs-caret" aria-hidden="true">▍</span>' if column.writing else ""
    foot = f'<div class="cs-foot">{escaped(column.foot)}</div>' if column.foot else ""
    return (
        f'<section class="cs-text cs-{column.side}" aria-label="{escaped(column.title)}"><div class="cs-head">'
        f'<span class="cs-title">{escaped(column.title)}</span>{verdict(column.outcome)}</div>'
        f'<div class="cs-body">{text}{caret}</div>{foot}</section>'
    )
