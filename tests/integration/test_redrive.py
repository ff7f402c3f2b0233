"""Dead letters after a fix: applied as the records they were, once, whole; the rest stays and says why."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.test_replay import surroundings
from tests.integration.test_worker import CATALOG, Rig, event, line, rig
from tests.rig.faults import Faults
from tests.rig.kafka import KafkaService
from worker import cli
from worker.app import apply_catalog, open_store
from worker.app.dead_letters import redrive_letters
from worker.app.redrives import Redrives
from worker.auditing import letters_line
from worker.errors import OperatorError, TransientError
from worker.pipeline.redrive import Redriven
from worker.store.dead_letters import LetterFilter
from worker.stream.connection import stop_quietly

__all__ = ["rig"]

#: What the rig's catalog does not know, and a mended one does.
MENDED = (
    CATALOG.replace("  comment.liked:", "  comment.shared: {description: Shared.}\n  comment.liked:").replace(
        "metrics:", "metrics:\n  shares: {count: comment.shared}"
    )
    + '  - {key: sharer, metric: shares, levels: [1], label: Sharer, description: "{level} shares"}\n'
)
ANY = LetterFilter()
LINE = letters_line("anna", letters=3, chosen={})


def shared(number: int, **changes: Any) -> bytes:
    """A record of a type that the first catalog does not know."""
    return line(event(number, type="comment.shared", payload={}) | changes)


async def buried(rig: Rig, *values: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
    """Records that went through a worker."""
    producer = AIOKafkaProducer(bootstrap_servers=rig.settings.kafka_bootstrap_servers, max_request_size=2_000_000)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(rig.topic, value, key=b"u1", partition=0, headers=headers or [])
    finally:
        await stop_quietly(producer)
    async with rig.working():
        (end,) = {len(values)}
        await rig.until_rows(
            f"SELECT next_offset FROM partitions WHERE topic = '{rig.topic}'",
            lambda rows: bool(rows) and rows[0]["next_offset"] >= end,
            "the last record being read",
        )


async def mend(rig: Rig) -> None:
    """A catalog that knows the type."""
    path = rig.folder / "mended.yaml"
    path.write_text(MENDED)
    async with open_store(rig.settings, name="test") as store:
        await apply_catalog(store, path, applied_by="test")


async def test_after_a_fix_they_pass(rig: Rig, real_kafka: KafkaService) -> None:
    """Of the letters those that are events by now are applied with the ids of their places; the others keep waiting."""
    no_id = json.loads(shared(2))
    del no_id["id"]
    large = shared(3, payload={"text": "x" * 100_000})
    await buried(rig, shared(1), json.dumps(no_id).encode(), large, b"{", shared(1))
    before = await rig.rows("SELECT count(*) FROM outbox")
    async with open_store(rig.settings, name="test") as store:
        assert (await redrive_letters(store, rig.settings, ANY)).kept == {"unknown_event_type": 4, "not_json": 1}
        await mend(rig)
        dry = await redrive_letters(store, rig.settings, ANY, dry=True)
        assert (dry.tried, dry.passed, dry.awards.total(), dry.kept) == (5, 4, 1, {"not_json": 1})
        assert not await rig.rows("SELECT 1 FROM events")
        assert await rig.rows("SELECT count(*) FROM outbox") == before
        found = await redrive_letters(store, rig.settings, LetterFilter(reason="unknown_event_type"))
        assert (found.tried, found.passed, found.known, found.lost) == (4, 4, 1, 0)
        assert (await redrive_letters(store, rig.settings, LetterFilter(reason="unknown_event_type"))).tried == 0
        assert [one.offset for one in await store.dead_letters(state="new")] == [3]
    ids = {row["id"] for row in await rig.rows("SELECT id FROM events")}
    assert ids == {"e1", "e3", f"kafka:{rig.topic}:1:00000:{1:020}"}
    (award,) = await rig.rows("SELECT badge_key, origin FROM user_badges")
    assert tuple(award) == ("sharer_1", "backfill")


async def test_headers_are_part_of_a_letter(rig: Rig) -> None:
    """A CloudEvent in binary form lives in its headers: they are kept, and read again with the value."""
    texts = {"specversion": "1.0", "type": "comment.shared", "id": "c1", "source": "x", "subject": "u1"}
    headers = [(f"ce_{name}", text.encode()) for name, text in (texts | {"time": "2026-03-01T10:00:00Z"}).items()]
    await buried(rig, b"{}", headers=[*headers, ("content-type", b"application/json")])
    await mend(rig)
    async with open_store(rig.settings, name="test") as store:
        assert (await redrive_letters(store, rig.settings, ANY)).passed == 1
    assert [row["id"] for row in await rig.rows("SELECT id FROM events")] == ["c1"]


async def test_what_the_topic_no_longer_holds_stays(rig: Rig) -> None:
    """A letter that was cut off, whose record is another one by now, is told and left alone."""
    await buried(rig, shared(1, payload={"text": "x" * 100_000}))
    await mend(rig)
    await rig.rows("UPDATE dead_letters SET sha256 = '\\x00' RETURNING 1")
    async with open_store(rig.settings, name="test") as store:
        found = await redrive_letters(store, rig.settings, ANY)
        assert (found.tried, found.lost) == (0, 1)
        (letter,) = await store.dead_letters()
    assert letter.state == "new"


async def test_chosen_by_type_topic_time_and_place(rig: Rig) -> None:
    """Only the letters that were asked for are tried."""
    await buried(rig, shared(1), line(event(2, type="comment.lost")), b"{")
    async with open_store(rig.settings, name="test") as store:

        async def tried(wanted: LetterFilter) -> int:
            found = (await redrive_letters(store, rig.settings, wanted, dry=True)).tried
            assert (await store.count_letters(wanted))[0] == found
            return found

        assert await tried(LetterFilter(event_type="comment.lost")) == 1
        assert await tried(LetterFilter(topic="other")) == 0
        assert await tried(LetterFilter(topic=rig.topic)) == 3
        assert await tried(LetterFilter(since_us=4_000_000_000_000_000)) == 0
        assert await tried(LetterFilter(places=((rig.topic, 0, 2),))) == 1


async def test_so_many_are_looked_at(rig: Rig) -> None:
    """A trial looks at the oldest alone where it is told how many, and says how many it looked at."""
    await buried(rig, shared(1), b"{", shared(2), shared(3))
    await mend(rig)
    async with open_store(rig.settings, name="test") as store:
        found = await redrive_letters(store, rig.settings, ANY, dry=True, most=3)
        assert (found.seen, found.tried, found.passed) == (3, 3, 2)
        typed = await redrive_letters(store, rig.settings, LetterFilter(event_type="comment.shared"), dry=True, most=2)
        assert (typed.seen, typed.tried, typed.passed) == (2, 2, 2)


async def test_a_replay_goes_on_by_itself_until_it_is_stopped(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One runs at a time and says how far it is; stopped, it keeps what is done, and the next one does the rest."""
    gate = asyncio.Event()

    async def held(*arguments: Any, **options: Any) -> Redriven:
        await gate.wait()
        return await redrive_letters(*arguments, **options)

    monkeypatch.setattr("worker.app.redrives.redrive_letters", held)
    monkeypatch.setattr("worker.app.dead_letters.PAGE", 1)
    await buried(rig, shared(1), shared(2), shared(3))
    await mend(rig)
    async with open_store(rig.settings, name="test") as store:
        replays = Redrives(store, rig.settings)
        run = await replays.begin(ANY, line=LINE)
        assert (replays.running(), run.total, run.left) == (run, 3, 3)
        with pytest.raises(OperatorError, match="Another replay"):
            await replays.begin(ANY, line=LINE)
        run.stopping = True
        gate.set()
        assert run.task is not None
        await run.task
        assert (run.found.passed, run.left, run.error, replays.running()) == (1, 2, "", None)
        rest = await replays.begin(ANY, line=LINE)
        assert rest.task is not None
        await rest.task
        assert (rest.found.passed, rest.left, replays.get(run.id)) == (2, 0, run)
        await replays.close()
    assert len(await rig.rows("SELECT 1 FROM events")) == 3
    assert [row["action"] for row in await rig.rows("SELECT action FROM audit_log WHERE actor = 'anna'")] == [
        "dead_letters.replayed"
    ] * 2


