"""What is kept of users between batches: the same state comes back, to its claim alone, within the room given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pipeline.cache import Cache, Home, Kept, opened
from worker.pipeline.compact import Shapes, packed, packed_flat, unfolded, unpacked, unpacked_flat
from worker.rules.state import UserState

TOKEN = uuid4()
ROOM = 64 * 1024

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False)
memories = scalars | st.lists(scalars, max_size=12)
usual_states = st.builds(
    UserState,
    st.text(min_size=1, max_size=8),
    scopes=st.dictionaries(st.text(max_size=3), memories, max_size=4).map(lambda own: {"": own}),
    held=st.dictionaries(st.tuples(st.text(max_size=3), st.just("")), st.integers(), max_size=3),
    newest=st.none() | st.tuples(st.integers(), st.text(max_size=3), st.text(max_size=3)),
    award_sequence=st.integers(0, 9),
    built_version=st.none() | st.integers(0, 9),
    dirty=st.sampled_from([frozenset(), frozenset({""})]),
    unsaved=st.integers(0, 9),
)


def put(cache: Cache, states: Iterable[UserState], home: Home) -> None:
    """Keep states, as after a batch."""
    closed = {
        state.user_id: cache.closed(state, home if isinstance(home, UUID) else home[state.user_id]) for state in states
    }
    cache.put(closed, grown_bytes=sum(kept[2] for kept in closed.values()), moves=cache.moves)


def find(cache: Cache, users: Collection[str], home: Home) -> dict[str, UserState]:
    """The states that are kept of some users."""
    return {user_id: opened(user_id, kept) for user_id, kept in cache.find(users, home).items()}


def put_again(
    cache: Cache,
    found: Mapping[str, Kept],
    change: Callable[[UserState], None] = lambda _: None,
    *,
    moves: int | None = None,
) -> None:
    """Keep what became of users who were found, at so many moves or now, as a batch does."""
    closed, grown_bytes = {}, 0
    for user_id, before in found.items():
        state = opened(user_id, before)
        change(state)
        closed[user_id] = cache.closed(state, TOKEN, before)
        grown_bytes += closed[user_id][2] - before[2]
    cache.put(closed, found, grown_bytes, moves=cache.moves if moves is None else moves)


def user(name: str, *, dirty: frozenset[str] = frozenset({""}), **more: Any) -> UserState:
    """A user with contexts, a memory of some size and awards."""
    given: dict[str, Any] = {
        "scopes": {"": {"fold": [1, 2**70, ["x", None, True]]}, "item=1": {"fold": [3]}},
        "held": {("first", ""): 5, ("per_item", "1"): 6},
        "newest": (7, "shop", f"{name}-id"),
        "award_sequence": 3,
        "built_version": 2,
        "dirty": dirty,
        "unsaved": 4,
    }
    return UserState(name, **{**given, **more})


def plain(name: str) -> UserState:
    """A user of the usual kind: memory of the own scope alone, lists of single values."""
    return user(name, scopes={"": {"fold": [1, f"{name}-id"], "count": 3}}, held={("first", ""): 5})


@pytest.mark.parametrize("dirty", [frozenset(), frozenset({""}), frozenset({"", "item=1"})])
def test_a_packed_state_is_the_state(dirty: frozenset[str]) -> None:
    """Everything that is not counted anew comes back, integers of any length among it."""
    assert unpacked(packed(user("u", dirty=dirty))) == user("u", dirty=dirty)


@given(usual_states)
def test_a_flat_state_is_the_state(state: UserState) -> None:
    """What became a tuple, and bytes after that, is the same state again."""
    flat = Shapes(ROOM).flat(state, TOKEN)
    assert flat is not None
    assert unfolded(state.user_id, flat) == state
    assert unfolded(state.user_id, unpacked_flat(flat[0], TOKEN, packed_flat(flat))) == state


def test_shapes_are_shared() -> None:
    """Users with the same folds and awards share one shape; one value more or another version is another shape."""
    shapes = Shapes(ROOM)
    first, second = shapes.flat(plain("a"), TOKEN), shapes.flat(plain("b"), uuid4())
    assert first is not None
    assert second is not None
    assert first[0] is second[0]
    longer = user("c", scopes={"": {"fold": [1, "c", 2], "count": 3}}, held={("first", ""): 5})
    newer = user("d", scopes=plain("d").scopes, held={("first", ""): 5}, built_version=3)
    for other in (shapes.flat(longer, TOKEN), shapes.flat(newer, TOKEN)):
        assert other is not None
        assert other[0] is not first[0]


def test_shapes_have_their_room() -> None:
    """However different users are, only so many shapes are made: the others are kept as they are, within the limit."""
    cache = Cache(ROOM)
    different = [user(f"u{number}", scopes={"": {f"fold{number}": number}}, held={}) for number in range(300)]
    put(cache, different, TOKEN)
    known = len(cache._shapes._known)
    assert 0 < known < 20
    assert cache.taken_bytes <= ROOM
    assert find(cache, [state.user_id for state in different[-9:]], TOKEN).keys() == {f"u{n}" for n in range(291, 300)}
    put(cache, [user("next", scopes={"": {"fold": 1}}, held={}, built_version=3)], TOKEN)
    assert len(cache._shapes._known) == 1


def test_users_of_a_shape_are_weighed_each() -> None:
    """Long texts and lists count where they are, whatever the first user of the same shape had."""
    cache = Cache(1 << 20)
    put(cache, [user("small", scopes={"": {"text": "", "list": [1] * 20}}, held={})], TOKEN)
    small = cache.taken_bytes
    put(
        cache,
        [user("large", scopes={"": {"text": "x" * 5_000, "list": list(range(10**9, 10**9 + 900))}}, held={})],
        TOKEN,
    )
    assert cache.taken_bytes - small > 5_000 + 900 * 28
    assert len(cache._shapes._known) == 1
    large = cache.taken_bytes
    put_again(cache, cache.find(["small"], TOKEN), grow)
    assert cache.taken_bytes == large, "between two times that the state is written, texts are not looked at"
    put_again(cache, cache.find(["small"], TOKEN), write)
    assert cache.taken_bytes - large >= 5_000, "a user is weighed again where the state was written"


def grow(state: UserState) -> None:
    """Let a memory become a long text."""
    state.scopes[""]["text"] = "x" * 5_000


def write(state: UserState) -> None:
    """As after the state was written."""
    state.dirty = frozenset()


@pytest.mark.parametrize(
    "unusual",
    [
        user("contexts"),
        user("lists in lists in lists", scopes={"": {"fold": [1, [[2]]]}}),
        user("first one value, then a list", scopes={"": {"fold": [1, None, {"a": 1}]}}),
        user("by hand", scopes={"": {}}, fixed=frozenset({("first", "")})),
        user("nothing of its own", scopes={"item=1": {}}),
    ],
    ids=lambda state: state.user_id,
)
def test_what_is_of_no_usual_kind_is_kept_too(unusual: UserState) -> None:
    """A state whose size its shape does not say is kept as it is, and packed as a whole."""
    assert Shapes(ROOM).flat(unusual, TOKEN) is None
    cache = Cache(ROOM)
    put(cache, [unusual], TOKEN)
    assert find(cache, [unusual.user_id], TOKEN)[unusual.user_id] is unusual
    put_again(cache, cache.find([unusual.user_id], TOKEN))
    cache.forget([unusual.user_id])
    assert (len(cache), cache.taken_bytes) == (0, 0)
    assert unpacked(packed(unusual)) == unusual


def test_a_state_belongs_to_its_claim() -> None:
    """Under another token there is nothing; of a batch that failed nothing is left."""
    for make in (user, plain):
        cache = Cache(1 << 20)
        put(cache, [make("a"), make("b")], TOKEN)
        assert find(cache, ["a"], uuid4()) == {}
        assert find(cache, ["b", "c"], TOKEN).keys() == {"b"}
        cache.forget(["b", "c"])
        assert find(cache, ["a", "b"], TOKEN).keys() == {"a"}
        assert cache.counted() == (2, 3)
        cache.forget(["a"])
        assert cache.taken_bytes == 0


def test_states_of_several_claims() -> None:
    """Put together with a claim for each, every state comes back under its own claim alone."""
    cache, homes = Cache(1 << 20), {"a": TOKEN, "b": uuid4()}
    put(cache, [plain("a"), plain("b")], homes)
    assert find(cache, ["a", "b"], TOKEN).keys() == {"a"}
    assert find(cache, ["a", "b"], homes) == {"a": plain("a"), "b": plain("b")}


@pytest.mark.parametrize("make", [user, plain])
def test_the_room_is_kept(make: Any) -> None:
    """However many users come, the memory taken stays within the limit, and the last ones come back as they were."""
    cache = Cache(ROOM)
    names = [f"u{number}" for number in range(1_000)]
    for name in names:
        put(cache, [make(name)], TOKEN)
        assert cache.taken_bytes <= ROOM
    assert 60 < len(cache) < len(names)
    found = find(cache, names[-20:], TOKEN)
    assert found == {name: make(name) for name in names[-20:]}
    cache.forget(names)
    assert (len(cache), cache.taken_bytes) == (0, 0)


@pytest.mark.parametrize("make", [user, plain])
def test_the_longest_unused_is_packed_before_it_is_forgotten(make: Any) -> None:
    """More users find room than fit as they are; who comes again and again is among the last to go."""
    cache, again = Cache(ROOM), make("again")
    put(cache, [again], TOKEN)
    alone = cache.taken_bytes
    for number in range(500):
        put(cache, [make(f"once{number}")], TOKEN)
        again = find(cache, ["again"], TOKEN)["again"]
        put(cache, [again], TOKEN)
    assert len(cache) > ROOM // alone
    assert find(cache, ["again", "once499"], TOKEN) == {"again": make("again"), "once499": make("once499")}
    assert find(cache, ["once0"], TOKEN) == {}


def test_who_is_put_again_takes_room_once() -> None:
    """A state put while an older one of the user is kept, packed or not, takes its place."""
    cache = Cache(ROOM)
    put(cache, [plain("u")], TOKEN)
    alone = cache.taken_bytes
    put(cache, [plain("u")], TOKEN)
    assert (len(cache), cache.taken_bytes) == (1, alone)
    put(cache, [plain(f"u{number}") for number in range(200)], TOKEN)
    put(cache, [plain("u")], TOKEN)
    assert find(cache, ["u"], TOKEN) == {"u": plain("u")}
    cache.forget(["u"])
    assert find(cache, ["u"], TOKEN) == {}


def test_an_ended_claim_leaves_nothing() -> None:
    """What was put under a token is forgotten with it, packed or not; the others' stays."""
    cache, other = Cache(ROOM), uuid4()
    put(cache, [make(f"u{number}") for number in range(100) for make in (user, plain)], TOKEN)
    put(cache, [plain("kept")], other)
    cache.drop(TOKEN)
    assert len(cache) == 1
    cache.drop(other)
    assert cache.taken_bytes == 0


