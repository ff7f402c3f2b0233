"""What the API counts of itself, and how many may do at once what takes long."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import pytest
from prometheus_client import generate_latest

from tests.rig.log_lines import log_lines
from tests.unit.desk import FakeDesk, panel
from tests.unit.serving import FakeStore, client, served
from tests.unit.serving_catalog import FakeAwards, FakeCatalogs, logged
from worker.admin.api.awards import LISTENERS
from worker.admin.limits import Crowd
from worker.admin.openapi import guarded_routes
from worker.admin.panel.tables import EXPORTS
from worker.admin.roles import Role
from worker.app import admin as admin_room
from worker.app.admin import Admin
from worker.app.feed import News
from worker.config import load_settings


def figure(app: Any, name: str, **labels: str) -> float:
    """A figure of an app; 0 where it was never counted."""
    return app.state.metrics.registry.get_sample_value(f"badges_http_{name}", labels) or 0.0


def test_requests_are_counted_by_route_and_status() -> None:
    """A request counts for its route's template, on the short way and on the long one; addresses are no labels."""
    app = served(parts={"catalog": FakeCatalogs()})
    reader = client(app, Role.READER)
    for user in ("u1", "u2", "u3"):
        assert reader.get(f"/api/v1/users/{user}/badges").status_code == 200
    assert reader.get("/api/v1/badges/nothing").status_code == 404
    assert reader.post("/api/v1/events", json={}).status_code == 403
    profile = "/api/v1/users/{user_id}/badges"
    assert figure(app, "requests_total", method="GET", route=profile, status="200") == 3
    assert figure(app, "request_seconds_count", route=profile) == 3
    assert figure(app, "requests_total", method="GET", route="/api/v1/badges/{ref}", status="404") == 1
    assert figure(app, "requests_total", method="POST", route="/api/v1/events", status="403") == 1
    assert figure(app, "requests_running") == 0
    assert "u1" not in generate_latest(app.state.metrics.registry).decode()


def test_no_client_makes_series() -> None:
    """Whatever addresses, methods and names clients think of, figures are those of routes, and bounded."""
    app = served(parts={"catalog": FakeCatalogs()})
    stranger = client(app, Role.READER)
    for number in range(50):
        stranger.get(f"/nothing/{number}")
        stranger.request(f"X{number}", "/health")
        stranger.request("DELETE", f"/api/v1/badges/{number}")
    text = generate_latest(app.state.metrics.registry).decode()
    counted = [line for line in text.splitlines() if line.startswith("badges_http_requests_total{")]
    assert len(counted) == 3, counted
    assert figure(app, "requests_total", method="GET", route="none", status="404") == 50
    assert figure(app, "requests_total", method="other", route="/health", status="405") == 50


def test_a_fault_of_ours_is_counted() -> None:
    """What was not foreseen counts as 500, and nothing seems to run after it."""
    app = served(FakeStore(broken=ZeroDivisionError("x")))  # type: ignore[arg-type]
    assert client(app).get("/health").status_code == 500
    assert figure(app, "requests_total", method="GET", route="/health", status="500") == 1
    assert figure(app, "requests_running") == 0


def test_limits_are_counted() -> None:
    """A refusal by a limit is counted under the limit's name."""
    app = served(rate_limit="1/h", max_body="1KiB")
    reader = client(app, Role.PRODUCER)
    assert [reader.post("/api/v1/events", content=b"{}").status_code for _ in range(2)] == [422, 429]
    author = client(app, Role.AUTHOR)
    assert author.post("/api/v1/admin/badges", content=b" " * 2_000).status_code == 413
    for _ in range(21):
        client(app).get("/api/v1/badges", headers={"Authorization": "Bearer guess"})
    assert {name: figure(app, "refused_total", limit=name) for name in ("rate", "body", "logins")} == {
        "rate": 1, "body": 1, "logins": 1,
    }  # fmt: skip


# ---------------------------------------------------------------- crowds


