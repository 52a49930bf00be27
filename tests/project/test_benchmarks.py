"""The benchmark runs, in sizes that mean nothing, and its page says what the table says."""

import json
import shutil

import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks.child import by_products
from benchmarks.measure import Row, child, interleaved, ratios
from benchmarks.page import line, written
from corrsteer_core.correlation.per_feature import correlate
from tests.made.arrays import sparse


def test_a_group_of_rows_is_measured_in_quick_sizes(tmp_path, capsys):
    page = tmp_path / "benchmarks.md"
    assert bench.main(["--quick", "--out", str(page), "--only", "fit"]) == 0
    text = page.read_text()
    assert "fit from a cache" in text
    assert "nan" not in text


@pytest.mark.exhaustive
def test_every_row_without_a_browser_is_measured_in_quick_sizes(tmp_path, capsys):
    page = tmp_path / "benchmarks.md"
    groups = [name for name in bench.ROWS if name not in ("pages", "clicks")]
    assert bench.main(["--quick", "--out", str(page), "--only", *groups]) == 0
    text = page.read_text()
    for words in (
        "collection, 1-token task", "wide SAEs on every layer", "encoding at every step", "steered generation",
        "sweep of 8 scales", "V's candidates (192)", "side by side", "fit from a cache", "steps", "samples",
    ):  # fmt: skip
        assert words in text, words
    assert "nan" not in text
    assert "tokens equal in 8 of 8" in text
    if "**no**" in text:
        assert "## Goals that are missed" in text


@pytest.mark.exhaustive
@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_the_rows_about_pages_are_measured(tmp_path):
    page = tmp_path / "benchmarks.md"
    assert bench.main(["--quick", "--out", str(page), "--only", "pages", "clicks"]) == 0
    assert "first page" in page.read_text()
    assert "a click on a page's name" in page.read_text()
    assert "Features on 128 rows" in page.read_text()


@pytest.mark.parametrize("arguments", [["--quick"], ["--only", "fit"]])
def test_a_part_of_the_numbers_never_takes_the_place_of_the_docs(arguments, capsys):
    with pytest.raises(SystemExit):
        bench.main(arguments)
    assert f"{arguments[0]} needs --out" in capsys.readouterr().err


def test_what_is_compared_takes_turns_after_a_round_that_is_not_counted():
    calls = []
    seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3
    assert [len(of) for of in seconds.values()] == [2, 2]


def test_a_ratio_is_the_median_over_repeats_with_its_spread():
    assert ratios([2.0, 6.0, 5.0], [1.0, 2.0, 1.0], factor=2) == (6.0, (4.0, 10.0))


def test_the_page_says_by_how_much_a_goal_is_missed_and_what_the_time_goes_to():
    slow = Row("row", "rival", 1.5, (1.4, 1.6), 1.0, costs="addmm 80%")
    quick = Row("other", "rival", 12.0, (11.0, 13.0), 10.0, higher_is_better=True)
    text = written([slow, quick], "make bench", (0.5, 0.7), 3)
    assert line(slow) == "| row | rival | 1.50 (1.40 to 1.60) | at most 1.00 | **no** |  |"
    assert line(quick) in text
    assert "- **row**, against rival: 1.50 where 1.00 is asked, 50% off. The time goes to: addmm 80%." in text
    assert text.count("- **") == 1


def test_the_dense_rival_computes_what_the_fit_computes():
    Z = sparse(40, 12, seed=3)
    y = np.random.default_rng(0).integers(0, 2, 40).astype(float)
    np.testing.assert_allclose(by_products(Z.toarray(), y, 5, 0), correlate(Z, y).r, atol=1e-12)


def test_a_child_reports_its_own_peak_memory():
    assert json.loads(json.dumps(child("idle")))["peak"] < 400 * 2**20
