"""What a verdict rests on, in words."""

from __future__ import annotations

import pytest

from corrsteer_core.reporting.rival_groups import caveats, missing_controls, missing_rivals

CONTROLLED = {
    "n": 90,
    "controls": {"random 1": {}, "random 2": {}, "sign flipped": {}},
    "permutation_p": 1 / 3,
    "frequencies": {"": [0.2, 0.5], "random 1": [0.19, 0.52], "random 2": [0.22, 0.46], "sign flipped": [0.2, 0.5]},
}


def test_frequencies_of_the_set_and_of_its_random_sets_stand_side_by_side():
    said = caveats(CONTROLLED)
    assert (
        "The set's features fire in 20.0% to 50.0% of training samples, those of its random sets in 19.0% to 52.0%"
        in said
    )
    assert "differ by at most 4.0 points." in said
    far = {**CONTROLLED, "frequencies": {**CONTROLLED["frequencies"], "random 2": [0.22, 0.41]}}
    assert "at most 9.0 points, more than the 5 aimed at" in caveats(far)


def test_the_permutation_p_counts_the_random_sets():
    assert "Among the set and 2 random sets, as good a one is found with p = 0.33 (permutation)." in caveats(CONTROLLED)


SIGN = {"rival": "sign flipped", "why": "It clamps."}
PUSH = {"rival": "unigram", "why": "It acts late."}
HELD = {"rival": "constrained decoding", "why": "Answers are open."}


@pytest.mark.parametrize("push", ["unigram", "its push on words as one constant"])
def test_controls_and_rivals_that_were_not_measured_are_told_apart(push):
    found = {"left_out": [SIGN, HELD, {**PUSH, "rival": push}]}
    assert missing_controls(found) == (
        "Not measured: sign turned round. It clamps. Not measured: constant push on words. It acts late."
    )
    assert missing_rivals(found) == "Not measured: constrained decoding. Answers are open."


def test_what_was_left_out_twice_is_said_once():
    twice = {"left_out": [{**PUSH, "rival": "its push on words as one constant"}, PUSH]}
    assert missing_controls(twice) == "Not measured: constant push on words. It acts late."
    assert (missing_controls({}), missing_rivals({"left_out": None})) == ("", "")


def test_clusters_and_graded_outcomes_name_their_test():
    assert "90 samples come in 12 clusters" in caveats({"n": 90, "clusters": 12, "test": "clusters"})
    assert "sign-flip test" in caveats({"n": 90, "test": "sign flip"})


@pytest.mark.parametrize(("needed", "said"), [(3, "; it takes 3 to turn p across 0.05."), (None, "may turn them.")])
def test_near_ties_are_counted_with_the_bound_and_what_it_takes(needed, said):
    ties = {"n": 90, "near_ties": 7, "near_tie_bound": 0.1, "flips_to_turn": needed, "dtype": "bfloat16"}
    found = caveats(ties)
    assert "On 7 of 90 samples the first token leads by less than 0.1 nats" in found
    assert "(bfloat16 was used)" in found
    assert found.endswith(said)


def test_what_an_older_release_kept_has_none():
    assert caveats({"n": 90, "near_ties": 4, "controls": {"random 1": {}}}) == ""
