"""Small pieces that every page is made of: safe text, rounded numbers, messages, progress, the wrapper of a page."""

from __future__ import annotations

import functools
import logging
import re
import unicodedata
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from typing import Any

import streamlit as st

from app.shared import tables
from corrsteer_core.base import presenting
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.formatting import MINUS, missing, p_value, percent, points, points_alone, signed  # noqa: F401  (pages say components.percent)
from corrsteer_core.base.paths import cache_dir
from corrsteer_core.inspection.descriptions import MOST_ACTIVE, OWN, model_of

log = logging.getLogger("corrsteer.app")

MOST_TOKENS = 1_000
"""Of an answer that the pages ask for; a run that was made with more is answered at its own length."""
APOLOGY = "Sorry, something went wrong on this page that should not have."
"""Of a bug."""
LARGEST_LOG = 1_000_000  # bytes; as much of what is older is kept beside it
STYLE = """<style>
[class*="st-key-icon-"] button [data-testid=stMarkdownContainer], [class*="st-key-when-"] button em,
[class*="st-key-look-"] a em { position: absolute;
  width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
[class*="st-key-name-"] label p { font-weight: 600; }
[data-testid=stCaptionContainer] { opacity: .72; }
.cs-own-words { color: #41699a; font-weight: 600; }
@media (max-width: 1100px) { [data-testid=stMainBlockContainer] { padding-left: 1.75rem; padding-right: 1.75rem; } }
</style>"""
DARK_STYLE = """<style>
[data-testid^="stBaseButton-primary"] { color: #14181f; }
.cs-own-words { color: #6d99c8; }
</style>"""
"""Of every page: captions and words of the unsteered model that can be read (6 to 1; Streamlit's captions, at .6, have 4.1);
buttons that show only their icon (`icon_button`) and links of which a part is only to be heard;
switches that are the title of what they switch."""

# --- text that a model or a user wrote -----------------------------------------------------------

_KEPT_CONTROLS = {"\n", "\t"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&^=@/])")
# A bare address becomes a link even with its marks escaped: an invisible word joiner within it keeps it text.
_ADDRESS = re.compile(r"(https?(?=:)|www(?=\.)|(?=@))", re.IGNORECASE)
_JOINER = "\u2060"


def plain(text: object) -> str:
    """Text without what acts on the text around it: control characters, direction marks, unpaired surrogates."""
    return "".join(one for one in str(text) if one in _KEPT_CONTROLS or not _acts(one))


def _acts(character: str) -> bool:
    """Control (Cc), format (Cf: direction marks, zero-width joiners), surrogate, private and unassigned characters."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn")


def for_markdown(text: object) -> str:
    """Text for the inside of a line of st.markdown: no markup, link, formula, icon or HTML comes of it."""
    one_line = " ".join(plain(text).split())
    return _MARKDOWN.sub(r"\\\1", _ADDRESS.sub(rf"\1{_JOINER}", one_line))


def shortened(text: object, length: int = 80) -> str:
    """The beginning of a text on one line, cut between two words where one ends near the end."""
    one_line = " ".join(plain(text).split())
    if len(one_line) <= length:
        return one_line
    kept = one_line[: length - 1]
    between = kept.rfind(" ") if one_line[length - 1] != " " else len(kept)
    return kept[: between if between > length / 2 else len(kept)].rstrip(" ,;:") + "…"


def counted(count: int, noun: str) -> str:
    """A number of things: 1 feature, 2 features."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def description(text: object, source: object, *, in_table: bool = False) -> str | None:
    """A description, our own guess marked by a question mark, a language model's by its name.

    `in_table` leaves out what all our guesses begin with: a narrow column has room for the words that follow.
    """
    if missing(text):
        return None
    model = model_of(str(source))
    told = str(text).removeprefix(MOST_ACTIVE) if in_table and source == OWN else text
    return shortened(told, 120) + (f" (by {shortened(model, 40)})" if model else " (?)" if source == OWN else "")


def feature_name(layer: int, feature: int) -> str:
    """A feature as people read it: layer 8 · 1234."""
    return f"layer {layer} · feature {feature}"


