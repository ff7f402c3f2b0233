"""One line in the log of changes for each change over HTTP, with who did it; every changing route is walked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.desk import FakeDesk, panel
from tests.unit.serving import TOKENS, FakeStore, client, served
from tests.unit.serving_catalog import FakeCatalogs, FakeProfiles, award
from tests.unit.test_panel_changes import FLOW, form
from worker.admin.openapi import guarded_routes
from worker.admin.roles import Role

_FLOW = {"event": "simple_event"}
_TYPE = {"name": "made.now", "description": "x", "schema": {"type": "object"}}
_CONDITION = {"name": "vip", "source": "evaluate = () => true"}
_ACT = {"user_id": "u1", "badge_key": "first", "note": "why"}
_RULE = {
    "event": "simple_event",
    "BadgeID": "first",
    "Operator": "and",
    "Conditions": [{"Field": "value", "Operator": "gt", "ExpectedValue": "9"}],
}

#: Each changing route of the API: an address and a body that pass, and the line that they leave.
API: Mapping[tuple[str, str], tuple[str, Any, str]] = {
    ("POST", "/api/v1/admin/event-types"): ("/api/v1/admin/event-types", _TYPE, "event_type.created"),
    ("PUT", "/api/v1/admin/event-types/{ref}"): (
        "/api/v1/admin/event-types/simple_event",
        {"name": "simple_event", "description": "new"},
        "event_type.changed",
    ),
    ("PATCH", "/api/v1/admin/event-types/{ref}"): (
        "/api/v1/admin/event-types/simple_event",
        {"description": "new"},
        "event_type.changed",
    ),
    ("POST", "/api/v1/admin/rules"): ("/api/v1/admin/rules", _RULE, "badge.changed"),
    ("POST", "/api/v1/admin/condition-types"): ("/api/v1/admin/condition-types", _CONDITION, "condition_type.created"),
    ("PUT", "/api/v1/admin/condition-types/{ref}"): (
        "/api/v1/admin/condition-types/vip",
        {**_CONDITION, "description": "x"},
        "condition_type.changed",
    ),
    ("PATCH", "/api/v1/admin/condition-types/{ref}"): (
        "/api/v1/admin/condition-types/vip",
        {"description": "x"},
        "condition_type.changed",
    ),
    ("DELETE", "/api/v1/admin/condition-types/{ref}"): (
        "/api/v1/admin/condition-types/vip",
        None,
        "condition_type.removed",
    ),
    ("DELETE", "/api/v1/admin/event-types/{ref}"): ("/api/v1/admin/event-types/made.now", None, "event_type.removed"),
    ("POST", "/api/v1/admin/badges"): (
        "/api/v1/admin/badges",
        {"name": "New", "flow_definition": _FLOW},
        "badge.created",
    ),
    ("PUT", "/api/v1/admin/badges/{ref}"): ("/api/v1/admin/badges/first", {"name": "Other"}, "badge.changed"),
    ("PATCH", "/api/v1/admin/badges/{ref}"): ("/api/v1/admin/badges/first", {"description": "d"}, "badge.changed"),
    ("DELETE", "/api/v1/admin/badges/{ref}"): ("/api/v1/admin/badges/first", None, "badge.deprecated"),
    ("POST", "/api/v1/admin/grants"): ("/api/v1/admin/grants", _ACT, "grant.added"),
    ("POST", "/api/v1/admin/revocations"): ("/api/v1/admin/revocations", _ACT, "grant.revoked"),
    ("POST", "/api/v1/admin/recompute"): ("/api/v1/admin/recompute", {"user_id": "u1"}, "recompute.requested"),
    ("PATCH", "/api/v1/users/{user_id:path}/badges/{key}"): (
        "/api/v1/users/u1/badges/first",
        {"sort_override": 1},
        "award.placed",
    ),
}
#: The panel's, likewise, with fields of a form.
PANEL: Mapping[tuple[str, str], tuple[str, Any, str]] = {
    ("POST", "/panel/login"): ("/login", {"token": TOKENS[Role.ADMIN]}, "session.began"),
    ("POST", "/panel/users/{user_id:path}/grant"): ("/users/u1/grant", {"badge": "asks", "note": "n"}, "grant.added"),
    ("POST", "/panel/users/{user_id:path}/revoke"): (
        "/users/u1/revoke",
        {"badge": "asks", "note": "n"},
        "grant.revoked",
    ),
    ("POST", "/panel/awards/quarantine"): (
        "/awards/quarantine",
        {"badge": "nice_question", "which": "all", "verb": "release", "note": "n", "sure": "1"},
        "quarantine.released",
    ),
    ("POST", "/panel/dead-letters/replay"): (
        "/dead-letters/replay",
        {"which": "chosen", "reason": "not_json", "letter": ["badges.events~3~88"], "verb": "replay"},
        "dead_letters.replayed",
    ),
    ("POST", "/panel/jobs/asks/{ask_id}"): ("/jobs/asks/j0", {}, "recompute.started"),
    ("POST", "/panel/jobs/{number}/{act}"): ("/jobs/1/cancel", {}, "job.cancel"),
    ("POST", "/panel/catalog/proposals/{proposal_id}"): ("/catalog/proposals/p0", {"note": "n"}, "catalog.applied"),
    ("POST", "/panel/catalog/translations"): (
        "/catalog/translations?lang=de",
        {"nice_question|label|de": "Neu"},
        "catalog.translated",
    ),
    ("POST", "/panel/_/catalog/translations"): (
        "/_/catalog/translations?cell=nice_question|label|de",
        {"nice_question|label|de": "Neu"},
        "catalog.translated",
    ),
}
#: What changes nothing that lasts, and what is written down where it is made: with the change itself.
ELSEWHERE = {
    ("POST", "/api/v1/events"): "events are what producers are for: the log of events has them",
    (
        "POST",
        "/panel/catalog/versions/{version}/rollback",
    ): "makes a proposal; accepted, it is written down",
    ("POST", "/panel/logout"): "only of a session; see below",
    ("POST", "/panel/dead-letters/replays/{replay_id}/stop"): "only of one that runs, see tests of the panel's acts",
    ("POST", "/panel/users/{user_id:path}/erase"): "in the store's transaction, see tests of the erasure",
    ("POST", "/panel/settings/tokens"): "in the store's transaction, see tests of the store",
    ("POST", "/panel/settings/tokens/{number}/revoke"): "in the store's transaction, see tests of the store",
}
HARMLESS = (
    "lint",
    "/try",
    "simulat",
    "dry",
    "/test",
    "preview",
    "import",
    "/new",
    "/edit",
    "validate",
    "jobs/new",
    "why",
)


@pytest.mark.parametrize("route", API)
def test_each_change_of_the_api_leaves_one_line(route: tuple[str, str]) -> None:
    """A change over the API is written down once, with the name of its token."""
    store = FakeStore()
    parts = {"catalog": FakeCatalogs(), "profiles": FakeProfiles({"u1": [award("first")]})}
    address, body, action = API[route]
    admin = client(served(store, parts=parts), Role.ADMIN)
    if address.endswith(("/vip", "/made.now")):
        kind, made = ("condition-types", _CONDITION) if address.endswith("/vip") else ("event-types", _TYPE)
        assert admin.post(f"/api/v1/admin/{kind}", json=made).status_code == 201
        store.changes.clear()
    answer = admin.request(route[0], address, json=body)
    assert answer.status_code < 300, answer.text
    assert [change[:2] for change in store.changes] == [("admin token", action)]
    refused = client(served(store, parts=parts), Role.READER).request(route[0], address, json=body)
    assert refused.status_code == 403
    assert len(store.changes) == 1


@pytest.mark.parametrize("route", PANEL)
def test_each_change_of_the_panel_leaves_one_line(route: tuple[str, str]) -> None:
    """A change by the panel is written down once, with the name of who is in."""
    desk, store = FakeDesk(), FakeStore()
    admin = client(panel(desk, store), Role.ADMIN)
    if "asks" in route[1]:
        admin.post("/panel/jobs/new", data={"kind": "recompute", "user": "u1"})
    if "proposals" in route[1]:
        admin.post("/panel/catalog/new", data=form(FLOW.replace("scroe", "score")))
    assert store.changes == []
    path, data, action = PANEL[route]
    answer = admin.post(f"/panel{path}", data=data)
    assert answer.status_code == (200 if "/_/" in path else 303), answer.text
    assert [change[:2] for change in store.changes] == [("admin token", action)]


def test_no_changing_route_is_forgotten() -> None:
    """Every route that is not for reading stands in one of the tables above, or is for trying things out."""
    routes = {
        (method, one.path) for app in (served(), panel()) for one in guarded_routes(app) for method in one.methods
    }
    changing = {route for route in routes if route[0] != "GET"}
    forgotten = changing - {*API, *PANEL, *ELSEWHERE}
    left = sorted(route for route in forgotten if not any(word in route[1] for word in HARMLESS))
    assert left == []
    assert {*API, *PANEL, *ELSEWHERE} <= changing


def test_coming_in_and_going_out() -> None:
    """A log-in and a log-out are a line each; a wrong token is none, and a log-in that cannot be noted is no log-in."""

    store = FakeStore()
    app = panel(store=store)
    browser = client(app)
    assert browser.post("/panel/login", data={"token": "wrong"}).status_code == 401
    assert store.changes == []
    browser.post("/panel/login", data={"token": TOKENS[Role.SUPPORT]})
    token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/panel/").text)
    assert token is not None
    browser.post("/panel/logout", data={"csrf_token": token[1]})
    assert [(actor, action) for actor, action, *_ in store.changes] == [
        ("support token", "session.began"),
        ("support token", "session.ended"),
    ]
    assert TOKENS[Role.SUPPORT] not in str(store.changes)
