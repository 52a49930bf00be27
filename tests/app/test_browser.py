"""The app as its users see it, in a real browser, from the first start on an empty cache."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect

from app.demo import DEMO_TITLE
from corrsteer_core.base import formatting, jobs
from corrsteer_core.reporting import verdict
from corrsteer_core.runs import feature_facts, feature_lists, measurements, run_facts, stored_run
from corrsteer_core.runs.steering_set import SteeringRow
from corrsteer_core.storage import run_folder
from tests.made.browsers import a_browser, a_page, visitor
from tests.made.first_start import presented

pytestmark = [
    pytest.mark.browser,
    pytest.mark.embedded,
    pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed"),
]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120_000  # ms; the machine may be busy with the first run, or with something else
WITH_MODEL = 600_000  # ms for what waits until a model is loaded


@pytest.fixture(scope="module")
def browser():
    expect.set_options(timeout=PATIENCE)
    with a_browser() as opened:
        yield opened


@pytest.fixture
def page(browser, first_start):
    with a_page(browser, first_start, PATIENCE) as opened:
        yield opened


def settled(page):
    """Wait until Streamlit has finished drawing."""
    page.wait_for_selector("[data-testid=stAppViewContainer]")
    page.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')")
    return page


def test_the_first_page_shows_the_work_and_how_far_it_is(page, first_start):
    page.goto(first_start.url)
    page.get_by_role("heading", name="CorrSteer Explorer").or_(page.get_by_role("heading", level=1)).first.wait_for()
    hero = page.get_by_text(re.compile("Set .* unseen samples"))  # when the work was done before this test began
    for shown in (page.get_by_text(DEMO_TITLE), page.get_by_text(re.compile(r"\d+% · "))):
        expect(shown.or_(hero).first).to_be_visible()
    assert "Traceback" not in settled(page).inner_text("body")


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


def rarely_set(page):
    """Open the fields of a new run that are folded."""
    page.get_by_text("Rarely set").click()
    page.get_by_label("Layers", exact=True).wait_for()


def pop(page, name):
    """Open a popover by its button and return what it shows."""
    page.get_by_test_id("stPopoverBody").wait_for(
        state="detached"
    )  # one that is closing takes what is put into it along
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


def at_rest(target):
    """Wait until it stands still: a fold that opens above moves it, and a press that it moves away under is none."""
    target.wait_for()
    before, now = None, target.bounding_box()
    while before != now:
        target.page.wait_for_timeout(300)
        before, now = now, target.bounding_box()
    return target


def generate(page):
    """Press Generate and wait for both answers."""
    at_rest(page.get_by_role("button", name="Generate")).click()
    return answers(page)


def answers(page):
    """The unsteered and the steered answer, waited for; not those of a chat that were replied to."""
    unsteered, steered = (page.locator(f"section.cs-{side}:not(.cs-chat section)") for side in ("unsteered", "steered"))
    steered.wait_for(timeout=WITH_MODEL)  # the model is loaded first
    page.get_by_role("button", name="Cancel").wait_for(state="detached", timeout=WITH_MODEL)
    page.locator(".cs-caret").first.wait_for(state="detached")
    return unsteered, steered


def healthy(page):
    """No page may apologise, show a traceback, hold what a text brought with it, or leave a screen reader without words."""
    text = page.inner_text("body")
    assert "Traceback" not in text
    assert "something went wrong" not in text.lower()
    assert unspoken(page) == []
    return text


CONTROLS = {
    "button", "link", "textbox", "combobox", "checkbox", "radio", "slider", "spinbutton", "switch", "tab", "figure", "Iframe",
}  # fmt: skip


def unspoken(page):
    """Controls and pictures that the browser tells a screen reader nothing of, or an icon's name, or markup."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node["name"]["value"].strip())
        for node in nodes
        if node.get("name") and not node["ignored"]
    ]
    assert sum(role in CONTROLS for role, _ in named) > 5
    return [
        (role, name)
        for role, name in named
        if role in CONTROLS and (not name or name.endswith(" icon") or "**" in name)
    ]


