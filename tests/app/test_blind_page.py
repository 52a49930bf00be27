"""The Blind test page: pairs without a mark, votes that count once, and a share that tells nothing too early."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint
from streamlit.testing.v1 import AppTest

from app.blind import outcome
from app.blind.sitting import Sitting, sitting_of
from app.shared import tables
from corrsteer_core.base.formatting import p_value, percent
from corrsteer_core.runs import measurements
from corrsteer_core.statistics.preference import preference
from corrsteer_core.storage.writing import Writer
from corrsteer_core.tasks import TASKS
from corrsteer_core.tasks.base import WHICH_IS_BETTER
from tests.app import ready_runs
from tests.made import fabricated


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    return tmp_path


def samples(n: int = 40, same: int = 0) -> pd.DataFrame:
    rows = [
        {
            "sample": f"s{place}",
            "prompt": f"prompt {place}",
            "unsteered": f"plain {place}",
            "steered": f"turned {place}",
        }
        for place in range(n)
    ]
    for row in rows[:same]:
        row["steered"] = row["unsteered"]
    return pd.DataFrame(rows)


def script() -> None:
    import streamlit as st  # this function's text is run on its own

    from app.blind import page as blind
    from app.shared import components
    from corrsteer_core.storage import run_folder

    st.session_state.setdefault("current_run", next(iter(run_folder.run_names()), None))
    components.page_of(blind.page)()


def opened() -> AppTest:
    test = AppTest.from_function(script, default_timeout=600).run()
    assert not test.exception
    return test


def said(test: AppTest) -> str:
    kinds = ("title", "subheader", "markdown", "caption", "error")
    words = [str(one.value) for kind in kinds for one in test.get(kind)]
    return "\n".join([*words, *(f"{one.label} {one.value} {one.delta}" for one in test.metric)]).replace("\\", "")


def html(test: AppTest) -> str:
    return "\n".join(str(one.proto.body).split("</style>")[-1] for one in test.get("html"))


def labels(test: AppTest) -> list[str]:
    return [one.label for one in test.button]


def press(test: AppTest, label: str) -> AppTest:
    next(one for one in test.button if one.label == label).click().run()
    assert not test.exception
    return test


def sitting(test: AppTest) -> Sitting:
    (found,) = test.session_state["blind_tests"].values()
    return found


def make_run(**settings: object) -> str:
    """A made-up run whose samples all have two different answers, neither of them in the other."""
    run = ready_runs.make_run(**settings)
    with Writer(run) as store:
        rows = pd.DataFrame(json.loads(store.query("SELECT samples FROM evaluations")["samples"][0]))
        rows["unsteered"] = [f" It was so, no more ({place})" for place in range(len(rows))]
        rows["steered"] = [f" Positive, and glad of it ({place})" for place in range(len(rows))]
        store.query("UPDATE evaluations SET samples = $new", {"new": rows.to_json(orient="records")})
    return run


# --- the test itself -----------------------------------------------------------------------------


def test_only_pairs_that_differ_to_the_eye_are_asked():
    found = samples(10, same=4)
    found.loc[9, "steered"] = f"  {found.loc[9, 'unsteered']}\u200b\n"
    made = sitting_of(found, 0)
    assert {pair.sample for pair in made.pairs} == {"s4", "s5", "s6", "s7", "s8"}


def test_each_pair_has_both_texts_and_knows_which_is_which():
    texts = samples().set_index("sample")
    for pair in sitting_of(samples(), 3).pairs:
        both = {"left": pair.left, "right": pair.right}
        assert both.pop(pair.steered) == texts.loc[pair.sample, "steered"]
        assert list(both.values()) == [texts.loc[pair.sample, "unsteered"]]


def test_sides_and_order_are_drawn_by_the_seed_and_favour_neither():
    made = [sitting_of(samples(), seed) for seed in range(200)]
    sides = Counter(pair.steered for one in made for pair in one.pairs)
    assert binomtest(sides["left"], sides.total()).pvalue > 1e-6
    first = Counter(one.pairs[0].sample for one in made)
    assert len(first) > 30
    assert sitting_of(samples(), 7).pairs == made[7].pairs


def test_votes_are_counted_for_the_text_they_were_for():
    made = sitting_of(samples(), 1)
    expected = {"steered": 0, "unsteered": 0, "neither": 0}
    for place, pair in enumerate(made.pairs[:30]):
        if place % 3 == 0:
            made.vote(pair.sample, "neither")
            expected["neither"] += 1
        else:
            made.vote(pair.sample, "left")
            expected["steered" if pair.steered == "left" else "unsteered"] += 1
    assert made.outcome() == preference(**expected)
    assert sum(made.outcome(12)[:3]) == 12
    assert made.next == made.pairs[30]


def test_a_second_vote_on_a_pair_and_one_after_the_end_count_nothing():
    made = sitting_of(samples(), 1)
    one, two = made.pairs[:2]
    made.vote(one.sample, "left")
    made.vote(one.sample, "right")
    assert made.votes == {one.sample: "left"}
    made.take_back()
    assert made.next == one
    made.take_back()
    made.vote(one.sample, "right")
    made.end()
    made.vote(two.sample, "left")
    made.take_back()
    assert made.votes == {one.sample: "right"}


def test_the_file_holds_every_vote_and_runs_nowhere():
    rows = samples(12)
    rows["unsteered"] = '=HYPERLINK("http://x.evil")'
    made = sitting_of(rows, 5)
    for pair, vote in zip(made.pairs, ("left", "right", "neither") * 4, strict=True):
        made.vote(pair.sample, vote)
    read = list(csv.DictReader(io.StringIO(made.as_csv().decode())))
    assert [(row["sample"], row["vote"]) for row in read] == list(made.votes.items())
    assert not any(cell.startswith("=") for row in read for cell in row.values())
    assert tables.JOINER + "=HYPERLINK" in made.as_csv().decode()
    told = Counter(row["preferred"] for row in read)
    assert (told["steered"], told["unsteered"], told["neither"]) == made.outcome()[:3]
    for row, pair in zip(read, made.pairs, strict=True):
        assert row["steered"] == pair.steered
        assert row[row["steered"]].startswith("turned")


# --- the page ------------------------------------------------------------------------------------


def test_without_a_run_a_measurement_or_a_difference_the_page_says_so():
    assert "nothing to compare yet" in said(opened())
    ready_runs.make_run(measured=False)
    assert "has been measured yet" in said(opened())
    run = ready_runs.make_run()
    with Writer(run) as store:
        rows = pd.DataFrame(json.loads(store.query("SELECT samples FROM evaluations")["samples"][0]))
        rows["steered"] = rows["unsteered"]
        store.query("UPDATE evaluations SET samples = $new", {"new": rows.to_json(orient="records")})
    assert "No answer differs" in said(opened())


def test_nothing_that_is_sent_before_the_end_says_which_was_steered():
    make_run()
    test = opened()
    for _ in range(4):
        press(test, "Left is better")
        page = html(test)
        pair = sitting(test).next
        assert pair is not None
        assert page.index(pair.left) < page.index(pair.right)
        assert page.count('class="cs-text cs-unsteered"') == 2
        assert "cs-steered" not in page
        assert not test.metric  # one vote more or less would tell
        assert not test.get("download_button")
        assert "success" not in page


def test_the_share_is_told_every_five_votes_and_equals_scipy_and_statsmodels():
    make_run()
    test = opened()
    pairs = sitting(test).pairs
    for place in range(7):
        press(test, "Right is better")
        assert f"{place + 1} of {len(pairs)} pairs" in test.get("progress")[0].proto.text
    steered = sum(pair.steered == "right" for pair in pairs[:5])
    low, high = proportion_confint(steered, 5, method="wilson")
    shown = said(test)
    assert f"Preferred steered {percent(steered / 5)} 95% interval {percent(low)} to {percent(high)}" in shown
    assert f"no difference {steered} / {5 - steered} / 0" in shown
    assert f"Could it be luck? {p_value(binomtest(steered, 5).pvalue)}" in shown
    assert "that of the first 5" in shown


def test_in_the_end_it_is_shown_which_was_which():
    make_run()
    test = opened()
    assert next(one for one in test.button if one.label == "Show which was which").disabled
    press(press(test, "Left is better"), "No difference")
    made = sitting(test)
    press(test, "Show which was which")
    assert not set(labels(test)) & {"Left is better", "Right is better", "No difference"}
    page = html(test)
    (first, _), (second, _) = made.voted()
    assert page.index(first.prompt) < page.index(second.prompt)
    assert "Steered · your choice" in page or "Unsteered · your choice" in page
    assert page.count("your choice") == 1
    steered = first.steered == "left"
    assert f"no difference {int(steered)} / {int(not steered)} / 1" in said(test)
    (file,) = test.get("download_button")
    assert file.proto.label == "Download the votes (CSV)"
    press(test, "Begin again")
    assert not sitting(test).votes
    assert "Left is better" in labels(test)


def test_the_last_pair_ends_it_too():
    make_run()
    test = opened()
    made = sitting(test)
    for pair in made.pairs[:-1]:
        made.vote(pair.sample, "neither")
    test.run()
    press(test, "No difference")
    assert "Left is better" not in labels(test)
    assert "nobody has preferred either" in said(test)
    press(test, "Show which was which")
    assert f"The first {outcome.SHOWN} of {len(made.pairs)}" in said(test)


def test_a_vote_can_be_taken_back():
    make_run()
    test = opened()
    before = sitting(test).next
    press(press(test, "Left is better"), "Take the last vote back")
    assert sitting(test).next == before


def test_each_measurement_has_its_own_votes_and_question():
    run = make_run()
    with Writer(run) as store:
        row = store.query("SELECT * FROM evaluations")
        store.add("evaluations", row.assign(task="tone", created=row["created"] + pd.Timedelta("1h")))
    test = opened()
    (box,) = test.selectbox
    assert [TASKS[task].title in one for task, one in zip(("tone", "sentiment"), box.options, strict=True)] == [
        True,
        True,
    ]
    assert "Which sounds more positive?" in said(test)
    press(test, "Left is better")
    box.set_value(1).run()
    assert WHICH_IS_BETTER in said(test)
    assert [len(one.votes) for one in test.session_state["blind_tests"].values()] == [1, 0]
    assert len(measurements.evaluations(run)) == 2


def test_a_task_of_ones_own_is_asked_the_plain_question():
    run = make_run()
    with Writer(run) as store:
        store.query("UPDATE evaluations SET task = '<b>my reviews</b>'")
    shown = said(opened())
    assert WHICH_IS_BETTER in shown


@pytest.mark.parametrize("over", [False, True])
def test_what_a_model_wrote_is_text(over):
    run = make_run(text=fabricated.HOSTILE)
    with Writer(run) as store:
        rows = pd.DataFrame(json.loads(store.query("SELECT samples FROM evaluations")["samples"][0]))
        rows["steered"] = [f"</div></section>{fabricated.HOSTILE} {place}" for place in range(len(rows))]
        store.query("UPDATE evaluations SET samples = $new", {"new": rows.to_json(orient="records")})
    test = press(opened(), "Left is better")
    if over:
        press(test, "Show which was which")
    page = html(test)
    assert "&lt;script&gt;" in page
    assert not any(bad in page for bad in ("<script", "<img", "\u202e", "\x07"))


@pytest.mark.parametrize(
    ("votes", "words"),
    [((0, 0, 3), "nobody has preferred"), ((4, 1, 0), "cannot be told from luck"), ((30, 5, 2), "the steered answers are"),
     ((5, 30, 2), "the unsteered answers are")],
)  # fmt: skip
def test_what_the_votes_amount_to(votes, words):
    assert words in outcome.said(preference(*votes), sum(votes))
