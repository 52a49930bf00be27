"""The Report page: what is shown is what is downloaded, in an address of its own."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from corrsteer_core.base.addresses import address_of
from corrsteer_core.reporting import report
from tests.app import ready_runs
from tests.made import fabricated


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))


def script() -> None:
    import streamlit as st  # this function's text is run on its own

    from app.report import page as report
    from app.shared import components
    from corrsteer_core.storage import run_folder

    st.session_state.setdefault("current_run", next(iter(run_folder.run_names()), None))
    components.page_of(report.page)()


def opened() -> AppTest:
    test = AppTest.from_function(script, default_timeout=600).run()
    assert not test.exception
    return test


def test_without_a_run_the_page_says_what_to_do():
    assert any("nothing to report yet" in one.value for one in opened().markdown)


@pytest.mark.parametrize("settings", [{}, {"constant": True, "measured": False}, {"text": fabricated.HOSTILE}])
def test_the_preview_is_the_report(settings):
    run = ready_runs.make_run(**settings)
    (frame,) = opened().get("iframe")
    head, _, body = frame.proto.src.partition(",")
    assert head == "data:text/html;base64"
    assert base64.b64decode(body).decode() == report.html(run, "light")


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("https://steer.example.org/report", "https://steer.example.org"),
        ("https://example.org/tools/report", "https://example.org/tools"),
        ("http://localhost:8501/report", "http://localhost:8501"),
    ],
)
def test_the_report_links_to_where_this_browser_finds_the_app(url, root, monkeypatch):
    import streamlit

    run = ready_runs.make_run()
    monkeypatch.setattr(streamlit, "context", SimpleNamespace(url=url, theme=SimpleNamespace(type="light")))
    (frame,) = opened().get("iframe")
    shown = base64.b64decode(frame.proto.src.partition(",")[2]).decode()
    assert shown == report.html(run, "light", address_of(root))
    assert f'href="{root}/report?run={run}"' in shown
    assert "token" not in shown.split("<h2>In the app</h2>")[1].split("</section>")[0]


def test_a_run_that_cannot_be_read_is_one_sentence():
    run = ready_runs.make_run(measured=False)
    from corrsteer_core.storage.run_folder import database_path

    database_path(run).write_bytes(b"not a database")
    test = AppTest.from_function(script, default_timeout=600).run()
    assert not test.exception
    assert len(test.error) == 1
