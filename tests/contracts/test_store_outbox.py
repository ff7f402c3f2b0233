"""What every store promises the relay: messages in order, each once, under a lease that can be lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.contracts.samples import NOON, AnyStore, claim, grant, letter, load, message, step, waiting
from tests.rig.waiting import until
from worker.exchange import SHARDS, Message
from worker.store.blobs import ROW_BYTES, outbox_rows, shard_of, unpack_messages
from worker.store.postgres import PostgresStore
from worker.store.queries import QUERIES

LEASE = "relay-0"


async def publish(store: AnyStore, *keyed: tuple[str, Message], topic: str = "awards") -> None:
    """Put messages into the outbox in a transaction of their own."""
    async with store.transaction() as transaction:
        await transaction.publish(topic, keyed)


async def rows_of(store: AnyStore, user_id: str) -> list[int]:
    """Ids of the rows that wait in the user's shard."""
    return [row.id for row in await store.unpublished([shard_of(user_id)], 100)]


async def test_message_comes_back_whole(store: AnyStore) -> None:
    """Topic, key, value and headers of a message are read as they were put in, empty and missing parts included."""
    whole = [
        Message(b"\0\xff", b"value", (("badges_reason", b"\xc3\xa9"), ("badges_reason", b""))),
        Message(None, None),
        Message(b"", b""),
    ]
    await publish(store, *(("u1", one) for one in whole), topic="badges.awards")
    (row,) = await store.unpublished([shard_of("u1")], 10)
    assert (row.topic, list(row.messages)) == ("badges.awards", whole)
    assert 0 <= row.age_seconds < 60


async def test_messages_of_a_user_keep_their_order(store: AnyStore) -> None:
    """However users mix in a batch, each one's messages wait in the order they were given, in one shard."""
    users = [f"u{number}" for number in range(20)]
    await publish(store, *((user_id, message(f"{user_id} {turn}")) for turn in range(3) for user_id in users))
    found = await waiting(store)
    for user_id in users:
        assert [text for text in found if text.startswith(f"{user_id} ")] == [f"{user_id} {turn}" for turn in range(3)]
    assert {shard_of(user_id) for user_id in users} == set(range(SHARDS))


async def test_row_that_commits_late_is_not_passed_over(store: AnyStore) -> None:
    """A row with a lower id that commits after a higher one was published is found still."""
    lease = await store.acquire_lease(LEASE, "a", 60)
    assert lease is not None
    async with store.transaction() as slow:
        await slow.publish("awards", [("u1", message("slow"))])
        await publish(store, ("u1", message("quick")))
        (quick,) = await rows_of(store, "u1")
        assert await store.mark_published({LEASE: [quick]}, {LEASE: lease}) == [LEASE]
    (late,) = await store.unpublished([shard_of("u1")], 10)
    assert late.id < quick
    assert list(late.messages) == [message("slow")]


async def test_users_lock_orders_their_messages(store: AnyStore) -> None:
    """Of two transactions for one user the second publishes after the first, whichever began earlier."""
    async with store.transaction() as first:
        await load(first, {"u1": ()})

        async def second() -> None:
            async with store.transaction() as transaction:
                await load(transaction, {"u1": ()})
                await transaction.publish("awards", [("u1", message("second"))])

        task = asyncio.create_task(second())
        await asyncio.wait([task], timeout=0.2)
        await first.publish("awards", [("u1", message("first"))])
    await task
    assert await waiting(store) == ["first", "second"]


async def test_unpublished_is_bounded(store: AnyStore) -> None:
    """No more rows come than were asked for: the oldest."""
    for number in range(5):
        await publish(store, ("u1", message(str(number))))
    rows = await store.unpublished([shard_of("u1")], 2)
    assert [(row.messages[0].value or b"").decode() for row in rows] == ["0", "1"]


async def test_published_and_parked_rows_wait_no_more(store: AnyStore) -> None:
    """Marked and parked rows leave the outbox, and the figures count what still waits."""
    lease = await store.acquire_lease(LEASE, "a", 60)
    assert lease is not None
    assert await store.outbox_figures() == (0, 0.0)
    for number in range(3):
        await publish(store, ("u1", message(str(number))))
    first, second, third = await rows_of(store, "u1")
    waiting_rows, oldest = await store.outbox_figures()
    assert waiting_rows == 3
    assert 0 <= oldest < 60
    assert await store.mark_published({LEASE: [first]}, {LEASE: lease}) == [LEASE]
    assert await store.park(second, LEASE, lease, message=message("1"), rest=[], reason="too large for the broker")
    assert await rows_of(store, "u1") == [third]
    assert (await store.outbox_figures())[0] == 1


async def test_lost_lease_marks_nothing(store: AnyStore) -> None:
    """Once another took the lease, the old token neither marks, parks nor renews."""
    old = await store.acquire_lease(LEASE, "a", 0.05)
    assert old is not None
    await publish(store, ("u1", message("1")))
    row = await rows_of(store, "u1")
    new = await until(lambda: store.acquire_lease(LEASE, "b", 60), "the lease of another")
    assert await store.mark_published({LEASE: row}, {LEASE: old}) == []
    assert not await store.park(row[0], LEASE, old, message=message("1"), rest=[], reason="reason")
    assert not await store.renew_lease(LEASE, old, 60)
    await store.resign_lease(LEASE, old)
    assert await rows_of(store, "u1") == row
    assert await store.renew_lease(LEASE, new, 60)


