"""What the database promises to the panel: pages by key, counts that end, filters that look at a bounded part."""

from __future__ import annotations

import pytest

from tests.contracts.samples import NOON, AnyStore, badge, event, grant, letter, load, remember
from worker.events.instants import DAY
from worker.exchange import Grant
from worker.store.dead_letters import LetterFilter
from worker.store.panel import COUNTED, PanelTables, SampleEvent
from worker.store.postgres import PostgresStore


async def give(store: AnyStore, *grants: Grant) -> None:
    """Grant awards, all of them in one transaction."""
    async with store.transaction() as transaction:
        await load(transaction, {one.user_id: {one.context} for one in grants})
        await transaction.grant(grants, topic="awards")


async def test_the_feed_is_read_page_by_page(database: PostgresStore) -> None:
    """Pages go on where the one before ended, and leave out what a filter does not want."""
    reads = PanelTables(database.pool)
    await give(database, grant("u1", "a"), grant("u1", "b", context="35"), grant("u2", "a", origin="late"))
    whole = await reads.panel_awards(since_us=0)
    assert len(whole) == 3
    first, second, third = whole
    page = await reads.panel_awards(since_us=0, before=(first.logged_us, first.user_id, first.sequence))
    assert page == [second, third]
    assert [one.origin for one in await reads.panel_awards(since_us=0, badges=["a"], origin="late")] == ["late"]
    assert await reads.panel_awards(since_us=first.logged_us + DAY) == []
    assert await reads.panel_count_awards(0) == 3
    counts = await reads.panel_counts(first.logged_us)
    assert (counts["a"].users, counts["a"].days[-1], len(counts["a"].days)) == (2, 2, 28)


