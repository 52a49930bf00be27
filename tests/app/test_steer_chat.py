"""Two chats on the Steer page: the user's words go to both, and each side's model sees its own answers alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from app.shared import side_by_side
from app.shared.side_by_side import Column
from app.steer import snapshot
from app.steer.chat import Turn
from app.steer.playing import Playing, Question
from corrsteer_core.base.text_diff import escaped
from corrsteer_core.engine.choosing import sampled
from corrsteer_core.engine.generation import UNSTEERED
from corrsteer_core.engine.steering import variant_of
from corrsteer_core.inspection import playground
from corrsteer_core.inspection.token_probabilities import steps
from corrsteer_core.runs import stored_run
from corrsteer_core.runs.prompt_style import PromptStyle
from tests.app.steer_session import ask, button, chats, current, generate, opened, reloaded, said, shown
from tests.made import runs as tiny

SAID = ("Tell me of the sea.", "And of the land?", "Which is larger?")


@pytest.fixture
def given(monkeypatch):
    """What the model was given to read since the last `clear`: (token ids, whether steered), a pair for each batch."""
    found: list[tuple[list[int], bool]] = []
    prefill, decode = playground.prefill, playground.decode

    def reading(model, prompts, *rest, **named):
        prefix = prefill(model, prompts, *rest, **named)
        prefix.ids = prompts[0]
        return prefix

    def writing(model, prefix, *, variants, **named):
        found.extend((prefix.ids, one != UNSTEERED) for one in variants)
        return decode(model, prefix, variants=variants, **named)

    monkeypatch.setattr(playground, "prefill", reading)
    monkeypatch.setattr(playground, "decode", writing)
    return found


def chatting(run: str, words: str = SAID[0], length: int = 12) -> AppTest:
    test = ask(opened(), words)
    test.toggle(key=f"chat-{run}").set_value(True).run()
    test.number_input(key=f"length-typed-{run}").set_value(length).run()
    return test


def reply(test: AppTest, words: str, label: str = "Reply to both") -> Playing:
    """Go on with both chats and say this; the answers."""
    button(test, label).click().run()
    assert test.text_area(key="typed").value == ""
    test.text_area(key="typed").set_value(words).run()
    return generate(test)


def template(words: tuple[str, ...], answers: list[str]) -> list[int]:
    """The tokens of a chat by the tokenizer's own template: what the user said, and one side's answers in between."""
    turns = []
    for place, one in enumerate(words):
        turns.append({"role": "user", "content": one})
        turns += [{"role": "assistant", "content": answers[place]}] if place < len(answers) else []
    model, _ = tiny.load()
    return model.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)


def test_each_sides_model_reads_the_chat_template_over_its_own_answers(run, given):
    test = chatting(run)
    first = generate(test)
    assert given == [(template(SAID[:1], []), False), (template(SAID[:1], []), True)]
    answers: dict[bool, list[str]] = {False: [first.texts[0]], True: [first.texts[1]]}
    for place in (1, 2):
        given.clear()
        playing = reply(test, SAID[place])
        expected = [(template(SAID[: place + 1], answers[steered]), steered) for steered in (False, True)]
        assert given == expected
        assert expected[0][0] != expected[1][0]
        for steered, text in zip((False, True), playing.texts, strict=True):
            answers[steered].append(text)
    assert test.session_state[f"turns-{run}"] == tuple(zip(SAID[:2], answers[False], answers[True], strict=False))


def test_the_answers_are_those_that_each_chat_alone_would_get(run):
    model, saes = tiny.load()
    test = chatting(run)
    test.slider(key="temperature").set_value(0.8).run()
    first = generate(test)
    second = reply(test, SAID[1])
    steering = replace(current(test, run), style=PromptStyle(chat=True))
    settings = {"max_new_tokens": 12, "model": model, "saes": saes, "choose": sampled(0.8, 0)}
    for side in (0, 1):
        chat = [
            {"role": "user", "content": SAID[0]},
            {"role": "assistant", "content": first.texts[side]},
            {"role": "user", "content": SAID[1]},
        ]
        assert second.texts[side] == playground.side_by_side(steering, chat, **settings)[side]
    assert second.texts[0] != second.texts[1]


def test_token_by_token_each_answer_is_read_after_its_own_chat(run):
    model, saes = tiny.load()
    test = chatting(run)
    first = generate(test)
    second = reply(test, SAID[1])
    variant = variant_of(replace(current(test, run), style=PromptStyle(chat=True)), saes)
    for place in (0, 1):
        expected = steps(model, variant, template(SAID[:2], [first.texts[place]]), second.tokens[place])
        assert second.token_steps(place) == expected


def test_what_was_said_stands_in_two_columns_below_the_same_words_and_the_answers_no_more(run):
    test = chatting(run)
    assert chats(test) == ""
    first = generate(test)
    button(test, "Reply to both").click().run()
    html = chats(test)
    assert re.findall(r'class="cs-title">(.*?)<', html) == ["You:", "Unsteered", "Steered"]
    assert html.count(SAID[0]) == 1
    assert shown(test) == ""
    assert "Type your next message first." in said(test)
    assert "Something has changed" not in said(test)
    test.text_area(key="typed").set_value(SAID[1]).run()
    generate(test)
    assert chats(test) == html
    assert shown(test)
    assert test.session_state["playing"].texts != first.texts


def test_what_was_said_is_only_text():
    hostile = "<script>alert(1)</script> \u202e </div></section>"
    html = side_by_side.conversation([(hostile, [Column("Unsteered", "unsteered", escaped(hostile))])])
    assert "<script" not in html
    assert "\u202e" not in html
    assert (html.count("</section>"), html.count("<div"), html.count("</div>")) == (1, *2 * [html.count("<div")])


def test_the_last_turn_can_be_taken_back_and_both_chats_begun_anew(run):
    test = chatting(run)
    first = generate(test)
    before = shown(test)
    button(test, "Reply to both").click().run()
    button(test, "Take the last turn back").click().run()
    assert test.text_area(key="typed").value == SAID[0]
    assert (chats(test), shown(test)) == ("", before)
    second = reply(test, SAID[1])
    assert second.question.turns == (Turn(SAID[0], *first.texts),)
    test.toggle(key=f"chat-{run}").set_value(False).run()
    assert chats(test) == ""  # it is no part of what is asked now
    assert test.session_state["desks"][run].question.turns == ()
    test.toggle(key=f"chat-{run}").set_value(True).run()
    assert SAID[0] in chats(test)
    button(test, "Start over").click().run()
    assert chats(test) == ""
    assert test.session_state["desks"][run].question.turns == ()
    again = generate(test)
    assert again.question.asked("unsteered") == again.question.asked("steered") == SAID[1]


def test_a_reload_brings_both_chats_back(run, given):
    test = chatting(run)
    first = generate(test)
    second = reply(test, SAID[1])
    button(test, "Reply to both").click().run()
    again = reloaded(test)
    assert chats(again) == chats(test)
    assert shown(again) == ""  # the last answers stand in the chats
    given.clear()
    again.text_area(key="typed").set_value(SAID[2]).run()
    generate(again)
    assert given == [
        (template(SAID, [first.texts[side], second.texts[side]]), steered) for side, steered in ((0, False), (1, True))
    ]


def test_of_several_steered_answers_one_is_chosen_to_go_on_from(run, given):
    test = chatting(run)
    test.get_by_key(f"scales-{run}").set_value([2.0]).run()
    first = generate(test)
    assert first.question.scales == (1.0, 2.0)
    labels = [one.label for one in test.button if one.label.startswith("Reply")]
    assert labels == ["Reply to both: steered, scale 1", "Reply to both: steered, scale 2"]
    given.clear()
    playing = reply(test, SAID[1], labels[1])
    assert playing.question.turns == (Turn(SAID[0], first.texts[0], first.texts[2]),)
    own, other = template(SAID[:2], [first.texts[0]]), template(SAID[:2], [first.texts[2]])
    assert given == [(own, False), (other, True), (other, True)]


def test_a_chat_is_part_of_the_link_and_one_of_an_earlier_version_is_both_sides_own(run):
    config, _ = stored_run.stored(run)
    steering = stored_run.kept_sets(run)["A"]
    kept = snapshot.Snapshot(steering, Question(steering, "And?", run, chat=True, turns=(Turn("Hello.", "a", "b"),)))
    assert snapshot.from_link(kept.to_link(), run, config) == kept
    body = json.loads(kept.to_json())
    body["question"]["turns"] = [["Hello.", "a"]]
    read = snapshot.from_file(json.dumps(body).encode(), "x", run, config).question
    assert read.turns == (Turn("Hello.", "a", "a"),)
    assert read.asked("unsteered") == read.asked("steered")
