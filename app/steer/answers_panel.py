"""The right half of the Steer page: what is asked, and the unsteered and steered answers side by side."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pandas as pd
import streamlit as st

from app.shared import components, models, resources
from app.steer import side_by_side, token_table
from app.steer.keeping import SAMPLE, TYPED
from app.steer.playing import HOTTEST, LARGEST_SEED, LONGEST_PROMPT, MORE_SCALES, Playing, Question, most_tokens
from app.steer.set_panel import Desk
from app.steer.side_by_side import Column
from corrsteer_core.base.text_diff import differences, escaped, marked, parting, shared_ends
from corrsteer_core.reporting.verdict import with_flips
from corrsteer_core.runs import measurements, run_facts

PLAYING = "playing"
STREAMING = "streaming"  # whether the page was drawn while texts grew
GONE_ON = "gone_on"  # an answer has just become part of the conversation
SPLITS = {"test": "Test (held back)", "validation": "Validation", "train": "Training"}
POLL = 0.25  # seconds between two looks at growing texts


def draw(desk: Desk) -> None:
    """Prompt, settings, and the answers. What is asked is left on the desk."""
    st.html(side_by_side.STYLE)
    bench = models.bench(desk.config.model)  # starts loading while the prompt is being chosen
    question = desk.question = _question(desk)
    playing: Playing | None = st.session_state.get(PLAYING)
    if playing and playing.question.run != desk.run:
        playing.cancel()
        playing = None
    running = st.session_state[STREAMING] = playing is not None and playing.running
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Generate",
            type="primary",
            icon=":material/play_arrow:",
            disabled=running or question is None,
            on_click=_generate,
            args=(question, bench),
        )
        if playing and running:
            st.button("Cancel", icon=":material/stop:", on_click=playing.cancel)
        st.caption(_remark(desk, playing, question))
    if playing:
        answers = st.fragment(components.page_of(_answers), run_every=POLL if running else None)
        answers()
    if playing and not running and playing.texts:
        # Outside of the fragment, whose clicks wait for each other: here the next click ends what the last one began.
        token_table.draw(playing, _titles(playing))


def _generate(question: Question, bench: models.Bench) -> None:
    if bench.problem:
        models.try_again(bench.name)
        bench = models.bench(bench.name)
    st.session_state[PLAYING] = Playing(question, bench)


def _remark(desk: Desk, playing: Playing | None, question: Question | None) -> str:
    """What is worth knowing before Generate is pressed."""
    if question is None:
        return "Type a prompt first."
    if playing and playing.running:
        return ""
    if playing and playing.question != question:
        return "Something has changed since these answers; Generate makes new ones."
    if not desk.editor.current.active_rows:
        return "No feature is switched on, so both answers will be the same."
    return ""


# --- what is asked -------------------------------------------------------------------------------


def _question(desk: Desk) -> Question | None:
    """Everything the answers will depend on, from the widgets; None while there is no prompt."""
    st.subheader("Prompt")
    kind = st.segmented_control(
        "Where the prompt comes from",
        [SAMPLE, TYPED],
        default=SAMPLE,
        required=True,
        key="prompt_kind",
        label_visibility="collapsed",
        persist_state="session",
    )
    sample, prompt, chat = _sample(desk) if kind == SAMPLE else _typed(desk)
    settings = _settings(desk, sampled=bool(sample))
    if not prompt.strip():
        return None
    turns = _turns(desk.run) if chat else ()
    return Question(desk.editor.current, prompt, desk.run, sample, chat=chat, turns=turns, **settings)


def _sample(desk: Desk) -> tuple[str, str, None]:
    """A sample of the run's task: its id and prompt."""
    every = resources.ask_fit(measurements.samples, desk.run)
    splits = [split for split in SPLITS if (every["split"] == split).any()]
    left, right = st.columns([2, 5], vertical_alignment="bottom", gap="small")
    split = left.selectbox(
        "Samples of",
        splits,
        format_func=SPLITS.__getitem__,
        key="sample_split",
        persist_state="session",
        help="Training samples ranked the features, validation samples chose among them, test samples did neither.",
    )
    samples = every[every["split"] == split].set_index("sample")
    labels = _labels(samples)
    key = f"sample-{desk.run}-{split}"
    if st.session_state.get(key) not in labels:
        st.session_state[key] = _telling(samples, _won(desk.run))
    with right.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = st.selectbox(
            "Sample",
            list(labels),
            format_func=labels.__getitem__,
            key=key,
            persist_state="session",
            help="✓ and ✗ say whether the unsteered model succeeded on it.",
        )
        components.icon_button(
            "Another sample, at random",
            "shuffle",
            "another",
            on_click=_another,
            args=(key, list(labels)),
        )
    row = samples.loc[chosen]
    st.html(side_by_side.prompt(row["prompt"]))
    target = (
        f"Right answer: **{components.for_markdown(row['target'])}**. " if not components.missing(row["target"]) else ""
    )
    st.caption(target + _as_the_set_says(desk))
    return chosen, row["prompt"], None


