"""Looks at the users of a backfill's next slice: made early, taken where they fit, thrown away where they do not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.rig.faults import killed_at
from tests.unit.test_driving import driver_of, job_of
from tests.unit.test_slices import CATALOG, COMMUNITY, Rig, forget, plan_of
from worker.errors import TransientError
from worker.exchange import LiveFigures
from worker.pipeline import ahead
from worker.pipeline.slices import Slices
from worker.store.memory_transaction import MemoryTransaction

BADGES = {"badges": ["commentator_2", "editor"]}


@pytest.fixture
async def rig() -> Rig:
    made = await Rig().start()
    await made.put(*COMMUNITY)
    forget(made, "ann", "commentator_2")
    forget(made, "bob", "commentator_2")
    return made


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Users as they are looked at, each with whether that was early."""
    seen: list[tuple[str, bool]] = []
    look = ahead.glance

    async def noted(transaction: Any, narrow: Any, page: Any, **given: Any) -> Any:
        task = asyncio.current_task()
        seen.extend((user_id, task is not None and task.get_name() == "look ahead") for user_id, _ in page)
        return await look(transaction, narrow, page, **given)

    monkeypatch.setattr(ahead, "glance", noted)
    return seen


def one_by_one(rig: Rig, driver: str = "test") -> Slices:
    """Slices of one user each, with nothing beside them."""
    made = rig.slices(driver)
    made.limit, made.ahead = 1, True
    return made


async def finished(rig: Rig, made: Slices, number: int, users: int = 3) -> dict[str, Any]:
    """Do the rest of a job: all it has found."""
    while (facts := await made.slice(number)) is not None and not facts.done:
        pass
    job = await job_of(rig, number)
    assert (job.state, job.users_done) == ("done", users)
    return dict(job.changes)


async def test_the_next_users_are_looked_at_while_others_are_put_right(
    rig: Rig, looked: list[tuple[str, bool]]
) -> None:
    """Each once, only the first not early; what they are given is the same."""
    number = await rig.store.create_user_job("backfill", BADGES)
    changes = await finished(rig, one_by_one(rig), number)
    assert changes == {"award_never_given": 2, "badges": {"commentator_2": 2}}
    assert looked == [("ann", False), ("bob", True), ("cid", True)]


async def test_beside_live_work_nothing_is_looked_at_early(rig: Rig, looked: list[tuple[str, bool]]) -> None:
    """One thing at a time there, however the slices are."""
    made = one_by_one(rig)
    made.size(beside_live=True)
    made.limit = 1
    number = await rig.store.create_user_job("backfill", BADGES)
    await finished(rig, made, number)
    assert looked == [("ann", False), ("bob", False), ("cid", False)]


async def test_what_conditions_are_asked_about_is_not_looked_at_before(
    rig: Rig, looked: list[tuple[str, bool]]
) -> None:
    """A job that asks again what conditions say looks at users once that is known."""
    number = await rig.store.create_user_job("backfill", {**BADGES, "conditions": True})
    await finished(rig, one_by_one(rig), number)
    assert {early for _, early in looked} == {False}


@pytest.mark.parametrize("what", ["fewer", "left out", "other badges", "another catalog"])
async def test_a_look_that_does_not_fit_is_thrown_away(rig: Rig, looked: list[tuple[str, bool]], what: str) -> None:
    """One at more users than are asked for by now, at a user left out, for other badges, by another plan."""
    number = await rig.store.create_user_job("backfill", BADGES)
    made = one_by_one(rig)
    if what == "fewer":
        made.limit = 2
    await made.slice(number)
    await made._looks.arrive()
    expected = {"award_never_given": 2, "badges": {"commentator_2": 2}}
    if what == "fewer":
        made.limit = 1
    elif what == "left out":
        made.left_out.add("bob")
        expected = {"award_never_given": 1, "badges": {"commentator_2": 1}, "left_out": 1}
    elif what == "other badges":
        await rig.store.cancel_user_job(number)
        number = await rig.store.create_user_job("backfill", {"badges": ["commentator_2"]}, after="ann")
        expected = {"award_never_given": 1, "badges": {"commentator_2": 1}}
    else:
        rig.applier.use(plan_of(await rig.apply_catalog(), basis=1, text=CATALOG + " "))
    del looked[:]
    assert await finished(rig, made, number, 2 if what == "other badges" else 3) == expected
    assert (
        looked
        == {
            "fewer": [("cid", False)],
            "left out": [("cid", True)],
            "other badges": [("bob", False), ("cid", True)],
            "another catalog": [("bob", False), ("cid", True)],
        }[what]
    )


async def test_a_look_by_a_plan_that_is_not_the_heads_sees_nothing(rig: Rig, looked: list[tuple[str, bool]]) -> None:
    """The catalog moved after the slice had begun to wait for its turn: nobody is judged by the old one."""
    looks = ahead.Looks(rig.store)
    ask = ahead.Ask(rig.plan, "", None, frozenset(), 9, 9, 9)
    await rig.apply_catalog()
    looks.begin(ask)
    await looks.arrive()
    assert looked == []


