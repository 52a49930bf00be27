"""S, A, P and V on tables and outcomes small enough to work out by hand."""

import numpy as np
import pandas as pd
import pytest

from corrsteer_core.runs import strategies
from corrsteer_core.statistics.graded import graded_change

FEATURES = pd.DataFrame(
    {
        "layer": [1, 1, 1, 2, 2, 3],
        "feature": [10, 11, 12, 20, 21, 30],
        "r": [0.5, 0.6, 0.9, 0.4, -0.8, np.nan],
        "coefficient": [2.0, 1.0, 5.0, 3.0, 4.0, 0.0],
        "support": [50, 40, 2, 30, 60, 0],
    }
)
RANKED = strategies.rankable(FEATURES, floor=10)


def named(rows):
    return [(row.layer, row.feature, row.coefficient) for row in rows]


def test_features_below_the_floor_negative_or_undefined_are_not_chosen():
    assert RANKED["feature"].tolist() == [11, 10, 20]


def test_s_is_the_highest_r_and_a_the_highest_of_each_layer():
    assert named(strategies.best_overall(RANKED)) == [(1, 11, 1.0)]
    assert named(strategies.best_per_layer(RANKED)) == [(1, 11, 1.0), (2, 20, 3.0)]
    assert named(strategies.best_per_layer(RANKED, k=2)) == [(1, 11, 1.0), (1, 10, 2.0), (2, 20, 3.0)]


def test_candidates_are_every_feature_at_every_scale():
    found = strategies.candidates(RANKED, k=1, scales=(1.0, 8.0))
    assert found[["feature", "scale"]].values.tolist() == [[11, 1.0], [11, 8.0], [20, 1.0], [20, 8.0]]


def test_candidates_hold_the_best_by_prediction_too_and_none_twice():
    predicted = pd.DataFrame({"layer": [1, 1, 2], "feature": [11, 99, 98], "r": np.nan, "coefficient": [1.0, 7.0, 8.0]})
    found = strategies.candidates(RANKED, k=1, scales=(1.0, 8.0), predicted=predicted)
    assert found[["feature", "scale"]].values.tolist() == [[11, 1], [11, 8], [20, 1], [20, 8], [98, 1], [98, 8]]
    found = strategies.candidates(RANKED, k=2, scales=(1.0,), predicted=predicted)
    assert sorted(found["feature"]) == [10, 11, 20, 98, 99]


def test_helpful_are_those_predicted_to_raise_the_rate_and_if_asked_for_those_to_subtract():
    predicted = pd.DataFrame(
        {
            "layer": 1,
            "feature": [1, 2, 3, 4],
            "predicted_effect": [0.1, -0.3, 0.2, np.nan],
            "coefficient": [1.0, 2, 3, 4],
        }
    )
    found = strategies.helpful(predicted)
    assert found[["feature", "coefficient"]].values.tolist() == [[3, 3], [1, 1]]
    found = strategies.helpful(predicted, negative=True)
    assert found[["feature", "coefficient"]].values.tolist() == [[2, -2], [3, 3], [1, 1]]


def test_within_reach_goes_by_the_largest_scale_that_may_be_tried():
    predicted = pd.DataFrame({"feature": [1, 2, 3], "predicted_effect": [0.3, 0.2, 0.1], "share": [0.5, 0.1, 0.001]})
    # 0.3 x 0.1, 0.2 x 0.5, 0.1 x 4
    assert strategies.within_reach(predicted, 4.0, 0.05)["feature"].tolist() == [3, 2, 1]


def outcomes(*columns):
    return np.array(columns, dtype=float).T


def measured():
    """20 samples, unsteered right on the first 8; 11@1 wrong on two of them, 11@8 right on 18, 20@1 on 9, 20@8 on 16."""
    before = np.r_[np.ones(8), np.zeros(12)]
    after = outcomes(
        np.r_[np.ones(6), np.zeros(14)],
        np.r_[np.ones(18), np.zeros(2)],
        np.r_[np.ones(9), np.zeros(11)],
        np.r_[np.ones(16), np.zeros(4)],
    )
    return strategies.effects(strategies.candidates(RANKED, k=1, scales=(1.0, 8.0)), before, after)


def test_effects_count_flips_and_test_them():
    found = measured()
    assert found["positive_flips"].tolist() == [0, 10, 1, 8]
    assert found["negative_flips"].tolist() == [2, 0, 0, 0]
    np.testing.assert_allclose(found["p"], [0.5, 2 / 2**10, 1.0, 2 / 2**8])
    assert found["unsteered_rate"].unique().tolist() == [0.4]
    assert found["steered_rate"].tolist() == [0.3, 0.9, 0.45, 0.8]


