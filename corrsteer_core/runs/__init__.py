"""What a run is and what its DuckDB file holds: values, writing, reading. Loads no torch."""