async def test_each_lease_marks_its_own(store: AnyStore) -> None:
    """Rows of several shards are marked at once; those whose lease was lost stay, and the answer says which hold."""
    mine = await store.acquire_lease(LEASE, "a", 60)
    lost = await store.acquire_lease("relay-1", "a", 0.05)
    assert mine is not None
    assert lost is not None
    await until(lambda: store.acquire_lease("relay-1", "b", 60), "the lease of another")
    await publish(store, ("u1", message("mine")), ("u2", message("theirs")))
    rows = await store.unpublished(range(SHARDS), 10)
    assert [row.shard for row in rows] == sorted(shard_of(user_id) for user_id in ("u1", "u2"))
    ids = {(row.messages[0].value or b"").decode(): row.id for row in rows}
    held = await store.mark_published(
        {LEASE: [ids["mine"]], "relay-1": [ids["theirs"]]}, {LEASE: mine, "relay-1": lost}
    )
    assert list(held) == [LEASE]
    assert await waiting(store) == ["theirs"]


async def test_a_parked_message_leaves_its_neighbours(store: AnyStore) -> None:
    """What remains of a row waits in its old place, before younger rows; the one set aside waits no more."""
    lease = await store.acquire_lease(LEASE, "a", 60)
    assert lease is not None
    await publish(store, *(("u1", message(text)) for text in "abcd"))
    await publish(store, ("u1", message("e")))
    (row, *_) = await rows_of(store, "u1")
    rest = [message("c"), message("d")]
    assert await store.park(row, LEASE, lease, message=message("b"), rest=rest, reason="too large")
    assert await waiting(store) == ["c", "d", "e"]
    assert await store.park(row, LEASE, lease, message=message("c"), rest=[message("d")], reason="too large")
    assert await store.park(row, LEASE, lease, message=message("d"), rest=[], reason="too large")
    assert await waiting(store) == ["e"]
    assert (await store.outbox_figures())[0] == 1


async def test_lease_belongs_to_one(store: AnyStore) -> None:
    """A lease that is held is refused to others, kept by its owner, and free once it is given back."""
    first = await store.acquire_lease(LEASE, "a", 60)
    assert first is not None
    assert await store.acquire_lease(LEASE, "b", 60) is None
    again = await store.acquire_lease(LEASE, "a", 60)
    assert again is not None
    assert not await store.renew_lease(LEASE, first, 60)
    await store.resign_lease(LEASE, again)
    assert await store.acquire_lease(LEASE, "b", 60) is not None


async def test_renewed_lease_lives_on(store: AnyStore) -> None:
    """Renewing moves the end of a lease, so that nobody else gets it at its old end."""
    token = await store.acquire_lease(LEASE, "a", 0.05)
    assert token is not None
    assert await store.renew_lease(LEASE, token, 60)
    other = await store.acquire_lease("relay-1", "a", 0.05)
    assert other is not None
    await until(lambda: store.acquire_lease("relay-1", "b", 60), "the lease of another")
    assert await store.acquire_lease(LEASE, "b", 60) is None


async def test_pruning_leaves_what_waits_and_what_is_young(store: AnyStore) -> None:
    """Only rows published longer ago than asked are removed, a bounded number at once."""
    lease = await store.acquire_lease(LEASE, "a", 60)
    assert lease is not None
    for number in range(4):
        await publish(store, ("u1", message(str(number))))
    rows = await rows_of(store, "u1")
    assert await store.mark_published({LEASE: rows[:3]}, {LEASE: lease}) == [LEASE]
    assert await store.prune_outbox(days=7) == 0
    removed = [
        await until(lambda: store.prune_outbox(days=0, limit=2), "pruning"),
        await store.prune_outbox(days=0, limit=2),
    ]
    assert removed == [2, 1]
    assert await rows_of(store, "u1") == rows[3:]


async def test_marks_and_renewals_do_not_wait_for_the_disk(database: PostgresStore) -> None:
    """Their commits alone need not be durable at once; taking a lease, and whatever comes after them, waits as ever."""
    token = await database.acquire_lease(LEASE, "a", 60)
    await publish(database, ("u1", message("1")))
    row = await rows_of(database, "u1")
    statements = {
        "acquire_lease": ("on", (LEASE, "a", 60.0)),
        "renew_lease": ("off", (LEASE, token, 60.0)),
        "mark_published": ("off", ([LEASE], [token], [LEASE], row)),
    }
    async with database.pool.acquire() as connection:
        await connection.execute("SET synchronous_commit = on")
        for name in ("mark_published", "renew_lease", "acquire_lease"):
            waits, arguments = statements[name]
            async with connection.transaction():
                await connection.fetch(QUERIES[name], *arguments)
                assert await connection.fetchval("SHOW synchronous_commit") == waits, name
            assert await connection.fetchval("SHOW synchronous_commit") == "on", name
        await connection.execute("RESET synchronous_commit")
    assert await rows_of(database, "u1") == []


