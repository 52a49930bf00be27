"""The app as its users see it, in a real browser, from the first start on an empty cache."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from corrsteer_core import reader

pytestmark = [
    pytest.mark.browser,
    pytest.mark.embedded,
    pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed"),
]

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120_000  # ms; the machine may be busy with the first run, or with something else
WITH_MODEL = 600_000  # ms for what waits until a model is loaded


@pytest.fixture(scope="module")
def browser():
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    yield opened
    context.close()


def settled(page):
    """Wait until Streamlit has finished drawing."""
    page.wait_for_selector("[data-testid=stAppViewContainer]")
    page.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')")
    return page


def test_the_first_page_shows_the_work_and_how_far_it_is(page, first_start):
    page.goto(first_start.url)
    page.get_by_role("heading", name="CorrSteer Explorer").or_(page.get_by_role("heading", level=1)).first.wait_for()
    text = settled(page).inner_text("body")
    assert "First run" in text or "Steered" in text or "steer" in text.lower()
    assert "Traceback" not in text


def test_from_the_headline_to_a_steered_answer(page, first_start, demo):
    page.goto(f"{first_start.url}/?run={demo}")
    page.get_by_text("Works:").first.wait_for()
    page.goto(f"{first_start.url}/features?run={demo}")
    settled(page)
    page.get_by_text("The feature of highest r").first.wait_for()  # the finding: it is not the best effect
    assert "The best effect is another's" in page.inner_text("body")
    page.goto(f"{first_start.url}/steer?run={demo}")
    page.get_by_role("button", name="Generate").wait_for()
    page.get_by_role("button", name="Generate").click()
    answered = "() => ['Unsteered', 'Steered'].every(word => document.body.innerText.includes(word))"
    page.wait_for_function(answered, timeout=WITH_MODEL)  # the model is loaded first
    page.get_by_role("button", name="Cancel").wait_for(state="detached")
    text = page.inner_text("body")
    assert "Traceback" not in text
    assert "Something went wrong" not in text


# --- moving about in the app ---------------------------------------------------------------------


def choose(page, label, option, within=None):
    """Choose an option of the select box with this label."""
    box = (within or page).get_by_role("combobox", name=label).first
    box.click()
    box.fill(option)  # a long list draws only the options in sight
    page.get_by_role("option").filter(has_text=option).first.click()
    expect(box).to_have_value(re.compile(re.escape(option)))


def fill(page, label, value, within=None):
    """Type into the field with this label and let the app have it."""
    field = (within or page).get_by_label(label, exact=True).first
    field.fill(value)
    field.press("Tab")
    return field


def pop(page, name):
    """Open a popover by its button and return what it shows."""
    page.get_by_test_id("stPopover").get_by_role("button", name=name).first.click()
    body = page.get_by_test_id("stPopoverBody")
    body.wait_for()
    return body


def open_first_row(page):
    """Open the feature in the first row of the table and return its title."""
    canvas = page.locator("[data-testid=stDataFrame] canvas").first
    canvas.wait_for()
    settled(page)
    canvas.click(position={"x": 16, "y": 52}, force=True)  # the mark before the first row; a layer lies above
    title = page.get_by_role("heading", name="· feature")
    title.first.wait_for()
    return title.first.inner_text()


def generate(page):
    """Press Generate and wait for both answers."""
    page.get_by_role("button", name="Generate").click()
    page.locator("section.cs-text.cs-steered").wait_for(timeout=WITH_MODEL)  # the model is loaded first
    page.get_by_role("button", name="Cancel").wait_for(state="detached", timeout=WITH_MODEL)
    page.locator(".cs-caret").first.wait_for(state="detached")
    return page.locator("section.cs-unsteered"), page.locator("section.cs-steered")


def healthy(page):
    """No page may apologise, show a traceback, or hold what a text brought with it."""
    text = page.inner_text("body")
    assert "Traceback" not in text
    assert "something went wrong" not in text.lower()
    return text


def command(demo_cache, *arguments):
    """What the command line prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "corrsteer_core", *arguments, "--json", "--quiet"],
        cwd=ROOT, env={**os.environ, "CORRSTEER_CACHE": str(demo_cache)}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- the three stories ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def refusals(first_start, demo):
    """A run of the built-in task of refusing, made by the command line."""
    return command(first_start.cache, "fit", "--task", "refusal", "--limit", "90")["run"]


