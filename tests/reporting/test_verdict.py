"""What the numbers of an evaluation say in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from corrsteer_core.reporting.rate_rows import rates as verdict_rates
from corrsteer_core.reporting.verdict import fluency_words, gain_words, side_effects, verdict
from corrsteer_core.runs.measurements import with_flips
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
    measured = {"fluency": {"unsteered": 1.0, "steered": fluency}, "controls": rivals, "chosen_on": False}
    return {**compared(won, lost), **measured}


def beside(won: int, lost: int, n: int = 160) -> dict:
    return {
        "difference": (won - lost) / n,
        "positive_flips": won,
        "negative_flips": lost,
        "p": rates.mcnemar_p(won, lost),
    }


def left(won: int, lost: int, n: int = 160) -> dict:
    """What is left beyond the prior."""
    return {"beyond_prior": {"unsteered_rate": 0.7, "steered_rate": 0.7 + (won - lost) / n, "effect": (won - lost) / n,
                             "p": rates.mcnemar_p(won, lost)}}  # fmt: skip


CLASSES = [
    {"class": "Negative", "n": 80, "unsteered_rate": 0.3, "steered_rate": 0.6},
    {"class": "Positive", "n": 80, "unsteered_rate": 0.9, "steered_rate": 0.8},
]


def evidence(seed: int) -> dict:
    """A measurement made up at random, for the better or the worse of a set, with what was compared in it."""
    rng = np.random.default_rng(seed)
    found = summary(*rng.integers(0, 60, 2).tolist())
    for group in ("controls", "matched"):
        count = int(rng.integers(0, 4))
        rivals = {f"{group} {n}": (rng.integers(0, 60), rng.integers(0, 60)) for n in range(count)}
        found[group] = {name: compared(int(up), int(down)) for name, (up, down) in rivals.items()}
    if rng.random() < 0.3:
        found["controls"]["sign flipped"] = compared(1, 40)
    found["against"] = {
        name: beside(*rng.integers(0, 60, 2).tolist()) for group in ("controls", "matched") for name in found[group]
    }
    found |= left(*rng.integers(0, 60, 2).tolist()) if rng.random() < 0.5 else {}
    return {**found, "chosen_on": bool(rng.random() < 0.3), "strategy": rng.choice(["V", "P", "S", ""])}


@pytest.mark.parametrize(("won", "lost", "kind"), [(30, 0, "works"), (12, 11, "no better")])
def test_what_answers_limited_to_the_choices_do_is_to_be_beaten_beyond_noise(won, lost, kind):
    """Not by one sample: as every other control is."""
    found = summary(40, 5, random_1=(1, 1))
    limited = found["effect"] - (won - lost) / found["n"]
    found |= {
        "constrained": {"constrained": {"effect": limited}},
        "against": {"constrained": beside(won, lost), "random 1": beside(39, 5)},
    }
    said = verdict(found)
    assert said.kind == kind
    assert ("limited to the choices are not beaten beyond noise" in said.sentence) == (kind == "no better")


def test_the_permutation_p_is_the_one_that_was_kept_with_the_measurement():
    """It goes by what is left beyond the prior where there are classes; raw effects would give another."""
    found = summary(40, 5, **{f"random_{place}": (1, 2) for place in range(19)})
    assert "(permutation p = 0.05)" in verdict(found).sentence
    assert "(permutation p = 0.15)" in verdict(found | {"permutation_p": 0.15}).sentence


@pytest.mark.parametrize("cases", [500, pytest.param(3000, marks=pytest.mark.exhaustive)])
def test_nothing_works_without_controls_nor_where_it_was_chosen_nor_beside_a_rival_that_is_not_beaten(cases):
    kinds = []
    for seed in range(cases):
        numbers = evidence(seed)
        found = verdict(numbers)
        kinds.append(found.kind)
        if found.kind != "works":
            continue
        assert not numbers["chosen_on"]
        assert set(numbers["controls"]) - {"sign flipped"}
        assert numbers["matched"] or numbers["strategy"] not in ("V", "P")
        assert all(one["difference"] > 0 and one["p"] < 0.05 for one in numbers["against"].values())
        assert numbers["p"] < 0.05
        assert numbers["steered_rate"] > numbers["unsteered_rate"]
        beyond = numbers.get("beyond_prior")
        assert beyond is None or (beyond["effect"] > 0 and beyond["p"] < 0.05)
    assert {"works", "uncontrolled", "chosen on", "shifts", "no better", "selection"} <= set(kinds)


def test_near_ties_that_could_turn_a_verdict_are_said_in_it():
    numbers = {**summary(27, 1, random_1=(2, 3)), "near_ties": 12, "near_tie_bound": 0.1, "near_ties_could_turn": True}
    found = verdict(numbers)
    assert found.kind == "works"
    assert found.sentence.endswith(
        "Near ties could turn this: on 12 of the samples the first token leads by less than 0.1 nats."
    )
    assert "Near ties" not in verdict({**numbers, "near_ties_could_turn": False}).sentence
    assert "Near ties" not in verdict({**numbers, **compared(0, 0)}).sentence


def test_of_graded_outcomes_and_clusters_it_is_not_said_how_many_samples_are_needed():
    assert "samples would be needed" in verdict(summary(3, 2)).sentence
    for test in ("sign flip", "clusters"):
        found = verdict({**summary(3, 2), "test": test})
        assert found.kind == "inconclusive"
        assert "needed" not in found.sentence


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
            "2 random sets of like size: ±0.0 points on average, −0.6 points to +0.6 points",
        ),
        (
            {name: value for name, value in summary(27, 1, random_1=(2, 3)).items() if name != "chosen_on"},
            "uncontrolled",
            "did not look for a shifted prior; measure it again",
        ),
        (summary(27, 1), "uncontrolled", "not been compared with random"),
        (summary(27, 1, sign_flipped=(2, 3)), "uncontrolled", "not been compared with random"),
        ({**summary(27, 1, random_1=(2, 3)), "chosen_on": True}, "chosen on", "measure it on the test split"),
        ({**summary(27, 1, random_1=(2, 3)), "strategy": "V"}, "uncontrolled", "same choice among random features"),
        ({**summary(27, 1, random_1=(2, 3)), "strategy": "S"}, "works", "a random set of like size"),
        (
            {**summary(27, 1, random_1=(2, 3)), "strategy": "V", "matched": {"matched 1": compared(3, 2)}},
            "works",
            "1 chosen alike among random features: at most +0.6 points",
        ),
        (
            {
                **summary(27, 1, random_1=(2, 3)),
                "strategy": "V",
                "matched": {"matched 1": compared(24, 1)},
                "against": {"matched 1": beside(4, 1), "random 1": beside(27, 1)},
            },
            "selection",
            "the same choice among random features is not beaten beyond noise (+14.4 points)",
        ),
        (
            {**summary(27, 1, random_1=(20, 3)), "against": {"random 1": beside(9, 3)}},
            "no better",
            "a random set of the same size is not beaten beyond noise (+10.6 points)",
        ),
        ({**summary(27, 1, random_1=(20, 3)), "against": {"random 1": beside(10, 1)}}, "works", "Works"),
        (
            {**summary(27, 1, random_1=(2, 3)), **left(3, 2), "classes": CLASSES},
            "shifts",
            "to 70.0%, and the steered one to 70.6% (+0.6 points, p = 1.00); right on Negative 30% to 60%, on Positive 90% to 80%",
        ),
        ({**summary(27, 1, random_1=(2, 3)), **left(2, 20)}, "shifts", "Shifts the answers"),
        (
            {**summary(27, 1, random_1=(2, 3)), **left(20, 2)},
            "works",
            "+11.2 points of it beyond what one constant per class does (p < 0.001)",
        ),
        (summary(3, 2), "inconclusive", "samples would be needed"),
        (summary(9, 3), "inconclusive", "about 449 samples would be needed"),
        ({**summary(3, 2), "effect_interval": [-0.011, 0.019]}, "not shown", "more than +1.9 points is ruled out"),
        (summary(2, 3), "not shown", "falls from"),
        (summary(2, 2), "not shown", "stays at 60.0%"),
        (summary(1, 27), "harmful", "falls from 60.0% to 43.8%"),
        (summary(0, 0), "nothing", "no outcome of the 160 samples changed"),
        (summary(27, 1, random_1=(2, 3), random_2=(30, 4)), "no better", "a random set of the same size"),
        (summary(27, 1, random_1=(2, 3), random_2=(32, 1)), "no better", "(+19.4 points)"),
        (summary(27, 1, random_1=(2, 3), sign_flipped=(40, 3)), "no better", "turning its sign round"),
        (summary(27, 1, fluency=2.5, random_1=(2, 3)), "works", "far less fluent"),
        (
            summary(27, 1, **{f"random_{n}": (2, 3) for n in range(19)}),
            "works",
            "19 random sets of like size: −0.6 points on average, −0.6 points to −0.6 points (permutation p = 0.05)",
        ),
    ],
)
def test_verdict(numbers: dict, kind: str, words: str):
    found = verdict(numbers)
    assert found.kind == kind, found.sentence
    assert words in found.sentence
    assert str(found) == found.sentence


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


def test_graded_outcomes_that_move_without_a_flip_are_not_called_nothing():
    found = verdict({**summary(0, 0), "steered_rate": 0.45, "effect": -0.15, "p": 0.2})
    assert found.kind == "not shown"
    assert verdict({**summary(0, 0), "steered_rate": 0.45, "effect": -0.15, "p": 0.01}).kind == "harmful"


def test_the_gains_interval_in_words():
    assert gain_words(summary(5, 1)) == ""
    sentence = gain_words({**summary(5, 1), "effect_interval": (-0.012, 0.0431)})
    assert "from \u22121.2 points to +4.3 points" in sentence