def test_who_was_kept_as_it_is_stays_as_it_is() -> None:
    """Where all room is taken too; who was packed, or comes from elsewhere, may be packed at once."""
    cache = Cache(ROOM)
    for number in range(250):
        put(cache, [plain(f"u{number}")], TOKEN)
    assert cache._ready
    assert cache._packed
    ready, small = [*cache._ready][:20], [*cache._packed][:20]
    for users, all_stay in ((ready, True), (small, False)):
        put_again(cache, cache.find(users, TOKEN))
        as_they_are = {user_id for user_id in users if user_id in cache._ready}
        assert (as_they_are == set(users)) is all_stay


@pytest.mark.parametrize("room", [ROOM, 1 << 20])
def test_what_is_taken_is_what_is_kept(room: int) -> None:
    """Whatever comes between a batch's finding its users and putting them: others' users, an end of a claim."""
    cache, other = Cache(room), uuid4()
    put(cache, [plain(f"u{number}") for number in range(40)], TOKEN)
    moves, found = cache.moves, cache.find([f"u{number}" for number in range(20)], TOKEN)
    put(cache, [plain(f"v{number}") for number in range(60)], other)
    put(cache, [plain("u5"), plain("u6")], other)
    cache.forget(["u1", "u2", "v1"])
    put_again(cache, found, moves=moves)
    weights = sum(kept[2] for kept in cache._ready.values())
    assert cache._ready_bytes == weights
    assert find(cache, ["u1", "u5"], TOKEN).keys() == {"u1", "u5"}
    cache.drop(TOKEN)
    cache.drop(other)
    assert (len(cache), cache.taken_bytes) == (0, 0)


def test_who_changed_hands_meanwhile_is_weighed_as_kept() -> None:
    """A claim that waited for another to be done with a user takes the room of what that one had put."""
    cache, long = Cache(1 << 20), plain("u")
    long.scopes[""]["text"] = "x" * 5_000
    put(cache, [plain("u"), plain("v")], TOKEN)
    alone = cache.taken_bytes
    moves, found = cache.moves, cache.find(["u"], TOKEN)
    put(cache, [long], uuid4())
    assert cache.taken_bytes - alone > 5_000
    put_again(cache, found, moves=moves)
    assert cache.taken_bytes == alone


def test_a_user_grows_by_what_is_added() -> None:
    """Between two times that the state is written, a user is weighed by what it was and how many values came since."""
    cache = Cache(1 << 20)
    put(cache, [plain("u")], TOKEN)
    before = cache.find(["u"], TOKEN)["u"]
    state = opened("u", before)
    assert cache.closed(state, TOKEN, before)[2] == before[2]
    state.scopes[""]["fold"] = [*state.scopes[""]["fold"], 7]
    assert cache.closed(state, TOKEN, before)[2] == before[2] + 64
