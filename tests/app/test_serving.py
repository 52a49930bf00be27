"""Where the app listens and who may come in: on this machine with a token, elsewhere by signing in, or on demand."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import __main__ as start
from app import login, main, opening, server, serving
from app.guard import Guard
from app.shared import components
from corrsteer_core.base.errors import CorrSteerError
from tests.made import fabricated
from tests.made.places import ROOT

ACCOUNT = """
[auth]
redirect_uri = "https://app.example.org/oauth2callback"
cookie_secret = "s"
client_id = "i"
client_secret = "c"
server_metadata_url = "https://accounts.example.org/.well-known/openid-configuration"
[corrsteer]
people = ["Ada@example.org", " grace@example.org "]
"""


@pytest.fixture
def secrets(tmp_path, monkeypatch):
    """Writes the file that sets sign-in up; the package it takes is there."""
    path = tmp_path / "secrets.toml"
    monkeypatch.setattr(serving, "SECRETS", (tmp_path / "none.toml", path))
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: name)
    return path.write_text


def test_by_default_it_is_this_machine_alone():
    how = serving.serving("localhost", login=False, i_know=False)
    assert (how.address, how.names, how.login) == ("localhost", ("localhost", "127.0.0.1"), False)
    assert how.visited(8501, "T") == "http://localhost:8501/?token=T"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_elsewhere_it_listens_only_to_people_who_sign_in_unless_told(address, secrets):
    with pytest.raises(CorrSteerError, match="--login .* or add --i-know"):
        serving.serving(address, login=False, i_know=False)
    with pytest.raises(CorrSteerError, match="Nobody could sign in"):
        serving.serving(address, login=True, i_know=True)
    assert serving.serving(address, login=False, i_know=True).names == ("*",)


def test_the_command_refuses_in_one_sentence_and_starts_nothing(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "app", "--address", "0.0.0.0", "--no-browser"],
        cwd=ROOT, env={**os.environ, "CORRSTEER_CACHE": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: On 0.0.0.0 other machines could reach the app")
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_people_sign_in_where_that_is_set_up(secrets):
    secrets(ACCOUNT)
    how = serving.serving("0.0.0.0", login=True, i_know=False)
    assert how.login
    assert how.names == ("localhost", "127.0.0.1", "app.example.org")
    assert how.visited(8501, "T") == "https://app.example.org"
    assert how.inside(8501) == "http://localhost:8501"
    assert serving.serving("10.0.0.5", login=True, i_know=False).inside(8501) == "http://10.0.0.5:8501"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("client_secret", "other"), "has no client_secret"),
        (('cookie_secret = "s"', "cookie_secret = 3"), "has no cookie_secret"),
        (("/oauth2callback", "/elsewhere"), "it must be the app's address followed by /oauth2callback"),
        (("people", "friends"), "Everybody with an account there could sign in"),
        (("[auth]", "[auth"), "cannot be read"),
    ],
)
def test_a_sign_in_that_would_let_in_nobody_or_anybody_is_refused(secrets, change, said):
    secrets(ACCOUNT.replace(*change))
    with pytest.raises(CorrSteerError, match=said):
        serving.serving("localhost", login=True, i_know=False)


def test_the_package_that_signs_people_in_is_named_where_it_is_missing(secrets, monkeypatch):
    secrets(ACCOUNT)
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CorrSteerError, match=r"pip install 'streamlit\[auth\]'"):
        serving.serving("localhost", login=True, i_know=False)


@pytest.mark.parametrize(
    ("user", "let_in"),
    [
        ({"email": "ada@example.org"}, True),
        ({"email": "GRACE@example.org", "email_verified": True}, True),
        ({"email": "ada@example.org", "email_verified": False}, False),
        ({"email": "eve@example.org"}, False),
        ({"email": ""}, False),
        ({}, False),
    ],
)
def test_only_those_named_come_in(secrets, user, let_in):
    secrets(ACCOUNT)
    assert login.may_come_in(user) is let_in


@pytest.mark.parametrize(
    ("user", "shown", "button"),
    [
        ({"is_logged_in": False}, "Sign in to use the app.", "Sign in"),
        ({"is_logged_in": True, "email": "eve@example.org"}, "eve@example.org may not use this app", "Sign out"),
        ({"is_logged_in": True}, "This account may not use this app", "Sign out"),
    ],
)
def test_whoever_has_not_signed_in_sees_no_page(secrets, monkeypatch, tmp_path, user, shown, button):
    secrets(ACCOUNT)
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    monkeypatch.setenv(login.VARIABLE, "yes")
    monkeypatch.setattr(login.st, "user", user)
    page = AppTest.from_file(str(Path(main.__file__)), default_timeout=600).run()
    assert shown in page.markdown[0].value.replace("\\", "").replace("\u2060", "")
    assert [one.label for one in page.button] == [button]
    assert not page.sidebar.selectbox
    assert len(page.title) == 1


def test_an_address_is_shown_as_text_whatever_is_in_it(secrets, monkeypatch):
    secrets(ACCOUNT)
    monkeypatch.setenv(login.VARIABLE, "yes")
    said: list[str] = []
    monkeypatch.setattr(login.st, "user", {"is_logged_in": True, "email": fabricated.HOSTILE})
    monkeypatch.setattr(login.st, "write", said.append)
    assert not login.let_in()
    (sentence,) = said
    assert sentence.startswith(components.for_markdown(fabricated.HOSTILE))
    assert "**bold**" not in sentence


def test_whoever_signs_in_needs_no_token_and_everybody_else_does(monkeypatch):
    def guard(**settings):
        monkeypatch.setenv(serving.TOKEN, "T")
        made = server.served(8501, ["localhost", "app.example.org"], **settings)
        assert serving.TOKEN not in os.environ, "jobs have no use for it"
        (middleware,) = made._user_middleware
        assert middleware.cls is Guard
        return Guard(None, **middleware.kwargs)

    monkeypatch.delenv(login.VARIABLE, raising=False)
    alone = guard()
    assert (alone.token, alone.names) == ("T", {"localhost", "app.example.org"})
    assert login.VARIABLE not in os.environ
    monkeypatch.setenv(login.VARIABLE, "")  # so that it is put back
    assert guard(login=True).token == ""
    assert os.environ[login.VARIABLE] == "yes"


def test_the_server_knows_its_name_so_that_nobody_outside_is_asked_for_it():
    known = server._settings(8501, "localhost", ["localhost", "127.0.0.1"])
    assert known["browser.serverAddress"] == "127.0.0.1"
    assert known["server.allowedHosts"] == ["localhost", "127.0.0.1"]
    assert (
        server._settings(8501, "0.0.0.0", ["localhost", "app.example.org"])["browser.serverAddress"]
        == "app.example.org"
    )


def test_no_page_is_parsed_in_its_own_thread(monkeypatch, tmp_path):
    """CPython 3.11 cannot parse in two threads at once: what is imported beside a page would fail halfway."""
    from streamlit.runtime.scriptrunner import magic

    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    monkeypatch.setattr(magic, "add_magic", lambda *_: pytest.fail("the page was parsed"))
    test = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=600).run()
    assert not test.exception
    assert test.title[0].value == "CorrSteer Explorer"


def test_two_starts_have_two_tokens():
    assert opening.token() != opening.token()
    assert len(opening.token()) >= 32


def test_the_browser_is_opened_by_a_file_that_only_its_user_can_read(monkeypatch, tmp_path):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path))
    seen = []

    def opens(address):
        path = Path(address.removeprefix("file://"))
        seen.extend([address, path.read_text(), stat.S_IMODE(path.stat().st_mode)])

    monkeypatch.setattr(opening.webbrowser, "open", opens)
    with opening.opened("http://localhost:8501/?token=T&x=1"):
        pass
    address, page, mode = seen
    assert "T" not in Path(address).name
    assert "token" not in address
    assert 'content="0;url=http://localhost:8501/?token=T&amp;x=1"' in page
    assert mode == 0o600
    assert list(tmp_path.iterdir()) == [], "nothing of it is left"


def test_a_port_that_is_taken_or_none_is_said(capsys, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for port, said in ((other.getsockname()[1], "is in use by another program"), (70000, "is not a port")):
            monkeypatch.setattr(sys, "argv", ["app", "--port", str(port)])
            assert start.main() == 1
            assert said in capsys.readouterr().err
