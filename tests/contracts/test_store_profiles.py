"""What the database promises to profile pages and to the feed; and what it keeps of the catalog's entries."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from tests.contracts.samples import NOON, AnyStore, badge, grant, load
from worker.admin.profiles import stamp_of
from worker.exchange import Grant
from worker.rules.catalog.touched import Touched
from worker.store.postgres import PostgresStore
from worker.store.profiles import FeedPlace, LoggedAward


async def give(store: AnyStore, *grants: Grant) -> None:
    """Grant awards, all of them in one transaction."""
    async with store.transaction() as transaction:
        await load(transaction, {one.user_id: {one.context} for one in grants})
        await transaction.grant(grants, topic="awards")


async def since(store: PostgresStore, place: FeedPlace) -> tuple[list[LoggedAward], FeedPlace]:
    """What was logged since a place, and the place after it."""
    now = await store.feed_now()
    return [one async for page in store.feed_between(place, now) for one in page], now


async def test_a_profile_is_read_for_several_users_at_once(database: PostgresStore) -> None:
    """Each user gets their own awards, whoever else is asked for; a user nobody knows gets none."""
    await database.apply_catalog("{}", "h1", badges=[badge("a")], event_types=[])
    await give(database, grant("u1", "a"), grant("u1", "b", context="35"), grant("u2", "a", origin="late"))
    version, (second, nobody, first) = await database.awards_of_users(["u2", "u9", "u1"])
    assert version == 1
    assert nobody == []
    assert [(one.badge_key, one.origin, one.awarded_us, one.sort_override) for one in second] == [
        ("a", "late", NOON, None)
    ]
    assert sorted((one.badge_key, one.context, one.metadata) for one in first) == [
        ("a", "", '{"event_count": 1}'),
        ("b", "35", '{"event_count": 1}'),
    ]


async def test_a_place_on_the_profile_is_set_by_hand(database: PostgresStore) -> None:
    """An override is of one context or of all, and is taken back with null; of what nobody holds there is none."""
    await give(database, grant("u1", "a", context="1"), grant("u1", "a", context="2"))
    assert await database.set_sort_override("u1", "a", "1", 7) == 1
    assert await database.set_sort_override("u1", "b", None, 7) == 0
    _, (found,) = await database.awards_of_users(["u1"])
    assert sorted((one.context, one.sort_override) for one in found) == [("1", 7), ("2", None)]
    assert await database.set_sort_override("u1", "a", None, None) == 2


async def test_a_stamp_tells_whether_a_profile_is_as_it_was(database: PostgresStore) -> None:
    """The stamp of a user is that of the awards read, moves with each change of them, and back; nobody's is 0."""
    await give(database, grant("u1", "a", context="1"), grant("u1", "a", context="2"), grant("u2", "a", context="1"))

    async def stamps() -> list[int]:
        _, found = await database.stamps_of_users(["u2", "u9", "u1"])
        _, held = await database.awards_of_users(["u2", "u9", "u1"])
        assert found == [stamp_of(awards) for awards in held]
        return found

    first = await stamps()
    assert first[1] == 0
    assert len(set(first)) == 3
    await database.set_sort_override("u1", "a", "2", 7)
    placed = await stamps()
    assert placed[:2] == first[:2]
    assert placed[2] != first[2]
    await give(database, grant("u1", "b"))
    assert (await stamps())[2] not in (first[2], placed[2])
    await database.set_sort_override("u2", "a", None, 0)
    assert (await stamps())[0] != first[0]
    await database.set_sort_override("u2", "a", None, None)
    assert (await stamps())[0] == first[0]


