"""What the numbers say: sentences, verdicts, pictures and the report. Loads no torch."""
