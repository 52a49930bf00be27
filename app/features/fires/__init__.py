"""On the Features page: which features fire on a text that is typed."""
