"""A run's DuckDB file: where it lies, its tables, one writer and any number of readers. Loads no torch."""
