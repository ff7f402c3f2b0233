"""What every store promises the pipeline: claims, the fence, the log, users and their locks, awards."""

# ruff: noqa: PT012 (a transaction that is left by an exception is several statements)

from __future__ import annotations

import asyncio
from collections.abc import Collection
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from tests.contracts.samples import (
    NOON,
    AnyStore,
    claim,
    event,
    grant,
    letter,
    load,
    log_of,
    message,
    remember,
    state_of,
    step,
    waiting,
)
from worker.errors import Fenced, PoisonBatch, TransientError
from worker.exchange import BuildPage, Claim, Remembered
from worker.rules.state import UserState
from worker.store.memory import MemoryStore


class Broken(Exception):
    """Something went wrong in the middle of a batch."""


# ---------------------------------------------------------------- claims and the fence


async def test_first_claim_makes_the_row(store: AnyStore) -> None:
    """The first claim of a partition starts where it is told, and a later one does not move it."""
    first = await store.claim("events", 3, generation=1, owner="a", start_offset=42)
    again = await store.claim("events", 3, generation=1, owner="a", start_offset=0)
    assert first is not None
    assert again is not None
    assert (first.next_offset, first.last_offset, first.last_sha, first.incarnation) == (42, None, None, 1)
    assert (again.next_offset, again.epoch) == (42, first.epoch + 1)
    assert first.token != again.token


async def test_claim_tells_where_the_last_batch_ended(store: AnyStore) -> None:
    """A claim after a committed batch knows its next offset, its last record and the record's hash."""
    owner = await claim(store)
    async with store.transaction() as transaction:
        await transaction.fence(owner, step(0, 5))
    again = await claim(store)
    assert (again.next_offset, again.last_offset, again.last_sha) == (5, 4, step(0, 5).last_sha)


async def test_older_generation_does_not_steal_a_partition(store: AnyStore) -> None:
    """A claim that comes late, with an older generation, gets nothing and leaves the newer owner working."""
    newer = await claim(store, generation=7)
    assert await store.claim("events", 0, generation=6, owner="late", start_offset=0) is None
    async with store.transaction() as transaction:
        await transaction.fence(newer, step(0, 1))


async def test_attempts_count_claims_without_progress(store: AnyStore) -> None:
    """Attempts rise with each claim that follows a crash, and fall to nothing with progress or a clean release."""
    assert [(await claim(store)).attempts for _ in range(3)] == [0, 1, 2]
    owner = await claim(store)
    async with store.transaction() as transaction:
        await transaction.fence(owner, step(0, 1))
    assert (await claim(store)).attempts == 1
    await store.release(await claim(store))
    assert (await claim(store)).attempts == 0


async def test_release_with_an_old_token_changes_nothing(store: AnyStore) -> None:
    """Giving a partition back after somebody else claimed it leaves it with them."""
    old = await claim(store, owner="old")
    await claim(store, owner="new")
    await store.release(old)
    assert (await claim(store)).attempts == 2


@pytest.mark.parametrize("wrong", ["token", "offset"])
async def test_fence_refuses_who_is_not_the_owner(store: AnyStore, wrong: str) -> None:
    """A batch with an old token, or from an offset that was moved, is fenced and leaves no effect."""
    old = await claim(store)
    current = await claim(store) if wrong == "token" else old
    async with store.transaction() as transaction:
        await transaction.fence(current, step(0, 2))
    with pytest.raises(Fenced):
        async with store.transaction() as transaction:
            await transaction.fence(old, step(2 if wrong == "token" else 0, 4))
            await transaction.remember([event()])
    assert (await claim(store)).next_offset == 2
    assert await log_of(store, "u1") == []


async def test_claim_waits_for_the_batch_in_doubt(store: AnyStore) -> None:
    """A claim made while a batch runs returns after its end, with the offset it committed."""
    owner = await claim(store)
    async with store.transaction() as transaction:
        await transaction.fence(owner, step(0, 9))
        second = asyncio.create_task(claim(store, owner="next"))
        done, _ = await asyncio.wait([second], timeout=0.2)
        assert not done
    assert (await second).next_offset == 9


