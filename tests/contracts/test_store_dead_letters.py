"""Dead letters in every store: one that is there stays, and who buries learns which were new."""

from __future__ import annotations

from tests.contracts.samples import AnyStore, letter


async def test_the_new_ones_come_back(store: AnyStore) -> None:
    """A letter is stored once: the indexes of those that were not there come back, in order."""
    async with store.transaction() as transaction:
        assert await transaction.bury([letter(1), letter(3)]) == [0, 1]
        assert await transaction.bury([letter(3)]) == []
    async with store.transaction() as transaction:
        assert await transaction.bury([letter(0), letter(1), letter(2), letter(3)]) == [0, 2]
    assert sum(one.letters for one in await store.dead_letter_counts()) == 4


async def test_letters_of_a_type_are_found(store: AnyStore) -> None:
    """By the type that the record says it is of, in whatever alphabet; with what else is asked for."""
    types = ["grüße.gesandt", "review.lost", None, "grüße.gesandt"]
    async with store.transaction() as transaction:
        await transaction.bury([letter(offset, said_type=said) for offset, said in enumerate(types)])
    assert [one.offset for one in await store.dead_letters(event_type="grüße.gesandt")] == [3, 0]
    assert [one.offset for one in await store.dead_letters(event_type="grüße.gesandt", limit=1)] == [3]
    assert [one.offset for one in await store.dead_letters(event_type="review.lost", reason="not_json")] == [1]
    assert await store.dead_letters(event_type="review.lost", reason="too_old") == []
    assert await store.dead_letters(event_type="gr") == []
