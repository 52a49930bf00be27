"""What the numbers of an evaluation say in words."""

from __future__ import annotations

import pandas as pd
import pytest

from corrsteer_core.reporting.verdict import fluency_words, gain_words, side_effects, verdict, with_flips
from corrsteer_core.reporting.verdict import rates as verdict_rates
from corrsteer_core.statistics import rates


def compared(won: int, lost: int, n: int = 160, before: float = 0.6) -> dict:
    return {
        "n": n,
        "unsteered_rate": before,
        "steered_rate": before + (won - lost) / n,
        "unsteered_interval": [0.5, 0.7],
        "steered_interval": [0.6, 0.8],
        "positive_flips": won,
        "negative_flips": lost,
        "ser": rates.ser(won, lost),
        "p": rates.mcnemar_p(won, lost),
        "effect": (won - lost) / n,
    }


def summary(won: int, lost: int, fluency: float = 1.2, **controls: tuple[int, int]) -> dict:
    rivals = {name.replace("_", " "): compared(*flips) for name, flips in controls.items()}
    return {**compared(won, lost), "fluency": {"unsteered": 1.0, "steered": fluency}, "controls": rivals}


@pytest.mark.parametrize(
    ("numbers", "kind", "words"),
    [
        (
            summary(27, 1, random_1=(2, 3), random_2=(3, 2)),
            "works",
            "rises from 60.0% to 76.2% on 160 samples (p < 0.001)",
        ),
        (
            summary(27, 1, random_1=(2, 3), random_2=(3, 2)),
            "works",
            "2 random sets of like size: +0.0 points on average, −0.6 points to +0.6 points",
        ),
        (summary(27, 1), "works", "not compared with random"),
        (summary(3, 2), "noise", "No better than chance"),
        (summary(2, 3), "noise", "falls from"),
        (summary(2, 2), "noise", "stays at 60.0%"),
        (summary(1, 27), "harmful", "falls from 60.0% to 43.8%"),
        (summary(0, 0), "nothing", "no outcome of the 160 samples changed"),
        (summary(27, 1, random_1=(2, 3), random_2=(30, 4)), "no better", "a random set of the same size does as much"),
        (summary(27, 1, random_1=(2, 3), random_2=(32, 1)), "no better", "(+19.4 points)"),
        (summary(27, 1, random_1=(2, 3), sign_flipped=(40, 3)), "no better", "turning its sign round"),
        (summary(27, 1, fluency=2.5, random_1=(2, 3)), "works", "far less fluent"),
    ],
)
def test_verdict(numbers: dict, kind: str, words: str):
    found = verdict(numbers)
    assert found.kind == kind
    assert words in found.sentence


def test_evidence_that_is_only_negative_controls_does_not_make_a_set_no_better():
    assert verdict(summary(27, 1, random_1=(0, 40), sign_flipped=(0, 30))).kind == "works"


@pytest.mark.parametrize(
    ("won", "lost", "words"),
    [
        (4, 0, "nothing was lost"),
        (3, 1, "0.5 would be"),
        (2, 2, "as much harm as good"),
        (1, 3, "more harm"),
        (0, 0, "No outcome"),
    ],
)
def test_side_effects_in_words(won: int, lost: int, words: str):
    assert words in side_effects(summary(won, lost))


@pytest.mark.parametrize(
    ("fluency", "words"), [(0.9, "no less"), (1.5, "a little less"), (2.5, "far less"), (None, ""), (float("nan"), "")]
)
def test_fluency_in_words(fluency: float | None, words: str):
    found = fluency_words(summary(5, 1, fluency=fluency))
    assert words in found
    assert bool(found) == bool(words)


def test_rates_begin_with_the_unsteered_one_and_keep_the_stored_intervals():
    rows = verdict_rates(summary(27, 1, random_1=(2, 3)), "V")
    assert rows["label"].tolist() == ["unsteered", "V", "random 1"]
    assert rows["kind"].tolist() == ["unsteered", "steered", "control"]
    assert rows["effect"].tolist() == pytest.approx([0, 26 / 160, -1 / 160])
    assert rows.loc[1, ["low", "high"]].tolist() == [0.6, 0.8]


def test_flips_are_won_lost_changed_or_same():
    samples = pd.DataFrame(
        {
            "unsteered": ["a", "a", "a", "a", "a"],
            "steered": ["b", "b", "b", "a", "b"],
            "outcome_unsteered": [0.0, 1.0, 1.0, 1.0, 0.2],
            "outcome_steered": [1.0, 0.0, 1.0, 1.0, 0.5],
        }
    )
    assert with_flips(samples)["flip"].tolist() == ["won", "lost", "changed", "same", "changed"]


def test_an_average_that_rises_while_more_samples_are_lost_than_won_does_not_work():
    graded = {**summary(0, 12), "steered_rate": 0.7, "effect": 0.1}
    found = verdict(graded)
    assert found.kind == "noise"
    assert "0 samples went from failure to success and 12 back" in found.sentence


def test_an_average_that_moves_without_any_flip_is_not_called_nothing():
    found = verdict({**summary(0, 0), "steered_rate": 0.45, "effect": -0.15})
    assert found.kind == "noise"
    assert "from 60.0% to 45.0%, but none of the 160 samples changed between failure and success" in found.sentence


def test_the_gains_interval_in_words():
    assert gain_words(summary(5, 1)) == ""
    told = gain_words({**summary(5, 1), "effect_interval": (-0.012, 0.0431)})
    assert "from \u22121.2 points to +4.3 points" in told
