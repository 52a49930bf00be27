"""A page of another site, in a real browser, against the app of somebody who is let in: it gets nothing."""

from __future__ import annotations

import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from app import opening
from app.guard import ELSEWHERE, NOT_LET_IN
from tests.made.browsers import a_browser, a_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.embedded,
    pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed"),
]
PATIENCE = 120_000  # ms
SOCKET = """address => new Promise(done => {
    const socket = new WebSocket(address);
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
})"""
READ = """address => fetch(address, {credentials: "include"}).then(answer => answer.text(), () => "refused")"""


class Attacker(BaseHTTPRequestHandler):
    """Every address of its server is one page, which says where it would lead to."""

    def do_GET(self):
        target = self.path.partition("?")[2]
        body = f'<h1>Elsewhere</h1><a href="{target}">go</a><iframe src="{target}"></iframe>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def elsewhere():
    """The address of a page on another site, which all names of this test's browser lead to."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Attacker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://attacker.example:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with a_browser("--host-resolver-rules=MAP attacker.example 127.0.0.1") as opened:
        yield opened


@pytest.fixture
def page(browser, first_start):
    with a_page(browser, first_start, PATIENCE) as opened:
        yield opened


def test_whoever_is_let_in_sees_the_app(page, first_start):
    page.goto(first_start.url)
    page.get_by_test_id("stSidebarNav").wait_for()


def test_the_printed_address_lets_a_browser_in_and_leaves_it(browser, first_start):
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(first_start.entrance)
    page.get_by_test_id("stSidebarNav").wait_for()
    assert "token" not in page.url
    (cookie,) = [one for one in context.cookies() if one["name"].startswith("corrsteer-")]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    context.close()


def test_the_file_that_a_browser_is_opened_with_leads_to_the_app(browser, first_start, monkeypatch, tmp_path):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    page = browser.new_context().new_page()
    monkeypatch.setattr(opening.webbrowser, "open", page.goto)
    with opening.opened(first_start.entrance):
        page.get_by_test_id("stSidebarNav").wait_for(timeout=PATIENCE)
    page.context.close()


def test_a_stranger_sees_one_sentence(browser, first_start):
    page = browser.new_context().new_page()
    page.goto(f"{first_start.url}/steer")
    assert page.inner_text("body") == NOT_LET_IN
    page.context.close()


def test_it_is_shown_in_no_other_pages_frame(page, first_start, elsewhere):
    page.goto(f"{elsewhere}/?{first_start.url}")
    (frame,) = page.main_frame.child_frames
    page.wait_for_timeout(1000)
    assert frame.url != f"{first_start.url}/"
    assert frame.locator("[data-testid=stApp]").count() == 0


def test_a_foreign_page_opens_no_socket_and_reads_nothing(page, first_start, elsewhere):
    page.goto(elsewhere)
    port = urlsplit(first_start.url).port
    for name in ("localhost", "127.0.0.1", "attacker.example"):
        assert page.evaluate(SOCKET, f"ws://{name}:{port}/_stcore/stream") == "refused"
        assert page.evaluate(READ, f"http://{name}:{port}/") == "refused"


def test_a_foreign_name_that_means_this_machine_gets_one_sentence(page, first_start):
    """DNS rebinding: page and server are one site to the browser."""
    port = urlsplit(first_start.url).port
    page.goto(f"http://attacker.example:{port}/")
    assert page.inner_text("body") == ELSEWHERE
    assert page.evaluate(SOCKET, f"ws://attacker.example:{port}/_stcore/stream") == "refused"


def test_a_link_on_another_site_opens_the_app_for_whoever_is_let_in_alone(page, browser, first_start, elsewhere):
    page.goto(f"{elsewhere}/?{first_start.url}/report")
    page.get_by_role("link", name="go").click()
    page.get_by_test_id("stSidebarNav").wait_for()
    stranger = browser.new_context().new_page()
    stranger.goto(f"{elsewhere}/?{first_start.url}/report")
    stranger.get_by_role("link", name="go").click()
    stranger.get_by_text(NOT_LET_IN).wait_for()
    stranger.context.close()
