"""The layer around the server: who is let in and by what, and what every answer says."""

from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from streamlit import net_util
from streamlit.web.server.starlette import starlette_websocket

from app.guard import ELSEWHERE, HEADERS, NOT_LET_IN, Guard

TOKEN = "a-token-that-nobody-guesses"
OWN = "http://localhost:8501"


async def page(request):
    return PlainTextResponse(
        f"the page {request.url.path}?{request.url.query}", headers={"X-Frame-Options": "ALLOWALL"}
    )


async def socket(websocket):
    """As Streamlit decides about origins, were it asked."""
    if not starlette_websocket._is_origin_allowed(websocket.headers.get("origin"), websocket.headers.get("host")):
        await websocket.close()
        return
    await websocket.accept()
    await websocket.send_text("in")


async def healthy(request):
    return Response("ok")


def guarded(token: str = TOKEN, names=("localhost", "127.0.0.1"), base: str = OWN) -> TestClient:
    routes = [Route("/_stcore/health", healthy), WebSocketRoute("/_stcore/stream", socket)]
    every = ["GET", "POST", "PUT", "DELETE"]
    routes.append(Route("/{path:path}", page, methods=every))
    guard = Middleware(Guard, token=token, names=names, cookie="corrsteer-8501")
    return TestClient(Starlette(routes=routes, middleware=[guard]), base_url=base, follow_redirects=False)


@pytest.fixture(autouse=True)
def _streamlit_lets_every_name_in(monkeypatch):
    monkeypatch.setattr(starlette_websocket, "is_host_allowed", lambda host: True)


@pytest.fixture
def client():
    return guarded()


@pytest.fixture
def known(client):
    """A browser that has been there with the token."""
    client.get(f"/?token={TOKEN}")
    return client


ADDRESSES = (
    "/",
    "/features?run=x",
    "/media/0123.csv",
    "/_stcore/host-config",
    "/_stcore/upload_file/a/b",
    "/static/x.js",
)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("given", ["", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é\x00"])
def test_without_the_token_there_is_one_sentence_and_nothing_else(client, address, given):
    answer = client.get(address, params={"token": given} if given else None)
    assert answer.status_code == 403
    assert re.sub("<[^>]*>", "", answer.text) == f"CorrSteer Explorer{NOT_LET_IN}"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_without_the_cookie_nothing_is_taken_either(client, method):
    assert getattr(client, method)("/_stcore/upload_file/a/b").status_code == 403
    assert getattr(client, method)(f"/_stcore/upload_file/a/b?token={'x' * 20}").status_code == 403


@pytest.mark.parametrize("cookie", ["", "wrong", TOKEN])
def test_a_cookie_of_somebody_elses_making_lets_nobody_in(client, cookie):
    assert client.get("/", headers={"Cookie": f"corrsteer-8501={cookie}"}).status_code == 403


def test_the_token_is_remembered_and_goes_out_of_the_address(client):
    answer = client.get(f"/features?run=a%26b&token={TOKEN}&feature=3")
    assert (answer.status_code, answer.headers["location"]) == (303, "/features?run=a%26b&feature=3")
    kept = answer.headers["set-cookie"]
    assert TOKEN not in kept
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in kept.split(";")}
    assert client.get(answer.headers["location"]).text == "the page /features?run=a%26b&feature=3"


def test_whoever_is_known_loses_an_old_token_from_the_address_too(known):
    answer = known.get("/?token=of-yesterday&run=x")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?run=x")


def test_the_way_on_never_leads_elsewhere(client):
    for path in ("//attacker.example/", "/%2F%2Fattacker.example/", "/\\attacker.example/"):
        location = client.get(f"{OWN}{path}?token={TOKEN}").headers["location"]
        assert location == "/attacker.example/"


def test_another_apps_cookie_is_not_ours(known):
    other = guarded("another")
    other.cookies = known.cookies
    assert other.get("/").status_code == 403


def test_a_link_on_another_site_opens_once_the_page_has_asked_by_itself(client):
    """A browser keeps a strict cookie back where another site leads to the page; from the page itself it sends it."""
    from_elsewhere = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    answer = client.get("/?run=x", headers=from_elsewhere)
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0">' in answer.text
    by_itself = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "document"}
    assert client.get("/?run=x", headers=by_itself).status_code == 403
    assert client.get("/media/x.csv", headers={**from_elsewhere, "Sec-Fetch-Dest": "image"}).status_code == 403


