"""How answers are scored: parsers of answers, the scorers made of them, and judges that are models."""