async def test_a_replay_says_why_it_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the database goes away meanwhile the sentence of it is told, the log of changes has it, the rest waits."""

    async def away(*_: Any, **__: Any) -> None:
        raise OperatorError("1 were tried, then: the database is away.", help="run it again: the rest waits")

    monkeypatch.setattr("worker.app.redrives.redrive_letters", away)
    await buried(rig, shared(1))
    async with open_store(rig.settings, name="test") as store:
        run = await Redrives(store, rig.settings).begin(ANY, line=LINE)
        assert run.task is not None
        await run.task
    assert run.error == "1 were tried, then: the database is away. Run it again: the rest waits."
    assert (run.running, run.left) == (False, 1)
    changes = await rig.rows("SELECT action, note FROM audit_log WHERE actor = 'anna' ORDER BY id")
    assert [tuple(row) for row in changes] == [
        ("dead_letters.replayed", ""),
        ("dead_letters.replayed.unsent", "1 were tried, then: the database is away."),
    ]


async def test_lost_connections_leave_nothing_half_done(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever statement the connection is lost before, a letter waits or is applied, never both."""
    await buried(rig, shared(1))
    await mend(rig)
    faults = Faults(monkeypatch)
    fault = 0
    while True:
        fault += 1
        async with open_store(rig.settings, name="test") as store:
            faults.left = fault
            try:
                await redrive_letters(store, rig.settings, ANY)
            except (TransientError, OperatorError):
                faults.left = None
                waiting = len(await store.dead_letters(state="new"))
                assert len(await rig.rows("SELECT 1 FROM events")) == 1 - waiting, f"lost before statement {fault}"
            else:
                faults.left = None
                break
    assert {"letters_passed", "commit", "lock_users"} <= set(faults.names)
    assert len(await rig.rows("SELECT 1 FROM user_badges")) == 1