def test_noise_is_judged_by_the_one_sided_test_that_the_rate_rises():
    found = measured().assign(p=[0.09, 0.099, 0.09, 0.11])
    assert strategies.beyond_noise(found)[["feature", "scale"]].values.tolist() == [[11, 8.0], [20, 1.0]]


def test_graded_outcomes_are_tested_by_their_size_not_by_flips():
    """12 samples fall just below a half and 20 rise far: on average success rises, whatever sides the flips change."""
    before = np.r_[np.full(12, 0.55), np.zeros(20)]
    after = np.r_[np.full(12, 0.45), np.full(20, 0.4)]
    listed = pd.DataFrame({"layer": [1], "feature": [3], "r": [0.2], "coefficient": [1.0], "scale": [1.0]})
    found = strategies.effects(listed, before, after[:, None])
    assert found["steered_rate"][0] > found["unsteered_rate"][0]
    assert (found["positive_flips"][0], found["negative_flips"][0]) == (0, 12)
    assert found["p"][0] == pytest.approx(graded_change(before, after, seed=0).p)
    assert len(strategies.beyond_noise(found)) == 1
    assert strategies.seen_by_p(found)["noise"].tolist() == [False]
    falls = strategies.effects(listed, after, before[:, None])
    assert falls["p"][0] < 0.05
    assert strategies.seen_by_p(falls)[["kept", "noise"]].values.tolist() == [[False, False]], "what harms is no noise"
    assert strategies.beyond_noise(falls).empty


def bits(column):
    return np.packbits(column.astype(np.uint8)).tobytes().hex()


def kept(before, *columns):
    """Effects of so many candidates with the outcomes that they are kept with."""
    listed = pd.DataFrame({"layer": 1, "feature": range(len(columns)), "r": 0.2, "coefficient": 1.0, "scale": 1.0})
    found = strategies.effects(listed, before, outcomes(*columns))
    return found.assign(outcomes=[bits(one) for one in columns], unsteered_outcomes=bits(before))


def test_the_threshold_is_corrected_for_the_number_of_tries():
    """Six of 40 put right and none wrong is p = 1/64 alone, and not enough for the best of 60 candidates."""
    rng = np.random.default_rng(4)
    before = np.r_[np.ones(20), np.zeros(20)]
    six = np.where(np.arange(40) < 26, 1.0, 0.0)
    sixteen = np.where(np.arange(40) < 36, 1.0, 0.0)
    others = [np.where(rng.random(40) < 0.3, 1 - before, before) for _ in range(60)]
    assert strategies.beyond_luck(kept(before, six))["feature"].tolist() == [0]
    among = kept(before, six, *others)
    assert 0 in strategies.beyond_noise(among)["feature"].tolist()
    assert 0 not in strategies.beyond_luck(among)["feature"].tolist()
    assert strategies.beyond_luck(kept(before, sixteen, *others))["feature"].tolist() == [0]
    many = kept(before, *[six] * 50)
    assert len(strategies.beyond_luck(many)) == 50, "copies of one candidate are one try"


def test_where_no_outcomes_are_kept_the_threshold_is_divided_by_the_number_of_tries():
    found = measured().assign(p=[0.9, 0.024, 0.9, 0.026])  # p / 2 below 0.05 / 4
    assert strategies.beyond_luck(found)["feature"].tolist() == [11]


def test_of_predictions_the_part_that_the_objective_rewards_decides():
    predicted = pd.DataFrame(
        {"layer": 1, "feature": [1, 2, 3], "predicted_effect": [0.3, 0.1, 0.2], "tilt": [0.01, 0.4, -0.1],
         "coefficient": 1.0, "share": 0.01, "r": 0.1}
    )  # fmt: skip
    by_effect = strategies.within_reach(strategies.helpful(predicted), 4.0)
    by_tilt = strategies.within_reach(strategies.helpful(predicted, by="tilt"), 4.0, by="tilt")
    assert by_effect["feature"].tolist() == [1, 3, 2]
    assert by_tilt["feature"].tolist() == [2, 1]


def test_what_is_within_noise_or_harmful_is_dropped():
    assert strategies.beyond_noise(measured())[["feature", "scale"]].values.tolist() == [[11, 8.0], [20, 8.0]]


