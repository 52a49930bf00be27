"""Doing the batches of a job here, or on several workers through Ray, with the same numbers."""