def test_the_feature_that_goes_with_refusals_and_its_texts(page, first_start, demo, refusals):
    best = reader.features(refusals, reader.FeatureFilter(support=int(reader.facts(refusals).fit["floor"])), limit=1)
    layer, feature = int(best["layer"][0]), int(best["feature"][0])
    strongest = reader.top_texts(refusals, layer, feature, 1).iloc[0]

    page.goto(f"{first_start.url}/features?run={demo}")
    choose(page, "Run", f"refusal · {refusals.rsplit('-', 1)[-1]}", page.get_by_test_id("stSidebar"))
    page.wait_for_url(f"**run={refusals}*")
    assert open_first_row(page) == f"Layer {layer} · feature {feature}"
    assert f"layer={layer}&feature={feature}" in page.url

    first = page.locator(".cs-row").first  # comes with the model
    first.wait_for(timeout=WITH_MODEL)
    assert first.locator(".cs-number").inner_text() == f"{strongest['value']:.2f}"
    assert first.locator("span[title][style*=background]").count() > 0
    hovers = [one.get_attribute("title") for one in first.locator("span[title]").all()]
    counted = [float(hover.split(" · ")[0]) for hover in hovers if hover.endswith("· counts")]
    assert max(counted) == pytest.approx(strongest["value"], abs=0.011)
    written = "".join(first.locator("span.cs-answer").all_inner_texts())
    assert "".join(strongest["output"].split())[:20] in "".join(written.split())
    promoted = page.get_by_text("Likelier", exact=True).locator("xpath=following-sibling::div").all_inner_texts()
    assert len(promoted) >= 5
    page.get_by_role("tab", name="Middle").or_(page.get_by_role("tab", name="Upper quarter")).first.click()
    healthy(page)






# --- hostile text --------------------------------------------------------------------------------

BAIT = '<img src=x onerror="window.__pwned=1">'
HOSTILE = (
    f"{BAIT}<script>window.__pwned=1;alert(1)</script></div></style></textarea>[a](javascript:window.__pwned=1) "
    "![b](x) $\\frac{1}{0}$ :red[c] `d` \u202egnorts\u202c \u2066\u200f\x1b[31m\x07 {{ 7*7 }} <svg onload=alert(1)>"
)


@pytest.fixture
def watched(page):
    """A page of which every sign is kept that a text has done something."""
    signs = []
    page.on("dialog", lambda dialog: (signs.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: signs.append(f"error {error}"))
    page.on("request", lambda request: request.url.endswith("/x") and signs.append(f"request {request.url}"))
    yield page
    unmoved(page)
    assert signs == []


def unmoved(page):
    """Nothing that a text brought runs or stands in the page, in any frame of it."""
    healthy(page)
    for frame in page.frames:
        assert frame.evaluate("typeof window.__pwned") == "undefined"
        assert frame.locator("img[src=x], svg[onload], a[href^=javascript]").count() == 0


def test_hostile_text_on_the_pages_is_only_text(watched, first_start, demo, tmp_path):
    page = watched
    best = reader.best_effects(demo).iloc[0]
    layer, feature = int(best["layer"]), int(best["feature"])
    told = {"modelId": "m", "layer": str(layer), "index": str(feature), "description": HOSTILE}
    file = tmp_path / "told.json"
    file.write_text(json.dumps([told]))
    command(first_start.cache, "describe", demo, "--file", str(file))

    page.goto(f"{first_start.url}/features?run={demo}")  # descriptions, and a search for one
    fill(page, "Words or number", BAIT)
    page.get_by_text("1 feature, sorted").wait_for()
    open_first_row(page)
    page.get_by_text("window.__pwned=1").first.wait_for()
    unmoved(page)

    page.locator(".cs-row").first.wait_for(timeout=WITH_MODEL)  # a text of one's own
    fill(page, "Prompt", HOSTILE)
    fill(page, "Answer that follows it (may be left out)", HOSTILE)
    page.get_by_role("button", name="Read it").click()
    page.get_by_text("Your text token by token").wait_for(timeout=WITH_MODEL)
    assert "onerror" in "".join(page.locator(".cs-shaded").last.all_inner_texts()).replace("\n", "")
    unmoved(page)

    page.goto(f"{first_start.url}/steer?run={demo}")  # prompt, and name of a set
    page.get_by_text("My own", exact=True).click()
    fill(page, "Your prompt", HOSTILE)
    page.get_by_text("Length, randomness, scales").click()
    fill(page, "Longest answer, in tokens", "12")
    generate(page)
    unmoved(page)
    saving = pop(page, "Save")
    fill(page, "Name", "\u202ereversed", saving)
    saving.get_by_role("button", name="Save with the run").click()
    page.get_by_text("Give the set a name of 1 to 60 printable characters").wait_for()
    saving = page.get_by_test_id("stPopoverBody")
    saving = saving if saving.count() else pop(page, "Save")
    fill(page, "Name", BAIT, saving)
    saving.get_by_role("button", name="Save with the run").click()
    page.get_by_text("Saved with the run").wait_for()
    page.get_by_role("heading", name=f"Set: {BAIT}").wait_for()
    pop(page, "Load").get_by_role("button", name=BAIT).wait_for()
    unmoved(page)

    page.goto(f"{first_start.url}/evaluate?run={demo}")
    page.get_by_text("Measure a set").first.click()
    choose(page, "Steering set", BAIT, page.get_by_test_id("stForm"))
    unmoved(page)
    page.goto(f"{first_start.url}/report?run={demo}")
    page.frame_locator("iframe").get_by_text("window.__pwned=1").first.wait_for()


