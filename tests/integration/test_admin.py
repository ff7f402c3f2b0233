"""The HTTP API on a real broker and database: from an event to its award, a broker that dies, tokens by command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, time
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.rig.kafka import KafkaService
from tests.rig.kafka_broker import KafkaBroker, free_port
from tests.rig.settings import own_settings
from tests.rig.waiting import until
from worker import cli
from worker.admin.paging import cursor
from worker.app import Worker, apply_catalog, open_store
from worker.app.admin import Admin
from worker.config import Settings, load_settings
from worker.stream.connection import stop_quietly

Capture = pytest.CaptureFixture[str]

CATALOG = """
version: 1
events:
  comment.posted: {description: A comment was posted.}
badges:
  - {key: first, label: First, description: A first comment, icon: star,
     flow: {event: comment.posted, criteria: {$eventCount: {$gte: 1}}}}
"""
TOKEN = {"Authorization": "Bearer secret"}
COMMENT = {"event_type": "comment.posted", "user_id": "u1"}


@pytest.fixture
async def settings(
    kafka: KafkaService, postgres_dsn: str, fresh_topic: Callable[[str], str], tmp_path: Path
) -> Settings:
    """A database with a catalog, topics, and the token `secret`."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    made = await own_settings(kafka, postgres_dsn, fresh_topic, admin_token="secret")
    async with open_store(made, name="test") as store:
        await apply_catalog(store, tmp_path / "catalog.yaml", applied_by="test")
    return made