def test_large_batches_become_several_rows() -> None:
    """A shard's messages are cut into rows of about a mebibyte, in order; a larger message is a row alone."""
    messages = [Message(b"k", bytes([number]) * (ROW_BYTES // 3)) for number in range(8)]
    messages.insert(4, Message(b"k", b"x" * (2 * ROW_BYTES)))
    rows = outbox_rows([("u1", one) for one in messages])
    assert {shard for shard, _ in rows} == {shard_of("u1")}
    assert [one for _, blob in rows for one in unpack_messages(blob)] == messages
    assert all(len(blob) < 2.1 * ROW_BYTES for _, blob in rows)
    assert len(rows) == 5


def test_shards_never_move() -> None:
    """The shard of a user is part of what is stored: it is the same in every version."""
    assert [shard_of(user_id) for user_id in ("u1", "u2", "u4", "u14", "é", "")] == [2, 0, 1, 2, 2, 0]


# ---------------------------------------------------------------- dead letters


async def test_letter_is_stored_whole(store: AnyStore) -> None:
    """Coordinates, reason, bytes and the record's time come back as they were."""
    given = letter(7, raw=b"\0\xff{", key=None, user_id="u1", path="/id", detail="Wrong é", length=99)
    async with store.transaction() as transaction:
        await transaction.bury([given])
    found = await store.dead_letter("events", 0, 7)
    assert found is not None
    for name in ("topic", "partition", "offset", "incarnation", "reason", "detail", "path", "user_id", "key", "raw"):
        assert getattr(found, name) == getattr(given, name)
    assert (found.sha256, found.length, found.recorded_us, found.state) == (given.sha256, 99, NOON, "new")
    assert await store.dead_letter("events", 0, 8) is None


async def test_letter_that_is_there_stays(store: AnyStore) -> None:
    """Burying a record again changes nothing; a new incarnation of the topic is another record, and the one shown."""
    async with store.transaction() as transaction:
        await transaction.bury([letter(1, detail="first"), letter(1, detail="twice at once")])
    async with store.transaction() as transaction:
        await transaction.bury([letter(1, detail="again"), letter(1, incarnation=2, detail="later")])
    found = await store.dead_letter("events", 0, 1)
    assert found is not None
    assert found.detail == "later"
    assert {one.detail for one in await store.dead_letters()} == {"first", "later"}


@pytest.mark.parametrize("timestamp_ms", [-1, 2**63 - 1, 253_402_300_800_000])
async def test_letter_always_fits(store: AnyStore, timestamp_ms: int) -> None:
    """Texts with NUL and surrogates, a body over 64 KiB and a time that is no date never stop a burial."""
    odd = "a\0b\ud800c"
    given = letter(1, detail=odd, path=odd, user_id=odd, raw=b"x" * 70_000, timestamp_ms=timestamp_ms)
    async with store.transaction() as transaction:
        await transaction.bury([given])
    found = await store.dead_letter("events", 0, 1)
    assert found is not None
    assert found.detail == found.path == found.user_id == "a\N{REPLACEMENT CHARACTER}b?c"
    assert found.raw == b"x" * 65_536
    assert (found.length, found.recorded_us) == (70_000, None)


async def test_letters_are_listed_newest_first(store: AnyStore) -> None:
    """Pages go from the newest to the oldest, of one reason or of all; the numbers by reason are complete."""
    reasons = ["not_json", "too_large", "not_json", "erased", "not_json"]
    async with store.transaction() as transaction:
        await transaction.bury([letter(offset, reason=reason) for offset, reason in enumerate(reasons)])
    first = await store.dead_letters(limit=3)
    rest = await store.dead_letters(before=first[-1].number, limit=3)
    assert [one.offset for one in [*first, *rest]] == [4, 3, 2, 1, 0]
    assert [one.offset for one in await store.dead_letters(reason="not_json")] == [4, 2, 0]
    counts = await store.dead_letter_counts()
    assert [(one.reason, one.letters) for one in counts] == [("not_json", 3), ("erased", 1), ("too_large", 1)]
    assert all(0 < one.first_us <= one.last_us for one in counts)


async def test_letters_and_offsets_are_committed_together(store: AnyStore) -> None:
    """A batch of poison moves its partition in the transaction that buries it."""
    owner = await claim(store)
    async with store.transaction() as transaction:
        await transaction.fence(owner, step(0, 1))
        await transaction.bury([letter(0)])
        assert await store.dead_letters() == []
    assert len(await store.dead_letters()) == 1
    assert (await claim(store)).next_offset == 1


async def test_awards_and_messages_are_committed_together(store: AnyStore) -> None:
    """Nobody reads a message of a batch that has not committed."""
    async with store.transaction() as transaction:
        await load(transaction, {"u1": ()})
        await transaction.grant([grant(message=b"award")], topic="awards")
        assert await waiting(store) == []
    assert await waiting(store) == ["award"]
