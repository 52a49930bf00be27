"""From which scale on a text differs, in words; and which scales are tried."""

import pytest

from corrsteer_core.inspection.scale_strip import differing, scales_of


@pytest.mark.parametrize(
    ("own", "scales"),
    [
        (1.0, (-1, 0.5, 1, 2, 4)),
        (3.0, (-3, 1.5, 3, 6, 12)),
        (-2.0, (-8, -4, -2, -1, 2)),
        (0.0, (-1, 0.5, 1, 2, 4)),
    ],
)
def test_the_scales_are_multiples_of_the_sets_own(own, scales):
    assert scales_of(own) == scales


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({2, 4}, "The text differs from scale 2 on; at scales 0.5 and 1 it is the unsteered one."),
        ({4}, "The text differs from scale 4 on; at scales 0.5, 1 and 2 it is the unsteered one."),
        ({0.5, 1, 2, 4}, "The text differs from scale 0.5 on, the weakest that was tried."),
        (set(), "At none of the scales up to 4 does the text differ."),
        ({0.5, 4}, "The text differs from scale 4 on, and at scale 0.5; at scales 1 and 2 it is the unsteered one."),
        ({1, 2}, "The text differs only at scales 1 and 2."),
        ({2}, "The text differs only at scale 2."),
    ],
)
def test_where_the_text_differs_is_said_for_each_direction(other, said):
    texts = {scale: "b" if scale in other else "a" for scale in (4.0, 0.0, 0.5, 1.0, 2.0)}
    assert differing("a", texts) == said
    assert differing("a", {**texts, -1.0: "b"}) == f"{said} At scale −1 it is another text."
    assert differing("a", {**texts, -1.0: "a"}) == f"{said} At scale −1 it is the unsteered text."


def test_downwards_the_scale_nearest_to_0_is_the_weakest():
    texts = {-1.0: "a", -2.0: "b", -4.0: "b"}
    assert differing("a", texts) == "The text differs from scale −2 on; at scale −1 it is the unsteered one."
