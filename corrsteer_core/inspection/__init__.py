"""One feature, one text, one token looked at closely."""