async def test_exception_undoes_everything(store: AnyStore) -> None:
    """A transaction that is left by an exception leaves nothing: no event, user, award, message, letter, offset."""
    owner = await claim(store)
    with pytest.raises(Broken):
        async with store.transaction() as transaction:
            await transaction.fence(owner, step(0, 1))
            await transaction.remember([event()])
            states = await load(transaction, {"u1": ["post=5"]})
            states["u1"].scopes["post=5"]["fold"] = 1
            states["u1"].dirty = {"post=5"}
            states["u1"].award_sequence = 1
            await transaction.save(states.values())
            await transaction.grant([grant()], topic="awards")
            await transaction.publish("dead-letters", [("u1", message("letter"))])
            await transaction.bury([letter()])
            raise Broken
    assert (await claim(store)).next_offset == 0
    assert await state_of(store, "u1", "post=5") == UserState("u1", scopes={"": {}, "post=5": {}})
    assert await log_of(store, "u1") == []
    assert await waiting(store) == []
    assert await store.dead_letter_counts() == []


async def test_refused_statement_spoils_its_transaction(store: AnyStore) -> None:
    """A transaction in which a statement was refused cannot be committed, even by who swallows the refusal."""
    with pytest.raises(TransientError):
        async with store.transaction() as transaction:
            await load(transaction, {"u1": ()})
            await transaction.grant([grant()], topic="awards")
            with pytest.raises(PoisonBatch):
                await transaction.grant([grant()], topic="awards")
    assert (await state_of(store, "u1")).held == {}


async def test_gap_is_written_once(store: AnyStore) -> None:
    """The same hole may be reported again."""
    await store.record_gap("events", 0, 10, 12, "compacted")
    await store.record_gap("events", 0, 10, 12, "compacted")


# ---------------------------------------------------------------- the log


async def test_repeat_is_no_news(store: AnyStore) -> None:
    """An event that is logged already is neither new nor a conflict, however its JSON is written."""
    await remember(store, event("u1", "e1", payload_json='{"score": 10, "tags": ["a"]}'))
    again = event("u1", "e1", payload_json='{"tags":["a"],"score":1.0e1}')
    assert await remember(store, again) == Remembered([], [])


@pytest.mark.parametrize(
    "other",
    [
        event("u1", "e1", type="answer.scored"),
        event("u1", "e1", occurred_us=NOON + 1),
        event("u1", "e1", payload={"score": 11}),
        event("u1", "e1", payload={"score": True}),
        event("u1", "e1", payload={}),
    ],
)
async def test_same_identity_with_other_content_is_a_conflict(store: AnyStore, other: object) -> None:
    """Type, instant to the microsecond and payload are the content; what was logged first stays."""
    first = event("u1", "e1")
    await remember(store, first)
    found = await remember(store, other)  # type: ignore[arg-type]
    assert (list(found.new), list(found.conflicts)) == ([], [0])
    assert [logged.type for logged in await log_of(store, "u1")] == [first.type]


async def test_cron_events_never_conflict(store: AnyStore) -> None:
    """A cron event with a known id is a repeat, whatever it says."""
    await remember(store, event("u1", "tick", type="cron.daily"))
    again = event("u1", "tick", type="cron.daily", payload={"late": True}, occurred_us=NOON + 5)
    assert await remember(store, again) == Remembered([], [])


async def test_identity_is_user_source_and_id(store: AnyStore) -> None:
    """The same id of another user or source is another event."""
    found = await remember(store, event("u1", "e"), event("u2", "e"), event("u1", "e", source="shop"))
    assert list(found.new) == [0, 1, 2]


async def test_new_duplicate_and_conflict_in_one_batch(store: AnyStore) -> None:
    """Each event of a mixed batch gets its own answer, by its place in the batch."""
    await remember(store, event("u1", "b"), event("u1", "c"), event("u1", "f"))
    found = await remember(
        store,
        event("u1", "a"),
        event("u1", "b"),
        event("u1", "c", payload={"score": -1}),
        event("u1", "d"),
        event("u1", "f", type="answer.scored"),
    )
    assert (list(found.new), list(found.conflicts)) == ([0, 3], [2, 4])