def command(demo_cache, *arguments):
    """What the command line prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "corrsteer_core", *arguments, "--json", "--quiet"],
        cwd=ROOT, env={**os.environ, "CORRSTEER_CACHE": str(demo_cache)}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- three walks, each in under ten clicks -------------------------------------------------------


class Walk:
    """A way through the app by mouse and keyboard alone, whose clicks are counted."""

    def __init__(self, page):
        self.page = page
        self.clicks = 0

    def click(self, target):
        target.click()
        self.clicks += 1

    def write(self, field, words):
        """Click into a field and type, in place of what was there."""
        self.click(field)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(words)


def first_page(page, app):
    """Open the app and wait until it tells of its first run."""
    page.goto(app.entrance)
    page.get_by_text(re.compile("Set .* unseen samples")).first.wait_for()
    page.get_by_text(re.compile("(Works|No better than controls|Inconclusive|Not shown): success")).first.wait_for()
    return Walk(page)


def test_a_stranger_has_his_own_words_answered_with_steering(page, first_start, demo):
    walk = first_page(page, first_start)
    walk.click(page.get_by_role("link", name="Open Steer"))
    walk.click(page.get_by_text("My own", exact=True))
    walk.write(page.get_by_label("Your prompt"), "My holiday by the sea was")
    walk.click(page.get_by_role("button", name="Generate"))
    for answer in answers(page):
        assert answer.locator(".cs-body").inner_text().strip() not in ("", "(nothing visible)")
    expect(page.get_by_label("Your prompt")).to_have_value("My holiday by the sea was")
    assert "Something has changed since these answers" not in healthy(page)  # they are to these words
    assert walk.clicks < 10


def test_an_engineer_changes_a_set_and_finds_it_again_after_a_reload_and_in_another_browser(
    browser, page, first_start, demo
):
    walk = first_page(page, first_start)
    walk.click(page.get_by_role("link", name="Open Steer"))
    scale = page.get_by_role("spinbutton", name="Global scale")
    page.set_viewport_size({"width": 1280, "height": 420})  # the scale stays in sight beside the last of the features
    page.get_by_role("spinbutton", name="Coefficient of").last.scroll_into_view_if_needed()
    expect(scale).to_be_in_viewport()
    page.set_viewport_size({"width": 1280, "height": 900})
    walk.write(scale, "3")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="(edited)").wait_for()
    prompt = page.locator(".cs-prompt")
    first = prompt.inner_text()
    walk.click(page.get_by_role("button", name="Another sample, at random"))
    expect(prompt).not_to_have_text(first)
    walk.click(page.get_by_role("button", name="Generate"))
    answers(page)
    title, asked = page.get_by_role("heading", name="(edited)").inner_text(), prompt.inner_text()
    texts = page.locator(".cs-body").all_inner_texts()
    page.reload()
    page.get_by_role("heading", name=title).wait_for()
    expect(scale).to_have_value("3.00")
    expect(prompt).to_have_text(asked)
    answers(page)
    assert page.locator(".cs-body").all_inner_texts() == texts
    walk.click(page.get_by_role("button", name="Undo the last change"))
    expect(scale).to_have_value("1.00")
    walk.click(page.get_by_role("button", name="Redo what was undone last"))
    expect(scale).to_have_value("3.00")
    walk.click(page.get_by_test_id("stPopover").get_by_role("button", name="Save"))
    link = page.get_by_test_id("stPopoverBody").get_by_test_id("stCode").inner_text().strip()
    assert walk.clicks < 10
    assert link.startswith(f"{first_start.url}/steer?run={demo}&page=")
    healthy(page)

    other = visitor(browser, first_start).new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(link)
    other.get_by_role("heading", name=title).wait_for()
    expect(other.get_by_role("spinbutton", name="Global scale")).to_have_value("3.00")
    expect(other.locator(".cs-prompt")).to_have_text(asked)
    strengths = [
        [one.input_value() for one in each.get_by_role("spinbutton", name="Coefficient of").all()]
        for each in (page, other)
    ]
    assert strengths[0] == strengths[1] != []
    healthy(other)
    other.context.close()


@pytest.fixture
def presentation(browser, first_start, demo):
    """A visitor's page of an app that shows the first start's runs read-only, and that app."""
    with presented(first_start) as app, a_page(browser, app, PATIENCE) as opened:
        yield opened, app


def test_a_presenter_steers_votes_blind_and_shows_the_report_and_nothing_is_kept(presentation, demo):
    page, app = presentation
    before = {path: path.stat().st_mtime_ns for path in (app.cache / "runs" / demo).rglob("*")}
    walk = first_page(page, app)
    sidebar = page.get_by_test_id("stSidebar")
    sidebar.get_by_text("Read-only").wait_for()
    assert not page.get_by_role("button", name="Start a run").count()
    walk.click(page.get_by_role("link", name="Open Steer"))
    walk.click(page.get_by_role("button", name="Generate"))
    answers(page)
    assert not page.get_by_role("button", name="Save").count()
    walk.click(sidebar.get_by_role("link", name="Blind test"))
    for given in range(2):
        walk.click(page.get_by_role("button", name="Left is better"))
        page.get_by_text(re.compile(f"^{given + 1} of .* with a vote")).wait_for()
    walk.click(page.get_by_role("button", name="Show which was which"))
    page.get_by_role("heading", name="Which was which").wait_for()
    expect(page.get_by_text(re.compile("teered · your choice"))).to_have_count(2)
    healthy(page)
    walk.click(sidebar.get_by_role("link", name="Report"))
    page.frame_locator("iframe").get_by_role("heading").first.wait_for()
    healthy(page)
    assert walk.clicks < 10
    assert before
    assert {path: path.stat().st_mtime_ns for path in (app.cache / "runs" / demo).rglob("*")} == before


# --- the three stories ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def refusals(first_start, demo):
    """A run of the built-in task of refusing, made by the command line."""
    return command(first_start.cache, "fit", "--task", "refusal", "--limit", "48")["run"]


def test_the_feature_that_goes_with_refusals_and_its_texts(page, first_start, demo, refusals):
    best = feature_lists.features(
        refusals, feature_lists.FeatureFilter(support=int(run_facts.facts(refusals).fit["floor"])), limit=1
    )
    layer, feature = int(best["layer"][0]), int(best["feature"][0])
    strongest = feature_facts.top_texts(refusals, layer, feature, 1).iloc[0]

    page.goto(f"{first_start.url}/features?run={refusals}")
    assert open_first_row(page) == f"Layer {layer} · feature {feature}"
    assert f"layer={layer}&feature={feature}" in page.url

    first = page.locator(".cs-row").first  # comes with the model
    first.wait_for(timeout=WITH_MODEL)
    assert first.locator(".cs-number").inner_text() == f"{strongest['value']:.2f}"
    assert first.locator("span[title][style*=background]").count() > 0
    hovers = [one.get_attribute("title") for one in first.locator("span[title]").all()]
    counted = [float(hover.split(" · ")[0]) for hover in hovers if hover.endswith("· counts")]
    # Read again one text at a time, in bfloat16 a number moves by its last bits (3 digits).
    assert max(counted) == pytest.approx(strongest["value"], rel=0.02, abs=0.011)
    written = "".join(first.locator("span.cs-answer").all_inner_texts())
    assert "".join(strongest["output"].split())[:20] in "".join(written.split())
    promoted = page.get_by_text("Likelier", exact=True).locator("xpath=following-sibling::div").all_inner_texts()
    assert len(promoted) >= 5
    page.get_by_role("tab", name="Middle").or_(page.get_by_role("tab", name="Upper quarter")).first.click()
    healthy(page)

    page.get_by_role("button", name="All features").press("Enter")  # and so without a mouse
    page.get_by_role("heading", name="· feature").first.wait_for(state="detached")
    page.locator("[data-testid=stDataFrame] canvas").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+Space")
    page.get_by_role("heading", name="· feature").first.wait_for()
    healthy(page)


def test_a_set_built_from_nothing_and_found_again_by_its_link(browser, page, first_start, demo):
    best = feature_lists.best_effects(demo).iloc[0]
    layer, feature = int(best["layer"]), int(best["feature"])
    page.goto(f"{first_start.url}/steer?run={demo}")
    pop(page, "Load").get_by_role("button", name="An empty set").click()
    page.get_by_text("The set is empty.").wait_for()
    adding = pop(page, "Add")
    adding.get_by_text("By number", exact=True).click()
    choose(page, "Layer", str(layer), adding)
    fill(page, "Feature number", str(feature), adding)
    adding.get_by_role("button", name="Add to the set").click()
    strength = page.get_by_role("spinbutton", name=f"Coefficient of feature {feature} of layer {layer}")
    strength.wait_for()
    times = 6 * float(best["scale"])  # far more than V may try: the answer is sure to change
    strong = f"{times * float(best['coefficient']):.2f}"
    strength.fill(strong)
    strength.press("Enter")
    page.get_by_text(f"Now {times:.1f} times its usual coefficient").wait_for()
    expect(page.get_by_role("spinbutton", name="Global scale")).to_have_value("1.00")

    page.get_by_text("My own", exact=True).click()
    fill(page, "Your prompt", "The film was so long that")
    page.get_by_text("Length, randomness, scales").click()
    fill(page, "Tokens at most", "24")
    unsteered, steered = generate(page)
    assert unsteered.locator(".cs-body").inner_text() != steered.locator(".cs-body").inner_text()
    assert unsteered.locator("del.cs-only-unsteered").count()
    assert steered.locator("ins.cs-only-steered").count()

    saving = pop(page, "Save")
    fill(page, "Name", "strong by hand", saving)
    saving.get_by_role("button", name="Save with the run").click()
    page.get_by_text("Saved with the run").wait_for()
    page.wait_for_url("**set=strong*")
    healthy(page)

    other = visitor(browser, first_start).new_page()  # another person, who got the link
    other.set_default_timeout(PATIENCE)
    other.goto(page.url)
    other.get_by_role("heading", name="Set: strong by hand").wait_for()
    again = other.get_by_role("spinbutton", name=f"Coefficient of feature {feature} of layer {layer}")
    again.wait_for()
    expect(again).to_have_value(strong)
    expect(other.get_by_role("spinbutton", name="Global scale")).to_have_value("1.00")
    assert other.get_by_role("spinbutton", name="Coefficient of feature").count() == 1
    healthy(other)
    other.context.close()


def test_what_stands_in_the_box_is_answered_at_the_first_click_and_by_keys_and_a_reload_loses_nothing(
    page, first_start, demo
):
    page.goto(f"{first_start.url}/steer?run={demo}")
    page.get_by_text("My own", exact=True).click()
    page.get_by_text("Length, randomness, scales").click()
    fill(page, "Tokens at most", "6")
    box = page.get_by_label("Your prompt")
    box.fill("The film was so long that")  # and not left
    unsteered, _ = generate(page)
    assert unsteered.locator(".cs-body").inner_text().strip()
    before = unsteered.locator(".cs-body").inner_text()
    box.fill("Good morning, said the")
    box.press("Control+Enter")
    expect(unsteered.locator(".cs-body")).not_to_have_text(before, timeout=WITH_MODEL)
    page.get_by_role("button", name="Cancel").wait_for(state="detached", timeout=WITH_MODEL)
    page.locator(".cs-caret").first.wait_for(state="detached")
    texts = page.locator(".cs-body").all_inner_texts()
    page.reload()
    expect(page.get_by_label("Your prompt")).to_have_value("Good morning, said the")
    page.locator("section.cs-text.cs-steered").wait_for()
    assert page.locator(".cs-body").all_inner_texts() == texts
    healthy(page)


def test_back_leads_from_feature_to_feature(page, first_start, demo):
    first = feature_lists.best_effects(demo)[["layer", "feature"]].to_numpy()[0]
    page.goto(f"{first_start.url}/features?run={demo}&layer={first[0]}&feature={first[1]}")
    page.get_by_role("heading", name=f"Layer {first[0]} · feature {first[1]}").wait_for()
    page.get_by_role("button", name="All features").click()
    page.get_by_text("Table", exact=True).click()
    other = open_first_row(settled(page))
    page.go_back()
    page.get_by_role("heading", name="· feature").first.wait_for(state="detached")
    page.go_forward()
    page.get_by_role("heading", name=other).wait_for()
    assert "does not exist" not in page.inner_text("body")
    healthy(page)


def test_two_chats_go_on_side_by_side_and_a_reload_keeps_both(page, first_start, demo):
    page.goto(f"{first_start.url}/steer?run={demo}")
    page.get_by_text("My own", exact=True).click()
    fill(page, "Your prompt", "Name a colour.")
    page.get_by_text("Ask as in a chat").click()
    page.get_by_text("Length, randomness, scales").click()
    fill(page, "Tokens at most", "8")
    first = [one.locator(".cs-body").inner_text() for one in generate(page)]
    page.get_by_role("button", name="Reply to both").click()
    page.locator(".cs-chat").wait_for()
    assert page.locator(".cs-chat .cs-said").all_inner_texts() == ["You: Name a colour."]
    assert page.locator(".cs-chat .cs-body").all_inner_texts() == first
    left, right = (one.bounding_box() for one in page.locator(".cs-chat section").all())
    assert (left["y"], left["x"] + left["width"] < right["x"]) == (right["y"], True)
    expect(page.locator("section.cs-text:not(.cs-chat section)")).to_have_count(0)
    expect(page.get_by_label("Your next message, to both")).to_have_value("")
    fill(page, "Your next message, to both", "And another.")
    second = [one.locator(".cs-body").inner_text() for one in generate(page)]
    page.reload()
    expect(page.get_by_label("Your next message, to both")).to_have_value("And another.")
    again = [one.locator(".cs-body").inner_text() for one in answers(page)]
    assert page.locator(".cs-chat .cs-body").all_inner_texts() == first
    assert again == second
    healthy(page)
    page.get_by_role("button", name="Start over").click()
    page.locator(".cs-chat").wait_for(state="detached")
    healthy(page)


def test_a_set_is_measured_and_the_report_opens_offline(browser, page, first_start, demo, tmp_path):
    best = feature_lists.best_effects(demo).iloc[0]
    config, _ = stored_run.stored(demo)
    row = SteeringRow(int(best["layer"]), int(best["feature"]), 6 * float(best["coefficient"]))
    stored_run.keep_set(demo, replace(stored_run.empty_set_of(demo, config), rows=(row,), name="to be measured"))

    page.goto(f"{first_start.url}/evaluate?run={demo}")
    page.get_by_text("Measure a set").first.click()
    choose(page, "Steering set", "to be measured")
    fill(page, "Most samples", "8")
    fill(page, "Random sets to compare with", "1")
    at_rest(page.get_by_role("button", name="Measure", exact=True).first).click()
    page.get_by_role("heading", name="to be measured on tone").wait_for(timeout=WITH_MODEL)
    shown = measurements.evaluations(demo)
    summary = shown[shown["name"] == "to be measured"].iloc[0]["summary"]
    assert summary["n"] == 8
    assert verdict.verdict(summary).sentence[:40] in healthy(page)

    page.get_by_test_id("stSidebar").get_by_role("link", name="Report").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the report").click()
    file = tmp_path / "report.html"
    download.value.save_as(file)
    healthy(page)

    context = browser.new_context(viewport={"width": 1280, "height": 800})
    asked_for = []
    context.on("request", lambda request: asked_for.append(request.url))
    context.route(re.compile("^(?!file:)"), lambda route: route.abort())
    context.set_offline(True)
    report = context.new_page()
    report.goto(file.as_uri())
    row = report.locator("tr").filter(has_text="to be measured").filter(has_text="8 test samples").inner_text()
    for rate in (summary["unsteered_rate"], summary["steered_rate"]):
        assert formatting.percent(rate) in row
    assert asked_for == [file.as_uri()]  # not one thing beside the file itself
    context.close()


# --- hostile text --------------------------------------------------------------------------------

BAIT = '<img src=x onerror="window.__pwned=1">'
HOSTILE = (
    f"{BAIT}<script>window.__pwned=1;alert(1)</script></div></style></textarea>[a](javascript:window.__pwned=1) "
    "![b](x) $\\frac{1}{0}$ :red[c] `d` \u202egnorts\u202c \u2066\u200f\x1b[31m\x07 {{ 7*7 }} <svg onload=alert(1)> "
    "HTTPS://x.evil/y www.x.evil x@x.evil"
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
        assert frame.locator("img[src=x], svg[onload], a[href^=javascript], a[href*='x.evil' i]").count() == 0


def finished(page, title, before):
    """Wait until the job of this title has ended well; `before` are the ids of jobs that others began."""
    for _ in range(WITH_MODEL // 500):
        found = [job for job in jobs.jobs() if job.title.endswith(title) and job.id not in before]
        assert not [job.error for job in found if job.state == "failed"]
        if any(job.state == "finished" for job in found):
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"the job {title!r} did not end")


def test_hostile_files_are_read_as_text_or_refused(watched, first_start, demo, tmp_path):
    page = watched
    config, _ = stored_run.stored(demo)
    best = feature_lists.best_effects(demo).iloc[0]
    row = SteeringRow(int(best["layer"]), int(best["feature"]), float(best["coefficient"]), note=HOSTILE)
    steering = replace(stored_run.empty_set_of(demo, config), rows=(row,), name=HOSTILE, task=HOSTILE)
    page.goto(f"{first_start.url}/steer?run={demo}")
    loading = pop(page, "Load")
    loading.locator("input[type=file]").set_input_files(
        {"name": f"{BAIT}.json".replace("/", ""), "mimeType": "application/json", "buffer": steering.to_json().encode()}
    )
    page.get_by_text("Loaded <img").wait_for()
    unmoved(page)
    page.get_by_text("gnorts").first.wait_for()  # the note of the row
    loading = pop(page, "Load")
    loading.locator("input[type=file]").set_input_files(
        {"name": f"{BAIT} 2.json", "mimeType": "application/json", "buffer": b'{"format": "\\u202e<script>"}'}
    )
    page.get_by_test_id("stAlert").filter(has_text="onerror").filter(has_text="The file").wait_for()
    unmoved(page)

    lines = [{"prompt": f"Say yes. {number} {HOSTILE}", "target": f"yes {HOSTILE}"} for number in range(30)]
    page.goto(f"{first_start.url}/?run={demo}")
    page.get_by_role("button", name="Start a run").click()
    page.get_by_text("My own file", exact=True).click()
    page.locator("input[type=file]").set_input_files(
        {
            "name": f"..{BAIT}\u202e.jsonl",
            "mimeType": "application/json",
            "buffer": "\n".join(map(json.dumps, lines)).encode(),
        }
    )
    page.get_by_text("30 samples").first.wait_for()
    unmoved(page)
    choose(page, "What counts as success", "The target is in the answer")
    rarely_set(page)
    fill(page, "Layers", str(config.saes[0].layer))
    fill(page, "Longest answer (tokens)", "4")
    page.get_by_text("will read them, with its chat template").wait_for(timeout=WITH_MODEL)
    unmoved(page)
    before, jobs_before = set(run_folder.run_names()), {job.id for job in jobs.jobs()}
    at_rest(page.get_by_role("button", name="Start", exact=True)).click()
    finished(page, "collect and rank", jobs_before)
    made = set(run_folder.run_names()) - before
    assert len(made) == 1, page.inner_text("body")
    unmoved(page)
    run = made.pop()
    for name in ("", "features", "steer", "evaluate", "report"):
        page.goto(f"{first_start.url}/{name}?run={run}")
        page.get_by_role("heading", level=1).first.wait_for()
        settled(page)
        if name == "steer":
            page.locator(".cs-prompt").get_by_text("gnorts").wait_for()
        unmoved(page)


def test_hostile_text_typed_into_every_box_is_only_text(watched, first_start, demo):
    page = watched
    best = feature_lists.best_effects(demo).iloc[0]
    layer, feature = int(best["layer"]), int(best["feature"])

    page.goto(f"{first_start.url}/features?run={demo}")  # descriptions by upload, and a search for one
    page.get_by_text("Table", exact=True).click()
    page.get_by_text("Descriptions from Neuronpedia").click()
    shown = {"modelId": "m", "layer": str(layer), "index": str(feature), "description": HOSTILE}
    file = {"name": f"{BAIT}.json", "mimeType": "application/json", "buffer": json.dumps([shown]).encode()}
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Import").click()
    page.get_by_text("Described now by this file: 1 feature").wait_for()
    fill(page, "Words or number", BAIT)
    page.get_by_text("1 feature, sorted").wait_for()
    unmoved(page)

    page.goto(f"{first_start.url}/features?run={demo}&layer={layer}&feature={feature}")
    page.get_by_text("window.__pwned=1").first.wait_for()
    page.locator(".cs-row").first.wait_for(timeout=WITH_MODEL)  # a text of one's own
    fill(page, "Prompt", HOSTILE)
    fill(page, "Answer that follows it (may be left out)", HOSTILE)
    page.get_by_role("button", name="Read it").click()
    page.get_by_text("Your text token by token").wait_for(timeout=WITH_MODEL)
    assert "onerror" in "".join(page.locator(".cs-shaded").last.all_inner_texts()).replace("\n", "")
    unmoved(page)

    page.goto(f"{first_start.url}/steer?run={demo}")  # prompt, name of a set, link
    page.get_by_text("My own", exact=True).click()
    fill(page, "Your prompt", HOSTILE)
    page.get_by_text("Length, randomness, scales").click()
    fill(page, "Tokens at most", "12")
    generate(page)
    unmoved(page)
    fill(pop(page, "Save"), "Name", BAIT)
    page.get_by_test_id("stPopoverBody").get_by_role("button", name="Save with the run").click()
    page.get_by_text("Saved with the run").wait_for()
    page.get_by_role("heading", name=f"Set: {BAIT}").wait_for()
    unmoved(page)
    page.goto(f"{first_start.url}/steer?run={demo}&page={BAIT}&set={BAIT}")
    page.get_by_test_id("stAlert").filter(has_text="The link is damaged").wait_for()
    unmoved(page)
    page.goto(f"{first_start.url}/features?run={BAIT}&layer={BAIT}&feature={BAIT}")
    page.get_by_test_id("stAlert").filter(has_text="There is no readable run named").wait_for()
    unmoved(page)

    page.goto(f"{first_start.url}/start?run={demo}")  # everything a run is started with
    rarely_set(page)
    for label in ("Model", "Feature dictionaries (SAEs)", "Layers", "System prompt"):
        fill(page, label, BAIT)
    at_rest(page.get_by_role("button", name="Start", exact=True)).click()
    page.get_by_test_id("stAlert").filter(has_text="onerror").filter(has_text="Layers").wait_for()
    unmoved(page)
    fill(page, "Layers", "")
    at_rest(page.get_by_role("button", name="Start", exact=True)).click()
    page.get_by_test_id("stVerticalBlock").filter(has_text="collect and rank").last.get_by_text("onerror").wait_for()
    page.get_by_test_id("stToast").filter(has_text="onerror").wait_for()
    unmoved(page)

    page.goto(f"{first_start.url}/report?run={demo}")
    page.frame_locator("iframe").get_by_text("window.__pwned=1").first.wait_for()
