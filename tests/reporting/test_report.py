"""The report: the reader's own numbers, nothing that loads or runs, and honest words where there is little to say."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from corrsteer_core.base.addresses import address_of
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli.main import main
from corrsteer_core.reporting import (
    pictures,
    prior_words,
    report,
    report_contents,
    rival_groups,
    tournament_words,
    verdict,
)
from corrsteer_core.runs import feature_lists, measurements, run_facts
from corrsteer_core.storage import writing
from tests.made import fabricated

VOID = {"meta", "br", "link", "img", "input"}


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))


def page_of(**settings) -> Page:
    return Page(report.html(fabricated.make_run(**settings)))


# --- numbers -------------------------------------------------------------------------------------


def test_the_numbers_are_the_readers():
    run = fabricated.make_run()
    page = Page(report.html(run))
    summary = measurements.evaluations(run)["summary"][0]
    found = verdict.verdict(summary)
    assert found.kind == "works"
    assert found.sentence.removeprefix("Works: ").split(" ", 1)[1] in page.text
    assert f"{100 * summary['unsteered_rate']:.1f}%" in page.text
    assert f"{100 * summary['steered_rate']:.1f}%" in page.text
    assert "+10 / −1" in page.text
    assert "p = 0.012" in page.text
    for split in run_facts.facts(run).splits.itertuples():
        assert f"{split.samples} {100 * split.success_rate:.1f}%" in page.text
    for row in feature_lists.best_by_layer(run).itertuples():
        others = f"{row.coefficient:.2f} {row.support} {100 * row.frequency_correct:.1f}%"
        assert f"{row.layer} {row.feature} {row.r:+.3f} {row.level:+.3f} {others}" in page.text
    best = feature_lists.best_effects(run).iloc[0]
    assert f"layer {int(best['layer'])} · {int(best['feature'])} {best['r']:+.2f}" in page.text
    for control in summary["controls"].values():
        assert f"{100 * control['steered_rate']:.1f}%" in page.text


def test_examples_are_the_first_of_each_kind_and_counted():
    run = fabricated.make_run()
    samples = measurements.with_flips(measurements.evaluated_samples(run, "V", "sentiment", "test", 1.0))
    page = Page(report.html(run))
    won = samples[samples["flip"] == "won"]
    assert len(won) > report_contents.EXAMPLES
    assert f"( {report_contents.EXAMPLES} of {len(won)} )".replace("( ", "(").replace(" )", ")") in page.text
    numbers = [re.search(r"number (\d+)", prompt)[1] for prompt in won["prompt"]]
    shown = [number for number in numbers if re.search(rf"\b{number}\.", page.text)]
    assert shown[: report_contents.EXAMPLES] == numbers[: report_contents.EXAMPLES]
    assert page.text.count("Right answer: Positive") >= report_contents.EXAMPLES


def placed(svg: str, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """Where the marks of an axis are, and what they say."""
    marks = re.findall(r'<text class="tick" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]+)</text>', svg)
    kind = {"x": "middle", "y": "end"}[axis]
    at = [(float(x if axis == "x" else y), label) for x, y, anchor, label in marks if anchor == kind]
    values = [float(label.rstrip("%").replace("−", "-")) for _, label in at]
    return np.array([place for place, _ in at]), np.array(values)


def test_marks_of_the_rates_stand_where_the_axis_says():
    rows = pd.DataFrame(
        {
            "label": ["unsteered", "V", "random 1"],
            "kind": ["unsteered", "steered", "control"],
            "rate": [0.61, 0.78, 0.5],
            "low": [0.52, 0.7, 0.4],
            "high": [0.7, 0.86, 0.6],
            "effect": [0, 0.17, -0.11],
        }
    )
    svg = pictures.rates(rows)
    slope, start = np.polyfit(*placed(svg, "x"), 1)
    bars = re.findall(r'<g class="mark \w+"><line x1="([\d.]+)" x2="([\d.]+)"', svg)
    assert [[slope * float(x) + start for x in bar] for bar in bars] == pytest.approx(
        np.array(rows[["low", "high"]]) * 100, abs=0.1
    )
    (circle,) = re.findall(r'<circle class="point" cx="([\d.]+)"', svg)
    assert slope * float(circle) + start == pytest.approx(78, abs=0.1)


def test_dots_stand_at_their_r_and_effect():
    run = fabricated.make_run()
    best = feature_lists.best_effects(run)
    svg = pictures.r_and_effect(best)
    (across, x0), (up, y0) = (
        np.polyfit(*placed(svg, "x"), 1),
        np.polyfit(placed(svg, "y")[0] - 4, placed(svg, "y")[1], 1),
    )
    dots = re.findall(r'<circle class="dot (\w+)" cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert len(dots) == len(best)
    for (kind, x, y), row in zip(dots, best.itertuples(), strict=True):
        assert across * float(x) + x0 == pytest.approx(row.r, abs=0.003)
        assert up * float(y) + y0 == pytest.approx(100 * row.effect, abs=0.3)
        assert (kind == "steered") == (row.p < 0.05 and row.effect > 0)


def test_bars_reach_their_r_and_lines_their_chance_level():
    run = fabricated.make_run()
    best = feature_lists.best_by_layer(run)
    svg = pictures.best_by_layer(best)
    at, values = placed(svg, "y")
    up, y0 = np.polyfit(at - 4, values, 1)
    bars = re.findall(r'<rect class="bar \w+" x="[\d.]+" y="([\d.]+)"', svg)
    lines = re.findall(r'<line class="chance" [^>]*y1="([\d.]+)"', svg)
    assert [up * float(y) + y0 for y in bars] == pytest.approx(best["r"].tolist(), abs=0.005)
    assert [up * float(y) + y0 for y in lines] == pytest.approx(best["level"].tolist(), abs=0.005)


# --- what it says where there is little ----------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words", "without"),
    [
        ({"noise": True, "seed": 1}, ["Not shown", "This ranking is no better than chance"], ["Works"]),
        (
            {"constant": True, "measured": False},
            ["Nothing to find", "outcome never changes", "No set of features has been measured"],
            ["Won:", "Works"],
        ),
        ({"measured": False}, ["Not measured", "whether steering helps here is not known", "No set has been chosen"], ["Won:"]),
        ({"measured": False, "fitted": False}, ["have not been ranked yet"], ["Won:", "highest r,"]),
        ({"measured": False, "fitted": False, "collected": 0.4}, ["Not finished", "112 of 280 samples"], ["Won:"]),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said(settings, words, without):
    text = page_of(**settings).text
    for word in words:
        assert word in text, word
    for word in without:
        assert word not in text, word


def test_limits_name_what_was_not_done():
    text = page_of().text
    assert "Not measured on other tasks" in text
    assert "Nothing measured" not in text
    assert "Nothing measured" in page_of(measured=False, run="sentiment-0fab1e01").text


def change(run: str, **values: object) -> None:
    """Overwrite columns of the run's one evaluation."""
    with writing.Writer(run) as writer:
        rows = writer.query("SELECT * FROM evaluations").drop(columns="run")
        writer.replace("evaluations", rows.assign(**values))


