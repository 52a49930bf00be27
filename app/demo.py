"""The demo's work as a job: what it runs, and what it is called."""

DEMO = ("demo",)
DEMO_TITLE = "First run: find the feature behind a positive tone in the embedded model"