# --- messages and the wrapper of a page ----------------------------------------------------------


OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)")
FIELDS = {
    "--task": "Task",
    "--data": "Your samples",
    "--columns": "Which column is what",
    "--scorer": "What counts as success",
    "--preset": "Model and its SAEs",
    "--model": "Model",
    "--sae": "Feature dictionaries (SAEs)",
    "--layers": "Layers",
    "--limit": "Samples, at most",
    "--max-new-tokens": "Longest answer (tokens)",
    "--pooling": "Activation of an answer",
    "--chat": "Chat template: On",
    "--no-chat": "Chat template: Off",
    "--shots": "Examples before each prompt",
    "--system": "System prompt",
    "--split": "Samples",
    "--controls": "Random sets to compare with",
    "--scales": "Scales",
    "--set": "Steering set",
}
"""What the pages call an option of the command line."""


def page_of(view: Callable[[], None]) -> Callable[[], None]:
    """A page that never shows a traceback: what the user can fix as one sentence, a bug as an apology."""

    @functools.wraps(view)
    def shown() -> None:
        try:
            view()
        except CorrSteerError as error:
            problem(error)
        except Exception as error:  # Streamlit's own stop and rerun are not Exceptions
            log.exception("the page %s failed: %s", view.__name__, error)
            st.error(
                f"{APOLOGY} Your runs are safe; reload the page to go on. What happened is in "
                f"{for_markdown(presenting.named(log_file()))}.",
                icon=":material/error:",
            )

    return shown


def log_file() -> str:
    """Where the app writes what went wrong."""
    return str(cache_dir() / "app.log")


def log_to_file() -> None:
    """Let unexpected errors be written to the log file, once per process."""
    if not log.handlers:
        cache_dir().mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(log_file(), maxBytes=LARGEST_LOG, backupCount=1, encoding="utf-8", delay=True)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)


def in_words_of_the_page(text: str) -> str:
    """An error of the command line with its options called as the form's fields are, and no path a visitor may not see."""
    return OPTION.sub(lambda found: f"“{FIELDS[found[1]]}”" if found[1] in FIELDS else found[0], presenting.said(text))


def problem(*errors: Exception | str) -> None:
    """A sentence about something the user can fix; of several things, a line each."""
    lines = (for_markdown(in_words_of_the_page(str(error))) for error in errors)
    st.error("\n\n".join(lines), icon=":material/error:")


def nothing_yet(what: str, next_step: str) -> None:
    """What stands in place of something that is not there yet, and how to get it."""
    with st.container(border=True):
        st.markdown(f"**{what}**")
        st.markdown(next_step)


def numbers_row() -> Any:
    """Where numbers stand side by side (`numbers_row().metric(...)`); on a narrow page they wrap, none is cut."""
    return st.container(horizontal=True, gap="small")


def chart(figure: Any, key: str, alt: str, behind: Any, **picking: Any) -> None:
    """A chart, what a screen reader says of it, and its data as a table; `picking` makes its points clickable."""
    st.plotly_chart(figure, key=key, alt=alt, width="stretch", config={"displayModeBar": False}, **picking)
    table_behind(behind)


def icon_button(label: str, icon: str, key: str, **options: Any) -> bool:
    """A button that shows its icon; a screen reader says its label (STYLE hides it by its key)."""
    return st.button(label, key=f"icon-{key}", icon=f":material/{icon}:", help=label, **options)


def table_behind(frame: Any, label: str = "The numbers behind this chart", **config: Any) -> None:
    """The data of a picture, for those who cannot or do not want to read it."""
    with st.expander(label):
        st.dataframe(tables.harmless(frame), hide_index=True, width="stretch", alt=label, **config)


def style() -> str:
    """STYLE, and what depends on the theme: dark words on the bright button of the dark theme (6.9 to 1)."""
    return STYLE + (DARK_STYLE if is_dark() else "")


def ground() -> str:
    """The colour that the page lies on, as the theme has it."""
    return str(st.get_option(f"theme.{'dark' if is_dark() else 'light'}.backgroundColor"))


def is_dark() -> bool:
    """Whether this browser shows the dark theme."""
    return st.context.theme.type == "dark"
