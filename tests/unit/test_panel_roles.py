"""Who may do what in the panel: each route for each role, held to one table; and that looking changes nothing."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from tests.panel_routes import filled, panel_routes
from tests.unit.desk import FakeDesk, panel
from tests.unit.serving import FakeStore, client
from worker.admin.roles import Role
from worker.app.redrives import Redrive
from worker.pipeline.redrive import Redriven

READERS: Final = frozenset(Role)
SUPPORT: Final = frozenset({Role.SUPPORT, Role.ADMIN})
AUTHORS: Final = frozenset({Role.AUTHOR, Role.ADMIN})
EITHER: Final = SUPPORT | AUTHORS
ADMIN: Final = frozenset({Role.ADMIN})
#: Support helps users and looks after what was not awarded, authors write the catalog, an admin may all; who may read
#: may see all else (decisions 35).
MAY: Final = {
    READERS: (
        "GET /",
        "GET /_/health",
        "GET /find",
        "GET /catalog",
        "GET /_/catalog",
        "GET /catalog/versions",
        "GET /catalog/versions/{old}..{new}",
        "GET /catalog/sections/{kind}",
        "GET /catalog/translations",
        "GET /catalog/translations.json",
        "GET /catalog/coverage",
        "GET /badges/{key}",
        "GET /badges/{key}/versions",
        "GET /users",
        "GET /users.csv",
        "GET /users/{user_id}",
        "GET /_/users/{user_id}",
        "GET /users/{user_id}/history",
        "GET /users/{user_id}/history.csv",
        "GET /awards",
        "GET /_/awards",
        "GET /awards.csv",
        "GET /awards/holders",
        "GET /awards/holders.csv",
        "GET /awards/holders/{key}",
        "GET /awards/quarantine",
        "GET /awards/quarantine.csv",
        "GET /_/awards/quarantine",
        "GET /dead-letters",
        "GET /dead-letters.csv",
        "GET /_/dead-letters",
        "GET /jobs",
        "GET /jobs.csv",
        "GET /jobs/{number}",
        "GET /_/jobs/{number}",
        "GET /diagnostics",
        "GET /diagnostics/milestone",
        "GET /settings",
        "GET /settings/connections",
        "GET /_/settings/connections",
        "POST /logout",
    ),
    SUPPORT: (
        "GET /why",
        "GET /users/{user_id}/why/{key}",
        "GET /users/{user_id}/grant",
        "POST /users/{user_id}/grant",
        "GET /users/{user_id}/revoke",
        "POST /users/{user_id}/revoke",
        "GET /users/{user_id}/export.json",
        "POST /awards/quarantine",
        "GET /dead-letters/{topic}/{partition}/{offset}",
        "POST /dead-letters/replay",
        "GET /dead-letters/replays/{replay_id}",
        "GET /_/dead-letters/replays/{replay_id}",
        "POST /dead-letters/replays/{replay_id}/stop",
        "GET /settings/audit",
        "GET /settings/audit.csv",
    ),
    AUTHORS: (
        "GET /catalog/new",
        "POST /catalog/new",
        "GET /badges/{key}/edit",
        "POST /badges/{key}/edit",
        "POST /_/lint",
        "POST /_/lint/{kind}",
        "GET /_/words",
        "GET /catalog/sections/{kind}/new",
        "POST /catalog/sections/{kind}/new",
        "GET /catalog/sections/{kind}/{name}/edit",
        "POST /catalog/sections/{kind}/{name}/edit",
        "POST /catalog/condition-types/try",
        "GET /catalog/proposals/{proposal_id}",
        "GET /_/catalog/proposals/{proposal_id}",
        "POST /catalog/proposals/{proposal_id}",
        "POST /catalog/versions/{version}/rollback",
        "POST /catalog/translations",
        "POST /_/catalog/translations",
        "POST /catalog/translations/import",
    ),
    EITHER: (
        "GET /diagnostics/dry-run",
        "GET /diagnostics/simulator",
        "POST /diagnostics/simulator",
        "GET /jobs/new",
        "POST /jobs/new",
        "GET /jobs/asks/{ask_id}",
        "GET /_/jobs/asks/{ask_id}",
        "POST /jobs/asks/{ask_id}",
        "POST /jobs/{number}/{act}",
    ),
    ADMIN: (
        "GET /users/{user_id}/erase",
        "POST /users/{user_id}/erase",
        "GET /settings/tokens",
        "POST /settings/tokens",
        "POST /settings/tokens/{number}/revoke",
    ),
}
#: The way in, and what a browser needs to show it: for anybody.
OPEN: Final = frozenset({"GET ", "GET /static/{path}", "GET /login", "POST /login", "GET /oidc", "GET /oidc/callback"})
WORLD: Final = {
    "key": "nice_question",
    "user_id": "u1",
    "kind": "ladders",
    "name": "commentator",
    "number": "1",
    "act": "cancel",
    "version": "1",
    "old": "1",
    "new": "2",
    "proposal_id": "p0",
    "ask_id": "j0",
    "replay_id": "r0",
    "topic": "badges.events",
    "partition": "3",
    "offset": "88",
}
#: What must be noted of a look: personal data that leaves.
_NOTED: Final = ("GET /users/{user_id}/export.json",)


def served(desk: FakeDesk, store: FakeStore | None = None) -> FastAPI:
    """The panel with a change of the catalog and a job that are looked at."""
    app = panel(desk, store)
    author = client(app, Role.AUTHOR)
    flow = '{"event": "comment.posted"}'
    form = {"label": "New", "flow": flow, "status": "active", "revocable": "never", "animation": "none"}
    assert author.post("/panel/catalog/new", data=form).headers["location"].endswith("/proposals/p0")
    assert author.post("/panel/jobs/new", data={"kind": "backfill"}).headers["location"].endswith("/asks/j0")
    desk.replay = Redrive(id="r0", total=5, found=Redriven(seen=3, tried=3, passed=2))
    return app


def test_every_route_stands_in_the_table() -> None:
    """A page or act that nobody decided on is told here, as is one that is no more."""
    named = [name for names in MAY.values() for name in names]
    assert len(named) == len(set(named))
    assert {name for name, _ in panel_routes()} == {*named, *OPEN}


def test_each_role_may_what_the_table_says() -> None:
    """Whoever may is answered, whoever may not is told the role that it needs, for every route and every role."""
    app = served(FakeDesk())
    clients = {role: client(app, role) for role in Role}
    wrong = []
    for roles, names in MAY.items():
        for name in names:
            method, _, path = name.partition(" ")
            for role, asking in clients.items():
                got = asking.request(method, f"/panel{filled(path, WORLD)}", headers={"HX-Request": "true"})
                let_in = got.status_code not in (401, 403, 404, 405)
                if let_in != (role in roles) or (not let_in and got.status_code != 403):
                    wrong.append((name, role, got.status_code))
                if not let_in and "needs the role" not in got.text:
                    wrong.append((name, role, got.text))
    assert wrong == []


def test_looking_changes_nothing() -> None:
    """No page, file or part does anything but show: acts are sent by forms; who took a user's data is noted."""
    desk, store = FakeDesk(), FakeStore()
    app = served(desk, store)
    looked_at = dict(desk.proposals)
    admin: Any = client(app, Role.ADMIN)
    for name, _ in panel_routes():
        method, _, path = name.partition(" ")
        if method == "GET" and name not in OPEN:
            for headers in ({}, {"HX-Request": "true"}):
                assert admin.get(f"/panel{filled(path, WORLD)}", headers=headers).status_code in (200, 303), name
            done = (
                desk.applied,
                desk.sent,
                store.changes,
                [one for one, _ in desk.reads.asked if one not in ("awards", "jobs", "waiting")],
            )
            if name in _NOTED:
                assert [change[1] for change in store.changes] == ["user.exported"] * 2
                store.changes.clear()
            else:
                assert done == ([], [], [], []), name
            assert desk.proposals == looked_at, name