async def test_the_command(rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`badges dlq replay` wants to know which, says what became of them, and lists by state."""
    await buried(rig, shared(1), b"{", line(event(2, type="comment.lost")))
    surroundings(monkeypatch, rig.settings)

    async def run(*arguments: str) -> tuple[int, str]:
        status = await asyncio.to_thread(cli.main, ["dlq", *arguments])
        said = capsys.readouterr()
        return status, (said.out or said.err).splitlines()[-1]

    assert (await run("replay"))[0] == 2
    await mend(rig)
    assert await run("replay", "--all", "--dry-run") == (
        0,
        "1 of 3 would pass now; 1 award would be given quietly. Stay: not_json 1, unknown_event_type 1.",
    )
    with pytest.MonkeyPatch.context() as away:
        lost = AsyncMock(side_effect=OperatorError("0 were tried, then: the connection was lost."))
        away.setattr("worker.app.dead_letters.redrive_letters", lost)
        assert (await run("replay", "0:0"))[0] == 1
    noted = "SELECT action, after ->> 'letters' AS letters, note FROM audit_log WHERE action LIKE 'dead%' ORDER BY id"
    assert [tuple(row) for row in await rig.rows(noted)] == [
        ("dead_letters.replayed", "1", ""),
        ("dead_letters.replayed.unsent", "1", "0 were tried, then: the connection was lost."),
    ]
    assert await run("replay", "0:0") == (0, "1 of 1 passed; 1 award given quietly.")
    assert await run("replay", "--type", "comment.shared") == (0, "No such dead letters wait.")
    status, out = await run("list", "--state", "new", "--reason", "not_json", "--topic", rig.topic, "--format", "json")
    assert (status, [one["reason"] for one in json.loads(out)]) == (0, ["not_json"])
    status, out = await run("list", "--type", "comment.lost", "--format", "json")
    assert (status, [one["record"] for one in json.loads(out)]) == (0, [f"{rig.topic}:0:2"])
    assert await run("replay", "--type", "comment.lost") == (0, "0 of 1 passed. Stay: unknown_event_type 1.")
    noted = await rig.rows(
        "SELECT after FROM audit_log WHERE action = 'dead_letters.replayed' ORDER BY id DESC LIMIT 1"
    )
    assert json.loads(noted[0]["after"]) == {"letters": 1, "type": "comment.lost"}, "what was tried, not what waits"