def test_a_tournament_has_its_picture_its_numbers_and_what_was_left_out():
    run = fabricated.make_run()
    summary = measurements.evaluations(run)["summary"][0]
    assert tournament_words.TITLE not in Page(report.html(run)).text
    rival = {
        "rival": "prompt: <i>my</i> text", "kind": "prompt", "n": 60, "rate": 0.45, "rate_interval": [0.4, 0.5],
        "effect": -0.2, "difference": 0.35, "positive_flips": 22, "negative_flips": 1, "p": 0.001, "p_corrected": 0.002,
    }  # fmt: skip
    left_out = {"rival": "constrained decoding", "why": "Answers to <x> cannot be held."}
    change(run, summary=json.dumps({**summary, "tournament": [rival], "left_out": [left_out]}))
    page = report.html(run)
    text = Page(page).text
    assert tournament_words.TITLE in text
    assert "The set is the best of 2 contenders; next is the prompt “<i>my</i> text” with 45.0%" in text
    assert "prompt: <i>my</i> text 45.0% −20.0 points +22 / −1 p = 0.002" in text
    assert "Not measured: constrained decoding. Answers to <x> cannot be held." in text
    assert "<i>my" not in page


def test_a_control_that_was_left_out_is_no_rival():
    run = fabricated.make_run()
    summary = measurements.evaluations(run)["summary"][0]
    change(run, summary=json.dumps({**summary, "left_out": [{"rival": "sign flipped", "why": "It <i>clamps</i>."}]}))
    page = report.html(run)
    before, _, after = Page(page).text.partition("Not measured: sign turned round. It <i>clamps</i>.")
    assert "Success rates, and what they are compared with" in before
    assert "Correlation against what steering does" in after
    assert tournament_words.TITLE not in before + after
    assert "<i>clamps" not in page


def test_a_set_without_controls_or_measured_where_it_was_chosen_is_called_so():
    run = fabricated.make_run()
    summary = measurements.evaluations(run)["summary"][0]
    change(run, split="validation", summary=json.dumps({**summary, "controls": {}, "split": "validation"}))
    text = Page(report.html(run)).text
    assert "not compared with random features" in text
    assert "helped to choose the features" in text
    assert "held-back" not in text.split("What was asked")[0]


