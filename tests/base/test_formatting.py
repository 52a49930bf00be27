"""Numbers as people read them: the one rule of app, report, sentences and pages of results."""

import pandas as pd
import pytest

from corrsteer_core.base.formatting import missing, number, p_value, percent, points, points_alone, probability, signed

NAN = float("nan")


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (points(0.162), "+16.2 points"),
        (points(-0.0333), "\u22123.3 points"),
        (points(0.0), "±0.0 points"),
        (points(-0.0004), "±0.0 points"),
        (points_alone(-0.162), "\u221216.2"),
        (percent(0.6688), "66.9%"),
        (percent(0.6688, 0), "67%"),
        (signed(0.534), "+0.53"),
        (signed(-0.534), "\u22120.53"),
        (signed(-0.0004, 3), "±0.000"),
        (signed(12, 0), "+12"),
        (number(1.255, 1), "1.3"),
        (number(-1.25), "\u22121.25"),
        (probability(0.00099), "< 0.001"),
        (probability(0.001), "0.001"),
        (probability(0.0123), "0.012"),
        (probability(0.0994), "0.099"),
        (probability(0.0996), "0.10"),
        (probability(0.25), "0.25"),
        (probability(1.0), "1.00"),
        (p_value(0.00001), "p < 0.001"),
        (p_value(0.0123), "p = 0.012"),
        (p_value(1.0), "p = 1.00"),
        (p_value(NAN), "p –"),
    ],
)
def test_numbers_are_rounded_to_what_they_mean(shown, expected):
    assert shown == expected


@pytest.mark.parametrize("show", [percent, points, points_alone, signed, number, probability])
@pytest.mark.parametrize("value", [None, NAN, pd.NA])
def test_what_is_not_there_is_a_dash(show, value):
    assert missing(value)
    assert show(value) == "–"
