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
    with_sentences = {**study, "ranking": "said", "beyond_chance": True}
    with_sentences["sets"] = [{**one, "verdict": "said", "kind": "works"} for one in study["sets"]]
    assert results._numbers(with_sentences) == study


def test_the_words_are_those_of_today(monkeypatch):
    monkeypatch.setattr(results, "verdict", lambda one: results.Finding(True, f"New: {one['set']}."))
    text = results.page({"sentiment": KEPT["sentiment"]})
    sets = {one["set"]: one for one in KEPT["sentiment"]["sets"] if one["features"]}
    assert all(f"- **{name}**: New: {name}." in text for name in sets)
    shown = next(sets[name] for name in ("V", "A", "P", "S") if name in sets)
    effect = f"{100 * shown['effect']:+.1f}".replace("-", "\u2212")
    assert shown["p"] < 0.001
    assert f"| {shown['set']}: {effect}, p < 0.001 | new |" in text


def test_a_task_with_nothing_to_find_has_a_row_and_no_empty_table():
    study = {**KEPT["sentiment"], "sets": [], "chance": None, "baseline": None}
    study["fit"] = {**study["fit"], "constant": True, "success_rate": 0.0}
    study["splits"] = [{**one, "success_rate": 0.25} for one in study["splits"]]
    text = results.page({"sentiment": study})
    assert "| [sentiment](#sentiment) | 280 | 25.0% | none | | none: the outcome never changes |" in text
    assert "| set | features |" not in text
    assert "the outcome never changes (the success rate on the training samples is 0%)" in text


def test_numbers_are_kept_a_task_a_line():
    text = results.by_line(KEPT)
    assert json.loads(text) == KEPT
    assert text.count("\n") == len(KEPT) + 2
