"""Who may talk to the server: pages of its own name on this machine, and no page from elsewhere."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from contextlib import suppress
from urllib.parse import urlsplit

import psutil
import pytest

from app.guard import NOT_LET_IN
from tests.made.first_start import TOKEN

pytestmark = pytest.mark.embedded  # needs the app that the first start leaves running


def handshake(app, host: str, origin: str, *, cookie: bool = True) -> int:
    """The status of a websocket's handshake, asked in another's name, with the cookie of somebody who is let in."""
    port = urlsplit(app.url).port
    asked = (
        f"GET /_stcore/stream HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin}\r\n"
        + (f"Cookie: {app.cookie}\r\n\r\n" if cookie else "\r\n")
    )
    with socket.create_connection(("127.0.0.1", port), timeout=600) as connection:
        connection.sendall(asked.encode())
        return int(connection.recv(200).split()[1])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_servers_own_names_get_in(first_start, host):
    port = urlsplit(first_start.url).port
    assert handshake(first_start, host, f"http://{host}:{port}") == 101


def test_a_foreign_name_that_means_this_machine_gets_nothing(first_start):
    """DNS rebinding: the browser believes that the page and the server are one site, and says so."""
    port = urlsplit(first_start.url).port
    assert handshake(first_start, "attacker.example", f"http://attacker.example:{port}") == 403


def test_a_foreign_page_gets_nothing(first_start):
    assert handshake(first_start, "localhost", "http://attacker.example") == 403


def test_its_own_page_gets_nothing_for_somebody_without_the_token(first_start):
    port = urlsplit(first_start.url).port
    assert handshake(first_start, "localhost", f"http://localhost:{port}", cookie=False) == 403


def test_only_the_address_with_the_token_opens_the_app(first_start):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(first_start.url)
    assert refused.value.code == 403
    assert NOT_LET_IN in refused.value.read().decode()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(first_start.entrance) as page:
        assert "<title>Streamlit</title>" in page.read().decode()
        assert page.url == f"{first_start.url}/"
        assert page.headers["Content-Security-Policy"] == "frame-ancestors 'none'"


def test_the_address_that_is_printed_is_the_one_with_the_token_and_no_command_line_shows_it(first_start):
    app = psutil.Process(first_start.pid)
    log = (first_start.cache.parent / "app.log").read_text()
    assert f"CorrSteer Explorer: {first_start.entrance} " in log
    processes = [app, *app.children(recursive=True)]
    assert len(processes) > 1
    told = []
    for one in processes:
        with suppress(psutil.Error):  # one that has ended by now tells nobody anything
            told.append(" ".join(one.cmdline()))
    assert len(told) > 1
    assert not [line for line in told if TOKEN in line]
