"""Colours of marks, one meaning each, on every page; they hold on a light and on a dark ground."""

STEERED = "#d9730d"
UNSTEERED = "#4f7cac"
LABEL = "#a84e06"
"""Behind white words: 5.6 to 1."""
QUIET = "#8a8f98"
CORRECT = "#3f8f8b"
INCORRECT = "#b0879b"
SEQUENCE = ((0.0, "#4a74b8"), (0.5, "#9a9a8c"), (1.0, "#e8c53a"))
"""Blue to yellow like cividis, without its dark end, which a dark page would swallow."""
DIVERGING = ((0.0, UNSTEERED), (0.5, "#d8d8d4"), (1.0, STEERED))
