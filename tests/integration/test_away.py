"""A worker that was away while the catalog changed more than once: it goes on as if it had seen every version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import oracle
from tests.rig.applying import hold
from tests.rig.faults import store
from worker.app import apply_catalog, working_plan
from worker.events import Event, parse_instant
from worker.pipeline.batch import CatalogMoved
from worker.pipeline.build import Build
from worker.rules.plan import Plan
from worker.store.postgres import PostgresStore

__all__ = ["store"]

BADGES: Mapping[str, Mapping[str, Any]] = {
    "posts": {"event": "post.made", "criteria": {"$eventCount": {"$gte": 2}}},
    "likes": {"event": "like.got", "criteria": {"$eventCount": {"$gte": 3}}},
    "days": {"event": "post.made", "criteria": {"$timePeriod": {"periodType": "day", "periodCount": {"$gte": 2}}}},
}
#: What each version has: a memory goes, comes again, and another one comes.
VERSIONS = {1: ("posts", "likes"), 2: ("posts",), 3: ("posts", "likes"), 4: ("posts", "likes", "days")}
#: What came while each version ruled: the user, and by day what was done. The worker that was away has those of the
#: first version, and what came last; another one has those between.
CAME = {
    1: (
        ("a", {1: "post.made", 2: "like.got", 3: "like.got"}),
        ("b", {1: "post.made", 2: "like.got", 3: "like.got"}),
        ("c", {1: "like.got", 2: "like.got"}),
        ("e", {1: "like.got", 2: "like.got", 3: "like.got"}),
    ),
    2: (("a", {4: "like.got"}), ("c", {4: "like.got"}), ("e", {4: "like.got"})),
    3: (("a", {5: "post.made"}), ("d", {1: "like.got", 2: "like.got", 3: "like.got", 4: "post.made"})),
    4: (("b", {6: "like.got", 7: "post.made"}), ("e", {8: "post.made"})),
}


def document(version: int) -> dict[str, Any]:
    """The catalog of a version."""
    badges = [{"key": key, "flow": BADGES[key]} for key in VERSIONS[version]]
    return {"version": 1, "events": {"post.made": {}, "like.got": {}}, "badges": badges}


def came(version: int) -> list[dict[str, Any]]:
    """The events that came while a version ruled."""
    return [
        {
            "id": f"{user}{day}",
            "type": kind,
            "user_id": user,
            "occurred_at": f"2026-03-{day:02}T12:00:00Z",
        }
        for user, done in CAME[version]
        for day, kind in done.items()
    ]


def by_brute_force() -> set[tuple[str, str, int, str]]:
    """All awards there are to be, from the whole log; live where the badge was in the catalog as its event came."""
    ruled = {one["id"]: version for version in CAME for one in came(version)}
    log = [
        Event(one["user_id"], one["type"], parse_instant(one["occurred_at"]), "", one["id"], {}, "{}")
        for version in CAME
        for one in came(version)
    ]
    return {
        (user, key, at_us, "live" if key in VERSIONS[ruled[event_id]] else "backfill")
        for user, key, _, at_us, event_id, _ in oracle.awards(document(4), log)
    }


async def rule(store: PostgresStore, folder: Path, version: int) -> Plan:
    """Let a version rule; its plan."""
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump(document(version)))
    assert (await apply_catalog(store, path, applied_by="test"))[0] == version
    plan = await working_plan(store)
    assert plan is not None
    return plan


async def awards(store: PostgresStore) -> list[tuple[Any, ...]]:
    """What users hold: the user, the badge, since when, and where it came from."""
    found = await store.pool.fetch("SELECT user_id, badge_key, awarded_at, origin FROM user_badges")
    return [tuple(row) for row in found]


async def test_a_worker_that_was_away_for_three_versions(store: PostgresStore, tmp_path: Path) -> None:
    """Whom it remembers from its own version is given all that is due by the one that rules, once, and told right."""
    away = await hold(store, await rule(store, tmp_path, 1))
    await away.take(*came(1))
    for version in (2, 3):
        plan = await rule(store, tmp_path, version)
        other = await hold(store, plan, partition=1, generation=version)
        await other.take(*came(version))
    plan = await rule(store, tmp_path, 4)
    with pytest.raises(CatalogMoved) as moved:
        await away.take(*came(4))
    assert moved.value.head == plan.version == plan.basis == 4
    away.applier.use(plan)
    await away.take(*came(4))
    wanted = by_brute_force()
    assert {one for one in await awards(store) if one[0] in "be"} == {one for one in wanted if one[0] in "be"}
    await _build(away.applier)
    given = await awards(store)
    assert (set(given), len(given)) == (wanted, len(wanted))
    assert await store.pool.fetchval("SELECT count(*) FROM badge_awards_log") == len(given)
    assert {row["built_version"] for row in await store.pool.fetch("SELECT built_version FROM users")} == {4}


async def _build(applier: Any) -> None:
    """Build whoever did not come again."""

    async def moved(head: int) -> None:
        raise AssertionError(f"the catalog moved to {head}")

    build, done = Build(applier, lambda _: None, moved), False
    for _ in range(9):
        facts = await build.slice()
        done = done or (facts is not None and facts.done)
    assert done
