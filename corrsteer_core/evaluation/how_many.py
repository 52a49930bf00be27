"""How many sets are drawn to compare with, unless told otherwise. Loads nothing, so that the command line can say it."""

CONTROLS = 19
"""Random sets: the fewest with which a set that beats them all has a permutation p of 0.05."""
MATCHED = 5
"""Sets chosen alike among random features; each repeats the whole choice."""