def _as_the_set_says(desk: Desk) -> str:
    """How a sample is put to the model, and whether the run's samples were put so too."""
    own, found = desk.editor.current.style, desk.config.style
    if own == found:
        return f"{_style(own.chat)}, as when the features were found."
    if own.chat != found.chat:
        other = "in a chat" if found.chat else "on plain text, without the chat template"
        return f"{_style(own.chat)}, as the set has it; this run's features were found {other}."
    return f"{_style(own.chat)}; the set's system prompt or examples differ from those the features were found with."


def _typed(desk: Desk) -> tuple[str, str, bool]:
    """A prompt of the user's own, what was said before it in a chat, and how it is put to the model."""
    own, key = desk.config.style.chat, f"chat-{desk.run}"
    # Of the switch below: without a chat, what was said before is not sent.
    turns = _turns(desk.run) if st.session_state.get(key, own) else ()
    if turns:
        _conversation(desk.run, turns)
    prompt = st.text_area(
        "Your next turn" if turns else "Your prompt",
        key="typed",
        height=120,
        max_chars=LONGEST_PROMPT,
        persist_state="session",
        placeholder="Ask something, or write the beginning of a text",
    )
    chat = st.toggle(
        "Ask as in a chat",
        value=own,
        key=key,
        persist_state="session",
        help="On: the chat template is put around the prompt, so that the model answers. Off: it goes on with it. "
        f"This run's features were found {'in a chat' if own else 'on plain text, without the chat template'}.",
    )
    differs = (
        "" if chat == own else " This differs from how the features were found; they may do less, or something else."
    )
    st.caption(_style(chat) + "." + differs)
    return "", prompt, chat


def _turns(run: str) -> tuple[tuple[str, str], ...]:
    """What was said before in this tab's conversation: the user's words and the answer gone on from, turn by turn."""
    return st.session_state.get(f"turns-{run}", ())


def _conversation(run: str, turns: tuple[tuple[str, str], ...]) -> None:
    for words, answer in turns:
        st.html(side_by_side.prompt(f"You: {words}\n\nModel: {answer}"))
    st.button("Start over", icon=":material/restart_alt:", on_click=_start_over, args=(run,))


def _start_over(run: str) -> None:
    st.session_state[f"turns-{run}"] = ()


def _go_on(question: Question, answer: str) -> None:
    """Make a question and one of its answers part of the conversation; the next turn begins empty."""
    st.session_state[f"turns-{question.run}"] = (*question.turns, (question.prompt, answer))
    st.session_state["typed"] = ""
    st.session_state[GONE_ON] = True


def _style(chat: bool) -> str:
    return (
        "Put to the model as a chat turn, in its chat template"
        if chat
        else "Put to the model as plain text to go on from"
    )


def _labels(samples: pd.DataFrame) -> dict[str, str]:
    """A line for each sample: whether the unsteered model succeeded, and the part of the prompt that is its own.

    No two are the same: the browser says which line was chosen, not which sample.
    """
    prompts = samples["prompt"].tolist()
    start, end = shared_ends(prompts)
    marks = samples["outcome"].map(
        lambda outcome: "" if components.missing(outcome) else "✓ " if outcome > 0.5 else "✗ "
    )
    own = [components.shortened(text[start : len(text) - end].strip() or text, 70) for text in prompts]
    lines = _told_apart([mark + text for mark, text in zip(marks, own, strict=True)])
    return dict(zip(samples.index, lines, strict=True))


def _told_apart(lines: list[str]) -> Iterator[str]:
    """The lines, those that look like an earlier one numbered."""
    taken: set[str] = set()
    times: Counter[str] = Counter()
    for line in lines:
        own = line
        while own in taken:
            times[line] += 1
            own = f"{line} ({times[line] + 1})"
        taken.add(own)
        yield own


def _won(run: str) -> list[str]:
    """Samples that set V put right on unseen samples; empty where that has not been measured."""
    measured = resources.ask(run_facts.headline, run)
    if measured is None:
        return []
    where = ("V", measured["task"], measured["split"], measured["scale"])
    found = with_flips(resources.ask(measurements.evaluated_samples, run, *where))
    return found.loc[found["flip"] == "won", "sample"].tolist()


def _telling(samples: pd.DataFrame, won: list[str]) -> str:
    """A sample to begin with: one that the chosen set was seen to put right, else one that it could."""
    failed = samples.index[samples["outcome"] <= 0.5]
    return str(next((one for one in won if one in samples.index), failed[0] if len(failed) else samples.index[0]))


def _another(key: str, samples: list[str]) -> None:
    others = [sample for sample in samples if sample != st.session_state.get(key)]
    if others:
        st.session_state[key] = random.choice(others)


