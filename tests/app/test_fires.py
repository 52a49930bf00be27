"""The Features page's own text: what fires on it, on a tiny model that is really read."""

from __future__ import annotations

import html
import re

import pytest
from streamlit.testing.v1 import AppTest

from app.features.fires import filters, pane, shaded_text
from app.shared import components
from corrsteer_core.inspection import fired_features, firing
from corrsteer_core.inspection.firing import Wanted
from corrsteer_core.runs import stored_run
from corrsteer_core.runs.prompt_style import PromptStyle
from tests.app import ready_runs
from tests.made import runs as tiny

TEXT = "a warm and funny film"
HOSTILE = "<img src=x onerror=alert(1)> seen \u202e =cmd()"
UNTOLD = Wanted(first=False, everywhere=False)  # what the page begins with


def asked(text: str, how: str = pane.PLAIN) -> AppTest:
    """The page, with a text sent."""
    test = AppTest.from_function(ready_runs.features_page, default_timeout=600)
    test.session_state["pane"] = "Your text"
    test.run()
    test.text_area(key="fires_text").set_value(text)
    test.segmented_control(key="fires_how").set_value(how)
    next(one for one in test.button if one.label == "See what fires").click().run()
    assert not test.exception
    return test


def read(text: str, how: str = pane.PLAIN) -> AppTest:
    """The page, with a text sent and read, and the meanings looked up."""
    test = asked(text, how)
    assert test.session_state[pane.READ][1].wait(600)
    test.run()
    assert not test.exception
    assert not test.error
    return test


def shown(test: AppTest) -> str:
    return "\n".join(str(one.proto.body) for one in test.get("html"))


def captions(test: AppTest) -> str:
    return "\n".join(one.value for one in test.caption).replace("\\", "")


def table(test: AppTest):
    return test.dataframe[0].value


def test_every_feature_that_fires_is_listed_with_its_numbers_and_meaning(run, monkeypatch):
    monkeypatch.setattr(pane, "SHOWN", 20)
    model, saes = tiny.load()
    test = read(TEXT)
    found = firing.read_for(run, TEXT, model, saes)
    rows = fired_features.table(run, found, UNTOLD)
    frame = table(test)
    assert len(frame) == pane.SHOWN < len(rows)
    assert frame["feature"].tolist() == rows["feature"].head(pane.SHOWN).tolist()
    assert frame["value"].tolist() == pytest.approx(rows["value"].head(pane.SHOWN).tolist(), rel=1e-3)
    assert (
        f"Of {len(fired_features.strongest(found))} features that fire on the text, {len(rows)} pass the filters"
        in captions(test)
    )
    assert f"{len(rows) - pane.SHOWN} more follow" in captions(test)
    assert fired_features.positions(found, UNTOLD) in captions(test)
    assert frame["meaning"].str.startswith("→ ").all()
    known = [r for r in rows["r"].head(pane.SHOWN) if not components.missing(r)]
    assert [r for r in frame["r"] if r is not None] == [components.signed(r) for r in known]
    assert frame["at"].iloc[0] == filters.named_token(TEXT[rows["token"].iloc[0]])
    assert len(frame["course"].iloc[0]) == len(TEXT) - 1


def test_the_filters_narrow_what_is_listed(run):
    model, saes = tiny.load()
    test = read(TEXT)
    found = firing.read_for(run, TEXT, model, saes)
    test.multiselect(key="fires_layers").set_value([2])
    test.selectbox(key="fires_sort").set_value("r").run()
    expected = fired_features.table(run, found, Wanted(layers=(2,), first=False, everywhere=False), sort="r")
    assert table(test)["feature"].tolist() == expected["feature"].head(pane.SHOWN).tolist()
    test.multiselect(key="fires_layers").set_value([])
    test.toggle(key="fires_first").set_value(False)
    test.toggle(key="fires_everywhere").set_value(False)
    test.selectbox(key=f"fires_which-{run}").set_value(f"{filters.IN_SET}A").run()
    members = frozenset((row.layer, row.feature) for row in stored_run.kept_sets(run)["A"].rows)
    expected = fired_features.table(run, found, Wanted(among=members), sort="r")
    assert table(test)[["layer", "feature"]].to_numpy().tolist() == expected[["layer", "feature"]].to_numpy().tolist()
    test.selectbox(key=f"fires_which-{run}").set_value(filters.EVERY)
    test.selectbox(key=filters.AT).set_value(3).run()
    expected = fired_features.table(run, found, Wanted(token=3), sort="r")
    assert f"{len(expected)} pass the filters" in captions(test)
    assert set(table(test)["at"]) == {filters.named_token(TEXT[3])}


def test_the_text_stands_there_token_by_token(run):
    model, saes = tiny.load()
    test = read(TEXT)
    pieces = fired_features.by_piece(firing.read_for(run, TEXT, model, saes), UNTOLD)
    tokens = test.dataframe[1].value
    assert tokens["features"].tolist() == pieces["features"].tolist()
    layer, feature, value = pieces["strongest"].iloc[0][0]
    assert tokens["strongest"].iloc[0][0] == f"{layer} · {feature}: {value:.2f}"
    assert f"{pieces['features'].iloc[0]} fire: layer {layer} · {feature} ({value:.2f})" in shown(test)


def test_a_prompt_is_read_with_the_models_answer(run):
    model, saes = tiny.load()
    test = read(TEXT, pane.ANSWERED)
    found = firing.read_for(run, TEXT, model, saes, answer=True)
    assert found.parts.count("answer")
    assert '<span class="cs-word">answer</span>' in shown(test)
    assert fired_features.positions(found, UNTOLD) in captions(test)
    test.toggle(key="fires_where").set_value(True).run()
    only = Wanted(where="generation", first=False, everywhere=False)
    assert fired_features.positions(found, only) in captions(test)
    assert f"{len(fired_features.strongest(found, only))} pass the filters" in captions(test)


def test_a_text_is_shown_as_text_whatever_is_in_it(run):
    test = read(HOSTILE)
    assert "<img" not in shown(test)
    plain = html.unescape(re.sub("<style>.*?</style>|<[^>]*>", "", shown(test), flags=re.DOTALL))
    assert "<img src=x onerror=alert(1)> seen ⟨U+202E⟩ =cmd()" in plain
    assert "\u202e" not in shown(test)
    assert not any(str(cell).startswith("=") for cell in test.dataframe[1].value["token"])


def test_of_what_stands_around_the_text_only_what_is_near_is_shown():
    model, saes = tiny.load()
    style = PromptStyle(chat=False, shots=(("A long example. " * 3, "yes"),))
    found = firing.read(model, saes, TEXT, style)
    shown = shaded_text.shaded(found, fired_features.by_piece(found), None)
    plain = html.unescape(re.sub("<[^>]*>", "", shown))
    around = model.tokenizer.decode(found.text.prompt).removesuffix(TEXT)
    assert plain == f" … {around[-shaded_text.NEAR :]}{TEXT}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "The text is empty"),
        ("x" * 8_001, "The text has 8,001 characters; at most 8,000"),
        ("x" * 300, "do not fit"),
    ],
)
def test_what_cannot_be_read_is_answered_in_a_sentence(run, text, problem):
    test = asked(text)
    if pane.READ in test.session_state:
        assert test.session_state[pane.READ][1].wait(600)
        test.run()
    assert problem in test.error[0].value.replace("\\", "")
    assert not test.dataframe


def test_a_text_read_for_another_run_is_not_shown(run):
    test = read(TEXT)
    test.session_state[pane.READ] = "another", test.session_state[pane.READ][1]
    test.run()
    assert not test.dataframe