@pytest.fixture
async def forged(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """The API alone, and a client that shows the token."""
    async with serving(settings) as client:
        yield client


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """The API in this process, and a client that shows the token."""
    admin = Admin(settings)
    task = asyncio.create_task(admin.run())
    try:
        await until(lambda: task.done() or admin.serving, "the API serving")
        if task.done():
            task.result()
        address = f"http://127.0.0.1:{admin.port}"
        async with httpx2.AsyncClient(base_url=address, headers=TOKEN, timeout=30) as client:
            yield client
    finally:
        admin.stop()
        await task


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[Worker]:
    """A worker that owns its partition."""
    worker = Worker(settings)
    task = asyncio.create_task(worker.run())
    try:
        await until(lambda: task.done() or (worker.member and worker.member.offsets()), "owning a partition")
        yield worker
    finally:
        worker.stop()
        await task


async def stored(settings: Settings) -> list[dict[str, Any]]:
    """All events of the topic's one partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers)
    await consumer.start()
    try:
        place = TopicPartition(settings.event_topics.names[0], 0)
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        consumer.seek(place, 0)
        found: list[dict[str, Any]] = []
        while await consumer.position(place) < end:
            found += [json.loads(record.value) for record in (await consumer.getmany(timeout_ms=500)).get(place, ())]
        return found
    finally:
        await stop_quietly(consumer)


async def test_from_event_to_award(settings: Settings) -> None:
    """An event sent with wait=award comes back with its award; retries, other events and streams earn none again."""
    async with working(settings), serving(settings) as client:
        assert (await client.get("/health", headers={"Authorization": ""})).json() == {"status": "healthy"}
        waiting = {"wait": "award", "timeout_ms": 20_000}
        key = {"Idempotency-Key": "k1"}
        first = await client.post("/api/v1/events", json=COMMENT, params=waiting, headers=key)
        assert first.status_code == 200, first.text
        assert (first.json()["event_id"], first.json()["evaluated"]) == ("k1", True)
        assert [award["key"] for award in first.json()["awards"]] == ["first"]
        assert first.json()["awards"][0]["name"] == "First"
        again = await client.post("/api/v1/events", json=COMMENT, headers=key)
        assert again.json()["event_id"] == "k1"
        second = await client.post("/api/v1/events", json=COMMENT, params=waiting)
        assert (second.json()["evaluated"], second.json()["awards"]) == (True, [])
        lines = [json.dumps(COMMENT | {"user_id": f"s{number}", "id": str(number)}) for number in range(1000)]
        stream = await client.post(
            "/api/v1/events", content="\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
        )
        assert [json.loads(line)["event_id"] for line in stream.text.splitlines()] == [str(n) for n in range(1000)]
        last = await client.post("/api/v1/events", json=COMMENT | {"user_id": "s0"}, params=waiting)
        assert last.json()["evaluated"]
        async with open_store(settings, name="test") as store:
            assert await store.logged([("s999", "", "999"), ("s999", "", "1000")]) == [("s999", "", "999")]
            assert await store.dead_letter_counts() == []
    events = await stored(settings)
    assert events[0] == events[1]
    assert len(events) == 1004


async def test_broker_that_dies(own_broker: KafkaBroker, settings: Settings) -> None:
    """While the broker is down events are 503 with Retry-After, soon; when it is back they are taken; what was answered
    with 200 is stored, once."""
    made = settings.model_copy(update={"kafka_bootstrap_servers": own_broker.bootstrap_servers})
    await KafkaService(own_broker.bootstrap_servers, "local", "").create_topic(made.event_topics.names[0])
    taken = []

    async def send(client: httpx2.AsyncClient, name: str) -> httpx2.Response:
        answer = await client.post("/api/v1/events", json=COMMENT | {"id": name})
        if answer.status_code == 200:
            taken.append(name)
        return answer

    async with serving(made) as client:
        assert (await send(client, "a")).status_code == 200
        own_broker.kill()
        for name in ("b", "c"):
            started = monotonic()
            answer = await send(client, name)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert monotonic() - started < 12
        assert (await client.get("/health")).status_code == 200
        own_broker.spawn()
        await asyncio.to_thread(own_broker.wait_until_ready)

        async def taken_again() -> bool:
            return bool((await send(client, "d")).status_code == 200)

        await until(taken_again, "taking events again", seconds=40, every=0.2)
    assert taken == ["a", "d"]
    ids = [event["id"] for event in await stored(made)]
    assert [ids.count(name) for name in taken] == [1, 1]


async def test_who_listens_is_sent_away_at_the_stop(settings: Settings) -> None:
    """An open stream of awards ends when the process is told to: the stop waits for nobody who listens."""
    admin = Admin(settings)
    task = asyncio.create_task(admin.run())
    await until(lambda: task.done() or admin.serving, "the API serving")
    async with (
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{admin.port}", headers=TOKEN, timeout=30) as client,
        client.stream("GET", "/api/v1/awards/stream") as answer,
    ):
        lines = answer.aiter_lines()
        assert (await anext(lines)).startswith("id:")
        told = monotonic()
        admin.stop()
        assert [line async for line in lines if line] == []
        await task
    assert monotonic() - told < 4


async def test_port_that_is_taken(settings: Settings) -> None:
    """A port in use is one sentence that names the setting."""
    async with serving(settings) as client:
        port = client.base_url.port
        with pytest.raises(Exception, match="cannot listen"):
            await Admin(settings.model_copy(update={"admin_port": port})).run()


def test_tokens_by_command(postgres_dsn: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is made and shown once, listed without its text, ended by name; each leaves one row in the audit log."""
    monkeypatch.setenv("BADGES_DATABASE_URL", postgres_dsn)
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")
    assert cli.main(["tokens", "create", "--name", "profile-page", "--role", "reader"]) == 0
    token = capsys.readouterr().out.strip()
    assert token.startswith("bsk_")
    assert cli.main(["tokens", "create", "--name", "profile-page", "--role", "admin"]) == 1
    assert "already" in capsys.readouterr().err
    assert cli.main(["tokens", "list", "--format", "json"]) == 0
    listed = capsys.readouterr().out
    assert token not in listed
    (row,) = json.loads(listed)
    assert (row["name"], row["role"], row["used_at"], row["revoked_at"]) == ("profile-page", "reader", None, None)
    assert cli.main(["tokens", "revoke", "profile-page"]) == 0
    assert cli.main(["tokens", "revoke", "profile-page"]) == 1
    assert cli.main(["tokens", "create", "--name", "\x1b[31m", "--role", "admin"]) == 2
    assert token not in capsys.readouterr().out

    async def changes() -> list[str]:
        async with open_store(load_settings(), name="test") as store:
            return [change.action for change in await store.changes()]

    assert asyncio.run(changes()) == ["token.revoked", "token.created"]


async def test_others_cannot_be_let_in_without_a_token(settings: Settings) -> None:
    """On an address that others reach the API does not start while there is no token, and says what to run."""
    made = settings.model_copy(update={"admin_host": "0.0.0.0", "admin_port": free_port(), "admin_token": None})
    with pytest.raises(Exception, match=r"there is no token") as caught:
        await Admin(made).run()
    assert "badges tokens create" in caught.value.help  # type: ignore[attr-defined]


#: A list and a place in it; 0 as the feed's instant is now, near enough to be looked up.
_FORGED: list[tuple[str, Any]] = [
    ("awards", (10**30, "u1", 1)),
    ("awards", (-(10**30), "u1", 10**30)),
    ("awards", (1, "\0", 1)),
    ("awards", (2**62, "u1", 1)),
    ("event types", 10**30),
    ("feed", ("9999999999999999999:1:", 1)),
    ("feed", ("5:1:", 0)),
    ("feed", ("0:5:", 0)),
    ("feed", ("1:5:4,3,2,9999999999999999999", 0)),
    ("feed", ("1:9223372036854775808:", 0)),
    ("feed", ("1:5:", -(10**17))),
    ("feed", ("1:5:", 2 * 10**17)),
    ("feed", ("1:5:", 10**18)),
    ("feed", ("1:5:", 10**30)),
]
_LISTS = {"awards": "/api/v1/awards", "event types": "/api/v1/admin/event-types"}


async def test_forged_places(forged: httpx2.AsyncClient) -> None:
    """A place that was never given, with the sum of one that was, is a page, a fresh start or a refusal."""
    for of, place in _FORGED:
        if of in _LISTS:
            answer = await forged.get(_LISTS[of], params={"cursor": cursor(place, of=of), "limit": 1})
            assert answer.status_code in (200, 400, 422), (of, place)
            continue
        text = cursor((place[0], place[1] or int(time() * 1_000_000)), of=of)
        async with forged.stream("GET", "/api/v1/awards/stream", headers={"Last-Event-ID": text}) as feed:
            assert feed.status_code == 200
            assert await anext(feed.aiter_bytes()), place


#: Texts that end a string, a statement or a program where they are taken for part of one.
_ODD: list[str] = [
    "'",
    "''",
    '"',
    "\\'",
    "$$",
    "$1",
    "%s",
    "%",
    "_",
    "{}",
    "'; DROP TABLE badges.users; --",
    "' OR '1'='1",
    "first' OR badge_key <> 'first",
    "') UNION SELECT sha256 FROM badges.api_tokens --",
    "$$; SELECT pg_sleep(9); $$",
    "u1\u2019",
    "\u02bc OR 1=1",
    "0x27",
    "/* */",
    "\x00",
    "first\x00' --",
    "\n\r\t",
    "\ud7ff\uffff",
    "1e999",
    "-1",
]


async def sizes(settings: Settings) -> list[int]:
    """How many users and versions of the catalog there are."""
    async with open_store(settings, name="test") as store:
        return [await store.pool.fetchval(f"SELECT count(*) FROM {table}") for table in ("users", "catalog_versions")]


async def test_texts_are_never_sql(forged: httpx2.AsyncClient, settings: Settings) -> None:
    """Whatever stands in an address, a query or a body is a value: it finds, changes and waits for nothing."""
    before = await sizes(settings)
    started = monotonic()
    for text in _ODD:
        name = quote(text, safe="")
        found = [
            await forged.get(f"/api/v1/users/{name}/badges"),
            await forged.get(f"/api/v1/users/{name}/progress"),
            await forged.get(f"/api/v1/users/u1/why/{name}"),
            await forged.get(f"/api/v1/badges/{name}"),
            await forged.get(f"/api/v1/admin/event-types/{name}"),
            await forged.get("/api/v1/awards", params={"badge": text, "trigger": text, "user": text}),
            await forged.get("/panel/users", params={"find": text, "after": text}),
            await forged.get("/panel/settings/audit", params={"actor": text, "action": text}),
            await forged.get("/panel/dead-letters", params={"reason": text, "topic": text}),
            await forged.patch(f"/api/v1/users/{name}/badges/first", json={"sort_override": 1}),
            await forged.patch("/api/v1/users/u1/badges/first", params={"context": text}, json={"sort_override": 1}),
            await forged.post("/api/v1/admin/dry-run", json={"user_id": text, "badge_key": "first", "context": text}),
            await forged.post("/api/v1/admin/recompute", json={"trigger": text, "note": text}),
            await forged.post("/api/v1/admin/grants", json={"user_id": "u1", "badge_key": text, "note": text}),
        ]
        assert {answer.status_code for answer in found} <= {200, 404, 409, 422}, (
            text,
            [(str(answer.url), answer.status_code) for answer in found],
        )
        for answer in (found[0], found[5]):
            assert answer.status_code in (404, 422) or answer.json() == [], (text, answer.text)
    assert monotonic() - started < 60
    assert await sizes(settings) == before


async def test_users_are_told_apart_exactly(forged: httpx2.AsyncClient) -> None:
    """Ids that look alike are different ids, and strange ones are refused or have nothing."""
    for user, status in (("\u00e9", 200), ("e\u0301", 200), ("\U0001d518" * 200, 200), ("\0", 422), ("x" * 201, 422)):
        answer = await forged.get(f"/api/v1/users/{quote(user, safe='')}/badges")
        assert answer.status_code == status, user
