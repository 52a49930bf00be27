"""A run as one HTML file, for people who will not open the app: what was asked, what was found, and what it is worth.

The file loads nothing, runs nothing (a Content-Security-Policy says so) and holds every text escaped.
Asks only what stands in a run's file (`runs`): no torch, no model.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from corrsteer_core.base.addresses import Address, Reach
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.files import not_written, write_all_new, write_text
from corrsteer_core.base.formatting import number, p_value, percent, points, probability, signed
from corrsteer_core.base.text_diff import visible
from corrsteer_core.reporting import pictures
from corrsteer_core.reporting.report_contents import columns_of, contents

Theme = Literal["", "light", "dark"]
"""Empty: whichever the reader's device prefers."""
ROOM = Path(__file__).parent
"""Where the template and its style lie."""
REACHES: dict[Reach, str] = {
    "computer": "This address works only on the computer that the app runs on, while it runs; elsewhere it leads nowhere.",
    "network": "This address works within the network of the computer that the app runs on, for those whom the app lets in.",
    "others": "This address works while the app runs, for those whom it lets in.",
}


@dataclass(frozen=True)
class InTheApp:
    """The way from the report to its run in an app."""

    link: str
    words: str
    """Whom it reaches."""
    code: Markup | str
    """A QR code of it; empty where nobody else could follow it."""


def html(run: str, theme: Theme = "", address: Address | None = None) -> str:
    """The report of a run, with the way to it in the app at an address. Raises CorrSteerError for a run that cannot be read."""
    style = (ROOM / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    page = _environment().get_template("report.html")
    found = {"app": None if address is None else _in_the_app(address.link(run), address.reach), **contents(run)}
    return page.render(style=Markup(style), policy=policy, theme=theme, **found)  # noqa: S704  (our own file)


def _in_the_app(link: str, reach: Reach) -> InTheApp:
    code = "" if reach == "computer" else Markup(pictures.code(link))  # noqa: S704  (squares alone)
    return InTheApp(link, REACHES[reach], code)


def write(run: str, out: Path, *, address: Address | None = None, replace: bool = False) -> Path:
    """Write the report to a file. Raises CorrSteerError if it is there already or cannot be written."""
    if out.exists() and not replace:
        raise CorrSteerError(f"{out} is there already; name another file, or add --force to replace it.")
    text = html(run, address=address)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text) if replace else write_all_new({out: text.encode()})
    except OSError as error:
        raise not_written("The report", out, error) from error
    return out


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(ROOM),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # What would be invisible or reorder the page is spelled out before it is escaped.
        finalize=lambda value: value if isinstance(value, Markup) else visible(str(value)),
    )
    words = {"percent": percent, "points": points, "signed": signed, "p_value": p_value, "probability": probability}
    made.filters.update(words, number=number)
    made.globals.update(rate_rows=rate_rows, effect_rows=effect_rows, layer_rows=layer_rows)
    return made


def rate_rows(rates: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Success rates: label, rate, interval, against unsteered."""
    for row in rates.itertuples():
        yield row.label, percent(row.rate), f"{percent(row.low)} to {percent(row.high)}", points(row.effect)


def effect_rows(effects: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Features steered alone: name, r, scale, effect, flips, p."""
    for row in effects:
        name, flips = f"layer {row['layer']} · {row['feature']}", f"+{row['positive_flips']} / −{row['negative_flips']}"
        yield name, signed(row["r"]), f"{row['scale']:g}", points(row["effect"]), flips, p_value(row["p"])


def layer_rows(best: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """The best feature of each layer: layer, number, r, what chance reaches there, the other columns."""
    for row in best.itertuples():
        r, *others = [column.text(getattr(row, column.name)) for column in columns_of(best)]
        yield str(row.layer), str(row.feature), r, signed(row.level, 3), *others
