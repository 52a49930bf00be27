"""The Overview page: runs, jobs, starting a run."""
