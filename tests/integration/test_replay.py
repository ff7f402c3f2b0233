"""`badges replay` on a real broker and database: what is missing comes back, what is logged stays."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from tests.community import DEMO
from tests.contracts.conftest import WIPE
from tests.integration.test_worker import Rig, event, line, rig
from tests.rig.kafka import KafkaService
from tests.rig.postgres import execute
from worker import cli
from worker.app import Asked, apply_catalog, open_store, replay
from worker.app.replay import Outcome
from worker.config import DeadLetterLimit, Settings
from worker.errors import OperatorError
from worker.events import parse_instant
from worker.pipeline.replay import Replay
from worker.store.pool import open_connection
from worker.stream.connection import stop_quietly

__all__ = ["rig"]

ALL = Asked(from_offset=0)
AWARDS = "SELECT user_id, badge_key, context, awarded_at, origin FROM user_badges ORDER BY 1, 2, 3"


async def again(settings: Settings, asked: Asked = ALL, **more: Any) -> Outcome:
    """One replay to its end."""
    return await replay(settings, asked, actor="anna", begins=lambda _: None, told=lambda _: None, **more)


async def ready(rig: Rig) -> None:
    """A database that holds the rig's catalog."""
    async with open_store(rig.settings, name="test") as store:
        assert rig.settings.catalog is not None
        await apply_catalog(store, rig.settings.catalog, applied_by="test")


async def delete(settings: Settings, statement: str) -> None:
    """Damage the log, as only an accident could."""
    connection = await open_connection(settings.dsn, {"search_path": "badges"}, command_seconds=10)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL badges.removal = 'on'")
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_what_is_missing_is_applied_and_nothing_else(rig: Rig) -> None:
    """After a loss the replay brings back what was lost, quietly, at its own instant; live partitions stand still."""
    async with rig.working():
        await rig.produce(b"{", *(line(event(number)) for number in range(1, 4)))
        await rig.until_rows("SELECT 1 FROM events", lambda rows: len(rows) == 3, "the events")
    before = await rig.rows("SELECT group_id, next_offset, token FROM partitions ORDER BY topic")
    letters = await rig.rows("SELECT number, buried_at FROM dead_letters")
    outcome = await again(rig.settings)
    assert (outcome.facts.read, outcome.facts.known, outcome.facts.added) == (4, 3, 0)
    assert outcome.facts.letters.total() == 0
    said = len(await rig.rows("SELECT id FROM outbox"))
    for table in ("user_badges", "badge_awards_log", "events", "users"):
        await delete(rig.settings, f"DELETE FROM {table}")
    outcome = await again(rig.settings)
    assert (outcome.facts.read, outcome.facts.known, outcome.facts.added) == (4, 0, 3)
    found = await rig.rows(AWARDS)
    assert [(row["badge_key"], str(row["awarded_at"]), row["origin"]) for row in found] == [
        ("commentator_1", str(1772359201000000), "backfill"),
        ("commentator_2", str(1772359202000000), "backfill"),
    ]
    assert await rig.rows("SELECT number, buried_at FROM dead_letters") == letters
    assert await rig.rows("SELECT group_id, next_offset, token FROM partitions ORDER BY topic") == before
    assert len(await rig.rows("SELECT id FROM outbox")) == said + 1