def test_v_starts_from_the_best_and_keeps_a_layer_only_if_it_helps_by_more_than_noise():
    alone = np.r_[np.ones(13), np.zeros(7)]
    found = measured()

    def grown(with_both):
        def measure(groups):
            assert [named(group) for group in groups] == [[(1, 11, 8.0)], [(1, 11, 8.0), (2, 20, 24.0)]]
            return outcomes(alone, with_both)

        return named(strategies.grown(found, measure))

    both = [(1, 11, 8.0), (2, 20, 24.0)]
    assert grown(np.r_[np.ones(18), np.zeros(2)]) == both  # 5 won, none lost: p = 1/32
    assert grown(np.r_[np.ones(17), np.zeros(3)]) == both[:1]  # 4 won: p = 1/16
    assert grown(np.r_[np.zeros(2), np.ones(18)]) == both[:1]  # 7 won, 2 lost: p = 0.09


def test_v_of_noise_is_empty():
    found = measured().assign(p=0.2)
    assert strategies.grown(found, lambda groups: 1 / 0) == []


def test_p_keeps_the_layers_that_help_alone_and_says_what_could_be_noise():
    alone = strategies.candidates(RANKED, k=1, scales=(1.0,))
    before = np.array([1.0, 0.0, 0.0, 0.0])
    found = strategies.effects(alone, before, outcomes([1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]))
    assert named(strategies.pruned(found)) == [(2, 20, 3.0)]
    seen = strategies.seen_by_p(found)
    assert seen[["layer", "kept", "noise"]].values.tolist() == [[1, False, True], [2, True, True]]


def test_candidates_longer_than_a_share_of_what_they_are_added_to_are_tried_at_that_share():
    listed = strategies.candidates(RANKED, k=1, scales=(1.0, 2.0, 4.0, 8.0))
    shares = [0.005, 0.01, 0.02, 0.04, 0.0371, 0.0742, 0.1484, 0.2968]
    found = strategies.between_lengths(listed.assign(share=shares), 0.06, 0.01)
    # Feature 20: 0.06 / 0.0371 = 1.617, so scales 2, 4 and 8 all become 1.6.
    assert found[["feature", "scale"]].values.tolist() == [[11, 2.0], [11, 4.0], [11, 8.0], [20, 1.0], [20, 1.6]]
    np.testing.assert_allclose(found["share"], [0.01, 0.02, 0.04, 0.0371, 0.0371 * 1.6])


def test_a_feature_whose_vectors_are_all_short_is_tried_at_its_longest():
    listed = strategies.candidates(RANKED, k=1, scales=(1.0, 2.0))
    found = strategies.between_lengths(listed.assign(share=[0.001, 0.002, 0.02, 0.04]), 0.05, 0.025)
    assert found[["feature", "scale"]].values.tolist() == [[11, 2.0], [20, 2.0]]


def test_scales_are_rounded_down_to_two_digits():
    listed = strategies.candidates(RANKED, k=1, scales=(1.0,))
    found = strategies.between_lengths(listed.assign(share=[0.06 / 0.02999, 0.06 / 0.5]), 0.06, 0.0)
    assert found["scale"].tolist() == [0.029, 0.5]


def test_negative_features_are_ranked_by_size_and_subtracted():
    found = strategies.rankable(FEATURES, floor=10, negative=True)
    assert found["feature"].tolist() == [21, 11, 10, 20]
    assert named(strategies.best_per_layer(found)) == [(1, 11, 1.0), (2, 21, -4.0)]


def test_another_ranking_chooses_by_its_score_among_features_of_positive_r():
    scored = FEATURES.assign(score=[3.0, 1.0, 9.0, 2.0, 8.0, 7.0])
    found = strategies.rankable(scored, floor=10)
    assert found["feature"].tolist() == [10, 20, 11]
    assert named(strategies.best_overall(found)) == [(1, 10, 2.0)]


def test_what_fires_in_failures_alone_is_nothing_to_subtract():
    """Its coefficient, the mean over the right answers, is 0: as a set it would do nothing and be measured as if it did."""
    features = pd.DataFrame(
        {"layer": 1, "feature": [3, 4], "r": [-0.6, -0.3], "coefficient": [0.0, 2.0], "support": [20, 20]}
    )
    found = strategies.rankable(features, 5, negative=True)
    assert found["feature"].tolist() == [4]
    assert found["coefficient"].tolist() == [-2.0]