@pytest.mark.parametrize("count", [2, 40])
async def test_answers_are_kept_with_events(store: AnyStore, count: int) -> None:
    """What conditions said of an event comes back with it, on both ways into the log; where nobody asked, nothing."""
    said = [{"h": "yes", "k": "error"}, {}]
    judged = [event("u1", f"{number:03}", verdicts=said[number % 2]) for number in range(count)]
    await remember(store, *judged)
    await remember(store, judged[0], event("u1", "new", verdicts={"h": "no"}))
    await remember(store, event("u2", "plain"))
    found = [one.verdicts or {} for one in await log_of(store, "u1")]
    assert found == [*(said[number % 2] for number in range(count)), {"h": "no"}]
    async with store.transaction() as transaction:
        states = await transaction.lock(["u1", "u2"], version=1)
        tails = await transaction.tails(states.values())
    assert [one.verdicts or {} for one in tails["u1"]] == found
    assert [one.verdicts for one in tails["u2"]] == [None]


async def test_log_is_in_order(store: AnyStore) -> None:
    """A user's log comes by instant, then source, then id, by code point; other users' events are not in it."""
    mine = [
        event("u1", "b", occurred_us=NOON),
        event("u1", "a", occurred_us=NOON),
        event("u1", "Z", occurred_us=NOON, source="shop"),
        event("u1", "é", occurred_us=NOON - 1),
        event("u1", "z", occurred_us=NOON - 1),
        event("u1", "\U0001f600", occurred_us=NOON - 1),
        event("u1", "\uffee", occurred_us=NOON - 1),
    ]
    await remember(store, *mine, event("u10", "a"))
    assert [one.order for one in await log_of(store, "u1")] == sorted(one.order for one in mine)