@pytest.mark.parametrize(
    ("test", "named"),
    [
        (None, "exact McNemar test"),
        ("mcnemar", "exact McNemar test"),
        ("clusters", "sign-flip test of clusters"),
        ("sign flip", "sign-flip test"),
    ],
)
def test_p_is_named_by_the_test_that_it_comes_from(test, named):
    assert rival_groups.test_name({} if test is None else {"test": test}) == named
    assert f">{rival_groups.test_name({})}<" in report.html(fabricated.make_run())


def test_undefined_numbers_are_dashes():
    run = fabricated.make_run()
    summary = {
        **measurements.evaluations(run)["summary"][0],
        "ser": None,
        "fluency": {"unsteered": None, "steered": None},
    }
    change(run, summary=json.dumps(summary))
    text = Page(report.html(run)).text
    assert "nan" not in text.lower().split()
    assert "None" not in text.replace("None.", "")
    assert "was not measured" in text


# --- a file that does nothing --------------------------------------------------------------------


def assert_harmless(html: str, links: Sequence[str] = ()) -> Page:
    """That a report loads, runs and sends nothing; `links` are the only ones that lead out of it."""
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "img", "base", "form", "input", "use", "image"}
    assert tags & {"svg", "table", "dl"}
    assert [attributes["href"] for tag, attributes in page.elements if tag == "a"] == list(links)
    for tag, attributes in page.elements:
        names = set(attributes)
        assert not {name for name in names if name.startswith("on")} | names & {"src", "style", "xlink:href", "action"}
        assert tag == "a" or "href" not in names
        assert tag != "meta" or attributes.get("http-equiv") in (None, "Content-Security-Policy")
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    return page


def test_nothing_is_loaded_and_the_policy_allows_nothing_but_its_own_style():
    html = report.html(fabricated.make_run())
    page = assert_harmless(html)
    assert "http:" not in html
    assert "https:" not in html
    (policy,) = [a["content"] for tag, a in page.elements if tag == "meta" and a.get("http-equiv")]
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_hostile_text_everywhere_is_only_text():
    run = fabricated.make_run(text=fabricated.HOSTILE)
    body = {**json.loads(measurements.sets(run)["body"][0]), "name": fabricated.HOSTILE}
    with writing.Writer(run) as writer:
        config = run_facts.facts(run).config | {
            "task": "mine" + fabricated.HOSTILE,
            "scorer": "x",
            "data": "/a/<b>.csv",
            "columns": [["prompt", fabricated.HOSTILE]],
        }
        config["model"] = config["saes"][0]["source"] = fabricated.HOSTILE
        config["style"]["system"] = '"><script>1</script>'
        writer.replace(
            "runs", pd.DataFrame([{"created": fabricated.NOW, "config": json.dumps(config), "batch_size": 1}])
        )
        sets = pd.DataFrame([{"name": fabricated.HOSTILE, "strategy": "hand", "created": fabricated.NOW}])
        writer.replace("sets", sets.assign(body=json.dumps(body)))
    change(run, name=fabricated.HOSTILE, task="other" + fabricated.HOSTILE)
    html = report.html(run)
    page = assert_harmless(html)
    assert "<script>alert" in page.text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00-\x08\x0b-\x1f\x7f]", html)
    assert "⟨U+202E⟩" in page.text


def test_a_file_with_names_of_its_own_is_named_with_its_columns():
    run = fabricated.make_run()
    columns = [["prompt", "my question"], ["split", ""]]
    with writing.Writer(run) as store:
        config = json.loads(store.query("SELECT config FROM runs")["config"][0])
        changed = {"task": "custom-mine", "scorer": "exact", "data": "/a/mine.csv", "columns": columns}
        store.query("UPDATE runs SET config = $new", {"new": json.dumps({**config, **changed})})
    body = report.html(run)
    assert "Samples from mine.csv" in body
    assert "Of its columns: prompt from \u201cmy question\u201d." in body


def test_two_reports_of_one_run_are_the_same():
    run = fabricated.make_run()
    assert report.html(run) == report.html(run)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_theme_can_be_asked_for(theme):
    assert f'<html lang="en" data-theme="{theme}">' in report.html(fabricated.make_run(), theme)


# --- the way to the app --------------------------------------------------------------------------


def squares(svg: str) -> list[list[int]]:
    """The dark modules of a QR code that is drawn as lines of width 1, its margin included."""
    size = int(re.search(r'viewBox="0 0 (\d+) \1"', svg)[1])
    assert f'<path fill="#fff" d="M0 0h{size}v{size}h-{size}z"/>' in svg
    drawn, x, y = [[0] * size for _ in range(size)], 0.0, 0.0
    for kind, numbers in re.findall(r"([Mmh])([-\d. ]+)", re.search(r'stroke="#000" d="([^"]*)"', svg)[1]):
        one, *other = map(float, numbers.split())
        if kind == "h":
            for step in range(int(one)):
                drawn[int(y)][int(x) + step] = 1
            x += one
        else:
            x, y = (one, other[0]) if kind == "M" else (x + one, y + other[0])
    return drawn


