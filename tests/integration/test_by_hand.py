"""Grants, revocations, breakers and releases on a real broker and database, by the commands as people type them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.integration.test_stream_producer import stored
from tests.integration.test_worker import Rig, event, fetch, line, rig
from tests.rig.waiting import until
from worker import cli, logs
from worker.app import apply_catalog, open_store
from worker.config import Settings
from worker.jobs.base import Run as JobRun
from worker.jobs.holders import Holders

__all__ = ["rig"]

CATALOG = """
version: 1
events: {comment.posted: {description: A comment was posted.}, item.added: {}, item.removed: {}}
metrics: {owned: {count: item.added, less: item.removed}}
badges:
  - {key: helper, label: Helper, description: By hand,
     flow: {event: comment.posted, criteria: {$eventCount: {$gte: 9}}}}
  - {key: owner, label: Owner, description: Two of them, revocable: auto, flow: {snapshot: {owned: {$gte: 2}}}}
  - {key: crowd, label: Crowd, description: One comment, breaker: {limit: 3}, flow: {event: comment.posted}}
  - {key: after, label: After, description: Of the crowd, flow: {badge: crowd}}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command on the test's services; status, output, errors."""
    rig.settings.catalog.write_text(CATALOG)  # type: ignore[union-attr]
    said = rig.settings
    for name in ("event_topics", "award_topic", "dead_letter_topic", "control_topic", "kafka_bootstrap_servers"):
        value = getattr(said, name)
        monkeypatch.setenv(f"BADGES_{name.upper()}", value if isinstance(value, str) else value.names[0])
    monkeypatch.setenv("BADGES_DATABASE_URL", said.dsn)
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")
    monkeypatch.setenv("BADGES_LOG_LEVEL", "error")
    # the worker of the test is in this process, and its lines are not to stand in what a command prints
    logs.configure(said.model_copy(update={"log_level": "error"}))

    def ran(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(arguments)
        said = capsys.readouterr()
        return status, said.out, said.err

    return ran


async def messages(settings: Settings) -> list[dict[str, Any]]:
    """What was published about awards."""
    return [
        json.loads(value or b"{}") for _, value in await stored(settings.kafka_bootstrap_servers, settings.award_topic)
    ]


def of_user(number: int, kind: str = "comment.posted", **changes: Any) -> bytes:
    """An event of a user of this number."""
    return line(event(number, type=kind, user_id=f"u{number}", payload={}) | changes)


HELD = "SELECT user_id, badge_key, source FROM user_badges ORDER BY user_id, badge_key"


async def test_what_people_give_and_take(rig: Rig, run: Run) -> None:
    """A grant and a revocation by command change what is held and are said once each; mistakes are one sentence."""

    async def ran(*arguments: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(run, *arguments)

    async with rig.working():
        await rig.produce(of_user(1, "item.added"))
        await rig.until_rows("SELECT 1 FROM users", bool, "the user's first event")
        note = ("--note", "For the talk", "--actor", "ada")
        status, _, said = await ran("grants", "add", "u1", "--badge", "hepler", *note)
        assert (status, "no badge hepler. Did you mean helper? Nothing was sent." in said) == (1, True)
        status, _, said = await ran("grants", "add", "nobody", "--badge", "helper", *note)
        assert (status, "There is no user nobody" in said) == (1, True)
        status, _, said = await ran("grants", "revoke", "u1", "--badge", "helper", *note)
        assert (status, "u1 does not hold helper" in said) == (1, True)
        assert (await ran("grants", "add", "u1", "--badge", "helper"))[0] == 2
        with pytest.MonkeyPatch.context() as away:
            away.setenv("BADGES_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
            status, out, said = await ran("grants", "add", "u1", "--badge", "helper", *note)
        assert (status, out, said[:7]) == (1, "", "error: "), said
        rows = await rig.rows("SELECT actor, action, subject, note FROM audit_log ORDER BY id DESC LIMIT 2")
        assert [tuple(row)[:3] for row in rows] == [
            ("ada", "grant.added.unsent", "user u1"),
            ("ada", "grant.added", "user u1"),
        ]
        assert (rows[0]["note"] in said, rows[1]["note"]) == (True, "For the talk")
        status, out, _ = await ran("grants", "add", "u1", "--badge", "helper", *note)
        assert (status, "helper is given to u1" in out) == (0, True)
        await rig.until_rows(
            HELD, lambda rows: [tuple(row) for row in rows] == [("u1", "helper", "manual")], "granting"
        )
        assert "holds helper already" in (await ran("grants", "add", "u1", "--badge", "helper", *note))[1]
        assert (await ran("grants", "revoke", "u1", "--badge", "helper", "--note", "No talk"))[0] == 0
        await rig.until_rows(HELD, lambda rows: not rows, "revoking")
        assert "was taken from u1 already" in (await ran("grants", "revoke", "u1", "--badge", "helper", *note))[1]
        await rig.produce(of_user(1, "item.added", id="two"), of_user(1, "item.removed", id="three"))
        log = "SELECT badge_key, kind, source, reason FROM badge_awards_log ORDER BY sequence"
        rows = await rig.until_rows(log, lambda rows: len(rows) == 4, "falling")
        assert [tuple(row) for row in rows] == [
            ("helper", "awarded", "manual", None),
            ("helper", "revoked", "manual", "No talk"),
            ("owner", "awarded", "auto", None),
            ("owner", "revoked", "auto", "What it takes no longer holds."),
        ]
        await rig.until_rows("SELECT 1 FROM outbox WHERE published_at IS NULL", lambda rows: not rows, "publishing")
    said = [(body["type"], body["badge_key"], body["sequence"]) for body in await messages(rig.settings)]
    assert said == [
        ("badge.awarded", "helper", 1),
        ("badge.revoked", "helper", 2),
        ("badge.awarded", "owner", 3),
        ("badge.revoked", "owner", 4),
    ]


async def test_a_mass_award_is_held_released_and_dropped(rig: Rig, run: Run) -> None:
    """Beyond the limit awards are held, and seen in the metrics; each is released once, or dropped for good."""

    async def ran(*arguments: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(run, *arguments)

    async with rig.working() as worker:
        await rig.produce(*(of_user(number) for number in range(1, 9)))
        held = "SELECT user_id FROM withheld_awards WHERE state = 'held' ORDER BY user_id"
        rows = await rig.until_rows(held, lambda rows: len(rows) == 5, "holding back")
        users = [row["user_id"] for row in rows]
        metrics = await asyncio.to_thread(fetch, worker, "/metrics")
        assert 'badges_awards_held_back_total{badge="crowd"} 5.0' in metrics
        status, out, _ = await ran("quarantine", "list", "--format", "json")
        assert (status, [(one["badge"], one["awards"]) for one in json.loads(out)]) == (0, [("crowd", 5)])
        status, out, _ = await ran("quarantine", "list", "--badge", "crowd", "--format", "json", "--limit", "2")
        assert [one["user_id"] for one in json.loads(out)] == users[:2]
        note = ("--note", "It was real", "--actor", "ada")
        assert (await ran("quarantine", "release", "--badge", "crowd", *note))[0] == 2
        assert (await ran("quarantine", "release", "--badge", "crowd", "--all", *note))[0] == 2
        status, _, said = await ran("quarantine", "release", "--badge", "helper", "--all", "--yes", *note)
        assert (status, "No award of helper is held." in said) == (1, True)
        drop = ("quarantine", "drop", "--badge", "crowd", "--user", users[0], *note)
        status, _, said = await ran(*drop)
        assert (status, "A drop cannot be undone: write --confirm crowd, or --yes." in said) == (2, True)
        status, _, said = await ran(*drop, "--confirm", "helper")
        assert (status, "--confirm says 'helper', and the badge is 'crowd'" in said) == (2, True)
        assert len(await rig.rows(held)) == 5
        status, out, _ = await ran(*drop, "--confirm", "crowd")
        assert (status, "Dropped 1 award of crowd" in out) == (0, True)
        status, out, _ = await ran("quarantine", "release", "--badge", "crowd", "--all", "--yes", *note)
        assert (status, "Released 4 awards of crowd" in out) == (0, True)
        crowd = "SELECT user_id, badge_key, origin FROM user_badges ORDER BY user_id, badge_key"
        rows = await rig.until_rows(crowd, lambda rows: len(rows) == 14, "those who ask for it being given theirs")
        assert {row["user_id"] for row in rows} == {f"u{number}" for number in range(1, 9)} - {users[0]}
        await rig.produce(of_user(int(users[0][1:]), id="again"))
        await rig.until_rows("SELECT 1 FROM events WHERE id = 'again'", bool, "one more event of who was dropped")
        await rig.until_rows("SELECT 1 FROM outbox WHERE published_at IS NULL", lambda rows: not rows, "publishing")
        gauge = "SELECT reason FROM badge_awards_log WHERE reason IS NOT NULL"
        assert {row["reason"] for row in await rig.rows(gauge)} == {"released by ada: It was real"}
    said = Counter((body["user_id"], body["badge_key"]) for body in await messages(rig.settings))
    assert set(said.values()) == {1}
    assert len(said) == 14
    earned = {body["awarded_at"] for body in await messages(rig.settings) if body["badge_key"] == "crowd"}
    assert len(earned) == 7


async def test_a_producer_ahead_of_the_clock_opens_no_breaker(rig: Rig, run: Run) -> None:
    """One record stamped later than the breaker's window lets no more through than its limit."""
    path = rig.settings.catalog
    assert path is not None
    path.write_text(CATALOG.replace("breaker: {limit: 3}", "breaker: {limit: 3, window: 5min}"))
    await rig.produce(of_user(1), ahead_seconds=1800)
    await rig.produce(*(of_user(number) for number in range(2, 11)))
    async with rig.working():
        held = "SELECT 1 FROM withheld_awards WHERE state = 'held'"
        await rig.until_rows(held, lambda rows: len(rows) == 7, "holding back")
        assert await rig.rows("SELECT 1 FROM award_tallies WHERE minute > now()") == []


#: 28 days of awards of `crowd`, three to five a day and four in the median, but for two wild ones.
MONTH = """
INSERT INTO badge_awards_log (user_id, badge_key, context, award_id, awarded_at, source, origin, sequence,
    catalog_version, logged_at)
SELECT 'past ' || day || ' ' || number, 'crowd', '', gen_random_uuid(), at, 'auto', 'live', 1, 1, at
FROM generate_series(1, 28) AS day
CROSS JOIN generate_series(1, CASE WHEN day IN (3, 11) THEN 90 ELSE 3 + day % 3 END) AS number
CROSS JOIN LATERAL (
    SELECT date_trunc('day', now(), 'UTC') - make_interval(days => day) + interval '1 hour' AS at
) AS t
RETURNING 1
"""


async def test_a_mass_award_is_held_to_what_is_usual(rig: Rig, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond three times what the last four weeks say of a day, whatever their wild days, awards are held back until a
    person releases them; each is given and said once.
    """
    monkeypatch.setattr("worker.app.worker.GAUGE_SECONDS", 0.05)
    path = rig.settings.catalog
    assert path is not None
    path.write_text(CATALOG.replace("breaker: {limit: 3}", "breaker: {factor: 3, limit: 1}"))
    async with open_store(rig.settings, name="test") as store:
        await apply_catalog(store, path, applied_by="test")
        await rig.rows(MONTH)

        async def mark(_: str) -> None:
            return

        await Holders(store).run(JobRun(0, None, forced=False, progress="", mark=mark))
        assert (await store.badge_baselines())["crowd"].usual == 4.0
    users = [f"u{number}" for number in range(1, 21)]
    async with rig.working() as worker:
        gauge = partial(worker.metrics.registry.get_sample_value, "badges_quarantined")
        await rig.produce(*(of_user(number) for number in range(1, 21)))
        held = "SELECT user_id FROM withheld_awards WHERE state = 'held'"
        waiting = {row["user_id"] for row in await rig.until_rows(held, lambda rows: len(rows) == 8, "holding back")}
        await until(lambda: gauge() == 8.0, "the gauge")
        given = {row["user_id"] for row in await rig.rows("SELECT user_id FROM user_badges WHERE badge_key = 'crowd'")}
        assert given | waiting == set(users)
        assert len(given) == 12
        note = ("--note", "It was real", "--actor", "ada")
        for said in ("Released 8 awards of crowd", "No award of crowd is held"):
            status, out, err = await asyncio.to_thread(
                run, "quarantine", "release", "--badge", "crowd", "--all", "--yes", *note
            )
            assert said in out + err, (status, out, err)
        await until(lambda: gauge() == 0.0, "the gauge")
        await rig.until_rows("SELECT 1 FROM user_badges", lambda rows: len(rows) == 40, "those who ask for it theirs")
        await rig.until_rows("SELECT 1 FROM outbox WHERE published_at IS NULL", lambda rows: not rows, "publishing")
    said_of = Counter((body["user_id"], body["badge_key"]) for body in await messages(rig.settings))
    assert said_of == Counter((user, badge) for user in users for badge in ("crowd", "after"))
