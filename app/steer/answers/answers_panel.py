"""The right half of the Steer page: what is asked, and the unsteered and steered answers side by side."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app.shared import components, models, side_by_side
from app.shared.side_by_side import Column
from app.steer import remembered
from app.steer.answers import own_prompt, question_form, token_table
from app.steer.browser_side import GENERATE
from app.steer.chat import Turn, Turns
from app.steer.desk import Desk
from app.steer.playing import Playing, Question
from corrsteer_core.base.text_diff import differences, escaped, marked, parting
from corrsteer_core.inspection import scale_strip

PLAYING = "playing"
STREAMING = "streaming"  # whether the page was drawn while texts grew
ASKED = "asked"  # which button was pressed
ONCE, STRIP = "once", "strip"
GONE_ON = "gone_on"  # an answer has just become part of the conversation
POLL = 0.25  # seconds between two looks at growing texts


def draw(desk: Desk) -> None:
    """Prompt, settings, and the answers. What is asked is left on the desk."""
    st.html(side_by_side.STYLE)
    bench = models.bench(desk.run)  # starts loading while the prompt is being chosen
    question = desk.question = question_form.draw(desk)
    _begin(desk.run, question, bench)
    playing: Playing | None = st.session_state.get(PLAYING)
    if playing and playing.question.run != desk.run:
        playing.cancel()
        playing = None
    turns = question_form.turns_now(desk)
    if playing and _told(playing, turns):
        playing = None  # its answers stand in the chats
    running = st.session_state[STREAMING] = playing is not None and playing.running
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Generate",
            key=GENERATE,
            type="primary",
            icon=":material/play_arrow:",
            disabled=running,
            on_click=_ask,
            args=(ONCE,),
            help="Ctrl+Enter in the box of your prompt does the same." if question_form.is_typed() else None,
        )
        st.button(
            "At several scales",
            key="strip",
            icon=":material/view_column:",
            disabled=running,
            on_click=_ask,
            args=(STRIP,),
        )
        if playing and running:
            st.button("Cancel", icon=":material/stop:", on_click=playing.cancel)
        st.caption(_remark(desk, playing, question, turns))
    if playing:
        answers = st.fragment(components.page_of(_answers), run_every=POLL if running else None)
        answers()
    if playing and not running and playing.texts:
        # Outside of the fragment, whose clicks wait for each other: here the next click ends what the last one began.
        token_table.draw(playing, _titles(playing))


def playing_now() -> Playing | None:
    """What is being answered in this tab, or was last."""
    return st.session_state.get(PLAYING)


def bring_back(page: remembered.Page | None) -> None:
    """Show what a page that was reloaded showed."""
    if page is not None and page.playing is not None:
        st.session_state[PLAYING] = page.playing


def _ask(what: str) -> None:
    """Remember the press: the click that takes the pointer out of the box of the prompt also sends what was typed there,
    so what is asked is known only when the page has been drawn with it."""
    st.session_state[ASKED] = what


def _begin(run: str, question: Question | None, bench: models.Bench) -> None:
    """Begin to answer if a button was pressed."""
    asked = st.session_state.pop(ASKED, None)
    if asked is None or question is None:
        return
    if bench.problem:
        models.try_again(bench)
        bench = models.bench(run)
    st.session_state[PLAYING] = Playing(_at_several_scales(question) if asked == STRIP else question, bench)


def _told(playing: Playing, turns: Turns) -> bool:
    """Whether these answers have been replied to: then they are the last turn of what was said."""
    asked, answers = playing.question, playing.texts
    if not turns or not answers or turns[:-1] != asked.turns:
        return False
    return turns[-1] in {Turn(asked.prompt, answers[0], steered) for steered in answers[1:]}


def _at_several_scales(question: Question) -> Question:
    return replace(question, scales=scale_strip.scales_of(question.steering.scale))


def _remark(desk: Desk, playing: Playing | None, question: Question | None, turns: Turns) -> str:
    """What is worth knowing before Generate is pressed."""
    if question is None:
        return "Type your next message first." if turns else "Type a prompt first."
    if playing and playing.running:
        return ""
    if playing and playing.question not in (question, _at_several_scales(question)):
        return "Something has changed since these answers; Generate makes new ones."
    if not desk.editor.current.active_rows:
        return "No feature is switched on, so both answers will be the same."
    names = ", ".join(map(scale_strip.named, _at_several_scales(question).scales))
    return f"“At several scales” answers side by side at scales {names}, and says from which on the text differs."


def _answers() -> None:
    """The texts as they are now; drawn again and again while they grow, and once with the page when they are done."""
    if st.session_state.pop(GONE_ON, False):
        st.rerun()  # the conversation and the box for the next turn are not part of this fragment
    playing: Playing = st.session_state[PLAYING]
    running = playing.running
    playing.keep_alive()
    st.subheader("Answers")
    if playing.problem:
        components.problem(playing.problem)
    elif not playing.texts:
        st.caption(f"{playing.stage} …" if running else "Stopped before anything was written.")
    if playing.texts:
        if not running and not playing.cancelled and len(playing.question.scales) > 1:
            st.markdown(components.for_markdown(_from_which_scale(playing)))
        st.html(side_by_side.texts(_columns(playing, running), chats=bool(playing.question.turns)))
        _closing(playing, running)
    if st.session_state[STREAMING] and not running:
        st.rerun()  # the page was drawn before the end: Generate is to come back


def _titles(playing: Playing) -> list[str]:
    scales = playing.question.scales
    several = [f"Steered, scale {scale_strip.named(scale)}" for scale in scales]
    return ["Unsteered", *(several if len(scales) > 1 else ["Steered"])]


def _columns(playing: Playing, running: bool) -> list[Column]:
    unsteered, *steered = playing.texts
    outcomes: list[float | None] = [*playing.outcomes] or [None] * len(playing.texts)
    titles = _titles(playing)[1:]
    if running:
        growing = [
            Column(title, "steered", escaped(text), writing=True) for title, text in zip(titles, steered, strict=True)
        ]
        return _by_scale(playing, [Column("Unsteered", "unsteered", escaped(unsteered), writing=True), *growing])
    found = [differences(unsteered, text) for text in steered]
    first = marked(found[0], "unsteered") if len(found) == 1 else escaped(unsteered)
    feet = [parting(one) for one in found] if len(found) > 1 else [""]
    columns = [
        Column("Unsteered", "unsteered", first, outcomes[0]),
        *(
            Column(title, "steered", marked(one, "steered"), outcome, foot)
            for title, one, outcome, foot in zip(titles, found, outcomes[1:], feet, strict=True)
        ),
    ]
    return _by_scale(playing, columns)


def _from_which_scale(playing: Playing) -> str:
    unsteered, *steered = playing.texts
    return scale_strip.differing(unsteered, dict(zip(playing.question.scales, steered, strict=True)))


def _by_scale(playing: Playing, columns: list[Column]) -> list[Column]:
    """Columns of several scales from the lowest to the highest, the unsteered text at 0."""
    scales = playing.question.scales
    if len(scales) < 2:
        return columns
    ordered = sorted(zip((0.0, *scales), columns, strict=True), key=lambda one: one[0])
    return [column for _, column in ordered]


def _closing(playing: Playing, running: bool) -> None:
    """What is said below the texts."""
    if running:
        stage = "Stopping" if playing.cancelled else playing.stage
        st.caption(
            f"{stage} … {playing.steps} of at most {components.counted(playing.question.max_new_tokens, 'token')}"
        )
        return
    said = []
    if len(playing.texts) == 2:
        said.append(parting(differences(*playing.texts)))
    if not any(text.strip() for text in playing.texts) and not playing.question.chat and not playing.question.sample:
        said.append("The model ended at once; asked as in a chat, it may answer.")
    if playing.cancelled:
        said.append(f"Stopped after {components.counted(playing.steps, 'token')}.")
    st.markdown(components.for_markdown(" ".join(said)))
    _next_turn(playing)


def _go_on(question: Question, unsteered: str, steered: str) -> None:
    own_prompt.reply(question, unsteered, steered)
    st.session_state[GONE_ON] = True


def _next_turn(playing: Playing) -> None:
    """In a chat of the user's own: go on, each side from its own answer; of several steered ones, from the one chosen."""
    question = playing.question
    if question.sample or not question.chat or playing.problem:
        return
    unsteered, *steered = playing.texts
    titles = _titles(playing)[1:]
    with st.container(horizontal=True):
        for title, text in zip(titles, steered, strict=True):
            st.button(
                "Reply to both" if len(titles) == 1 else f"Reply to both: {title.lower()}",
                key=f"reply-{title}",
                icon=":material/reply:",
                on_click=_go_on,
                args=(question, unsteered, text),
                help="Your next message goes to both; the unsteered model sees the unsteered answer before it, the "
                "steered model the steered one.",
            )