async def test_the_log_is_paged_from_new_to_old(database: PostgresStore) -> None:
    """Pages join without a gap or a repeat where many awards share an instant, and keep to what they are asked for."""
    await give(database, *(grant(f"u{number % 3}", f"b{number % 2}", context=str(number)) for number in range(10)))
    await give(database, grant("u1", "b9", origin="cron", trigger_type="cron.monthly"))
    found: list[LoggedAward] = []
    before = (2**62 // 1000, "", 0)
    while page := await database.awards_page(since_us=0, before=before, limit=3):
        found += page
        before = (page[-1].logged_us, page[-1].user_id, page[-1].sequence)
    assert len({one.award_id for one in found}) == len(found) == 11
    assert found[0].badge_key == "b9"

    async def keys(**asked: Any) -> set[tuple[str, str]]:
        page = await database.awards_page(since_us=0, before=(2**62 // 1000, "", 0), limit=100, **asked)
        return {(one.user_id, one.badge_key) for one in page}

    assert await keys(badge_key="b1", user_id="u1") == {("u1", "b1")}
    assert await keys(origin="cron") == await keys(trigger="cron.monthly") == {("u1", "b9")}
    assert await keys(user_id="u7") == set()


async def test_the_feed_misses_nobody_who_commits_late(database: PostgresStore) -> None:
    """An award comes once, when it is there: also one whose transaction began long before others that were read."""
    place = await database.feed_now()
    written, may_commit = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        async with database.transaction() as transaction:
            await load(transaction, {"slow": {""}})
            await transaction.grant([grant("slow", "a")], topic="awards")
            written.set()
            await may_commit.wait()

    writing = asyncio.create_task(slowly())
    await written.wait()
    await give(database, grant("fast", "a"))
    found, place = await since(database, place)
    assert [one.user_id for one in found] == ["fast"]
    may_commit.set()
    await writing
    await give(database, grant("later", "a"))
    found, place = await since(database, place)
    assert [one.user_id for one in found] == ["slow", "later"]
    assert (await since(database, place))[0] == []


async def test_the_feed_reads_long_stretches_in_pages(database: PostgresStore) -> None:
    """More awards than a page holds come in several, in order, each once."""
    place = await database.feed_now()
    await give(database, *(grant("u1", "a", context=str(number)) for number in range(1_100)))
    found, _ = await since(database, place)
    assert len(found) == 1_100
    assert [one.sequence for one in found] == sorted(one.sequence for one in found)


async def test_entries_keep_ids_and_say_when_they_changed(database: PostgresStore) -> None:
    """An entry's id and birth stay; its change is dated by the version that touched it, criteria apart from looks."""
    first: dict[str, Any] = {"event_types": ["x.y"], "condition_types": ["big"]}
    await database.apply_catalog("{}", "h1", badges=[badge("a"), badge("b")], **first)
    before = await database.badge_rows(), await database.event_type_rows(), await database.condition_type_rows()
    assert [row.key for row in before[0]] == ["a", "b"]
    change = Touched(badges=frozenset({"a"}), criteria=frozenset({"a"}), event_types=frozenset({"x.y"}))
    await database.apply_catalog(
        "{}", "h2", badges=[badge("a"), badge("b")], event_types=["x.y", "z.z"], condition_types=["big"], touched=change
    )
    (a, b), (xy, zz), (big,) = (
        await database.badge_rows(),
        await database.event_type_rows(),
        await database.condition_type_rows(),
    )
    assert replace(a, updated_us=0, criteria_updated_us=0) == replace(before[0][0], updated_us=0, criteria_updated_us=0)
    assert a.updated_us == a.criteria_updated_us > before[0][0].updated_us
    assert [b] == before[0][1:]
    assert (xy.id, xy.created_us, xy.updated_us) == (before[1][0].id, before[1][0].created_us, a.updated_us)
    assert (zz.name, zz.updated_us) == ("z.z", zz.created_us)
    assert [big] == before[2]


async def test_a_reserved_id_goes_to_its_badge_alone(database: PostgresStore) -> None:
    """A badge gets the id that was drawn for it, and no other badge ever does."""
    number = await database.reserve_badge_id()
    await database.apply_catalog("{}", "h1", badges=[badge("other")], event_types=[])
    await database.apply_catalog(
        "{}", "h2", badges=[badge("other"), badge("mine")], event_types=[], reserved={"mine": number}
    )
    await database.apply_catalog("{}", "h3", badges=[badge("third")], event_types=[])
    ids = {row.key: row.id for row in await database.badge_rows()}
    assert ids["mine"] == number
    assert len(set(ids.values())) == 3
    assert await database.holder_counts(["mine", "none"]) == {"mine": 0}
    assert await database.holder_counts() == dict.fromkeys(ids, 0)
