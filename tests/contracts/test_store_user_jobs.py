"""Jobs over users, in every store: who may drive one, how it moves and ends, what slices read and restore."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from tests.contracts.samples import NOON, AnyStore, claim, event, grant, identity, load, remember, step
from worker.events import Event
from worker.exchange import UserJob
from worker.pipeline.repair_protocols import RepairTransaction


async def job_of(store: AnyStore, number: int) -> UserJob:
    """The job as it stands."""
    job = await store.user_job(number)
    assert job is not None
    return job


async def move(store: AnyStore, number: int, driver: str, after: str | None) -> bool:
    """One slice of two users; False where the job is not this driver's."""
    async with store.transaction() as transaction:
        job = await transaction.take_user_job(number, driver, seconds=30)
        if job is None:
            return False
        changes = {"fold_missing": 1 + int(job.changes.get("fold_missing", 0))}
        await transaction.move_user_job(job, after=after, users=2, events=5, awards=1, changes=changes)
    return True


async def test_a_job_is_driven_by_one_until_it_is_done(store: AnyStore) -> None:
    """A waiting job is taken by who comes first; others find nothing until it is done; its figures add up."""
    number = await store.create_user_job("recompute", {"badges": ["a"]}, users=3, requested_by="anna", note="asked for")
    assert await store.next_user_job("one") == number
    assert await move(store, number, "one", "u2")
    assert (await store.next_user_job("two"), await store.next_user_job("one")) == (None, number)
    assert not await move(store, number, "two", "u4")
    assert await store.unfinished_user_job("recompute", {"badges": ["a"]}) == (number, True)
    assert await store.keep_user_job(number, "one", seconds=30)
    assert not await store.keep_user_job(number, "two", seconds=30)
    job = await job_of(store, number)
    assert (job.state, job.after, job.users_done, job.users_total, job.events, job.awards, job.changes) == (
        "running",
        "u2",
        2,
        3,
        5,
        1,
        {"fold_missing": 1},
    )
    assert await move(store, number, "one", None)
    job = await job_of(store, number)
    assert (job.state, job.after, job.users_total, job.changes) == ("done", "u2", 4, {"fold_missing": 2})
    assert (job.kind, job.parameters, job.requested_by, job.note) == (
        "recompute",
        {"badges": ["a"]},
        "anna",
        "asked for",
    )
    assert job.started_us is not None
    assert job.done_us is not None
    assert await store.next_user_job("one") is None
    assert not await store.cancel_user_job(number)


async def test_a_job_whose_driver_is_gone_goes_on(store: AnyStore) -> None:
    """Once a driver was not heard of for its time, the next one goes on where it stopped."""
    number = await store.create_user_job("sweep", {}, driver="one")
    assert await store.next_user_job("two") is None
    assert await store.keep_user_job(number, "one", seconds=-1)
    assert await store.next_user_job("two") == number
    assert await move(store, number, "two", "u2")
    assert not await store.keep_user_job(number, "one", seconds=30)


async def test_ending_and_resuming(store: AnyStore) -> None:
    """A cancelled job keeps what is done and may go on; a failed one says why; a page lists the newest first."""
    first, second = [await store.create_user_job(kind, {}) for kind in ("sweep", "backfill")]
    assert await move(store, first, "one", "u2")
    assert await store.cancel_user_job(first)
    assert not await store.cancel_user_job(first)
    assert not await move(store, first, "one", "u4")
    assert (await job_of(store, first)).state == "cancelled"
    assert await store.resume_user_job(first)
    assert not await store.resume_user_job(first)
    assert await store.next_user_job("two") == first
    assert (await job_of(store, first)).after == "u2"
    assert await store.fail_user_job(second, note="no engine")
    job = await job_of(store, second)
    assert (job.state, job.note) == ("failed", "no engine")
    assert [job.id for job in await store.user_jobs()] == [second, first]
    assert [job.id for job in await store.user_jobs(kind="sweep")] == [first]
    assert [job.id for job in await store.user_jobs(state="failed")] == [second]
    assert [job.id for job in await store.user_jobs(before=second, limit=1)] == [first]
    assert await store.user_job(0) is None
    assert await store.unfinished_user_job("backfill", {}) is None


async def test_a_sweep_of_a_share_says_where_the_next_begins(store: AnyStore) -> None:
    """The last one that is done counts, whatever came after it and was not."""
    assert await store.last_sweep() == ""
    number = await store.create_user_job("sweep", {"share": 2})
    async with store.transaction() as transaction:
        job = await transaction.take_user_job(number, "one", seconds=30)
        assert job is not None
        await transaction.end_sweep(job, after="u2", users=2, events=0, awards=0, changes={})
    assert (await job_of(store, number)).state == "done"
    await store.create_user_job("sweep", {"share": 2}, after=await store.last_sweep())
    assert await store.last_sweep() == "u2"