@pytest.mark.parametrize("given", ["https://steer.example.org/lab", "http://192.168.1.4:8501"])
def test_an_address_that_others_reach_is_a_link_and_its_qr_code(given):
    import segno

    run = fabricated.make_run()
    html = report.html(run, address=address_of(f"{given}?token=SECRET"))
    link = f"{given}/report?run={run}"
    page = assert_harmless(html, links=[link])
    assert link in page.text
    assert "SECRET" not in html
    assert "token=" not in html
    (code,) = re.findall(r'<figure class="code">(<svg .*?</svg>)</figure>', html)
    made = segno.make_qr(link, error="m")
    expected = [[int(bool(module)) for module in row] for row in made.matrix_iter(border=4)]
    assert squares(code) == expected
    assert 0.2 < sum(map(sum, expected)) / len(expected) ** 2 < 0.8
    assert "for those whom" in page.text
    assert ("within the network" in page.text) == ("192.168" in given)


def test_an_address_of_this_computer_is_said_to_be_one_and_has_no_qr_code():
    run = fabricated.make_run()
    html = report.html(run, address=address_of("http://localhost:8501/?token=SECRET"))
    page = assert_harmless(html, links=[f"http://localhost:8501/report?run={run}"])
    assert "This address works only on the computer that the app runs on" in page.text
    assert 'class="code"' not in html
    assert "SECRET" not in html


def test_without_an_address_there_is_no_way_to_the_app():
    page = Page(report.html(fabricated.make_run()))
    assert "In the app" not in page.text


def test_the_command_takes_the_address_and_refuses_what_is_none(tmp_path, capsys):
    run = fabricated.make_run()
    out = tmp_path / "report.html"
    given = "https://steer.example.org/?token=SECRET"
    assert main(["report", run, "--out", str(out), "--address", given, "--quiet"]) == 0
    assert out.read_text(encoding="utf-8") == report.html(run, address=address_of(given))
    for wrong in ("javascript:alert(1)", 'https://x.org/"><script>', "https://ada:secret@x.org"):
        with pytest.raises(SystemExit):
            main(["report", run, "--out", str(tmp_path / "x.html"), "--address", wrong])
        assert "is no address of the app" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


# --- the command ---------------------------------------------------------------------------------


def test_the_command_writes_the_file_and_does_not_replace_one(tmp_path, capsys):
    run = fabricated.make_run()
    out = tmp_path / "deep" / "report.html"
    assert main(["report", run, "--out", str(out), "--quiet"]) == 0
    assert out.read_text(encoding="utf-8") == report.html(run)
    assert main(["report", run, "--out", str(out), "--quiet"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["report", run, "--out", str(out), "--quiet", "--force"]) == 0
    assert main(["report", run, "--out", str(tmp_path / "x.pdf"), "--quiet"]) == 1
    assert main(["report", "nothing-00000000", "--out", str(tmp_path / "y.html"), "--quiet"]) == 1
    assert not (tmp_path / "y.html").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    run = fabricated.make_run()
    (tmp_path / "file").write_text("")
    with pytest.raises(CorrSteerError, match="could not be written"):
        report.write(run, tmp_path / "file" / "report.html")


def test_a_changed_prior_is_said_with_its_numbers_and_tables():
    html = report.html(fabricated.make_run(classes=True))
    page = assert_harmless(html)
    words = prior_words.prior_words({"n": 60, **fabricated.OF_CLASSES})
    for part in (
        prior_words.TITLE,
        prior_words.EXPLAINED,
        prior_words.DIAMONDS,
        words.sentence,
        words.remark,
        "Shifts the answers",
    ):
        assert part in page.text, part
    for figure in words.figures:
        assert f"{figure.label} {figure.value} {figure.note}" in page.text
    for table in (words.classes, *words.confusion):
        for row in (table.heads, *table.rows):
            assert " ".join(row) in page.text
    assert 'class="headline shifts"' in html
    assert prior_words.TITLE not in report.html(fabricated.make_run())


def test_shifted_samples_are_not_called_used_to_choose():
    run = fabricated.make_run()
    summary = measurements.evaluations(run)["summary"][0]
    change(run, split="shifted", summary=json.dumps({**summary, "split": "shifted"}))
    text = Page(report.html(run)).text
    assert "made otherwise than those of the run" in text
    assert "helped to" not in text