async def test_what_is_not_applied_is_counted(
    real_kafka: KafkaService, rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of each record that was read the figures say what became of it, in the sentence as in the JSON."""
    await ready(rig)
    await delete(
        rig.settings, "INSERT INTO retention_floors (type, floor) VALUES ('comment.posted', '2026-02-01T00:00:00Z')"
    )
    await delete(
        rig.settings, "INSERT INTO erased_users (user_hash, erased_at) VALUES (sha256('gone'), '2026-03-02T00:00:00Z')"
    )
    old = event(8, occurred_at="2026-01-01T00:00:00Z")
    await rig.produce(b"{", line(event(1)), line(event(2)), line(event(1)), line(old), line(event(9, user_id="gone")))
    surroundings(monkeypatch, rig.settings)
    replays = ["replay", "--from-offset", "0"]
    capsys.readouterr()
    assert await asyncio.to_thread(cli.main, [*replays, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    figures = ("read", "already_logged", "added", "dead_letters", "dead_letters_known", "too_old", "erased")
    assert [found[name] for name in figures] == [6, 1, 2, 1, 0, 1, 1]
    assert await asyncio.to_thread(cli.main, replays) == 0
    assert (
        "6 read, 3 already logged, 0 added, 1 older than is kept, 1 of erased users, 1 dead letter known already, "
        "0 awards given quietly."
    ) in capsys.readouterr().out


async def test_a_replay_is_in_the_log_of_changes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who read which records again, and how, comes before; one that ended too early leaves another line that says why.

    What has nothing to read, or is refused, leaves none.
    """
    await ready(rig)
    await rig.produce(*(line(event(number)) for number in range(3)))
    surroundings(monkeypatch, rig.settings)
    monkeypatch.setattr("worker.cli.signing.getpass.getuser", lambda: "ada")
    for arguments, status in ((["0:3"], 0), (["0:9"], 1), (["0:1", "--rate", "500", "--allow-gaps"], 0)):
        assert await asyncio.to_thread(cli.main, ["replay", *arguments]) == status
    monkeypatch.setattr(Replay, "run", AsyncMock(side_effect=OperatorError("It was cut off.")))
    with pytest.raises(OperatorError):
        await again(rig.settings, Asked(places={(rig.topic, 0): 2}))
    lines = await rig.rows(
        "SELECT actor, action, subject, after, note FROM audit_log WHERE action LIKE 'rec%' ORDER BY id"
    )

    def told(start: int, **how: Any) -> dict[str, Any]:
        read = {"topic": rig.topic, "partition": 0, "from": start, "until": 3}
        return {"records": 3 - start, "ranges": [read], **how}

    assert [(*tuple(row)[:3], json.loads(row["after"]), row["note"]) for row in lines] == [
        ("ada (command)", "records.replayed", "records", told(1, rate=500.0, allow_gaps=True), ""),
        ("anna", "records.replayed", "records", told(2), ""),
        ("anna", "records.replayed.unsent", "records", told(2), "It was cut off."),
    ]


async def test_a_range_of_bad_records_is_not_drained_into_the_bin(rig: Rig) -> None:
    """A replay whose brake trips ends and says why; run again without it, it goes on where it was."""
    await ready(rig)
    await rig.produce(*(line(event(number, type="comment.postde")) for number in range(12)), line(event(20)))
    limit = DeadLetterLimit(share=0.5, seconds=60.0, least=4)
    braked = rig.settings.model_copy(update={"dead_letter_limit": limit, "batch_max_events": 4})
    with pytest.raises(OperatorError, match="most often for unknown_event_type") as ended:
        await again(braked)
    assert "run the same command again" in str(ended.value.help)
    letters = (await rig.rows("SELECT count(*) FROM dead_letters"))[0][0]
    assert 4 <= letters < 12
    outcome = await again(rig.settings.model_copy(update={"dead_letter_limit": None}))
    assert (outcome.facts.resumed, outcome.facts.letters.total(), outcome.facts.added) == (letters, 12 - letters, 1)


async def test_awards_of_a_replay_are_told_to_nobody(rig: Rig) -> None:
    """Messages of a replay carry `notify: false`."""
    await ready(rig)
    await rig.produce(line(event(1)))
    await again(rig.settings)
    async with open_store(rig.settings, name="test") as store:
        rows = [row for shard in range(4) for row in await store.unpublished([shard], 10)]
    bodies = [json.loads(message.value or b"") for row in rows for message in row.messages]
    assert [(body["badge_key"], body["origin"], body["notify"]) for body in bodies] == [
        ("commentator_1", "backfill", False)
    ]


async def test_ranges(real_kafka: KafkaService, rig: Rig) -> None:
    """A range ends before its end, by offset as by time; from a time on, what was stamped earlier is not read."""
    await ready(rig)
    producer = AIOKafkaProducer(bootstrap_servers=rig.settings.kafka_bootstrap_servers)
    await producer.start()
    try:
        for number in range(10):
            stamp = 1_772_359_200_000 + number * 1000
            await producer.send_and_wait(rig.topic, line(event(number)), key=b"u1", partition=0, timestamp_ms=stamp)
    finally:
        await stop_quietly(producer)
    place, at = (rig.topic, 0), 1_772_359_200_000_000
    for asked, read in (
        (Asked(places={place: 3}, until_places={place: 5}), ["e3", "e4"]),
        (Asked(from_us=at + 6_000_000, until_us=at + 7_000_000), ["e6"]),
        (Asked(from_us=at + 8_000_001), ["e9"]),
        (Asked(from_offset=8, until_offset=9), ["e8"]),
        (Asked(from_us=at + 60_000_000), []),
        (Asked(places={place: 10}), []),
    ):
        await delete(rig.settings, "DELETE FROM events")
        outcome = await again(rig.settings, asked)
        assert [row["id"] for row in await rig.rows("SELECT id FROM events ORDER BY id")] == read
        assert outcome.facts.read == len(read)


async def test_an_interrupted_replay_goes_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off in the middle, what was read is committed; the same replay goes on there, and leaves no row behind."""
    await ready(rig)
    await rig.produce(*(line(event(number)) for number in range(50)))
    small = rig.settings.model_copy(update={"batch_max_events": 10})
    applied = Replay._applied

    def cut(self: Replay, facts: Any) -> None:
        applied(self, facts)
        if self.facts.read >= 20:
            raise OperatorError("cut off")

    monkeypatch.setattr(Replay, "_applied", cut)
    with pytest.raises(OperatorError):
        await again(small)
    monkeypatch.setattr(Replay, "_applied", applied)
    (row,) = await rig.rows("SELECT next_offset FROM partitions WHERE group_id LIKE '%/replay/%' AND next_offset > 0")
    assert row["next_offset"] == len(await rig.rows("SELECT 1 FROM events"))
    outcome = await again(small)
    assert (outcome.facts.resumed, outcome.facts.read) == (row["next_offset"], 50 - row["next_offset"])
    assert len(await rig.rows("SELECT 1 FROM events")) == 50
    assert not await rig.rows("SELECT 1 FROM partitions WHERE group_id LIKE '%/replay/%'")


async def test_rate(rig: Rig) -> None:
    """Not more records than asked for are read in a second."""
    await ready(rig)
    await rig.produce(*(line(event(number)) for number in range(30)))
    began = asyncio.get_running_loop().time()
    outcome = await again(rig.settings, rate=20)
    assert outcome.facts.read == 30
    assert asyncio.get_running_loop().time() - began > 0.4


async def test_records_that_expired_are_named(real_kafka: KafkaService, rig: Rig) -> None:
    """Where the topic's retention has cut the range, the gap is named and nothing is read, unless that is allowed."""
    await ready(rig)
    await rig.produce(*(line(event(number)) for number in range(10)))
    admin = AIOKafkaAdminClient(bootstrap_servers=rig.settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(rig.topic, 0): RecordsToDelete(before_offset=4)})
    finally:
        await admin.close()
    for asked in (ALL, Asked(places={(rig.topic, 0): 2}), Asked(from_us=0)):
        with pytest.raises(OperatorError, match=f"{rig.topic}:0 begins at offset 4: .*offsets [02] to 3"):
            await again(rig.settings, asked)
    assert not await rig.rows("SELECT 1 FROM events")
    assert (await again(rig.settings, replace(ALL, allow_gaps=True))).facts.read == 6


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--from-offset", "99"], "The partitions end at offset 2, before 99"),
        (["0:99"], "0 ends at offset 2, before 99"),
        (["7:0"], "has no partition 7"),
        (["nothing:0:0"], '"nothing" is no topic that is read'),
        (["--from-offset", "2", "--until", "1"], "The end lies before the start"),
        (["0:2", "--until", "0:1"], "The end lies before the start"),
        (["--from-time", "2026-03-01T00:00:00Z", "--until", "2026-02-01T00:00:00Z"], "The end lies before the start"),
        (["0:1", "--until", "{control}:0:0"], ":0, which is not read: no start names it. Nothing was read."),
        (["--from-offset", "2", "--until", "0:1"], "0 starts at offset 2 and ends at 1; nothing was read."),
        (["--from-time", "2026-03-01T00:00:00Z", "--until", "0:50"], "0 ends at offset 2, before 50"),
        (["--from-time", "2999-01-01T00:00:00Z", "--until", "0:1"], "0 starts at offset 2 and ends at 1"),
        (["--from-offset", "0", "--until", "50"], "The partitions end at offset 2, before 50"),
        (["--from-offset", "0"], "The database holds no catalog"),
    ],
)
async def test_what_cannot_be_read_is_one_sentence(
    rig: Rig,
    real_kafka: KafkaService,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    """Ranges that are not there, turned round or of no topic are refused in a sentence; nothing is changed."""
    await rig.produce(line(event(1)), line(event(2)))
    surroundings(monkeypatch, rig.settings)
    places = [one.format(control=rig.settings.control_topic) for one in arguments]
    assert await asyncio.to_thread(cli.main, ["replay", *places]) == 1
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("error:") == 1
    assert "Traceback" not in said.err
    assert not await rig.rows("SELECT 1 FROM events")
    assert not await rig.rows("SELECT 1 FROM partitions")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"BADGES_DATABASE_URL": "postgresql://u@127.0.0.1:1/x"}, "The database 127.0.0.1:1/x cannot be used now"),
        ({"BADGES_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "Kafka at 127.0.0.1:1 refused the connection."),
        ({"BADGES_EVENT_TOPICS": "no.such"}, 'has no topic "no.such"'),
    ],
)
async def test_a_service_that_is_away_is_one_sentence(
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    sentence: str,
) -> None:
    """Without its database, broker or topic a replay says so in one sentence."""
    surroundings(monkeypatch, rig.settings)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert await asyncio.to_thread(cli.main, ["replay", "--from-offset", "0"]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("error:") == 1


async def test_without_tables(
    rig: Rig, empty_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database that was never migrated is named as such."""
    surroundings(monkeypatch, rig.settings)
    monkeypatch.setenv("BADGES_DATABASE_URL", empty_dsn)
    assert await asyncio.to_thread(cli.main, ["replay", "--from-offset", "0"]) == 1
    assert "help: run `badges db migrate`" in capsys.readouterr().err


def surroundings(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """The rig's settings as the environment of a command, without a catalog file."""
    for field in (
        *("kafka_bootstrap_servers", "award_topic", "dead_letter_topic", "control_topic", "group_id"),
        *("session_timeout_ms", "metrics_port"),
    ):
        monkeypatch.setenv(f"BADGES_{field.upper()}", str(getattr(settings, field)))
    monkeypatch.setenv("BADGES_DATABASE_URL", settings.dsn)
    monkeypatch.setenv("BADGES_EVENT_TOPICS", settings.event_topics.names[0])
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")


async def test_a_community_out_of_its_topic(
    real_kafka: KafkaService,
    rig: Rig,
    fresh_topic: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From offset 0 into an empty database: a real community's 527 awards, each at its instant; again after a wipe."""
    topic = fresh_topic("town")
    await real_kafka.create_topic(topic, 6)
    await fill(rig.settings, topic)
    surroundings(monkeypatch, rig.settings)
    monkeypatch.setenv("BADGES_EVENT_TOPICS", topic)
    ids = []
    for _ in range(2):
        await execute(rig.settings.dsn, WIPE)
        for command in (
            ["db", "migrate"],
            ["catalog", "apply", str(DEMO / "catalog.yaml")],
            ["replay", "--from-offset", "0"],
        ):
            assert await asyncio.to_thread(cli.main, command) == 0, capsys.readouterr().err
        assert "8,391 read, 0 already logged, 8,391 added, 527 awards given quietly" in capsys.readouterr().out
        found = await rig.rows(
            "SELECT user_id, badge_key, context, awarded_at, award_id FROM user_badges ORDER BY 1, 2, 3"
        )
        assert [tuple(row)[:4] for row in found] == expected()
        ids.append([row["award_id"] for row in found])
    assert ids[0] == ids[1]


async def fill(settings: Settings, topic: str) -> None:
    """The community's events, keyed by user."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers, linger_ms=20)
    await producer.start()
    try:
        with gzip.open(DEMO / "events.jsonl.gz", "rb") as lines:
            for text in filter(None, map(bytes.strip, lines)):
                await producer.send(topic, text, key=json.loads(text)["user_id"].encode())
        await producer.flush()
    finally:
        await stop_quietly(producer)


def expected() -> list[tuple[str, str, str, int]]:
    """The awards that brute force over the community's history gives."""
    awards = [json.loads(text) for text in (DEMO / "expected.jsonl").read_text().splitlines() if text]
    return sorted(
        (one["user_id"], one["badge_key"], one["context"], parse_instant(one["awarded_at"])) for one in awards
    )
