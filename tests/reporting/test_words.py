"""One name for each thing: the table of terms, and the other names that no page, command, report or document may use."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from corrsteer_core.reporting.glossary import GLOSSARY
from tests.made.places import ROOT

INSTEAD = {
    "Activation": r"firing strength|pooled value",
    "Coefficient": r"usual strength|multipliers?\b|\balpha\b",
    "Constant per class": r"\boffsets?\b|bias per class",
    "Controls": r"sign flipped|unigram|random baselines?|placebo",
    "Correlation (r)": r"corr score|correlation score",
    "Effect": r"uplift|treatment effect",
    "Feature": r"\blatents?\b|\bneurons?\b|dictionary elements?",
    "Fluency": r"perplexity",
    "Held back": r"held[- ]out|kept aside",
    "Rival": r"\bcompetitors?\b|\bopponents?\b",
    "Run": r"\bexperiments?\b",
    "Sample": r"\bitems?\b|data ?points?|test cases?",
    "Scale": r"\bstrengths\b|steering strength|global scale factor",
    "Shifted samples": r"out[- ]of[- ]distribution|\bOOD\b",
    "Steering": r"inner workings|hidden states?|internal activations",
    "Steering set": r"feature set|\brecipes?\b|\bbundles?\b",
    "Success rate": r"\baccurac(y|ies)\b|hit rate",
}
"""By the term of the glossary: names that readers might find for it elsewhere, or that the code has or had for it."""
INTERNAL = r"\bexams?\b|\bshelf\b|\btray\b|playground|\bwaypoints?\b|\bstints?\b"
"""What is called so in the code alone."""
OF_OTHERS = {
    ("docs/benchmarks.md", "Sample"), ("docs/exports.md", "Scale"), ("docs/schema.md", "Sample"),
    ("docs/schema.md", "Constant per class"), ("corrsteer_core/reporting/rate_rows.py", "Controls"),
}  # fmt: skip
"""Pages that speak of other programs, or name what is stored: what these are called is not ours to choose any more."""
CODE = ("app", "corrsteer_core/cli", "corrsteer_core/reporting")
STYLE = re.compile(r"[{;]\s*[a-z-]+\s*:|</?\w+|\.cs-|searchParams")
"""Of CSS, HTML and scripts."""


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a module that may be read by somebody: sentences and labels, no docstrings, no names in code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = {
        id(one.value)
        for node in ast.walk(tree)
        for one in (node.body if isinstance(getattr(node, "body", None), list) else ())
        if isinstance(one, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            silent |= {id(one) for one in node.values}
            found = "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            found = node.value
        else:
            continue
        if (" " in found or found[:1].isupper()) and not STYLE.search(found):
            yield node.lineno, re.sub(r"`[^`]*`|'[^']*--[^']*'", "", found)


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a page without what is typed, and without addresses."""
    text = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), path.read_text(encoding="utf-8"), flags=re.S)
    text = re.sub(r"`[^`\n]*`", "", text)
    yield from enumerate(re.sub(r"\]\([^)\n]*\)", "]", text).splitlines(), 1)


@functools.cache
def read() -> list[tuple[str, int, str]]:
    """Everything that is read, with the place where it stands."""
    return list(_read())


def _read() -> Iterator[tuple[str, int, str]]:
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from ((str(path.relative_to(ROOT)), line, text) for line, text in texts_of(path))
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        yield from ((str(path.relative_to(ROOT)), line, text) for line, text in prose_of(path))
    page = "corrsteer_core/reporting/report.html"
    yield from ((page, line, text) for line, text in prose_of(ROOT / page))


@pytest.mark.parametrize("term", INSTEAD)
def test_a_thing_has_one_name(term):
    found = [
        f"{place}:{line}: {hit[0]!r}, which is called {term!r}"
        for place, line, text in read()
        if (place, term) not in OF_OTHERS
        for hit in re.finditer(INSTEAD[term], text, re.IGNORECASE)
    ]
    assert found == []


def test_no_reader_meets_a_name_of_the_code():
    assert [(place, line, hit[0]) for place, line, text in read() if (hit := re.search(INTERNAL, text, re.I))] == []


def test_what_is_read_is_found():
    """The search above sees labels, sentences put together of parts, help of commands, and pages; and no code."""
    every = read()
    texts = " ".join(text for _, _, text in every)
    for said in (
        "Could it be luck?",
        "which samples to measure on",
        "Correlation within the class",
        "Download the set",
    ):
        assert said in texts
    assert {place.split("/")[0] for place, _, _ in every} == {"app", "corrsteer_core", "docs", "README.md"}
    assert "font-weight" not in texts


def test_the_table_has_every_term_once_in_order():
    labels = [point.label for point in GLOSSARY]
    assert labels == sorted(set(labels), key=str.lower)
    assert set(INSTEAD) <= set(labels)


def test_the_page_of_terms_is_the_table():
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", (ROOT / "docs" / "terms.md").read_text(encoding="utf-8"), re.M)
    assert rows == [(point.label, point.text) for point in GLOSSARY]
