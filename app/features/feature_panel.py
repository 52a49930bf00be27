"""One feature from close by: what it is said to mean, its numbers, tokens, texts, neighbours, and what it does.

What the cache holds is shown at once; what needs the model follows as soon as it has been worked out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from app.shared import components as ui
from app.shared import drawing, shades, state
from app.shared.resources import ask, ask_fit
from corrsteer_core.base.text_diff import escaped, visible
from corrsteer_core.inspection import descriptions
from corrsteer_core.reporting import figures
from corrsteer_core.runs import feature_facts, feature_lists, reliability, run_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corrsteer_core.inspection.feature_profile import Portrait, ShadedSample
    from corrsteer_core.inspection.logit_lens import Neighbour, TokenScore

LONGEST = 600  # characters of a text shown before it is shaded
TEXTS = 4  # texts of each part of the activations
POLL = 0.5  # seconds between looks at work in the background
TYPED = "own_text"  # the text that was typed, being read or read
PARTS = ("strongest", "upper quarter", "middle", "lower quarter")


def panel(run: str, facts: run_facts.RunFacts, layer: int, feature: int) -> None:
    """Everything about one feature of a run."""
    st.button("All features", icon=":material/arrow_back:", on_click=state.close_feature, type="tertiary")
    row = ask(feature_facts.one_feature, run, layer, feature)
    if row is None:
        st.subheader(f"Layer {layer} · feature {feature}")
        known = ", ".join(map(str, facts.layers))
        st.info(
            f"This feature fired in no training sample of this run, or does not exist; the run's layers are {known}.",
            icon=":material/info:",
        )
        return
    _heading(row)
    work = drawing.portrait(run, layer, feature, facts.config["model"])
    _meaning(run, facts, layer, feature, work)
    _numbers(run, row)
    _waiting(work, run, facts, layer, feature)
    drawn: Portrait | None = work.result if work.ready else None
    if drawn is not None:
        _tokens(drawn)
    left, right = st.columns(2)
    with left:
        _activations(run, row)
    with right:
        _effects(run, row)
    _texts(run, facts, layer, feature, drawn)
    if drawn is not None:
        _own_text(run, facts, layer, feature, drawn)
        _neighbours(drawn)


def _heading(row: dict[str, Any]) -> None:
    layer, feature = row["layer"], row["feature"]
    title, add, steer = st.columns([4, 1.4, 1.4], vertical_alignment="bottom")
    title.subheader(f"Layer {layer} · feature {feature}")
    if state.in_tray(layer, feature):
        add.button(
            "Remove from set",
            icon=":material/remove:",
            width="stretch",
            on_click=state.remove_from_tray,
            args=(layer, feature),
        )
    else:
        add.button(
            "Add to set", icon=":material/add:", type="primary", width="stretch", on_click=state.add_to_tray,
            args=(layer, feature, float(row["coefficient"] or 0.0)),
        )  # fmt: skip
    if not row["coefficient"]:
        st.caption(
            "It fires in no successful training sample, so it has no usual strength: in a set it does nothing until you "
            "give it a coefficient there."
        )
    if steer.button("Open Steer", icon=":material/tune:", width="stretch", help="Your set waits there."):
        state.go_to("steer")


def _meaning(run: str, facts: run_facts.RunFacts, layer: int, feature: int, work: drawing.Work) -> None:
    """What it is said to mean, by whom, and where to read more."""
    told = ask(feature_facts.descriptions, run, layer, feature)
    imported = told[told["source"] == "neuronpedia"]
    own = told[told["source"] == "own"]["description"].tolist()
    if work.ready and work.result is not None:
        own = [work.result.guess]  # of more texts than the one that was stored
    for text in imported["description"]:
        st.markdown(f"**{ui.for_markdown(text)}**  \nfrom Neuronpedia")
    if own and own[0]:
        st.markdown(f"{ui.for_markdown(own[0])}.")
        st.caption(f"{descriptions.GUESS}; nobody has checked it.")
    source = next((sae["source"] for sae in facts.config["saes"] if sae["layer"] == layer), "")
    names = [name for name in imported["neuronpedia"] if isinstance(name, str)]
    link = descriptions.neuronpedia_link(names[0] if names else descriptions.neuronpedia_id(source), feature)
    if link:
        st.markdown(f"[This feature on Neuronpedia]({link}) (opens a page of another site)")


def _numbers(run: str, row: dict[str, Any]) -> None:
    feature = pd.DataFrame([{"layer": row["layer"], "feature": row["feature"]}])
    with st.spinner("Drawing samples anew …"):
        bounds = ask_fit(reliability.intervals, run, feature).iloc[0]
    between = "" if ui.missing(bounds["r_low"]) else f"{ui.signed(bounds['r_low'])} to {ui.signed(bounds['r_high'])}"
    one, two, three, four, five = st.columns([1, 1, 1.3, 1.3, 1.5])
    one.metric(
        "r",
        ui.signed(row["r"]),
        help="How closely its activation goes with success, −1 to 1."
        + (
            f" With other samples of this size it would mostly lie between {between} (95% bootstrap)."
            if between
            else ""
        ),
    )
    two.metric(
        "Coefficient",
        "–" if row["coefficient"] is None else f"{row['coefficient']:.2f}",
        help="Mean activation over the successful samples.",
    )
    three.metric(
        "Fires in correct",
        ui.percent(row["frequency_correct"], 0),
        help="Share of the correct answers in which it fired.",
    )
    four.metric(
        "Fires in incorrect",
        ui.percent(row["frequency_incorrect"], 0),
        help="Share of the incorrect answers in which it fired.",
    )
    effect = "not tried" if row["effect"] is None else ui.points(row["effect"])
    scale = (
        "Steering with it alone has not been measured."
        if row["effect"] is None
        else f"At scale {row['effect_scale']:g}, {ui.p_value(row['effect_p'])}."
    )
    five.metric("Best effect", effect, help=scale)


def _waiting(work: drawing.Work, run: str, facts: run_facts.RunFacts, layer: int, feature: int) -> None:
    """That the model is at work, until it is done; or why it cannot be."""
    if not work.ready:
        _wait_for(work, "Tokens and shading follow here.")
    elif work.problem:
        ui.problem(f"The parts of this page that need the model are missing: {work.problem}")
        st.button(
            "Try again",
            on_click=drawing.try_again,
            args=(run, layer, feature, facts.config["model"]),
            key="portrait_again",
        )


def _wait_for(work: drawing.Work, follows: str) -> None:
    """Say what is being worked out and what will come of it, and draw the page anew once it is there."""

    def look() -> None:
        if work.ready:
            st.rerun()
        work.looked()
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":material/hourglass_top: {work.stage} … {follows}", width="content")
            st.button("Cancel", icon=":material/stop:", key="cancel_drawing", on_click=work.cancel)

    st.fragment(look, run_every=POLL)()


# --- what the direction says ---------------------------------------------------------------------


def _tokens(drawn: Portrait) -> None:
    st.markdown("**What it makes the model say**")
    st.caption(
        "Tokens whose probability one unit of this feature raises or lowers most, read off its direction through the "
        "model's final norm (the logit lens); longer bars are stronger."
    )
    left, right = st.columns(2)
    left.html(_bars("Likelier", drawn.tokens.promoted))
    right.html(_bars("Less likely", drawn.tokens.suppressed))
    rows = [
        {"token": one.text, "id": one.token, "score": one.score}
        for one in (*drawn.tokens.promoted, *reversed(drawn.tokens.suppressed))
    ]
    ui.table_behind(pd.DataFrame(rows), "These tokens as a table")


def _bars(title: str, tokens: Sequence[TokenScore]) -> str:
    """Tokens with a bar each, as HTML; every token is escaped."""
    longest = max((abs(one.score) for one in tokens), default=0.0) or 1.0
    rows = "".join(
        f'<div style="display:flex;align-items:center;gap:.6rem;padding:1px 0">'
        f'<code style="min-width:9rem;max-width:14rem;overflow:hidden;text-overflow:ellipsis;white-space:pre">'
        f"{escaped(one.text)}</code>"
        f'<div style="flex:1"><div style="height:.65rem;border-radius:2px;background:rgb({shades.HUE});'
        f'width:{100 * abs(one.score) / longest:.0f}%"></div></div>'
        f'<div style="min-width:3.2rem;text-align:right;font-variant-numeric:tabular-nums">{ui.signed(one.score)}</div>'
        f"</div>"
        for one in tokens
    )
    return f'<div style="font-size:.9em"><div style="opacity:.75;margin-bottom:.2rem">{title}</div>{rows}</div>'


def _neighbours(drawn: Portrait) -> None:
    st.markdown("**Features like it**")
    st.caption(
        "Those whose directions point most nearly the same way; the number is the cosine, 1 for the same direction."
    )
    left, right = st.columns(2)
    _links(left, f"In layer {drawn.layer}", drawn.within)
    _links(right, "In other layers", drawn.elsewhere)


def _links(place: Any, title: str, neighbours: Sequence[Neighbour]) -> None:
    place.caption(title)
    if not neighbours:
        place.caption("None that can be compared.")
        return
    with place.container(horizontal=True, gap="small"):
        for one in neighbours:
            st.button(
                f"{one.layer} · {one.feature}  ({one.cosine:.2f})",
                key=f"like-{one.layer}-{one.feature}",
                help=f"Open layer {one.layer} · feature {one.feature}",
                on_click=state.open_feature,
                args=(one.layer, one.feature),
            )


# --- numbers of the run --------------------------------------------------------------------------


def _activations(run: str, row: dict[str, Any]) -> None:
    st.markdown("**How active it is**")
    bins = ask_fit(feature_facts.histogram, run, row["layer"], row["feature"])
    if bins.empty:
        st.caption("It fired in no training sample.")
        return
    st.caption(
        f"Where it fired ({row['support']:,} training samples): bars further right are stronger activations. "
        f"Correct and incorrect "
        "answers are each counted as a share of their own."
    )
    ui.chart(
        figures.activation_histogram(bins), "chart-histogram", "Activations in correct and in incorrect answers", bins
    )


def _effects(run: str, row: dict[str, Any]) -> None:
    st.markdown("**What steering with it does**")
    tried = ask(feature_lists.effects, run, row["layer"], row["feature"])
    if tried.empty:
        st.caption(
            "Not tried: only the features of highest r in each layer are steered with automatically. Add it to "
            "your set and measure it on "
            "the Evaluate page."
        )
        return
    st.caption(
        f"Success rate on {int(tried['n'].iloc[0])} validation samples with this feature alone added, at "
        f"growing scale, beside the rate "
        "without it."
    )
    ui.chart(
        figures.effects_by_scale(tried),
        "chart-scales",
        "Success rate by scale, beside the unsteered rate",
        tried.sort_values("scale").drop(columns=["layer", "feature", "r"]),
    )


# --- texts ---------------------------------------------------------------------------------------


def _texts(run: str, facts: run_facts.RunFacts, layer: int, feature: int, drawn: Portrait | None) -> None:
    st.markdown("**The texts it is active on**")
    if drawn is None:
        found = ask_fit(feature_facts.texts_by_quantile, run, layer, feature, TEXTS)
        strongest = found[found["part"] == PARTS[0]]
        st.caption(
            "The prompt in grey, the model's own (unsteered) answer in blue, the feature's activation on the left."
        )
        st.html("".join(_text_card(row) for row in strongest.itertuples()))
        return
    st.caption(
        "The deeper a token's shade, the more active the feature; hover over it for the number. The answer is "
        "underlined. On the left the activation that counts: the largest where the model is writing its answer, from "
        "the last token of the prompt (dotted) on."
        if facts.config["pooling"] == "max"
        else "The deeper a token's shade, the more active the feature; hover over it for the number. The answer is "
        "underlined. On the left the activation that the run holds for the text."
    )
    st.html(shades.STYLE + shades.scale(drawn.highest))
    parts = [part for part in PARTS if any(one.part == part for one in drawn.samples)]
    if not parts:
        st.caption("It fired in no answer.")
        return
    for tab, part in zip(st.tabs([part.capitalize() for part in parts]), parts, strict=True):
        some = [one for one in drawn.samples if one.part == part]
        tab.html("".join(_shaded_row(one, drawn.highest, facts.config["pooling"]) for one in some))
    ui.table_behind(_token_table(drawn.samples[0], facts.config["pooling"]), "The strongest text token by token")


def _shaded_row(one: ShadedSample, highest: float, pooling: Any) -> str:
    outcome = "correct" if one.outcome > 0.5 else "incorrect"
    return shades.row(one.shading, highest, one.stored, f"{outcome} · {one.split}", pooling)


def _token_table(one: ShadedSample, pooling: Any) -> pd.DataFrame:
    table = shades.numbers(one.shading, pooling)
    return table.assign(token=[visible(text) for text in table["token"]])


def _own_text(run: str, facts: run_facts.RunFacts, layer: int, feature: int, drawn: Portrait) -> None:
    st.markdown("**Test your own text**")
    with st.form("own_text_form", border=True):
        prompt = st.text_area(
            "Prompt", key="own_prompt", max_chars=4000, height=80,
            help="Put to the model as the run's prompts were; the feature is read, nothing is generated.",
        )  # fmt: skip
        answer = st.text_input("Answer that follows it (may be left out)", key="own_answer", max_chars=2000)
        asked = st.form_submit_button("Read it", icon=":material/visibility:")
    about = (run, layer, feature)
    if asked:
        if prompt.strip():
            st.session_state[TYPED] = about, drawing.own_text(*about, facts.config["model"], prompt, answer)
        else:
            ui.problem("The prompt is empty; type something for the model to read.")
    of, work = st.session_state.get(TYPED, (None, None))
    if of != about or work is None:
        return
    if not work.ready:
        _wait_for(work, "What was read follows here.")
    elif work.problem:
        ui.problem(work.problem)
    else:
        found = work.result
        highest = max(drawn.highest, *found.values)
        st.html(shades.STYLE + shades.row(found, highest, max(found.values), "largest of all tokens"))
        table = shades.numbers(found)
        table = table.assign(token=[visible(text) for text in table["token"]])
        ui.table_behind(table, "Your text token by token")


def _text_card(row: Any) -> str:
    """One text as HTML, everything in it escaped."""
    outcome = "" if ui.missing(row.outcome) else ("correct" if row.outcome > 0.5 else "incorrect")
    value = "min-width:3.5rem;text-align:right;font-variant-numeric:tabular-nums;font-weight:600"
    words = "flex:1;white-space:pre-wrap;overflow-wrap:anywhere"
    aside = "min-width:9rem;opacity:.7;font-size:.85em;text-align:right"
    return (
        f'<div style="display:flex;gap:1rem;padding:.55rem 0;border-bottom:1px solid rgba(128,128,128,.25)">'
        f'<div style="{value}">{row.value:.2f}</div><div style="{words}">'
        f'<span style="opacity:.75">{_shown(row.prompt)}</span> '
        f'<span style="color:{ui.UNSTEERED};font-weight:600">{_shown(row.output)}</span></div>'
        f'<div style="{aside}">{outcome} · {escaped(row.split)}</div></div>'
    )


def _shown(text: object) -> str:
    whole = "" if ui.missing(text) else str(text).strip()
    return escaped(whole if len(whole) <= LONGEST else whole[:LONGEST] + " …")
