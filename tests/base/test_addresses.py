"""Addresses of the app: what is taken, what is left out of them, what is refused, and whom a link reaches."""

from __future__ import annotations

import pytest

from corrsteer_core.base.addresses import Address, address_of
from corrsteer_core.base.errors import CorrSteerError


@pytest.mark.parametrize(
    ("given", "root", "reach"),
    [
        ("https://steer.example.org", "https://steer.example.org", "others"),
        ("HTTPS://Steer.Example.org/", "https://steer.example.org", "others"),
        ("https://example.org:8443/tools/steer/", "https://example.org:8443/tools/steer", "others"),
        ("https://bücher.example/päth", "https://xn--bcher-kva.example/p%C3%A4th", "others"),
        ("http://8.8.8.8", "http://8.8.8.8", "others"),
        ("http://[2606:4700::1]:80/x", "http://[2606:4700::1]:80/x", "others"),
        ("http://192.168.1.4:8501", "http://192.168.1.4:8501", "network"),
        ("http://100.64.1.1", "http://100.64.1.1", "network"),
        ("http://[fd00::1]", "http://[fd00::1]", "network"),
        ("http://laboratory:8501", "http://laboratory:8501", "network"),
        ("http://printer.local", "http://printer.local", "network"),
        ("http://localhost:8501", "http://localhost:8501", "computer"),
        ("http://app.localhost", "http://app.localhost", "computer"),
        ("http://127.0.0.1:8501", "http://127.0.0.1:8501", "computer"),
        ("http://127.9.9.9", "http://127.9.9.9", "computer"),
        ("http://0.0.0.0:8501", "http://0.0.0.0:8501", "computer"),
        ("http://[::1]:8501", "http://[::1]:8501", "computer"),
        ("http://[::ffff:127.0.0.1]", "http://[::ffff:127.0.0.1]", "computer"),
        ("http://localhost.", "http://localhost", "computer"),
    ],
)
def test_an_address_is_written_one_way_and_says_whom_it_reaches(given, root, reach):
    assert address_of(given) == Address(root, reach)


def test_a_link_names_the_run_and_nothing_else():
    for given in ("https://x.example/a?token=SECRET", "https://x.example/a/?run=b&token=SECRET#token=SECRET"):
        assert address_of(given).link("tone-1 &token=2") == "https://x.example/a/report?run=tone-1+%26token%3D2"


@pytest.mark.parametrize(
    "given",
    [
        "", "steer.example.org", "//steer.example.org", "https://", "https:", "ftp://x.org", "file:///etc/passwd",
        "javascript:alert(1)", "JavaScript://x.org/%0aalert(1)", "data:text/html,<script>1</script>", "javascript\n:alert(1)",
        "https://ada:secret@x.org", "https://ada@x.org", "https://good.example\\@evil.example", "https://x.org:99999",
        "https://x.org/\"><script>alert(1)</script>", "https://x.org/' onclick='alert(1)", "https://x.org/<b>", "https://x .org",
        "https://x.org\n", "https://x.org/\u202egro", "https://x..org", "https://-x.org", "https://x_\x00.org",
        "http://127.1", "http://2130706433", "http://0x7f000001", "http://1.2.3.4.5", "http://[::1", "http://[fe80::1%25eth0]",
        "https://" + "a." * 200 + "org",
    ],
)  # fmt: skip
def test_what_is_no_address_of_an_app_is_refused_in_a_sentence(given):
    with pytest.raises(CorrSteerError, match="is no address of the app: give one that begins with http"):
        address_of(given)


@pytest.mark.parametrize(
    "root", ["javascript:alert(1)", 'https://x"onclick="', "https://x?token=1", "https://a@b", "http://"]
)
def test_an_address_cannot_be_made_of_anything_else(root):
    with pytest.raises(CorrSteerError, match="is no address of the app"):
        Address(root, "others")
