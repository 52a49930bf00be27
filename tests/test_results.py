"""docs/results.md says what docs/results.json holds, in the words of today."""

import json

from benchmarks import results

KEPT = json.loads(results.KEPT.read_text(encoding="utf-8"))


def test_the_page_is_what_is_written_from_the_numbers():
    assert results.page(KEPT) == results.PAGE.read_text(encoding="utf-8"), (
        "run python -m benchmarks.results --write-only"
    )


def test_numbers_are_kept_without_the_sentences_made_of_them():
    study = KEPT["sentiment"]
    told = {**study, "ranking": "said", "beyond_chance": True}
    told["sets"] = [{**one, "verdict": "said", "kind": "works"} for one in study["sets"]]
    assert results._numbers(told) == study


def test_the_words_are_those_of_today(monkeypatch):
    monkeypatch.setattr(results, "verdict", lambda one: results.Finding(True, f"New: {one['set']}."))
    text = results.page({"sentiment": KEPT["sentiment"]})
    assert "- **V**: New: V." in text
    assert "| V: +11.8, p < 0.001 | new |" in text