def test_that_it_is_there_is_told_to_everybody(client):
    assert client.get("/_stcore/health").text == "ok"


# --- from elsewhere ------------------------------------------------------------------------------


def socket_of(client, **headers):
    if "corrsteer-8501" in client.cookies:  # the test's client keeps them for another name
        headers = {"Cookie": f"corrsteer-8501={client.cookies['corrsteer-8501']}", **headers}
    with client.websocket_connect("/_stcore/stream", headers=headers) as opened:
        return opened.receive_text()


def test_a_socket_opens_for_whoever_is_known(known):
    assert socket_of(known, Origin=OWN, Host="localhost:8501") == "in"
    assert socket_of(known, Host="localhost:8501") == "in"


def test_a_socket_opens_for_nobody_else(client):
    with pytest.raises(WebSocketDisconnect):
        socket_of(client, Origin=OWN, Host="localhost:8501")
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"/_stcore/stream?token={TOKEN}"):
        pass


ELSE = ("http://attacker.example", "http://attacker.example:8501", "http://localhost:9999", "http://127.0.0.1:8501",
        "null", "", "file://", "http://localhost:8501.attacker.example", "http://[")  # fmt: skip


@pytest.mark.parametrize("origin", ELSE)
def test_pages_of_another_origin_get_nothing_even_with_the_cookie_and_nobody_outside_is_asked(
    known, monkeypatch, origin
):
    """Streamlit would ask an outside address for this machine's own, and wait for the answer."""
    import requests

    monkeypatch.setattr(net_util, "_external_ip", None)
    monkeypatch.setattr(requests, "get", lambda *_, **__: pytest.fail("an outside address was asked"))
    monkeypatch.setattr(net_util, "get_internal_ip", lambda: pytest.fail("our own address was looked up"))
    with pytest.raises(WebSocketDisconnect):
        socket_of(known, Origin=origin, Host="localhost:8501")
    answer = known.get("/", headers={"Origin": origin})
    assert answer.status_code == 403
    assert ELSEWHERE in answer.text


@pytest.mark.parametrize("host", ["attacker.example", "attacker.example:8501", "localhost.attacker.example", "[", ""])
def test_a_foreign_name_that_means_this_machine_gets_nothing(known, host):
    """DNS rebinding: to the browser, page and server are one site."""
    cookie = f"corrsteer-8501={known.cookies['corrsteer-8501']}"
    answer = known.get("/", headers={"Host": host, "Origin": f"http://{host}", "Cookie": cookie})
    assert answer.status_code == 403
    assert ELSEWHERE in answer.text
    with pytest.raises(WebSocketDisconnect):
        socket_of(known, Origin=f"http://{host}", Host=host, Cookie=cookie)


def test_behind_a_proxy_the_public_name_is_known_and_the_cookie_kept_to_https():
    client = guarded(names=("localhost", "app.example.org"), base="http://app.example.org")
    answer = client.get(f"/?token={TOKEN}", headers={"X-Forwarded-Proto": "https"})
    assert "secure" in answer.headers["set-cookie"].lower()
    mark = answer.headers["set-cookie"].split(";")[0]
    headers = {"Origin": "https://app.example.org", "Host": "app.example.org", "Cookie": mark}
    assert socket_of(client, **headers) == "in"


def test_without_a_token_the_app_lets_people_in_itself_but_none_from_elsewhere():
    client = guarded(token="")
    assert client.get("/").status_code == 200
    assert client.get("/?token=x").status_code == 200
    assert client.get("/", headers={"Origin": "http://attacker.example"}).status_code == 403


@pytest.mark.parametrize("address", ["/", "/_stcore/health", f"/?token={TOKEN}", "/media/x"])
@pytest.mark.parametrize("name", ["known", "client"])
def test_every_answer_forbids_frames_guesses_and_referrers(request, address, name):
    answer = request.getfixturevalue(name).get(address)
    assert len(HEADERS) == 4
    assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert answer.headers.get_list("x-frame-options") == ["DENY"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
