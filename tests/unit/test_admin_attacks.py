"""What an attacker would send: addresses and numbers that break a reader, copies of cookies, lists without an end."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.unit.desk import FakeDesk, catalog_of, document, panel
from tests.unit.serving import TOKENS, FakeStore, client, served
from tests.unit.serving_catalog import FakeAwards, FakeCatalogs, logged
from worker.admin.lines import lines_of
from worker.admin.openapi import guarded_routes
from worker.admin.panel import playing
from worker.admin.panel.entrance import inside
from worker.admin.roles import Role
from worker.app.feed import News
from worker.errors import TransientError

PACKAGE = Path(__file__).parents[2] / "worker"


# ---------------------------------------------------------------- addresses that are none


@pytest.mark.parametrize("address", ["http://[x", "//[x", "/panel/[x]//\\", "\0", "/panel"])
def test_what_is_no_address_leads_home(address: str) -> None:
    """A link to what is no address shows the log-in, and leads home after it."""
    assert inside(address) == "/panel/"
    asking = client(panel())
    assert asking.get("/panel/login", params={"next": address}).status_code == 200
    went = asking.post("/panel/login", data={"token": TOKENS[Role.ADMIN], "next": address})
    assert (went.status_code, went.headers["location"]) == (303, "/panel/")


@pytest.mark.parametrize("origin", ["http://[", "null", "", "http://localhost:8080.evil.example"])
def test_an_origin_that_is_none_is_another(origin: str) -> None:
    """An `Origin` that cannot be read is another site's."""
    data = {"token": TOKENS[Role.ADMIN]}
    assert client(panel()).post("/panel/login", data=data, headers={"Origin": origin}).status_code == 403


@pytest.mark.parametrize("host", ["[", "localhost:8080@evil.example", "evil.example", "a!b.evil.example", "a b", ""])
def test_a_strange_host_is_no_fault_of_ours(host: str) -> None:
    """A `Host` that is none, or not ours, is neither a fault nor let in openly, and no answer leads there."""
    asking = client(panel(store=FakeStore(tokens=[])))
    got = asking.get("/panel/", headers={"Host": host, "Cookie": "a=b"})
    assert got.status_code in (303, 400)
    assert "evil" not in got.headers.get("location", "")


def test_headers_of_faults_of_ours() -> None:
    """An answer to a fault of ours has the headers of all others too."""
    answer = client(served(FakeStore(broken=ZeroDivisionError("x")))).get("/health")  # type: ignore[arg-type]
    assert answer.status_code == 500
    for name in ("content-security-policy", "x-content-type-options", "x-frame-options", "cache-control"):
        assert answer.headers[name] == client(served()).get("/health").headers[name]


def test_a_method_is_the_one_of_the_request() -> None:
    """No header and no field makes a reading request a changing one."""
    app = panel()
    reader = client(app, Role.ADMIN)
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        assert reader.get("/panel/settings/tokens/1/revoke", headers={header: "POST"}).status_code == 405
    assert reader.get("/panel/settings/tokens/1/revoke?_method=POST").status_code == 405


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("value", ["1e999999999", "9" * 5_000, "-1e400", "NaN", "Infinity", "1_0", "true", '"1"'])
def test_a_number_that_would_fill_the_memory(value: str) -> None:
    """A metric is set to a number as events may have it: a great exponent is told, and never written out."""
    found, wrong = playing.read_overrides(f"comments = {value}", catalog_of(document()))
    assert found == {}
    assert wrong == ["comments takes a number."]


async def test_a_stream_has_so_many_lines() -> None:
    """Behind so many lines nothing is read, however short they are; the line that is too much says so."""
    parts = 0

    async def endless() -> Any:
        nonlocal parts
        while True:
            parts += 1
            yield b"x\n" * 100

    found = [line async for lines in lines_of(endless(), most=2**40, most_lines=1_000) for line in lines]
    assert [number for number, _ in found] == list(range(1, 1_002))
    assert [number for number, text in found if text is None] == [1_001]
    assert parts == 11


