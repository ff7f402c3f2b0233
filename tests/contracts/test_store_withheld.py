"""What every store promises of awards that are taken back, withheld, given by hand, and counted by breakers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.contracts.samples import NOON, AnyStore, claim, grant, load, state_of, step
from worker.errors import PoisonBatch
from worker.exchange import Grant, Revocation, Withheld
from worker.rules.state import NEVER, Holdings

MINUTE = 60_000_000
PLACE = ("u1", "first", "")


def withheld(**changes: Any) -> Withheld:
    """An award that is held back."""
    values: dict[str, Any] = {
        "user_id": "u1",
        "badge_key": "first",
        "context": "",
        "state": "held",
        "awarded_us": NOON,
        "source": "auto",
        "origin": "live",
        "catalog_version": 1,
        "trigger_id": "e1",
        "trigger_type": "question.scored",
        "metadata_json": '{"event_count": 1}',
        "reason": "Too many.",
    }
    return Withheld(**(values | changes))


def revocation(of: Grant, sequence: int, **changes: Any) -> Revocation:
    """The entry that takes an award back by hand."""
    values: dict[str, Any] = {
        "user_id": of.user_id,
        "badge_key": of.badge_key,
        "context": of.context,
        "awarded_us": of.awarded_us,
        "award_id": of.award_id,
        "metadata_json": of.metadata_json,
        "source": "manual",
        "origin": "manual",
        "catalog_version": 1,
        "trigger_id": "r1",
        "trigger_type": "grant.revoked",
        "reason": "A mistake.",
    }
    return Revocation(sequence=sequence, message=b"{}", **(values | changes))


async def holdings(store: AnyStore, user_id: str = "u1") -> Holdings:
    """All that is stored of a user's awards."""
    async with store.transaction() as transaction:
        await load(transaction, {user_id: ()})
        return await transaction.holdings_of(user_id)


async def test_an_award_is_taken_back_and_logged(store: AnyStore) -> None:
    """What is taken back is no longer held, and comes back as it was; its revocation counts among earlier grants."""
    given = grant("u1", "first", sequence=1)
    async with store.transaction() as transaction:
        await load(transaction, {"u1": ()})
        await transaction.grant([given], topic="awards")
    async with store.transaction() as transaction:
        await load(transaction, {"u1": ()})
        taken = await transaction.take_back([PLACE, ("u1", "other", "")])
        assert taken == {PLACE: replace(given, message=b"")}
        await transaction.note([revocation(given, 2)])
    assert (await state_of(store, "u1")).held == {}
    assert (await state_of(store, "u1")).award_sequence == 2
    assert (await holdings(store)).first == {("first", ""): (NOON, given.trigger_id)}
    async with store.transaction() as transaction:
        assert await transaction.grant_counts([PLACE, ("u1", "other", "")]) == [1, 0]


async def test_what_fell_by_itself_was_not_taken_by_hand(store: AnyStore) -> None:
    """`first` tells of awards that a person took back, not of those that fell."""
    given = grant("u1", "first", sequence=1)
    async with store.transaction() as transaction:
        await load(transaction, {"u1": ()})
        await transaction.note([given, revocation(given, 2, source="auto", origin="live")])
    assert await holdings(store) == Holdings()
    async with store.transaction() as transaction:
        assert await transaction.grant_counts([PLACE]) == [1]


async def test_withheld_awards_count_as_held_never(store: AnyStore) -> None:
    """What is withheld is loaded with the awards of its context, held at no instant, until it is lifted."""
    async with store.transaction() as transaction:
        await load(transaction, {"u1": ()})
        await transaction.withhold([withheld(), withheld(badge_key="b", context="5")])
    assert (await state_of(store, "u1")).held == {("first", ""): NEVER}
    assert (await state_of(store, "u1", "post=5")).held == {("first", ""): NEVER, ("b", "5"): NEVER}
    assert (await holdings(store)).withheld == {("first", ""): "held", ("b", "5"): "held"}
    async with store.transaction() as transaction:
        await load(transaction, {"u1": ()})
        assert await transaction.lift([PLACE], "dropped") == []
        assert await transaction.lift([PLACE], "held") == [withheld()]
        assert await transaction.lift([PLACE]) == []
    assert (await state_of(store, "u1", "post=5")).held == {("b", "5"): NEVER}


async def test_what_is_withheld_already_changes_state_and_reason(store: AnyStore) -> None:
    """Withholding again keeps instant and figures of the award."""
    async with store.transaction() as transaction:
        await load(transaction, {"u1": ()})
        await transaction.withhold([withheld()])
        await transaction.withhold([withheld(state="revoked", reason="A mistake.", awarded_us=NOON + 1)])
        assert await transaction.lift([PLACE]) == [withheld(state="revoked", reason="A mistake.")]


async def test_what_a_person_gave_or_confirmed_is_fixed(store: AnyStore) -> None:
    """Awards given by hand are known as such, and so are those that were held when a person gave them."""
    async with store.transaction() as transaction:
        await load(transaction, {"u1": ()})
        await transaction.hold([grant("u1", "first", source="manual", origin="manual"), grant("u1", "b")])
        assert await transaction.confirm([("u1", "b", ""), ("u1", "c", "")]) == {("u1", "b", "")}
    assert (await state_of(store, "u1")).fixed == {("first", ""), ("b", "")}
    assert (await holdings(store)).by_hand == {("first", ""), ("b", "")}


async def test_an_award_is_held_once(store: AnyStore) -> None:
    """A second one of the same badge and context is refused, however it comes."""
    with pytest.raises(PoisonBatch):  # noqa: PT012 (a transaction that is left by an exception is several statements)
        async with store.transaction() as transaction:
            await load(transaction, {"u1": ()})
            await transaction.hold([grant("u1", "first")])
            await transaction.hold([grant("u1", "first")])


async def test_users_of_withheld_awards_must_be_locked(store: AnyStore) -> None:
    """Taking back, withholding or lifting awards of a user who was not loaded is a fault of the program."""
    async with store.transaction() as transaction:
        for touch in (
            transaction.take_back([PLACE]),
            transaction.withhold([withheld()]),
            transaction.lift([PLACE]),
        ):
            with pytest.raises(RuntimeError):
                await touch


async def test_tallies_are_added_up_over_partitions(store: AnyStore) -> None:
    """Counts of a badge add up within each span of minutes, over partitions; each partition forgets its own."""
    five, six, none = (4 * MINUTE, 5 * MINUTE), (5 * MINUTE, 6 * MINUTE), (6 * MINUTE, 7 * MINUTE)
    for partition in (0, 1):
        owner = await claim(store, partition)
        async with store.transaction() as transaction:
            await transaction.fence(owner, step(0, 1))
            await transaction.tally([("a", 5 * MINUTE, 2), ("a", 6 * MINUTE, 1), ("b", 6 * MINUTE, 4)])
            await transaction.tally([("a", 6 * MINUTE, 3)])
            assert await transaction.usual() == {}
    async with store.transaction() as transaction:
        assert await transaction.tallied([five, six, none]) == {five: {"a": 4}, six: {"a": 8, "b": 8}, none: {}}
        await transaction.fence(await claim(store), step(1, 2))
        await transaction.forget_tallies(6 * MINUTE)
        assert await transaction.tallied([(0, 9 * MINUTE)]) == {(0, 9 * MINUTE): {"a": 10, "b": 8}}
