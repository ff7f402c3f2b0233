"""The short way of what is asked most answers as the long one does."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import Match

from tests.unit.serving import FakeOutlet, FakePlans, client, served
from tests.unit.serving_catalog import FakeCatalogs, FakeProfiles, award
from worker.admin.hot import Application
from worker.admin.roles import Role
from worker.errors import TransientError
from worker.rules.catalog.load import catalog_from_document
from worker.rules.plan import compile_plan

PROFILE = "/api/v1/users/u1/badges"
EVENT = '{"event_type": "seen", "user_id": "u1", "id": "e1", "timestamp": "2026-03-01T12:00:00Z"}'
JSON = {"Content-Type": "application/json"}

ASKED = {
    "a profile": ("GET", PROFILE, {}, None),
    "a name in the address": ("GET", "/api/v1/users/a%2Fb%20c/badges?lang=de&top=1", {}, None),
    "no user": ("GET", "/api/v1/users//badges", {}, None),
    "a parameter that does not fit": ("GET", f"{PROFILE}?top=x", {}, None),
    "an event": ("POST", "/api/v1/events", JSON, EVENT),
    "no event": ("POST", "/api/v1/events", JSON, "[]"),
    "a body of another type": ("POST", "/api/v1/events", {"Content-Type": "text/plain"}, EVENT),
    "a method that is not taken": ("DELETE", PROFILE, {}, None),
    "no address": ("GET", f"{PROFILE}/x/y", {}, None),
    "a token nobody knows": ("GET", PROFILE, {"Authorization": "Bearer wrong"}, None),
    "no token": ("GET", PROFILE, {"Authorization": ""}, None),
}


def application(**parts: Any) -> Application:
    """An app whose clock and services answer the same each time."""
    profiles = FakeProfiles({"u1": [award("first")], "a/b c": [award("first")]})
    outlet = parts.pop("outlet", FakeOutlet())
    plans = FakePlans(compile_plan(catalog_from_document({"version": 1, "events": {"seen": {}}, "badges": []}, 1)))
    app = served(plans=plans, outlet=outlet, parts={"catalog": FakeCatalogs(), "profiles": profiles, **parts})
    assert isinstance(app, Application)
    return app


def answer(app: FastAPI, method: str, address: str, headers: dict[str, str], body: str | None) -> tuple[Any, ...]:
    """Status, headers and body."""
    found = client(app, Role.PRODUCER).request(method, address, headers=headers, content=body)
    told = dict(found.headers)
    if found.status_code >= 400:
        assert len(told.pop("x-request-id")) == 16  # drawn for each request
    return found.status_code, sorted(told.items()), found.content


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_both_ways_answer_alike(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status, headers and body are the same by the short way and by the long one."""
    short = answer(application(), *asked)
    monkeypatch.setattr(Application, "shorten", lambda _: None)
    assert short == answer(application(), *asked)


def test_a_service_that_is_away_is_told_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """While Kafka is away an event is refused with 503 and Retry-After on both ways."""
    asked = ASKED["an event"]
    short = answer(application(outlet=FakeOutlet(broken=TransientError("Kafka is away."))), *asked)
    monkeypatch.setattr(Application, "shorten", lambda _: None)
    assert short == answer(application(outlet=FakeOutlet(broken=TransientError("Kafka is away."))), *asked)
    assert short[0] == 503


def test_a_fault_of_ours_is_answered_and_handed_on() -> None:
    """What was not foreseen is a 500 that says nothing of itself, and reaches the server, which logs it."""

    class Broken(FakeProfiles):
        async def awards(self, user_id: str) -> Any:
            raise ZeroDivisionError(user_id)

    app = application(profiles=Broken())
    with pytest.raises(ZeroDivisionError):
        TestClient(app, headers=client(app, Role.READER).headers).get(PROFILE)
    found = client(app, Role.READER).get(PROFILE)
    assert (found.status_code, found.json()["error"]["code"]) == (500, "internal")
    assert "x-frame-options" in found.headers


@pytest.mark.parametrize(("method", "path"), [("GET", PROFILE), ("POST", "/api/v1/events")])
def test_no_other_route_would_have_been_found(method: str, path: str) -> None:
    """The first route of the list that takes such an address is the one the short way takes."""
    app = application()
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    first = next(route for route in app.routes if route.matches(scope)[0] is Match.FULL)
    assert first in [route for route, _ in app._short]