def test_no_list_is_endless() -> None:
    """Every list of the API has a greatest limit, and more than it is refused."""
    app = served(parts={"catalog": FakeCatalogs()})
    reader = client(app, Role.ADMIN)
    limited = 0
    for route in guarded_routes(app):
        if any(one.name in ("limit", "top") for one in route.dependant.query_params):
            path = re.sub(r"\{.*?\}", "first", route.path)
            for value in ("1000000000", "9" * 5_000, "0", "-1", "1e3", "%00"):
                assert reader.get(f"{path}?limit={value}").status_code == 422, (path, value)
            limited += 1
    assert limited >= 5
    for value in ("1000000000", "9" * 5_000, "0", "-1", "²"):
        assert reader.get("/api/v1/users/u1/badges", params={"top": value}).status_code == 422


@pytest.mark.parametrize(
    "path", ["/users/u1/history?before=", "/jobs?before=", "/settings/audit?before=", "/catalog/versions?before="]
)
@pytest.mark.parametrize("number", ["9" * 30, "9" * 5_000, "-1", "1.5", "%00", "x"])
def test_numbers_in_addresses_of_pages(path: str, number: str) -> None:
    """A number that no page gave is a page or a refusal, no fault of ours."""
    assert client(panel(), Role.ADMIN).get(f"/panel{path}{number}").status_code in (200, 422)


@pytest.mark.parametrize(
    "text", ["%00", "%ed%a0%80", "%ff%fe", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "%0d%0aset-cookie:a=b"]
)
def test_strange_text_in_addresses(text: str) -> None:
    """NUL, half characters, bytes that are no UTF-8, steps upwards, line ends: a page, and no header of theirs."""
    reader = client(panel(), Role.ADMIN)
    for path in (f"users/{text}", f"badges/{text}", f"static/{text}", f"users?q={text}", f"find?q={text}"):
        got = reader.get(f"/panel/{path}")
        assert got.status_code in (200, 303, 404), path
        assert "set-cookie" not in got.headers
        assert "root:" not in got.text


# ---------------------------------------------------------------- sessions


def browser_of(app: Any) -> Any:
    """A browser that has logged in, its cookie and its CSRF token."""
    browser = client(app)
    assert browser.post("/panel/login", data={"token": TOKENS[Role.ADMIN]}).status_code == 303
    token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/panel/").text)
    assert token is not None
    return browser, dict(browser.cookies), token[1]


def test_a_copy_of_the_cookie_ends_with_the_session() -> None:
    """After the log-out a copy of the cookie is nobody's; other sessions of the same person go on."""
    app = panel()
    browser, copy, csrf = browser_of(app)
    other, *_ = browser_of(app)
    thief = client(app, cookies=copy)
    assert thief.get("/panel/").status_code == 200
    assert browser.post("/panel/logout", data={"csrf_token": csrf}).status_code == 303
    assert client(app, cookies=copy).get("/panel/").status_code == 303
    assert other.get("/panel/").status_code == 200


def test_ended_sessions_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sessions end, so many are remembered."""
    monkeypatch.setattr("worker.admin.sessions._MOST_ENDED", 2)
    app = panel()
    for _ in range(4):
        browser, _, csrf = browser_of(app)
        browser.post("/panel/logout", data={"csrf_token": csrf})
    assert len(app.state.gate.ended._own) == 2


def test_a_session_ends_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever logs out at one process is nobody at the others within seconds, with whatever copy of the cookie."""
    monkeypatch.setattr("worker.admin.sessions.FOLLOW_SECONDS", 0.0)
    store = FakeStore()
    here, there = (panel(store=store, session_secret="a secret of both, long enough") for _ in range(2))
    browser, copy, csrf = browser_of(here)
    elsewhere = client(there, cookies=copy)
    assert elsewhere.get("/panel/").status_code == 200
    assert browser.post("/panel/logout", data={"csrf_token": csrf}).status_code == 303
    assert elsewhere.get("/panel/").status_code == 303
    assert store.ended != []
    assert csrf.encode() not in b"".join(store.ended)


def test_a_log_out_while_the_database_is_away() -> None:
    """Who logs out then is told that it did not go everywhere, and is out here all the same."""
    store = FakeStore()
    app = panel(store=store)
    browser, copy, csrf = browser_of(app)

    async def away(*_: object) -> None:
        raise TransientError("The database is away.")

    store.end_session = away  # type: ignore[method-assign]
    assert browser.post("/panel/logout", data={"csrf_token": csrf}).status_code == 503
    assert browser.get("/panel/").status_code == 303
    assert client(app, cookies=copy).get("/panel/").status_code == 303


