"""What the charts draw is what the frames hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from app.evaluate import rate_chart
from corrsteer_core.reporting import feature_figures, figures, palette

TRIED = pd.DataFrame(
    {
        "layer": [22, 8, 15],
        "feature": [7, 41, 3],
        "r": [0.53, 0.16, 0.3],
        "scale": [1.0, 8.0, 2.0],
        "effect": [-0.15, 0.16, 0.01],
        "p": [0.001, 0.0001, 0.8],
    }
)
FEATURES = pd.DataFrame(
    {
        "layer": [8, 8, 22],
        "feature": [1, 2, 7],
        "r": [-0.1, 0.1, 0.5],
        "coefficient": [1.0, 0.0, 4.0],
        "support": [10, 20, 30],
        "frequency": [0.1, 0.2, 0.3],
    }
)


def test_bubbles_stand_at_frequency_and_r_and_grow_with_the_coefficient():
    figure = figures.frequency_against_r(FEATURES, 0.25, (22, 7))
    bubbles, ring = figure.data
    assert list(bubbles.x) == [0.1, 0.2, 0.3]
    assert list(bubbles.y) == [-0.1, 0.1, 0.5]
    assert list(bubbles.marker.color) == [8, 8, 22]
    assert bubbles.marker.size[1] < bubbles.marker.size[0] < bubbles.marker.size[2]
    assert [list(row[:2]) for row in bubbles.customdata] == [[8, 1], [8, 2], [22, 7]]
    assert (list(ring.x), list(ring.y)) == ([0.3], [0.5])
    assert [line.y0 for line in figure.layout.shapes] == [0.25, -0.25]


def test_without_a_chance_level_no_line_is_drawn():
    assert not figures.frequency_against_r(FEATURES, None).layout.shapes


def test_bars_are_the_best_of_each_layer_and_those_within_chance_are_grey():
    best = pd.DataFrame({"layer": [8, 22], "feature": [4, 7], "r": [0.2, 0.5], "level": [0.25, 0.26]})
    bars, chance = figures.best_by_layer(best).data
    assert list(bars.x) == ["8", "22"]
    assert list(bars.y) == [0.2, 0.5]
    assert list(bars.marker.color) == [palette.QUIET, palette.UNSTEERED]
    assert list(chance.y) == [0.25, 0.26]


def test_what_hovering_says_is_rounded_as_everywhere():
    best = pd.DataFrame({"layer": [8], "feature": [4], "r": [-0.2], "level": [0.0]})
    bars, chance = figures.best_by_layer(best).data
    assert [list(row) for row in bars.customdata] == [[8, 4, "\u22120.200", "±0.000"]]
    assert list(chance.hovertext) == ["±0.000"]
    sure = figures.r_against_effect(TRIED).data[0]
    assert list(sure.customdata[0][3:]) == ["+0.530", "\u221215.0 points", "p = 0.001"]
    for figure in (figures.frequency_against_r(FEATURES, None), figures.r_against_effect(TRIED)):
        assert ":+" not in figure.data[0].hovertemplate


def test_a_layer_without_a_chance_level_counts_as_noise():
    best = pd.DataFrame({"layer": [8], "feature": [4], "r": [0.2], "level": pd.array([None], dtype="Float64")})
    assert list(figures.best_by_layer(best).data[0].marker.color) == [palette.QUIET]


@pytest.mark.parametrize(("height", "side"), [(0.06, 1), (0.04, -1)])
def test_the_name_of_a_dot_stands_where_no_other_dot_is(height, side):
    """Another dot just above (or below) the one of highest r: its name goes to the other side."""
    tried = pd.DataFrame(
        {
            "layer": [1, 2, 3, 4], "feature": [1, 2, 3, 4], "r": [0.1, 0.3, 0.29, 0.1], "scale": 1.0, "p": 1.0,
            "effect": [0.2, 0.05, height, -0.1],
        }
    )  # fmt: skip
    named = {one.text.split(":")[0]: one.ay for one in figures.r_against_effect(tried).layout.annotations}
    assert np.sign(named["highest r"]) == side
    assert named["best effect"] < 0, "above, where nothing is"


def test_effects_are_drawn_in_points_and_both_champions_are_named():
    figure = figures.r_against_effect(TRIED, (15, 3))
    sure, noise, ring = figure.data
    assert list(sure.x) == [0.53, 0.16]
    assert list(sure.y) == pytest.approx([-15, 16])
    assert list(noise.x) == [0.3]
    assert (list(ring.x), list(ring.y)) == ([0.3], pytest.approx([1.0]))
    assert {note.text for note in figure.layout.annotations} == {"highest r: layer 22 · 7", "best effect: layer 8 · 41"}


def test_predicted_and_measured_effects_are_drawn_in_points_with_a_line_where_they_are_equal():
    points = TRIED.assign(predicted=[0.02, -0.01, 0.05])
    dots, line = figures.predicted_against_measured(points).data
    np.testing.assert_allclose(dots.x, [2, -1, 5])
    np.testing.assert_allclose(dots.y, [-15, 16, 1])
    assert list(line.x) == list(line.y) == [-1, 5]


def test_a_feature_s_effects_run_along_its_scales():
    rows = pd.DataFrame(
        {
            "scale": [8.0, 1.0, 2.0],
            "steered_rate": [0.9, 0.7, 0.8],
            "unsteered_rate": 0.65,
            "positive_flips": 1,
            "negative_flips": 0,
            "p": 0.5,
            "low": [0.8, 0.6, 0.7],
            "high": [0.95, 0.8, 0.9],
            "unsteered_low": 0.5,
            "unsteered_high": 0.75,
        }
    )
    figure = feature_figures.effects_by_scale(rows)
    steered, unsteered = figure.data
    assert list(steered.x) == [0, 1, 2, 8]  # a scale: from 2 to 8 is as far as it is
    assert figure.layout.xaxis.type != "category"
    assert np.allclose(steered.error_y.array, [0.1, 0.1, 0.1, 0.05])
    assert np.allclose(steered.error_y.arrayminus, [0.15, 0.1, 0.1, 0.1])
    assert list(steered.y) == [0.65, 0.7, 0.8, 0.9]
    assert set(unsteered.y) == {0.65}
    assert (steered.line.color, unsteered.line.color) == (palette.STEERED, palette.UNSTEERED)


def test_a_small_effect_does_not_fill_the_picture():
    rows = pd.DataFrame(
        {"scale": [1.0], "steered_rate": 0.806, "unsteered_rate": 0.8, "positive_flips": 1, "negative_flips": 0,
         "p": 1.0, "low": 0.805, "high": 0.807, "unsteered_low": 0.799, "unsteered_high": 0.801}
    )  # fmt: skip
    low, high = feature_figures.effects_by_scale(rows).layout.yaxis.range
    assert high - low >= feature_figures.LEAST_RANGE
    assert low < 0.8 < high


def test_chance_is_drawn_both_ways_where_there_are_negative_features():
    features = pd.DataFrame(
        {"layer": 1, "feature": [1, 2], "r": [0.3, -0.3], "coefficient": 1.0, "support": 9, "frequency": 0.5}
    )
    lines = [one.y0 for one in figures.frequency_against_r(features, 0.2).layout.shapes]
    assert lines == [0.2, -0.2]
    assert len(figures.frequency_against_r(features[features["r"] > 0], 0.2).layout.shapes) == 1


def test_the_histogram_shows_both_groups_in_the_middle_of_their_bins():
    bins = pd.DataFrame({"start": [0.0, 1.0], "width": 1.0, "correct": [0.3, 0.1], "incorrect": [0.0, 0.2]})
    correct, incorrect = feature_figures.activation_histogram(bins).data
    assert list(correct.x) == [0.5, 1.5]
    assert list(correct.y) == [0.3, 0.1]
    assert list(incorrect.y) == [0.0, 0.2]


def test_every_rate_stands_where_its_row_says_with_its_interval():
    """Rows of one kind are one trace, and still stand from above in the order of the rows."""
    kinds = ("unsteered", "steered", "control", "steered-offset", "control")
    names = [f"{kind} {place}" for place, kind in enumerate(kinds)]
    rates = pd.DataFrame({"label": names, "kind": kinds, "rate": [0.5, 0.7, 0.4, 0.6, 0.45]})
    rates = rates.assign(low=rates["rate"] - 0.1, high=rates["rate"] + 0.2, effect=rates["rate"] - 0.5)
    figure = rate_chart.rates(rates)
    drawn = {
        name: (x, x - below, x + above)
        for trace in figure.data
        for name, x, below, above in zip(trace.y, trace.x, trace.error_x.arrayminus, trace.error_x.array, strict=True)
    }
    expected = {row.label: (row.rate, row.low, row.high) for row in rates.itertuples()}
    assert drawn == {name: pytest.approx(numbers) for name, numbers in expected.items()}
    assert (list(figure.layout.yaxis.categoryarray), figure.layout.yaxis.autorange) == (names, "reversed")


HOSTILE = "<a href='http://x'>A & B</a> %{x} &lt;"
SHOWN = "&lt;a href='http://x'&gt;A &amp; B&lt;/a&gt; %&#123;x} &amp;lt;"


def test_names_in_the_charts_of_rates_are_shown_as_they_are():
    rates = pd.DataFrame(
        [{"label": HOSTILE, "rate": 0.5, "low": 0.4, "high": 0.6, "effect": 0.0, "kind": kind} for kind in ("unsteered", "steered")]
    )  # fmt: skip
    assert {name for trace in rate_chart.rates(rates).data for name in trace.y} == {SHOWN}
    grid = rate_chart.matrix(pd.DataFrame({HOSTILE: [0.1]}, index=[HOSTILE])).data[0]
    assert (list(grid.x), list(grid.y)) == ([SHOWN], [SHOWN])
    swept = pd.DataFrame(
        [
            {"task": task, "scale": scale, "steered_rate": 0.5, "unsteered_rate": 0.4, "pareto": True}
            for task in ("a", "b")
            for scale in (1.0, 2.0)
        ]
    )
    figure = rate_chart.trade_off(swept, "a", "b", HOSTILE, HOSTILE)
    said = [figure.layout.xaxis.title.text, figure.layout.yaxis.title.text, figure.data[0].hovertemplate]
    assert not any(HOSTILE[:3] in one or "%{x} &" in one for one in said)
    assert all(SHOWN in one for one in said)
