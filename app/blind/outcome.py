"""How the votes of a blind test stand, and in the end which was which."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.blind.sitting import VOTES, Pair, Sitting, Vote
from app.shared import components as ui
from app.shared import side_by_side
from corrsteer_core.base.text_diff import escaped
from corrsteer_core.statistics.preference import Preference
from corrsteer_core.statistics.rates import NOISE

EVERY = 5
"""Votes after which the share is told anew: after each, it would tell which text of that pair was steered."""
SHOWN = 50  # pairs with their votes


def draw(sitting: Sitting, again: Callable[[], None]) -> None:
    """Counts and share so far; once it is over, what was which. `again` begins a new test."""
    given, every = len(sitting.votes), len(sitting.pairs)
    st.progress(given / every, text=f"{given:,} of {ui.counted(every, 'pair')} with a vote")
    told = given if sitting.over or sitting.next is None else given - given % EVERY
    if told:
        _numbers(sitting.outcome(told), told)
    if not sitting.over:
        _how_it_ends(sitting, told)
        return
    with st.container(horizontal=True):
        st.download_button(
            "Download the votes (CSV)",
            sitting.as_csv(),
            "blind test.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.button("Begin again", icon=":material/restart_alt:", on_click=again)
    _which_was_which(sitting.voted()[:SHOWN])
    if given > SHOWN:
        st.caption(f"The first {SHOWN} of {given:,}; the file has all of them.")


def _how_it_ends(sitting: Sitting, told: int) -> None:
    if sitting.next is not None:
        st.caption(
            f"The share is told after every {EVERY} votes, since after each it would say which answer was steered."
            + (f" It is that of the first {told}." if told and told < len(sitting.votes) else "")
        )
    st.button(
        "Show which was which",
        icon=":material/visibility:",
        disabled=not sitting.votes,
        on_click=sitting.end,
        help="Ends the test: no vote is taken afterwards.",
    )


def _numbers(found: Preference, votes: int) -> None:
    row = ui.numbers_row()
    low, high = found.interval
    interval = f"95% interval {ui.percent(low)} to {ui.percent(high)}"
    row.metric(
        "Preferred steered",
        "–" if found.share is None else ui.percent(found.share),
        None if found.share is None else interval,
        delta_color="off",
        delta_arrow="off",
        help=f"Of the votes with a preference. {interval} (Wilson).",
    )
    row.metric("Steered / unsteered / no difference", f"{found.steered} / {found.unsteered} / {found.neither}")
    row.metric(
        "Could it be luck?",
        ui.p_value(found.p),
        help="How often votes part this unevenly if both are preferred equally often (exact binomial test). It holds if it "
        "was settled beforehand after how many pairs to stop.",
    )
    st.markdown(ui.for_markdown(said(found, votes)))


def said(found: Preference, votes: int) -> str:
    """What the votes amount to, in a sentence."""
    if found.share is None:
        return f"After {ui.counted(votes, 'vote')} nobody has preferred either."
    if found.p >= NOISE:
        return f"After {ui.counted(votes, 'vote')} a preference for either side cannot be told from luck."
    side = "steered" if found.share > 0.5 else "unsteered"
    return f"After {ui.counted(votes, 'vote')}: the {side} answers are preferred, beyond what luck explains."


def _which_was_which(voted: list[tuple[Pair, Vote]]) -> None:
    st.subheader("Which was which", anchor=False)
    head = "".join(f"<th scope='col'>{title}</th>" for title in ("Prompt", "Left", "Right"))
    body = "".join(_row(*one) for one in voted)
    table = f'<table class="cs-flips"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    st.html(side_by_side.STYLE + table)


def _row(pair: Pair, vote: Vote) -> str:
    cells = "".join(
        f'<td><div class="cs-body">{side_by_side.body(escaped(text))}</div>'
        f'<div class="cs-foot">{"Steered" if side == pair.steered else "Unsteered"}'
        f"{' · your choice' if side == vote else ''}</div></td>"
        for side, text in (("left", pair.left), ("right", pair.right))
    )
    choice = f'<div class="cs-foot">{VOTES[vote]}</div>' if vote == "neither" else ""
    return f'<tr><td><div class="cs-body">{escaped(pair.prompt)}</div>{choice}</td>{cells}</tr>'