def _settings(desk: Desk, *, sampled: bool) -> dict:
    """Length, randomness and scales of the answers."""
    scale = float(desk.editor.current.scale)
    with st.expander("Length, randomness, scales", icon=":material/settings:"):
        first, second, third = st.columns(3)
        kind = "sample" if sampled else "typed"
        length = first.number_input(
            "Tokens at most",
            1,
            most_tokens(desk.config),
            desk.config.max_new_tokens if sampled else 60,
            key=f"length-{kind}-{desk.run}",
            persist_state="session",
            help="A token is a word or a piece of one. For samples: as long as when the run was collected.",
        )
        temperature = second.slider(
            "Temperature",
            0.0,
            HOTTEST,
            0.0,
            0.1,
            key="temperature",
            persist_state="session",
            help="0: always the most probable token. Higher: more random.",
        )
        seed = third.number_input(
            "Seed",
            0,
            LARGEST_SEED,
            0,
            key="seed",
            disabled=temperature == 0,
            persist_state="session",
            help="Both answers are drawn with the same random numbers, so that they differ by steering only.",
        )
        more = st.pills(
            "Also at these global scales, one column each",
            MORE_SCALES,
            selection_mode="multi",
            format_func=lambda one: f"{one:g}",
            key=f"scales-{desk.run}",
            persist_state="session",
        )
    scales = tuple(sorted({scale, *more}))
    return {"max_new_tokens": int(length), "temperature": float(temperature), "seed": int(seed), "scales": scales}


# --- the answers ---------------------------------------------------------------------------------


def _answers() -> None:
    """The texts as they are now; drawn again and again while they grow, and once with the page when they are done."""
    if st.session_state.pop(GONE_ON, False):
        st.rerun()  # the conversation and the box for the next turn are not part of this fragment
    playing: Playing = st.session_state[PLAYING]
    running = playing.running
    playing.looked()
    st.subheader("Answers")
    if playing.problem:
        components.problem(playing.problem)
    elif not playing.texts:
        st.caption(f"{playing.stage} …" if running else "Stopped before anything was written.")
    if playing.texts:
        st.html(side_by_side.texts(_columns(playing, running)))
        _closing(playing, running)
    if st.session_state[STREAMING] and not running:
        st.rerun()  # the page was drawn before the end: Generate is to come back


def _titles(playing: Playing) -> list[str]:
    scales = playing.question.scales
    return ["Unsteered", *([f"Steered, scale {scale:g}" for scale in scales] if len(scales) > 1 else ["Steered"])]


def _columns(playing: Playing, running: bool) -> list[Column]:
    unsteered, *steered = playing.texts
    outcomes: list[float | None] = [*playing.outcomes] or [None] * len(playing.texts)
    titles = _titles(playing)[1:]
    if running:
        growing = [
            Column(title, "steered", escaped(text), writing=True) for title, text in zip(titles, steered, strict=True)
        ]
        return [Column("Unsteered", "unsteered", escaped(unsteered), writing=True), *growing]
    found = [differences(unsteered, text) for text in steered]
    first = marked(found[0], "unsteered") if len(found) == 1 else escaped(unsteered)
    feet = [parting(one) for one in found] if len(found) > 1 else [""]
    return [
        Column("Unsteered", "unsteered", first, outcomes[0]),
        *(
            Column(title, "steered", marked(one, "steered"), outcome, foot)
            for title, one, outcome, foot in zip(titles, found, outcomes[1:], feet, strict=True)
        ),
    ]


def _closing(playing: Playing, running: bool) -> None:
    """What is said below the texts."""
    if running:
        stage = "Stopping" if playing.cancelled else playing.stage
        st.caption(f"{stage} … {playing.steps} of at most {playing.question.max_new_tokens} tokens")
        return
    said = []
    if len(playing.texts) == 2:
        said.append(parting(differences(*playing.texts)))
    if not any(text.strip() for text in playing.texts) and not playing.question.chat and not playing.question.sample:
        said.append("The model ended at once; asked as in a chat, it may answer.")
    if playing.cancelled:
        said.append(f"Stopped after {playing.steps} tokens.")
    st.markdown(components.for_markdown(" ".join(said)))
    _next_turn(playing)


def _next_turn(playing: Playing) -> None:
    """In a chat of the user's own: go on from one of the answers. The same words then lie before both new answers."""
    question = playing.question
    if question.sample or not question.chat or playing.problem:
        return
    with st.container(horizontal=True):
        for title, text in zip(_titles(playing), playing.texts, strict=True):
            st.button(
                f"Reply to: {title.lower()}",
                key=f"reply-{title}",
                icon=":material/reply:",
                on_click=_go_on,
                args=(question, text),
                help="Go on with the conversation from this answer",
            )