async def test_long_log_is_whole(store: AnyStore) -> None:
    """A log longer than a page, with many events at one instant, comes complete, in order and once."""
    events = [event("u1", f"e{number:05}", occurred_us=NOON + number // 700) for number in range(1600)]
    await remember(store, *events)
    assert [one.id for one in await log_of(store, "u1")] == [one.id for one in events]


async def test_log_keeps_numbers_and_text_exactly(store: AnyStore) -> None:
    """Numbers of 38 digits and of any allowed exponent, escapes and odd characters come back as they were."""
    text = (
        '{"n": 12345678901234567890123456789012345678, "d": 0.1000, "big": 1e308, "small": -1.5e-308, "t": true,'
        ' "nul": null, "text": "\\"\\\\ \\u00e9 \U0001f600 \\u2028 \\ud83d\\ude00", "deep": [[{"a": []}]]}'
    )
    logged = event("u1", "e1", payload_json=text)
    await remember(store, logged)
    (found,) = await log_of(store, "u1")
    assert found.payload == logged.payload
    assert isinstance(found.payload["d"], Decimal)
    assert (found.user_id, found.type, found.occurred_us, found.source, found.id) == (
        logged.user_id,
        logged.type,
        logged.occurred_us,
        logged.source,
        logged.id,
    )


async def test_own_events_are_in_the_log_before_the_commit(store: AnyStore) -> None:
    """A transaction reads its own events in the log, and nobody else does until it commits."""
    async with store.transaction() as transaction:
        await transaction.remember([event("u1", "e1")])
        assert await log_of(store, "u1") == []
        await load(transaction, {"u1": ()})
        assert [logged.id async for logged in transaction.log_of("u1")] == ["e1"]


async def test_two_batches_with_one_event_log_it_once(store: AnyStore) -> None:
    """Of two running transactions with the same event the second waits, and finds it a repeat."""
    async with store.transaction() as transaction:
        await transaction.remember([event("u1", "e1")])
        second = asyncio.create_task(remember(store, event("u1", "e1"), event("u1", "e2")))
        done, _ = await asyncio.wait([second], timeout=0.2)
        assert not done
    assert list((await second).new) == [1]


@pytest.mark.parametrize(
    "bad",
    [
        event("u\0", "e1"),
        event("u1", "e\0"),
        event("u1", "\ud800"),
        event("u1", "e1", source="\0"),
        event("u1", "e1", payload_json='{"a": "\\u0000"}'),
        event("u1", "e1", payload_json='{"\\u0000": 1}'),
        event("u1", "e1", payload_json='{"a": "\\ud800"}'),
    ],
)
async def test_what_cannot_be_stored_is_poison(store: AnyStore, bad: object) -> None:
    """NUL and lone surrogates are refused as poison, and the store works on."""
    with pytest.raises(PoisonBatch) as refused:
        await remember(store, bad)  # type: ignore[arg-type]
    assert "u1" not in refused.value.message
    assert list((await remember(store, event("u1", "ok"))).new) == [0]


@pytest.mark.parametrize(
    "name",
    ["'; DROP TABLE events; --", "a\tb\nc\r", "\\N", "\\.", "{}", "NULL", "\u202e\u200b", "\U0001f600", "x" * 200],
)
async def test_odd_names_are_kept(store: AnyStore, name: str) -> None:
    """Text that means something to SQL, COPY, arrays or terminals is stored as it is, in ids, scopes and contexts."""
    await remember(store, event(name, name, source=name, payload={name: name}))
    (logged,) = await log_of(store, name)
    assert (logged.user_id, logged.id, logged.source, logged.payload) == (name, name, name, {name: name})
    scope = f"post={name}"
    async with store.transaction() as transaction:
        state = (await load(transaction, {name: [scope]}))[name]
        state.scopes[scope] = {"fold": name}
        state.dirty = {scope}
        await transaction.save([state])
        await transaction.grant([grant(name, "first", context=name, trigger_id=name)], topic="awards")
    found = await state_of(store, name, scope)
    assert found.scopes[scope] == {"fold": name}
    assert found.held == {("first", name): NOON}


# ---------------------------------------------------------------- users


async def test_new_user_is_empty(store: AnyStore) -> None:
    """A user nobody knew has no memory, no newest event and no built version."""
    assert await state_of(store, "u1", "post=5") == UserState("u1", scopes={"": {}, "post=5": {}})


async def test_state_comes_back(store: AnyStore) -> None:
    """Memory of every shape, newest event, sequence and version are read as they were saved."""
    memory = {
        "count": 3,
        "none": None,
        "mixed": [1, [True, False, None], "é\0", -(2**63), 2**64 - 1, 10**37, -(10**37)],
        "empty": [],
    }
    async with store.transaction() as transaction:
        state = (await load(transaction, {"u1": ["post=5"]}))["u1"]
        state.scopes[""] = memory
        state.scopes["post=5"] = {"fold": [1, 2]}
        state.dirty = {"", "post=5"}
        state.newest = (NOON, "shop", "e\U0001f600")
        state.award_sequence = 17
        state.built_version = 3
        await transaction.save([state])
    found = await state_of(store, "u1", "post=5", "post=6")
    assert found.scopes == {"": memory, "post=5": {"fold": [1, 2]}, "post=6": {}}
    assert (found.newest, found.award_sequence, found.built_version) == ((NOON, "shop", "e\U0001f600"), 17, 3)
    assert found.dirty == set()


async def test_only_dirty_scopes_are_written(store: AnyStore) -> None:
    """What is not marked dirty stays as it was, while the user's row moves on."""
    async with store.transaction() as transaction:
        state = (await load(transaction, {"u1": ["a=1"]}))["u1"]
        state.scopes = {"": {"f": 1}, "a=1": {"f": 1}}
        state.dirty = {"", "a=1"}
        await transaction.save([state])
    async with store.transaction() as transaction:
        state = (await load(transaction, {"u1": ["a=1"]}))["u1"]
        state.scopes = {"": {"f": 2}, "a=1": {"f": 2}}
        state.dirty = {"a=1"}
        state.award_sequence = 4
        await transaction.save([state])
    found = await state_of(store, "u1", "a=1")
    assert (found.scopes, found.award_sequence) == ({"": {"f": 1}, "a=1": {"f": 2}}, 4)


async def test_held_awards_are_those_of_the_contexts_loaded(store: AnyStore) -> None:
    """Loading gives the awards of the user as a whole and of the values named; `holdings_of` gives all."""
    async with store.transaction() as transaction:
        await load(transaction, {"u1": ()})
        await transaction.grant(
            [grant("u1", "a"), grant("u1", "b", context="5"), grant("u1", "b", context="6", awarded_us=NOON + 1)],
            topic="awards",
        )
    assert (await state_of(store, "u1")).held == {("a", ""): NOON}
    assert (await state_of(store, "u1", "post=6")).held == {("a", ""): NOON, ("b", "6"): NOON + 1}
    assert (await state_of(store, "u1", "x=a=6")).held == {("a", ""): NOON}
    async with store.transaction() as transaction:
        await load(transaction, {"u1": ()})
        held = (await transaction.holdings_of("u1")).held
    earned = grant("u1", "a").trigger_id
    assert held == {("a", ""): (NOON, earned), ("b", "5"): (NOON, earned), ("b", "6"): (NOON + 1, earned)}


async def test_users_are_locked_to_the_end(store: AnyStore) -> None:
    """A second transaction waits for a user's first, and then reads what that one saved."""
    await state_of(store, "u1")
    async with store.transaction() as transaction:
        state = (await load(transaction, {"u1": ()}))["u1"]
        second = asyncio.create_task(state_of(store, "u1"))
        done, _ = await asyncio.wait([second], timeout=0.2)
        assert not done
        state.scopes[""] = {"f": 1}
        state.dirty = {""}
        await transaction.save([state])
        await transaction.grant([grant()], topic="awards")
    found = await second
    assert found.scopes == {"": {"f": 1}}
    assert found.held == {("first", ""): NOON}


async def test_new_users_of_two_batches_are_one_user(store: AnyStore) -> None:
    """Two transactions that meet a user nobody knew wait for each other; the second reads what the first saved."""
    async with store.transaction() as transaction:
        state = (await load(transaction, {"u1": (), "u2": ()}))["u1"]
        second = asyncio.create_task(state_of(store, "u1"))
        done, _ = await asyncio.wait([second], timeout=0.2)
        assert not done
        state.award_sequence = 5
        await transaction.save([state])
    assert (await second).award_sequence == 5


async def test_crossing_user_sets_do_not_deadlock(store: AnyStore) -> None:
    """Many transactions over the same users, asked for in any order, all finish: locks are taken in sorted order."""
    users = [f"u{number}" for number in range(8)]
    async with store.transaction() as transaction:
        await load(transaction, dict.fromkeys(users, ()))

    async def bump(order: list[str]) -> None:
        async with store.transaction() as transaction:
            states = await load(transaction, dict.fromkeys(order, ()))
            for state in states.values():
                state.award_sequence += 1
            await transaction.save(list(states.values()))

    orders = [users[start:] + users[:start] for start in range(8)] + [users[::-1]] * 8
    async with asyncio.timeout(30):
        await asyncio.gather(*(bump(order) for order in orders))
    assert {(await state_of(store, user_id)).award_sequence for user_id in users} == {16}


async def test_a_user_is_not_touched_without_the_lock(store: AnyStore) -> None:
    """Saving, replaying or listing the awards of a user that was not loaded is a fault of the program, and says so."""
    async with store.transaction() as transaction:
        with pytest.raises(RuntimeError):
            await transaction.save([UserState("u1")])
        with pytest.raises(RuntimeError):
            await transaction.holdings_of("u1")
        with pytest.raises(RuntimeError):
            _ = [logged async for logged in transaction.log_of("u1")]


# ---------------------------------------------------------------- awards


async def test_award_is_granted_once(store: AnyStore) -> None:
    """The key (user, badge, context) refuses a second award as poison; another context or user is another award."""
    async with store.transaction() as transaction:
        await load(transaction, {"u1": (), "u2": ()})
        await transaction.grant([grant("u1", "a"), grant("u2", "a"), grant("u1", "a", context="5")], topic="awards")
    with pytest.raises(PoisonBatch) as refused:
        async with store.transaction() as transaction:
            await load(transaction, {"u1": ()})
            await transaction.grant([grant("u1", "b"), grant("u1", "a", award_id=str(uuid4()))], topic="awards")
    assert "user_badges_pkey" in refused.value.message
    assert (await state_of(store, "u1")).held == {("a", ""): NOON}


async def test_taken_back_awards_are_counted(store: AnyStore) -> None:
    """How often an award was granted and taken back is told for each asked, in the order asked, repeats included."""
    async with store.transaction() as transaction:
        await load(transaction, {"u1": ()})
        await transaction.grant(
            [grant("u1", "a", sequence=1), grant("u1", "b", context="5", sequence=2)], topic="awards"
        )
    await take_back(store, "u1", "b", "5", sequence=3)
    async with store.transaction() as transaction:
        asked = [("u1", "b", "5"), ("u1", "b", ""), ("u1", "a", ""), ("u2", "a", ""), ("u1", "b", "5")]
        assert await transaction.grant_counts(asked) == [1, 0, 0, 0, 1]
        assert await transaction.grant_counts([]) == []


async def take_back(store: AnyStore, user_id: str, badge_key: str, context: str, *, sequence: int) -> None:
    """Log that an award was taken back."""
    if isinstance(store, MemoryStore):
        store.tables.revoked.append((user_id, badge_key, context))
        return
    async with store.pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO badge_awards_log (user_id, badge_key, context, award_id, kind, awarded_at, source, origin, "
            "sequence, catalog_version) VALUES ($1, $2, $3, $4, 'revoked', $5, 'manual', 'manual', $6, 1)",
            user_id,
            badge_key,
            context,
            uuid4(),
            NOON,
            sequence,
        )


# ---------------------------------------------------------------- memory between batches


async def batch_of(store: AnyStore, owner: Claim, start: int, known: Collection[str]) -> dict[str, UserState]:
    """What a batch of this claim reads of `u1`, which it then saves."""
    async with store.transaction() as transaction:
        await transaction.fence(owner, step(start, start + 1))
        found = await transaction.lock(["u1"], version=1, known=known)
        await transaction.save(list(found.values()))
    return found


async def test_known_users_are_not_read_again(store: AnyStore) -> None:
    """A user whom nobody else changed since this claim did is locked, but not read; one who is not known is read."""
    owner = await claim(store)
    assert set(await batch_of(store, owner, 0, known=())) == {"u1"}
    assert await batch_of(store, owner, 1, known={"u1"}) == {}
    assert set(await batch_of(store, owner, 2, known=())) == {"u1"}


@pytest.mark.parametrize("other", ["claim again", "partition", "nobody"])
async def test_users_changed_by_others_are_read_again(store: AnyStore, other: str) -> None:
    """What is known of a user counts no more once another claim, of any partition, or a job saves the user."""
    owner = await claim(store)
    await batch_of(store, owner, 0, known=())
    if other == "claim again":
        owner = await claim(store)
        assert set(await batch_of(store, owner, 1, known={"u1"})) == {"u1"}
        return
    if other == "partition":
        await batch_of(store, await claim(store, 1), 0, known=())
    else:
        async with store.transaction() as transaction:
            await transaction.save(list((await transaction.lock(["u1"], version=1)).values()))
    assert set(await batch_of(store, owner, 1, known={"u1"})) == {"u1"}
    assert await batch_of(store, owner, 2, known={"u1"}) == {}


async def test_known_user_whom_another_claim_has_in_hand_is_read_after_that(store: AnyStore) -> None:
    """Who waits for a user learns whose the user is by then, and reads what was saved meanwhile."""
    owner, other = await claim(store), await claim(store, 1)
    await batch_of(store, owner, 0, known=())
    async with store.transaction() as transaction:
        await transaction.fence(other, step(0, 1))
        state = (await transaction.lock(["u1"], version=1))["u1"]
        second = asyncio.create_task(batch_of(store, owner, 1, known={"u1"}))
        done, _ = await asyncio.wait([second], timeout=0.2)
        assert not done
        state.award_sequence = 5
        await transaction.save([state])
    assert (await second)["u1"].award_sequence == 5


async def test_several_partitions_move_in_one_transaction(store: AnyStore) -> None:
    """Partitions fenced together all move; where one is not where its claim says, none does."""
    owners = [await claim(store, number) for number in range(3)]
    async with store.transaction() as transaction:
        await transaction.fence_together([(owner, step(0, 2)) for owner in owners])
        assert await transaction.catalog_version() == 0
    stale = [(owners[2], step(2, 3)), (owners[0], step(2, 3)), (owners[1], step(1, 3))]
    with pytest.raises(Fenced):
        async with store.transaction() as transaction:
            await transaction.fence_together(stale)
    taken = await claim(store, 1)
    assert taken.next_offset == 2
    with pytest.raises(Fenced):
        async with store.transaction() as transaction:
            await transaction.fence_together([(owner, step(2, 3)) for owner in owners])
    assert [(await claim(store, number)).next_offset for number in range(3)] == [2, 2, 2]


async def test_each_user_of_several_partitions_has_the_home_of_its_own(store: AnyStore) -> None:
    """Users locked for several claims at once are at home with their own one: known there, read again elsewhere."""
    owners = [await claim(store, number) for number in range(2)]
    homes = {"u1": owners[0].token, "u2": owners[1].token}

    async def lock(at: int, known: Collection[str], homes: dict[str, UUID]) -> set[str]:
        async with store.transaction() as transaction:
            await transaction.fence_together([(owner, step(at, at + 1)) for owner in owners])
            found = await transaction.lock(sorted(homes), version=1, known=known, homes=homes)
            await transaction.save(list(found.values()))
        return set(found)

    assert await lock(0, (), homes) == {"u1", "u2"}
    assert await lock(1, {"u1", "u2"}, homes) == set()
    assert await lock(2, {"u1"}, homes) == {"u2"}
    assert await lock(3, {"u1", "u2"}, {"u1": owners[1].token, "u2": owners[1].token}) == {"u1"}
    async with store.transaction() as transaction:
        await transaction.fence(owners[1], step(4, 5))
        assert await transaction.lock(["u1", "u2"], version=1, known={"u1", "u2"}) == {}


async def test_known_user_who_was_removed_begins_anew(store: AnyStore) -> None:
    """A user whose row is gone is a new one, whatever the caller has in memory."""
    owner = await claim(store)
    async with store.transaction() as transaction:
        await transaction.fence(owner, step(0, 1))
        await transaction.lock(["u1", "u2", "u3"], version=1)
    if isinstance(store, MemoryStore):
        del store.tables.users["u2"]
    else:
        async with store.pool.acquire() as connection:
            await connection.execute("DELETE FROM users WHERE user_id = 'u2'")
    async with store.transaction() as transaction:
        await transaction.fence(owner, step(1, 2))
        found = await transaction.lock(["u1", "u2", "u3", "u4"], version=1, known={"u1", "u2", "u3"})
    for name in ("u2", "u4"):
        assert found[name] == UserState(name, scopes={"": {}})


@pytest.mark.parametrize("name", ["a\x1fb", "".join(map(chr, range(1, 200))), "\x1f", "\ud7ff\U0010ffff"])
async def test_any_name_is_locked(store: AnyStore, name: str) -> None:
    """Names may hold any characters, those that separate names on the wire among them."""
    names = {name, "u1", "\x01"}
    for known in ((), names):
        async with store.transaction() as transaction:
            found = await transaction.lock(names, version=1, known=known)
        assert set(found) == (names if not known else set())


async def test_build_goes_through_all_users(store: AnyStore) -> None:
    """A build looks at users page by page; it is not done while some are behind, and begins again then."""
    version = await store.apply_catalog("{}", "one", badges=[], event_types=[])
    async with store.transaction() as transaction:
        await transaction.lock(["a", "b", "c"], version=0)
        await transaction.lock(["d"], version=version)
        await transaction.remember([event("b", "old")])
        assert await transaction.arrived_since("b", version) == {("", "old")}
        assert await transaction.arrived_since("b", version + 1) == set()
    async with store.transaction() as transaction:
        assert await transaction.behind(version, limit=3) is None
    async with store.transaction() as transaction:
        assert await transaction.behind(version, limit=3) == BuildPage(("a", "b", "c"), "c")
        async with store.transaction() as other:
            assert await other.behind(version, limit=3) is None
        states = await transaction.lock(["a", "b"], version=version)
        for state in states.values():
            state.built_version = version
        await transaction.save(list(states.values()))
        await transaction.move_build(version, after="c", users=2, awards=0)
    async with store.transaction() as transaction:
        assert await transaction.behind(version, limit=3) == BuildPage((), "d")
        await transaction.move_build(version, after="d", users=0, awards=0)
        assert await transaction.behind(version, limit=3) == BuildPage(again=True)
        await transaction.move_build(version, after="", users=0, awards=0)
        states = await transaction.lock(["c"], version=version)
        states["c"].built_version = version
        await transaction.save(list(states.values()))
        assert await transaction.behind(version, limit=9) == BuildPage((), "d")
        await transaction.move_build(version, after="d", users=1, awards=0)
        assert await transaction.behind(version, limit=9) == BuildPage()
        await transaction.move_build(version, after=None, users=0, awards=0)
    async with store.transaction() as transaction:
        assert await transaction.behind(version, limit=9) == BuildPage(done=True)


async def test_tail_is_what_the_state_does_not_hold(store: AnyStore) -> None:
    """The events after a state's newest one come back in order, those of the open transaction among them."""
    await remember(store, event("u1", "a"), event("u1", "b", occurred_us=NOON + 2), event("u2", "c"))
    async with store.transaction() as transaction:
        await transaction.remember([event("u1", "d", occurred_us=NOON + 1), event("u3", "e")])
        states = await transaction.lock(["u1", "u2", "u3", "u4"], version=1)
        assert {
            name: [one.id for one in tail] for name, tail in (await transaction.tails(states.values())).items()
        } == {
            "u1": ["a", "d", "b"],
            "u2": ["c"],
            "u3": ["e"],
        }
        states["u1"].newest = (NOON, "", "a")
        states["u2"].newest = (NOON, "", "c")
        found = await transaction.tails([states["u1"], states["u2"]])
        assert {name: [one.id for one in tail] for name, tail in found.items()} == {"u1": ["d", "b"]}
        assert await transaction.tails([]) == {}


async def test_last_award_numbers_the_next(store: AnyStore) -> None:
    """The number of a user's last award is read from the awards, whatever an old state says."""
    async with store.transaction() as transaction:
        await transaction.lock(["u1"], version=1)
        await transaction.grant([grant("u1", "a", sequence=1), grant("u1", "b", sequence=2)], topic="awards")
    assert (await state_of(store, "u1")).award_sequence == 2


async def test_nothing_to_do_is_done(store: AnyStore) -> None:
    """Empty batches are taken."""
    async with store.transaction() as transaction:
        found = await transaction.remember([])
        assert (list(found.new), list(found.conflicts)) == ([], [])
        assert await transaction.lock([], version=1) == {}
        await transaction.read({}, [])
        await transaction.save([])
        await transaction.grant([], topic="awards")
        await transaction.publish("awards", [])
        await transaction.bury([])


@pytest.mark.parametrize("count", [2, 100])
async def test_few_awards_and_many_leave_the_same(store: AnyStore, count: int) -> None:
    """However awards are written, each is held with what was given, and its message waits, in order within its user."""
    granted = [grant(f"u{n % 3}", f"b{n}", awarded_us=NOON + n, message=b"u%d %d" % (n % 3, n)) for n in range(count)]
    async with store.transaction() as transaction:
        await load(transaction, {"u0": (), "u1": (), "u2": ()})
        await transaction.grant(granted, topic="awards")
    for user in ("u0", "u1", "u2"):
        own = [one for one in granted if one.user_id == user]
        state = await state_of(store, user)
        assert state.held == {(one.badge_key, ""): one.awarded_us for one in own}
        assert state.award_sequence == max((one.sequence for one in own), default=0)
        assert [text for text in await waiting(store) if text.startswith(user)] == [one.message.decode() for one in own]


async def test_queue_of_users(store: AnyStore) -> None:
    """Users are noted once, with the version of then; who is in hand is nobody else's; who is struck off is gone."""
    async with store.transaction() as transaction:
        await transaction.lock(["b", "a"], version=1)
        await transaction.queue(["b"], 1)
        assert not await transaction.log_exceeds("b", 0)
    async with store.transaction() as transaction:
        await transaction.lock(["b", "a"], version=1)
        await transaction.queue(["a", "b"], 2)
    async with store.transaction() as one, store.transaction() as other:
        assert await one.queued(1) == [("b", 1)]
        assert await other.queued(5) == [("a", 2)]
        await one.unqueue(["b"])
    async with store.transaction() as transaction:
        assert await transaction.queued(5) == [("a", 2)]


async def test_queue_is_as_it_was_where_the_batch_failed(store: AnyStore) -> None:
    """What a transaction that was undone noted or struck off counts for nothing."""
    async with store.transaction() as transaction:
        await transaction.lock(["a", "b"], version=1)
        await transaction.queue(["a"], 1)
    with pytest.raises(RuntimeError, match="undone"):
        async with store.transaction() as transaction:
            await transaction.lock(["a", "b"], version=1)
            await transaction.queue(["b"], 1)
            await transaction.unqueue(["a"])
            raise RuntimeError("undone")
    async with store.transaction() as transaction:
        assert await transaction.queued(5) == [("a", 1)]


async def test_length_of_a_log(store: AnyStore) -> None:
    """A log exceeds every number below its length, the transaction's own events counted."""
    async with store.transaction() as transaction:
        await transaction.remember([event("u", "1"), event("u", "2")])
        await transaction.lock(["u"], version=1)
        assert await transaction.log_exceeds("u", 1)
        assert not await transaction.log_exceeds("u", 2)
        with pytest.raises(RuntimeError, match="without"):
            await transaction.log_exceeds("v", 2)