async def test_what_a_filter_does_not_look_at_is_known(
    database: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter looks at a bounded number of awards; where older ones are left, the next look begins with them."""
    monkeypatch.setattr("worker.store.panel.LOOKED_AT", 2)
    reads = PanelTables(database.pool)
    await give(database, *(grant("u1", "b", context=str(number), sequence=number) for number in range(2, 6)))
    await give(database, grant("u1", "a", sequence=6))
    whole = await reads.panel_awards(since_us=0)
    assert [(one.badge_key, one.sequence) for one in whole] == [("a", 6), ("b", 5), ("b", 4), ("b", 3), ("b", 2)]
    seen, bound = [], None
    for _ in range(3):
        seen += await reads.panel_awards(since_us=0, before=bound, badges=["b"])
        bound = await reads.panel_awards_bound(since_us=0, before=bound)
        if bound is None:
            break
    assert seen == whole[1:]
    assert bound is None


async def test_a_user_is_read_page_by_page(database: PostgresStore) -> None:
    """A user's awards and history come newest first; users are found by how their ids begin, letter for letter."""
    reads = PanelTables(database.pool)
    await give(database, grant("u%1", "a"), grant("u%1", "b"), grant("u2", "a"))
    assert [one.user_id for one in await reads.panel_users("u%")] == ["u%1"]
    assert [one.user_id for one in await reads.panel_users("", after="u%1")] == ["u2"]
    both = await reads.panel_user_awards("u%1")
    assert len(both) == 2
    last = both[0]
    assert await reads.panel_user_awards("u%1", before=(last.awarded_us, last.badge_key, last.context)) == both[1:]
    history = await reads.panel_user_log("u%1")
    assert [one.sequence for one in history] == sorted((one.sequence for one in history), reverse=True)
    assert await reads.panel_user_log("u%1", before=history[0].sequence) == history[1:]


async def test_where_everything_stands(database: PostgresStore) -> None:
    """Partitions of the group, builds and what is held are read as they are; nothing there is no error."""
    reads = PanelTables(database.pool)
    stand = await reads.panel_group("badges")
    assert (stand.partitions, stand.workers, stand.moved_us) == (0, 0, None)
    await database.claim("badges.events", 0, generation=1, owner="w1", start_offset=0)
    stand = await reads.panel_group("badges")
    assert (stand.partitions, stand.owned, stand.workers) == (1, 1, 1)
    assert await reads.panel_topics() == ["badges.events"]
    assert await reads.panel_builds() == []
    assert await reads.panel_held_back() == []
    await database.apply_catalog("{}", "h1", badges=[badge("a")], event_types=[])
    assert [one.version for one in await database.catalog_versions()] == [1]


async def test_dead_letters_are_filtered(database: PostgresStore) -> None:
    """By reason, topic and instant; counts stop at a bound."""
    reads = PanelTables(database.pool)
    async with database.transaction() as transaction:
        await transaction.bury([letter(1), letter(2)])
    found = await reads.panel_letters()
    assert len(found) == 2
    newest = found[0]
    assert await reads.panel_letters(before=newest.number) == found[1:]
    assert await reads.panel_letters(reason="none such") == []
    assert await reads.panel_letters(topic="none such") == []
    assert await reads.panel_letters(since_us=newest.buried_us + DAY) == []
    assert await reads.panel_count_letters(0) == 2 < COUNTED
    assert [one.letters for one in await reads.panel_letter_counts()] == [2]


async def test_dead_letters_are_filtered_by_type(database: PostgresStore) -> None:
    """A page of them, how many wait and those that are tried again are the same, together with the other filters."""
    reads = PanelTables(database.pool)
    async with database.transaction() as transaction:
        await transaction.bury([letter(1, said_type="grüße"), letter(2, said_type="other"), letter(3)])
    of_type = LetterFilter(event_type="grüße")
    assert [one.offset for one in await reads.panel_letters(event_type="grüße")] == [1]
    assert [one.offset for one in await reads.panel_letters(event_type="grüße", topic="events", since_us=0)] == [1]
    assert await reads.panel_letters(event_type="grüße", reason="too_old") == []
    count, newest = await database.count_letters(of_type)
    assert count == 1
    assert [one.offset for one in await database.waiting_letters(of_type, after=0, upto=newest, limit=9)] == [1]


async def test_waiting_letters_are_counted(database: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each filter, those that were not applied yet, as far as letters are looked at; whether it was all is said."""
    reads = PanelTables(database.pool)
    async with database.transaction() as transaction:
        await transaction.bury([letter(at, said_type=kind) for at, kind in enumerate(("a", "b", "b", "b"))])
    newest = (await reads.panel_letters(limit=1))[0]
    await database.pool.execute("UPDATE dead_letters SET state = 'replayed' WHERE number = $1", newest.number)
    assert await reads.panel_waiting_letters() == (3, False)
    assert await reads.panel_waiting_letters(event_type="b") == (2, False)
    assert await reads.panel_waiting_letters(event_type="b", reason="too_old") == (0, False)
    assert await reads.panel_waiting_letters(reason=newest.reason, topic=newest.topic, since_us=0) == (3, False)
    assert await reads.panel_waiting_letters(topic="none such") == (0, False)
    monkeypatch.setattr("worker.store.panel.WAITING_LOOKED_AT", 2)
    assert await reads.panel_waiting_letters() == (1, True)
    assert await reads.panel_waiting_letters(event_type="a") == (1, False)
    assert await reads.panel_waiting_letters(since_us=newest.buried_us + DAY) == (0, False)


async def test_letters_are_counted_by_the_type_they_say(database: PostgresStore) -> None:
    """Of each type that is asked for, those that there are; the others are left out."""
    reads = PanelTables(database.pool)
    async with database.transaction() as transaction:
        await transaction.bury([letter(at, said_type=kind) for at, kind in enumerate(("grüße", "other", "other"))])
    assert await reads.panel_letter_types(["other", "none", "grüße"]) == {"other": 2, "grüße": 1}


async def test_a_sample_is_an_event_that_arrived_then(database: PostgresStore) -> None:
    """One of the events of a type that arrived at an instant, with its payload as the log holds it."""
    reads = PanelTables(database.pool)
    later = event("u2", "e2", occurred_us=NOON + 1, payload={"note": "<b>"})
    await remember(database, event("u1", "e1"), later)
    arrived = await database.pool.fetchval("SELECT max(received_at) FROM events")
    assert await reads.panel_sample(later.type, arrived) == SampleEvent(
        "u2", "", "e2", NOON + 1, arrived, '{"note": "<b>"}'
    )
    assert await reads.panel_sample("never.sent", arrived) is None
    assert await reads.panel_sample(later.type, arrived + 1) is None


async def test_letters_say_of_which_type_they_are(database: PostgresStore) -> None:
    """A list tells it of each record, whole JSON or not, in whatever letters; it is filtered by it."""
    reads = PanelTables(database.pool)
    said = {
        1: ('{"payload": {"x": 1}, "type": "comment.pasted"', "comment.pasted"),
        2: ('{"event_type" : "Größe"}', "Größe"),
        3: ('{"type": "comment.pasted"}', "comment.pasted"),
        4: ("{not json", None),
        5: ('{"type": 7}', None),
    }
    async with database.transaction() as transaction:
        await transaction.bury([letter(at, raw=text.encode()) for at, (text, _) in said.items()])
    for found in (await reads.panel_letters(), await reads.panel_letters(reason="not_json")):
        assert {one.offset: one.said_type for one in found} == {at: kind for at, (_, kind) in said.items()}
    for kind, offsets in {"comment.pasted": [3, 1], "Größe": [2], "\\303": []}.items():
        assert [one.offset for one in await reads.panel_letters(event_type=kind)] == offsets
