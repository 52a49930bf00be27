"""What steering does, measured: the same samples unsteered and steered, beside controls."""
