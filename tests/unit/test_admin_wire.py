"""What comes over the wire and is no request as it should be; proxies; how much one stream of events may hold."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest

from tests.unit.serving import FakeOutlet, FakeStore, client, served
from tests.unit.serving_catalog import FakeCatalogs
from worker.admin.api.events import RUNNING
from worker.admin.hot import MOST_PARAMETERS
from worker.admin.roles import Role

LINES = {"Content-Type": "application/x-ndjson"}


async def _asked(app: Any, headers: list[tuple[bytes, bytes]], version: str = "1.1") -> tuple[int, bytes]:
    """Status and body of `GET /health` with these headers and no others."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/health", "raw_path": b"/health", "query_string": b"",
        "root_path": "", "http_version": version, "scheme": "http", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "headers": headers,
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:])


async def test_a_request_has_one_host() -> None:
    """Two hosts, and none, are refused: which of them counts a proxy may see otherwise. HTTP/1.0 knew no host."""
    app = served()
    host = (b"host", b"localhost")
    assert (await _asked(app, [host]))[0] == 200
    assert (await _asked(app, [], "1.0"))[0] == 200
    for headers in ([], [host, host], [host, (b"host", b"evil.example")]):
        status, body = await _asked(app, headers)
        assert (status, json.loads(body)["error"]["code"]) == (400, "bad_request")


def test_an_address_has_so_many_parameters() -> None:
    """Thousands of parameters are refused before anything looks at them."""
    reader = client(served(parts={"catalog": FakeCatalogs()}), Role.READER)
    address = "/api/v1/badges?limit=1"
    assert reader.get(address + "&x=1" * (MOST_PARAMETERS - 1)).status_code == 200
    for path in (address, "/api/v1/users/u1/badges?top=1"):
        assert reader.get(path + "&x" * MOST_PARAMETERS).status_code == 400


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via"])
def test_what_a_proxy_passes_on_is_not_this_machine(name: str) -> None:
    """Before there is a token this machine is let in, and nobody whom a proxy on it lets through."""
    app = served(FakeStore(tokens=[]), parts={"catalog": FakeCatalogs()})
    assert client(app).get("/api/v1/badges").status_code == 200
    assert client(app).get("/api/v1/badges", headers={name: "127.0.0.1"}).status_code == 401


def test_streams_are_few() -> None:
    """So many streams are read at once; one more is told when to come again, and single events are taken."""
    app = served()
    producer = client(app, Role.PRODUCER)
    with ExitStack() as others:
        for number in range(RUNNING.most):
            others.enter_context(RUNNING.joined(f"other {number}"))
        got = producer.post("/api/v1/events", content=b"{}\n", headers=LINES)
        assert (got.status_code, got.headers["retry-after"]) == (503, "5")
        assert producer.post("/api/v1/events", json={}).status_code == 422
    assert producer.post("/api/v1/events", content=b"{}\n", headers=LINES).status_code == 200
    assert not RUNNING._inside


def test_results_are_in_the_order_of_lines() -> None:
    """Many pieces, faulty and good lines mixed: a result for each line, in order, whatever is still on its way."""
    outlet = FakeOutlet()
    producer = client(served(outlet=outlet), Role.PRODUCER)
    got = producer.post("/api/v1/events", content=b"x\n" * 3_000, headers=LINES)
    results = [json.loads(line) for line in got.text.splitlines()]
    assert [result["line"] for result in results] == list(range(1, 3_001))
