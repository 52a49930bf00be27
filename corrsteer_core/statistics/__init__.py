"""Numbers from numbers: rates, correlation, chance, tests. Knows nothing of models, runs or files. Loads no torch."""