def test_a_crowd_has_room_for_so_many() -> None:
    """So many in all and so many of one key; who leaves makes room, also by an error, and is forgotten."""
    crowd = Crowd("things", most=3, each=2)
    with ExitStack() as inside:
        for key in ("a", "a"):
            inside.enter_context(crowd.joined(key))
        assert crowd.many_of("a")
        assert not crowd.many_of("b")
        assert not crowd.full
        inside.enter_context(crowd.joined("b"))
        assert crowd.full
    with pytest.raises(ZeroDivisionError), crowd.joined("a"):
        raise ZeroDivisionError
    assert not crowd.full
    assert not crowd._inside


def _exports() -> list[str]:
    found = [route.path for route in guarded_routes(panel()) if route.path.endswith((".csv", "export.json"))]
    return [path.replace("{user_id:path}", "u1").replace("{user_id}", "u1") for path in found]


@pytest.mark.parametrize("path", _exports())
def test_exports_are_few(path: str) -> None:
    """Where as many files are made as one process bears, the next is told when to come; one person has two."""
    app = panel(FakeDesk())
    reader = client(app, Role.ADMIN)
    with ExitStack() as others:
        for number in range(EXPORTS.most):
            others.enter_context(EXPORTS.joined(f"other {number}"))
        got = reader.get(path)
        assert (got.status_code, got.headers["retry-after"]) == (503, "5")
    with ExitStack() as own:
        for _ in range(EXPORTS.each):
            own.enter_context(EXPORTS.joined("token 5"))
        assert reader.get(path).status_code == 429
    assert reader.get(path).status_code == 200
    assert figure(app, "refused_total", limit="exports") == 2


def test_there_are_exports() -> None:
    """The lists of the panel that can be saved are found by their address."""
    assert len(_exports()) >= 3


def test_listeners_are_few() -> None:
    """The feed is for so many, and of one token for so many; who goes makes room."""
    awards = FakeAwards(news=[News([logged(1)], None)])
    app = served(parts={"catalog": FakeCatalogs(), "awards": awards})
    reader = client(app, Role.READER)
    for keys, status in ((["token 1"] * LISTENERS.each, 429), ([f"x{n}" for n in range(LISTENERS.most)], 503)):
        with ExitStack() as others:
            for key in keys:
                others.enter_context(LISTENERS.joined(key))
            got = reader.get("/api/v1/awards/stream")
            assert got.status_code == status
            assert got.headers["retry-after"] == "5"
        assert reader.get("/api/v1/awards/stream").status_code == 200
    assert not LISTENERS._inside
    assert figure(app, "refused_total", limit="listeners") == 2


def test_who_is_answered_and_who_listens_is_seen_meanwhile() -> None:
    """A request counts as running until its answer has ended; listeners are those of the feed."""
    seen: list[tuple[float, float]] = []

    class Watched(FakeAwards):
        async def listen(self, since: tuple[str, int] | None = None) -> AsyncIterator[News]:
            seen.append((figure(app, "requests_running"), figure(app, "listeners")))
            async for news in super().listen(since):
                yield news

    app = served(parts={"catalog": FakeCatalogs(), "awards": Watched(news=[News([logged(1)], None)], listeners=3)})
    assert client(app, Role.READER).get("/api/v1/awards/stream").status_code == 200
    assert seen == [(1, 3)]
    assert figure(app, "requests_running") == 0


# ---------------------------------------------------------------- where they are served


async def test_metrics_and_health_have_a_port_of_their_own() -> None:
    """The figures of the API are served beside it; where their port is taken, the API goes on without."""
    admin = Admin(load_settings(admin_metrics_port=0))
    async with admin._seen():
        admin.metrics.refused.labels("rate").inc()
        served_there = await asyncio.to_thread(_asked, admin.health_port, "/metrics")
        assert 'badges_http_refused_total{limit="rate"} 1.0' in served_there
        assert await asyncio.to_thread(_asked, admin.health_port, "/livez") == "ok\n"
        assert await asyncio.to_thread(_asked, admin.health_port, "/readyz") == "starting\n"
        other = Admin(load_settings(admin_metrics_port=admin.health_port))
        with log_lines(admin_room) as lines:
            async with other._seen():
                assert other.health_port == 0
        assert [line["event"] for line in lines] == ["metrics_not_served"]


def _asked(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as found:
            return str(found.read().decode())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.read().decode()
