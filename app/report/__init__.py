"""The Report page: a run as one file to hand out."""
