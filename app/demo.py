"""The demo's work as a job: what it runs, and what it is called."""

DEMO = ("demo",)
DEMO_TITLE = "First run: find what drives sentiment in the embedded model"
