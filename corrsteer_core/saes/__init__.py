"""Sparse autoencoders: where they come from, whether they belong to a model, and how they are trained."""