async def test_who_is_looked_at(store: AnyStore) -> None:
    """Users with a row and users whom only the log knows, in order, in pages; those with events of a type."""
    await remember(store, event("b"), event("d", type="edit.made"), event("e"))
    async with store.transaction() as transaction:
        await transaction.lock(["a", "c", "e"], version=1)
        await transaction.grant([grant("c", "given")], topic="awards")
    async with store.transaction() as transaction:
        assert await transaction.users_page("", 3) == ["a", "b", "c"]
        assert await transaction.users_page("c", 3) == ["d", "e"]
        assert await transaction.users_page("e", 3) == []
        everybody = ["a", "b", "c", "d", "e"]
        assert await transaction.with_events(everybody, ["edit.made"], []) == ["d"]
        assert await transaction.with_events(everybody, ["edit.made"], ["given"]) == ["c", "d"]
        assert set(await transaction.look_at(["a", "b"])) == {"a"}
        assert await transaction.users_built("a", 9) == [("c", 1), ("e", 1)]
        held = await transaction.held_of(["a", "c"], ["given"])
        assert held.get("c") == {("given", ""): NOON}
        assert not (await transaction.held_of(["a", "c"], ["other"])).get("c")
    assert [await store.knows_user(user_id) for user_id in ("a", "b", "x")] == [True, True, False]


async def test_logs_of_several_users(store: AnyStore) -> None:
    """User by user, in order, without those between; nobody is locked."""
    events = [event(user_id, f"e{number}", occurred_us=100 - number) for user_id in "abcd" for number in range(3)]
    await remember(store, *events)
    async with store.transaction() as transaction:
        found = [one async for page in _pages(transaction, ["a", "c", "d"]) for one in page]
    assert [(one.user_id, one.id) for one in found] == [(u, f"e{n}") for u in "acd" for n in (2, 1, 0)]
    assert sorted(found, key=identity)[0].payload == {"score": 10}
    async with store.transaction() as transaction:
        assert [one async for page in _pages(transaction, ["a", "d"], "edit.made") for one in page] == []
        assert await transaction.count_logged(["a", "d", "x"], None) == {"a": 3, "d": 3}
        assert await transaction.count_logged(["a", "d", "x"], ["edit.made"]) == {}


async def test_who_stops_reading_early_may_ask_on(store: AnyStore) -> None:
    """Pages are read ahead; closed before the end, nothing is left running on the connection."""
    await remember(store, *(event(user_id, f"e{number}") for user_id in "abc" for number in range(3)))
    async with store.transaction() as transaction:
        async with aclosing(transaction.logs_of(["a", "b", "c"], page=2)) as pages:
            async for page in pages:
                assert {one.user_id for one in page} == {"a"}
                break
        assert await transaction.count_logged(["c"], None) == {"c": 3}


async def _pages(transaction: RepairTransaction, users: list[str], *types: str) -> AsyncIterator[list[Event]]:
    async for page in transaction.logs_of(users, types or None):
        yield page


async def test_lost_awards_come_back_whole(store: AnyStore) -> None:
    """An award of the log that is not held is lost; restored it is as it was, and is not published."""
    taken = await claim(store)
    kept, gone = grant("u1", "kept"), grant("u1", "gone", awarded_us=5, sequence=900)
    async with store.transaction() as transaction:
        await transaction.fence(taken, step(0, 1))
        await load(transaction, {"u1": ()})
        await transaction.grant([kept, gone], topic="awards")
    await forget_award(store, "u1", "gone")
    async with store.transaction() as transaction:
        (standing,) = (await transaction.standing_of(["u1"])).values()
        assert standing.held == {("kept", ""): (kept.awarded_us, kept.trigger_id)}
        assert standing.lost == {("gone", ""): (5, gone.trigger_id)}
        assert (standing.numbers, standing.withheld) == ({("gone", ""): 900}, {})
        await transaction.restore([("u1", 900)])
    async with store.transaction() as transaction:
        (standing,) = (await transaction.standing_of(["u1"])).values()
        assert (set(standing.held), standing.lost) == ({("kept", ""), ("gone", "")}, {})
        assert standing.by_hand == set()


async def forget_award(store: AnyStore, user_id: str, badge_key: str) -> None:
    """Lose an award, as no program of ours does."""
    from worker.store.memory import MemoryStore

    if isinstance(store, MemoryStore):
        del store.tables.user_badges[user_id][badge_key, ""]
        return
    async with store.pool.acquire() as connection:
        await connection.execute("DELETE FROM user_badges WHERE user_id = $1 AND badge_key = $2", user_id, badge_key)


async def test_live_work_is_measured(store: AnyStore) -> None:
    """Where nothing was ever applied and nothing waits, nothing lags."""
    figures = await store.live_figures()
    assert (figures.idle, figures.outbox) == (None, 0.0)
