"""Who may talk to the server: pages of its own name on this machine, and no page from elsewhere."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.embedded  # needs the app that the first start leaves running


def handshake(url: str, host: str, origin: str) -> int:
    """The status of a websocket's handshake, asked in another's name."""
    port = urlsplit(url).port
    asked = (
        f"GET /_stcore/stream HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=600) as connection:
        connection.sendall(asked.encode())
        return int(connection.recv(200).split()[1])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_servers_own_names_get_in(first_start, host):
    port = urlsplit(first_start.url).port
    assert handshake(first_start.url, host, f"http://{host}:{port}") == 101


def test_a_foreign_name_that_means_this_machine_gets_nothing(first_start):
    """DNS rebinding: the browser believes that the page and the server are one site, and says so."""
    port = urlsplit(first_start.url).port
    assert handshake(first_start.url, "attacker.example", f"http://attacker.example:{port}") == 403


def test_a_foreign_page_gets_nothing(first_start):
    assert handshake(first_start.url, "localhost", "http://attacker.example") == 403
