"""Kinds of SAE that can be trained: one entry of ARCHITECTURES each. Loads no torch, so that they can be listed at once."""

from __future__ import annotations

ARCHITECTURES = {"topk": "topk", "batchtopk": "batchtopk", "matryoshka": "matryoshka_batchtopk"}
"""By SAELens' names of their trainers: k features active at every position; k on average (saved as JumpReLU, with one
threshold); and the same with nested dictionaries, each of which must do alone."""
