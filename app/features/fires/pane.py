"""Type a text, and see every feature of every layer that is active in it: how strongly, and at which token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from app.features import shades, waiting
from app.features.fires import filters, reading, shaded_text
from app.shared import components as ui
from app.shared import state, tables
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs import run_facts

if TYPE_CHECKING:
    from app.features.drawing import Work
    from app.features.fires.filters import Asked
    from corrsteer_core.inspection.firing import ReadText

READ = "fires_read"  # what was asked, and the text being read or read
PLAIN, ANSWERED = "As plain text", "As a prompt, with the model's answer"
SHOWN = 50
"""Features in the table."""
SOON = 0.4  # seconds that meanings are waited for before the table is drawn without them


def draw(run: str, facts: run_facts.RunFacts) -> None:
    """The box for a text, and what fires on it."""
    st.caption(
        "Type a text to see which features fire on it: every feature of every layer that is active, at which token, and "
        "how strongly. The text is read as it is, without steering."
    )
    _form(run)
    about, work = st.session_state.get(READ, (None, None))
    found = waiting.result_of(work, "The features that fire follow here.") if about == run else None
    if found is not None:
        _found(run, facts, found)


def _form(run: str) -> None:
    with st.form("fires_form", border=True):
        text = st.text_area(
            "Your text", key="fires_text", height=100, persist_state="session",
            placeholder="A sentence or a paragraph, your own or pasted",
        )  # fmt: skip
        with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
            how = st.segmented_control(
                "How it is read", [PLAIN, ANSWERED], default=PLAIN, required=True, key="fires_how",
                persist_state="session", label_visibility="collapsed",
            )  # fmt: skip
            asked = st.form_submit_button("See what fires", icon=":material/bolt:", type="primary")
    if not asked:
        return
    before: Work | None = st.session_state.get(READ, (None, None))[1]
    if before is not None:
        before.cancel()
    st.session_state.pop(READ, None)
    st.session_state.pop(filters.AT, None)  # a place in the text of before
    try:
        st.session_state[READ] = run, reading.reading(run, text, answer=how == ANSWERED)
    except CorrSteerError as error:
        ui.problem(error)


def _found(run: str, facts: run_facts.RunFacts, found: ReadText) -> None:
    """The text, shaded; then the features, and the tokens one by one."""
    from corrsteer_core.inspection import fired_features

    place = st.container()
    asked = filters.draw(run, facts, found)
    pieces = fired_features.by_piece(found, _of_any_token(asked))
    with place:
        st.html(
            f"{shaded_text.STYLE}<div class='cs-legend'>{shades.scale(shaded_text.highest(pieces))}</div>"
            f"{shaded_text.shaded(found, pieces, asked.wanted.token)}"
        )
        st.caption(
            f"The deeper the shade, the more active is the strongest feature at that token; hover over it for its name. "
            f"{fired_features.positions(found, asked.wanted)}"
        )
    rows = fired_features.table(run, found, asked.wanted, ranked=asked.ranked, sort=asked.sort)
    one, two = st.tabs(["Features", "Token by token"])
    with one:
        _features(run, found, asked, rows)
    with two:
        _tokens(found, pieces)


def _of_any_token(asked: Asked) -> Any:
    from dataclasses import replace

    return replace(asked.wanted, token=None)


def _features(run: str, found: ReadText, asked: Asked, rows: pd.DataFrame) -> None:
    """The features that fire, the first few of them in a table whose rows open them."""
    from corrsteer_core.inspection import fired_features

    if rows.empty:
        st.info("No feature fires here that passes these filters; widen them.", icon=":material/filter_alt_off:")
        return
    shown = rows.head(SHOWN)
    every = len(fired_features.strongest(found))
    more = f" The first {SHOWN} are shown; {len(rows) - SHOWN:,} more follow." if len(rows) > SHOWN else ""
    st.caption(
        f"Of {ui.counted(every, 'feature')} that fire on the text, {len(rows):,} pass the filters, sorted by "
        f"{filters.SORTS[asked.sort]}.{more} Select a row to look at it. Activations tend to be larger in deeper layers."
    )
    undescribed = shown[shown["description"].isna()]
    keys = tuple(zip(undescribed["layer"].tolist(), undescribed["feature"].tolist(), strict=True))
    work = reading.promises(run, keys) if keys else None
    guessed = work.result or {} if work is not None and work.wait(SOON) else {}
    key = f"fires-{run}-{pd.util.hash_pandas_object(shown[['layer', 'feature']], index=False).sum()}"
    st.dataframe(
        tables.harmless(_for_show(found, asked, shown, guessed)),
        key=key,
        alt="Features that fire on the text. Arrow keys move, Shift and Space open a row.",
        hide_index=True,
        width="stretch",
        height=420 if len(shown) > 11 else "content",
        placeholder="–",
        on_select=lambda: _open_row(key, shown),
        selection_mode="single-row",
        column_config=_columns(),
    )
    if work is not None and not work.ready:
        waiting.wait_for(work, "The meanings that are missing follow.")


def _for_show(
    found: ReadText, asked: Asked, shown: pd.DataFrame, guessed: dict[tuple[int, int], list[str]]
) -> pd.DataFrame:
    from corrsteer_core.inspection import fired_features

    meanings = [
        _promoted(guessed.get((row.layer, row.feature), []))
        if ui.missing(row.description)
        else ui.description(row.description, row.description_source, in_table=True)
        for row in shown.itertuples()
    ]
    return pd.DataFrame(
        {
            "layer": shown["layer"],
            "feature": shown["feature"],
            "meaning": meanings,
            "at": [filters.named_token(found.label(token)) for token in shown["token"]],
            "value": shown["value"],
            "r": [None if ui.missing(r) else ui.signed(r) for r in shown["r"]],
            "course": fired_features.values(found, shown, _of_any_token(asked)).round(3).tolist(),
            "tokens": shown["tokens"],
        }
    )


def _promoted(words: list[str]) -> str | None:
    """What a feature promotes, in place of a description."""
    return f"→ {ui.shortened(', '.join(words), 80)}" if words else None


def _columns() -> dict[str, Any]:
    config = st.column_config
    return {
        "layer": config.NumberColumn("Layer", width=48),
        "feature": config.NumberColumn("Feature", width=60),
        "meaning": config.TextColumn(
            "Meaning",
            width=144,
            help="What it is said to mean, (?) if it is a guess of our own; → where nobody has described it: the words it "
            "promotes.",
        ),
        "at": config.TextColumn("Most at", width=78, help="The token at which it is most active."),
        "value": config.NumberColumn("Active", width=62, format="%.2f", help="How active it is there."),
        "r": config.TextColumn(
            "r", width=52, alignment="right", help="How closely its activation goes with success in this run, −1 to 1."
        ),
        "course": config.BarChartColumn("Over the text", width=90, y_min=0, help="How active it is, token by token."),
        "tokens": config.NumberColumn("Tokens", width=55, format="localized", help="At how many tokens it fires."),
    }


def _open_row(key: str, shown: pd.DataFrame) -> None:
    chosen = st.session_state[key]["selection"]["rows"]
    if chosen and chosen[0] < len(shown):
        row = shown.iloc[chosen[0]]
        state.open_feature(int(row["layer"]), int(row["feature"]))


def _tokens(found: ReadText, pieces: pd.DataFrame) -> None:
    """The text token by token; a selected row leaves only the features that fire there."""
    st.caption("One row per token. Select one to see only the features that fire on it.")
    table = pd.DataFrame(
        {
            "token": [filters.named_token(text) for text in pieces["text"]],
            "part": ["answer" if found.parts[token] == "answer" else "text" for token in pieces["token"]],
            "features": pieces["features"],
            "strongest": [
                [f"{layer} · {feature}: {value:.2f}" for layer, feature, value in some] for some in pieces["strongest"]
            ],
        }
    )
    if not found.text.answer:
        table = table.drop(columns="part")
    key = f"fires_tokens-{pd.util.hash_pandas_object(pieces[['token', 'text']], index=False).sum()}"
    st.dataframe(
        tables.harmless(table),
        key=key,
        alt="The text token by token. Arrow keys move, Shift and Space select a row.",
        hide_index=True,
        width="stretch",
        height=420 if len(table) > 11 else "content",
        on_select=lambda: _narrow(key, pieces),
        selection_mode="single-row",
        column_config={
            "token": st.column_config.TextColumn("Token", width=120),
            "part": st.column_config.TextColumn("Part", width=60),
            "features": st.column_config.NumberColumn("Fire", width=60, help="How many fire on it."),
            "strongest": st.column_config.ListColumn("The strongest: layer · feature", width=330),
        },
    )


def _narrow(key: str, pieces: pd.DataFrame) -> None:
    chosen = st.session_state[key]["selection"]["rows"]
    at = int(pieces["token"].iloc[chosen[0]]) if chosen and chosen[0] < len(pieces) else filters.ALL_TOKENS
    st.session_state[filters.AT] = at
