"""axe-core, the checker of Deque, on every page, in two widths and both themes: no serious fault."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.shared.pages import pages
from corrsteer_core.runs import feature_lists
from tests.made.browsers import a_browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.embedded,
    pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed"),
    pytest.mark.skipif(
        find_spec("axe_playwright_python") is None,
        reason="axe-core comes with axe-playwright-python (requirements-dev.txt), which is not installed",
    ),
]
PATIENCE = 120_000  # ms
SERIOUS = ("serious", "critical")
"""Moderate is only that headings leave out a level: Streamlit's subheader is one of the third, under a title of the first."""
# Streamlit's toast is an alertdialog without a name, whoever shows it; one comes up when a job of another test fails meanwhile.
ASKED = """axe.run({exclude: [["[data-testid=stToast]"]]}, {resultTypes: ["violations"]}).then(found =>
    found.violations.flatMap(one => one.nodes.map(
    node => [one.impact, one.id, node.html.slice(0, 200), node.any.concat(node.all).map(why => why.message).join("; ")])))"""


@pytest.fixture(scope="module")
def axe():
    """The checker's script."""
    return (Path(find_spec("axe_playwright_python").origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser():
    with a_browser() as opened:
        yield opened


def faults(page, axe):
    """The serious faults of what a page shows: (impact, rule, element, why)."""
    page.wait_for_selector("[data-testid=stMain] h1")
    for _ in range(3):  # a page of Streamlit is drawn in several goes
        page.wait_for_timeout(500)
        page.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')")
    page.evaluate(f"{axe}; null")
    return [one for one in page.evaluate(ASKED) if one[0] in SERIOUS]


@pytest.mark.parametrize(
    ("width", "theme"),
    [
        (900, "dark"),
        pytest.param(1440, "light", marks=pytest.mark.exhaustive),
        pytest.param(900, "light", marks=pytest.mark.exhaustive),
        pytest.param(1440, "dark", marks=pytest.mark.exhaustive),
    ],
)
def test_no_page_has_a_serious_fault(browser, first_start, demo, axe, width, theme, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(first_start.cache))
    first = feature_lists.features(demo, limit=1).iloc[0]
    links = [*(f"{name}?run={demo}" for name in pages())]
    links.append(f"features?run={demo}&layer={first['layer']}&feature={first['feature']}")
    context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=theme)
    context.set_default_timeout(PATIENCE)
    context.request.get(first_start.entrance, max_redirects=0)
    page = context.new_page()
    found = {}
    for link in links:
        page.goto(f"{first_start.url}/{link}")
        found |= {link: seen} if (seen := faults(page, axe)) else {}
        if link == f"features?run={demo}":
            page.get_by_text("Table", exact=True).click()
            found |= {f"{link}, the table": seen} if (seen := faults(page, axe)) else {}
    context.close()
    assert found == {}


def test_a_fault_is_found(browser, axe):
    page = browser.new_page()
    page.set_content(
        "<main data-testid=stMain><h1>x</h1><p style='color:#aaa;background:#fff'>faint</p><img src='x'></main>"
    )
    assert {"color-contrast", "image-alt"} <= {rule for _, rule, *_ in faults(page, axe)}
    page.close()