async def test_a_look_that_failed_is_made_again(
    rig: Rig, looked: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the slice itself, which fails only where it would have failed anyhow."""
    look, failed = ahead.glance, []

    async def failing(transaction: Any, narrow: Any, page: Any, **given: Any) -> Any:
        seen = await look(transaction, narrow, page, **given)
        if looked[-1] == ("bob", True):
            failed.append(page)
            raise TransientError("the connection is gone")
        return seen

    monkeypatch.setattr(ahead, "glance", failing)
    number = await rig.store.create_user_job("backfill", BADGES)
    changes = await finished(rig, one_by_one(rig), number)
    assert changes == {"award_never_given": 2, "badges": {"commentator_2": 2}}
    assert (looked, len(failed)) == ([("ann", False), ("bob", True), ("bob", False), ("cid", True)], 1)


async def test_what_comes_after_an_early_look_is_seen(rig: Rig, looked: list[tuple[str, bool]]) -> None:
    """Whoever seemed to need something is judged by what is there once the user is locked."""
    forget(rig, "bob", "editor")
    number = await rig.store.create_user_job("backfill", BADGES)
    made = one_by_one(rig)
    await made.slice(number)
    await made._looks.arrive()
    assert looked[-1] == ("bob", True)
    await rig.run("backfill", badges=["commentator_2"])
    await rig.put(("bob", "comment.posted", 50))
    changes = await finished(rig, made, number)
    assert changes == {"award_never_given": 2, "badges": {"commentator_2": 1, "editor": 1}}
    given = [one["badge_key"] for one in rig.messages() if one["user_id"] == "bob" and one["origin"] == "backfill"]
    assert sorted(given) == ["commentator_2", "editor"]


async def test_a_driver_that_is_ended_leaves_nothing_at_work(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks early is ended with it, whatever that waits for."""
    driver, _, _ = driver_of(rig)
    driver.slices.limit, driver.slices.ahead = 1, True
    number = await rig.store.create_user_job("backfill", BADGES)
    look, begun, never = ahead.glance, asyncio.Event(), asyncio.Event()

    async def waiting(*arguments: Any, **given: Any) -> Any:
        task = asyncio.current_task()
        if task is not None and task.get_name() == "look ahead":
            begun.set()
            await never.wait()
        return await look(*arguments, **given)

    monkeypatch.setattr(ahead, "glance", waiting)
    driving = asyncio.create_task(driver.finish(number))
    await asyncio.wait_for(begun.wait(), 5)
    driving.cancel()
    await asyncio.wait({driving})
    assert driving.cancelled()
    assert [task for task in asyncio.all_tasks() if task.get_name() == "look ahead"] == []
    assert (await job_of(rig, number)).users_done == 1


async def test_a_driver_does_not_yield_to_itself(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long transactions run is asked while none of its own does."""
    driver, _, _ = driver_of(rig)
    driver.slices.limit, driver.slices.ahead = 1, True
    number = await rig.store.create_user_job("backfill", BADGES)
    asked = []

    async def figures() -> LiveFigures:
        asked.append([task for task in asyncio.all_tasks() if task.get_name() == "look ahead"])
        return LiveFigures(99.0, 0.0, 0.0)

    monkeypatch.setattr(rig.store, "live_figures", figures)
    await driver.finish(number)
    assert asked == [[]]


@pytest.mark.parametrize(("most", "page"), [(1_000, 250), (16_000, 2_000), (1, 1)])
async def test_a_look_at_few_events_reads_few_at_a_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, most: int, page: int
) -> None:
    """What was read ahead of its end is read for nothing, and nobody else has the loop while it is decoded."""
    pages, logs_of = [], MemoryTransaction.logs_of

    def noted(transaction: Any, *arguments: Any, **given: Any) -> Any:
        pages.append(given.get("page"))
        return logs_of(transaction, *arguments, **given)

    monkeypatch.setattr(MemoryTransaction, "logs_of", noted)
    made = rig.slices()
    made.most_events = most
    await made.slice(await rig.store.create_user_job("backfill", BADGES))
    assert pages[0] == page


METHODS = [
    *("catalog_version", "take_user_job", "floors", "users_built", "held_of", "lock", "standing_of", "count_logged"),
    *("read", "grant", "save", "move_user_job"),
]


@pytest.mark.parametrize("method", METHODS)
async def test_a_backfill_killed_at_any_statement_goes_on(rig: Rig, method: str) -> None:
    """Of a slice or of a look that is early: whoever drives it next does what is left, and nothing twice."""
    number = await rig.store.create_user_job("backfill", BADGES)
    made = one_by_one(rig)
    with killed_at(rig.store, method, (1, 3, 4, 7)):
        for turn in range(20):
            rig.tables.user_jobs[number].leased_until = None
            made = one_by_one(rig, f"driver {turn}") if turn % 2 else made
            made.driver = f"driver {turn}"
            try:
                assert await finished(rig, made, number) == {"award_never_given": 2, "badges": {"commentator_2": 2}}
                break
            except TransientError:
                continue
    assert (await job_of(rig, number)).awards == 2
    assert (await rig.run()).changes == {}


def test_slices_grow_by_steps(rig: Rig) -> None:
    """After one user, who was looked at alone because somebody there fails, not at once all of them again."""
    made = rig.slices()
    made.limit, sizes = 1, []
    for _ in range(4):
        made.size(beside_live=False)
        sizes.append(made.limit)
    made.size(beside_live=True)
    assert (sizes, made.limit) == ([10, 100, 1_000, 1_000], 100)
