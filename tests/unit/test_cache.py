"""What is kept of users between batches: the same state comes back, to its claim alone, within the room given."""

from __future__ import annotations

from uuid import uuid4

import pytest

from worker.pipeline.cache import Cache, packed, unpacked
from worker.rules.state import UserState

TOKEN = uuid4()


def user(name: str, *, dirty: frozenset[str] = frozenset({""})) -> UserState:
    """A user with a memory of some size and one award."""
    return UserState(
        name,
        scopes={"": {"fold": [1, 2**70, ["x", None, True]]}, "item=1": {"fold": [3]}},
        held={("first", ""): 5, ("per_item", "1"): 6},
        newest=(7, "shop", f"{name}-id"),
        award_sequence=3,
        built_version=2,
        dirty=dirty,
        unsaved=4,
    )


@pytest.mark.parametrize("dirty", [frozenset(), frozenset({""}), frozenset({"", "item=1"})])
def test_a_packed_state_is_the_state(dirty: frozenset[str]) -> None:
    """Everything that is not counted anew comes back, integers of any length among it."""
    assert unpacked(packed(user("u", dirty=dirty))) == user("u", dirty=dirty)


def test_a_state_belongs_to_its_claim() -> None:
    """Under another token there is nothing; what was taken out is gone until it is put back."""
    cache = Cache(1 << 20)
    cache.put([user("a"), user("b")], TOKEN)
    assert cache.take(["a"], uuid4()) == {}
    assert cache.take(["b", "c"], TOKEN).keys() == {"b"}
    assert cache.take(["a", "b"], TOKEN) == {}
    assert cache.counted() == (1, 4)


def test_the_room_is_kept() -> None:
    """However many users come, the memory taken stays within the limit, and the last ones come back as they were."""
    cache = Cache(64 * 1024)
    names = [f"u{number}" for number in range(1_000)]
    for name in names:
        cache.put([user(name)], TOKEN)
        assert cache.bytes <= 64 * 1024
    assert 60 < len(cache) < len(names)
    found = cache.take(names[-20:], TOKEN)
    assert [found[name].newest for name in names[-20:]] == [user(name).newest for name in names[-20:]]


def test_who_comes_often_is_kept_as_it_is() -> None:
    """Users who come again and again are not packed for the sake of those who come once."""
    cache = Cache(64 * 1024)
    often = user("often")
    for number in range(500):
        cache.put([often], TOKEN)
        cache.put([user(f"once{number}")], TOKEN)
        often = cache.take(["often"], TOKEN)["often"]
    cache.put([often], TOKEN)
    assert cache.take(["often"], TOKEN)["often"] is often


def test_an_ended_claim_leaves_nothing() -> None:
    """What was put under a token is forgotten with it, packed or not; the others' stays."""
    cache, other = Cache(64 * 1024), uuid4()
    cache.put([user(f"u{number}") for number in range(100)], TOKEN)
    cache.put([user("kept")], other)
    cache.drop(TOKEN)
    assert len(cache) == 1
    cache.drop(other)
    assert cache.bytes == 0