def test_every_form_asks_for_its_token() -> None:
    """Each changing route of the panel refuses a session without its CSRF token, with a forged and another's one."""
    app = panel()
    browser, *_ = browser_of(app)
    _, _, others = browser_of(app)
    checked = 0
    for route in guarded_routes(app):
        for method in route.methods - {"GET"}:
            if route.path == "/panel/login":
                continue
            path = re.sub(r"\{.*?\}", "1", route.path)
            for given in ({}, {"csrf_token": ""}, {"csrf_token": "x"}, {"csrf_token": others}):
                got = browser.request(method, path, data=given)
                assert got.status_code == 403, (method, path, given)
            checked += 1
    assert checked > 30


async def test_who_listens_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed of somebody whose token was revoked ends by itself."""
    monkeypatch.setattr("worker.admin.api.awards._HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr("worker.admin.tokens.FOLLOW_SECONDS", 0.0)

    class Revoking(FakeAwards):
        async def listen(self, since: Any = None) -> Any:
            async for one in super().listen(since):
                yield one
                store.tokens.clear()

    store = FakeStore()
    awards = Revoking(news=[News([logged(1)], None), News([logged(2)], None)])
    app = served(store, parts={"catalog": FakeCatalogs(), "awards": awards})
    monkeypatch.setattr("worker.admin.tokens.TokenBook.live", _live_now)
    text = client(app, Role.READER).get("/api/v1/awards/stream").text
    assert text.count("event: award") == 0
    assert text.startswith("id: ")


async def _live_now(book: Any, token_id: int) -> bool:
    """What the book knows when it reads its table anew."""
    await book._table.follow(0.0)
    return any(actor.token_id == token_id for actor in book._known.values())


# ---------------------------------------------------------------- addresses of pictures

_STRANGE = (
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,<script>", "data:image/svg+xml,<svg/>", "vbscript:x",
    "file:///etc/passwd", "http://example.com/a.png", "//example.com/a.png", "gopher://x/", "https://", "https:///a",
    " https://example.com/a b", "https://exa\nmple.com/", "x",
)  # fmt: skip


@pytest.mark.parametrize("address", _STRANGE)
def test_pictures_are_https(address: str) -> None:
    """A picture at any other kind of address is refused, when a badge is made and when it is changed."""
    author = client(served(parts={"catalog": FakeCatalogs()}), Role.AUTHOR)
    body = {"name": "Pictured", "flow_definition": {"event": "simple_event"}, "image_url": address}
    made = author.post("/api/v1/admin/badges", json=body)
    assert made.status_code == 422, made.text
    assert author.patch("/api/v1/admin/badges/first", json={"image_url": address}).status_code == 422


def test_pictures_are_never_fetched() -> None:
    """Making, reading and showing a badge with a picture opens no connection to where it lies."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        address = f"https://127.0.0.1:{listening.getsockname()[1]}/a.png"
        author = client(served(parts={"catalog": FakeCatalogs()}), Role.AUTHOR)
        body = {"name": "Pictured", "flow_definition": {"event": "simple_event"}, "image_url": address}
        assert author.post("/api/v1/admin/badges", json=body).status_code == 201
        assert address in author.get("/api/v1/badges").text
        for path in ("/catalog", "/badges/nice_question", "/diagnostics/milestone?badge=nice_question"):
            assert client(panel(FakeDesk()), Role.READER).get(f"/panel{path}").status_code == 200
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_one_place_alone_goes_out_by_http() -> None:
    """Of the whole package the log-in by an issuer is all that can fetch an address."""
    clients = re.compile(
        r"^\s*(?:import|from) (?:httpx2?|requests|aiohttp|urllib\.request|urllib3|http\.client)\b", re.M
    )
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if clients.search(path.read_text())}
    assert found <= {"admin/oidc.py", "health.py", "bench/api.py", "demo/run.py"}, found


def test_a_badge_that_was_deleted_is_read_as_deprecated() -> None:
    """A deleted badge stays: read again it is deprecated, listed to authors, no longer among the active ones."""
    author = client(served(parts={"catalog": FakeCatalogs()}), Role.AUTHOR)
    assert author.delete("/api/v1/admin/badges/first").status_code == 200
    for _ in range(2):
        again = author.delete("/api/v1/admin/badges/first")
        assert again.status_code == 200
        assert again.json()["badge"]["status"] == "deprecated"
    assert author.get("/api/v1/admin/badges/first").json()["badge"]["active"] is False
    assert "first" not in [one["key"] for one in author.get("/api/v1/badges/active").json()]
