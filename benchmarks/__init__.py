"""Measurements of the tool itself: what the pages in docs/ state is written by these."""
