"""Every page of the panel, read from its routes, in two worlds: one of plain names, one whose texts are attacks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.integration.browsing import event, wait_for
from tests.integration.panel_served import Served
from tests.panel_routes import filled, panel_routes

#: What runs, closes a field, opens an attribute, follows a link, turns the line, or is a formula, where it is no text.
HOSTILE: Final = (
    "=1+1<script>window.hacked=1</script><img src=x onerror='hacked=1'>\" onmouseover=\"hacked=1\" '</textarea>"
    "<a href=javascript:hacked=1>x</a>\u202e{{7*7}}"
)
MARK: Final = "<script>window.hacked=1</script>"
#: Routes that show no page of their own: parts, files, ways to other pages, and the way in by another server.
NO_PAGES: Final = frozenset(
    {
        "GET ",
        "GET /static/{path}",
        "GET /oidc",
        "GET /oidc/callback",
        "GET /find",
        "GET /why",
        "GET /awards.csv",
        "GET /awards/holders.csv",
        "GET /awards/quarantine.csv",
        "GET /users.csv",
        "GET /jobs.csv",
        "GET /dead-letters.csv",
        "GET /settings/audit.csv",
        "GET /users/{user_id}/history.csv",
        "GET /users/{user_id}/export.json",
        "GET /catalog/translations.json",
    }
)
#: The same pages as another question shows them.
MORE: Final = (
    "/catalog/new?from=count",
    "/catalog/sections/event-types/answer.scored/edit",
    "/catalog/sections/milestones/new",
    "/catalog/sections/condition-types/new",
    "/catalog/translations?lang=fr",
    "/catalog/coverage?type=comment.posted",
    "/diagnostics/dry-run?user={user_id}&badge={key}",
    "/diagnostics/simulator?user={user_id}&play=1&log=1",
    "/diagnostics/milestone?badge={key}&lang=de&user={user_id}",
    "/dead-letters?reason=unknown_event_type",
    "/settings/connections?whole=1",
    "/nothing-here",
)
#: Pages on which the hostile texts are to be read.
SHOWN: Final = (
    "/",
    "/awards",
    "/awards/quarantine",
    "/badges/{key}",
    "/badges/{key}/edit",
    "/badges/{key}/versions",
    "/catalog",
    "/catalog/translations",
    "/dead-letters",
    "/dead-letters/{topic}/{partition}/{offset}",
    "/jobs/{number}",
    "/settings/audit",
    "/users",
    "/users/{user_id}",
    "/users/{user_id}/history",
    "/users/{user_id}/why/{key}",
)


def addresses(world: Mapping[str, str]) -> dict[str, str]:
    """The address of every page in a world, by its route; a page that is added to the panel is one of them."""
    routes = [
        name.partition(" ")[2]
        for name, _ in panel_routes()
        if name.startswith("GET ") and "/_/" not in name and name not in NO_PAGES
    ]
    return {one: filled(one, world) if one not in MORE else _asked(one, world) for one in (*routes, *MORE)}


def _asked(address: str, world: Mapping[str, str]) -> str:
    path, mark, query = address.partition("?")
    given = {name: quote(text, safe="") for name, text in world.items()}
    return filled(path, world) + mark + query.format_map(given)


def plain_world(panel: Served, page: Any) -> dict[str, str]:
    """Names of what the panel's tests begin with."""
    return _world(panel, page, "u1", "nice_answer")


def hostile_world(panel: Served, page: Any) -> dict[str, str]:
    """Names of a badge, a user, a dead letter and a job whose texts are all attacks; made here."""
    api = panel.address.replace("/panel", "/api/v1")
    flow = {"event": "comment.posted"}
    words = {"name": HOSTILE, "description": HOSTILE, "key": "hostile", "flow_definition": flow, "per": "note"}
    made = page.request.post(f"{api}/admin/badges", data={**words, "translations": {"de": {"label": HOSTILE}}})
    assert made.ok, made.text()
    assert page.request.patch(f"{api}/admin/badges/hostile", data={"description": f"{HOSTILE}!"}).ok
    panel.produce(
        event(HOSTILE, "comment.posted", note=HOSTILE),
        event(HOSTILE, "edit.approved"),
        {**event(HOSTILE, "comment.posted"), "type": HOSTILE},
    )
    wait_for(panel, page, "SELECT count(*) > 0 FROM user_badges WHERE badge_key = 'hostile'", "the award")
    wait_for(panel, page, f"SELECT count(*) > 0 FROM dead_letters WHERE user_id = {_sql(HOSTILE)}", "the letter")
    grant = {"badge": "commentator_5", "note": HOSTILE}
    there = f"{panel.address}/users/{quote(HOSTILE)}"
    assert page.request.post(f"{there}/grant", form=grant).ok
    wait_for(panel, page, f"SELECT count(*) > 1 FROM badge_awards_log WHERE user_id = {_sql(HOSTILE)}", "the grant")
    text = page.request.get(f"{there}/history.csv").text()
    assert "\"'=1+1<script>" in text, text
    assert '"=1+1' not in text
    return _world(panel, page, HOSTILE, "hostile")


def _world(panel: Served, page: Any, user_id: str, key: str) -> dict[str, str]:
    letter = panel.rows(
        f"""SELECT topic, partition, "offset" FROM dead_letters
            ORDER BY user_id = {_sql(user_id)} DESC NULLS LAST LIMIT 1"""
    )[0]
    number = panel.rows(
        "INSERT INTO user_jobs (kind, parameters, state, requested_by, note) VALUES ('recompute', "
        f"{_sql(json.dumps({'user': user_id}))}, 'done', {_sql(user_id)}, {_sql(user_id)}) RETURNING id"
    )[0]["id"]
    undone = page.request.post(f"{panel.address}/catalog/versions/1/rollback")
    asked = page.request.post(f"{panel.address}/jobs/new", form={"kind": "recompute", "badge": key})
    return {
        "key": key,
        "user_id": user_id,
        "kind": "ladders",
        "name": "commentator",
        "number": str(number),
        "old": "0",
        "new": "1",
        "proposal_id": undone.url.rpartition("/")[2],
        "ask_id": asked.url.rpartition("/")[2],
        "replay_id": _replayed(panel, page),
        "topic": letter["topic"],
        "partition": str(letter["partition"]),
        "offset": str(letter["offset"]),
    }


def _replayed(panel: Served, page: Any) -> str:
    """The id of a replay of a dead letter, whose page did not wait for it."""
    panel.rows(
        """INSERT INTO dead_letters (topic, partition, "offset", reason, detail, raw, sha256, length)
           SELECT 'elsewhere', 0, count(*), 'too_deep', '', '{', sha256('{'), 1 FROM dead_letters RETURNING 1"""
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.admin.panel.pages.redriving._PATIENCE", 0.0)
        form = {"which": "all", "reason": "too_deep", "verb": "replay"}
        watched = page.request.post(f"{panel.address}/dead-letters/replay", form=form)
    assert "/dead-letters/replays/" in watched.url, watched.url
    return str(watched.url.rpartition("/")[2])


def _sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
