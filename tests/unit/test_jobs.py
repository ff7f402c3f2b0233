"""Scheduled jobs: which ticks are due, what a run is told, what becomes of runs that are killed, paused, overtaken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from worker.app.schedule import job_line
from worker.app.sending import Sender
from worker.errors import OperatorError, TransientError
from worker.events import Event, decode_line, parse_instant
from worker.events.dictionary import Dictionary
from worker.exchange import FailedTick, Message, Ran
from worker.jobs.base import DAY, HOUR, MINUTE, SECOND, Due, Every, Figures, Run, due, due_since, rest_seconds
from worker.jobs.cron_events import anniversary, scheduled
from worker.jobs.runner import MOST_FAILURES, Runner, Told, lease_name
from worker.jobs.schedules import Schedules
from worker.jobs.timing import Cron, Together

NOON = parse_instant("2026-03-01T12:00:00Z")


@dataclass
class Ticking:
    """A job of a quarter of an hour that does what it is given."""

    action: Callable[[Run], Awaitable[Figures]] | None = None
    name: str = "ticking"
    catch_up_us: int = 2 * HOUR
    first_us: int = HOUR
    only_newest: bool = False
    timing: Any = field(default_factory=lambda: Every(15 * MINUTE))
    runs: list[Run] = field(default_factory=list)

    async def run(self, run: Run) -> Figures:
        self.runs.append(run)
        return Figures(users=1) if self.action is None else await self.action(run)


@dataclass
class Row:
    """A row of `job_runs`."""

    token: UUID
    outcome: str = "running"
    attempts: int = 1
    progress: str = ""
    note: str = ""
    failures: int = 0


class Tables:
    """The tables of jobs in memory, for one job; a lease ends when it is said to. What failed did so `ago_us`."""

    def __init__(self) -> None:
        self.runs: dict[int, Row] = {}
        self.leases: dict[str, tuple[str, UUID]] = {}
        self.renewing = True
        self.ago_us = DAY

    async def acquire_lease(self, name: str, owner: str, ttl_seconds: float) -> UUID | None:
        if name in self.leases and self.leases[name][0] != owner:
            return None
        self.leases[name] = (owner, uuid4())
        return self.leases[name][1]

    async def renew_lease(self, name: str, token: UUID, ttl_seconds: float) -> bool:
        return self.renewing and self.leases.get(name, ("", None))[1] == token

    async def resign_lease(self, name: str, token: UUID) -> None:
        if self.leases.get(name, ("", None))[1] == token:
            del self.leases[name]

    async def last_runs(self, jobs: Sequence[str], *, only_newest: Collection[str] = ()) -> Mapping[str, Ran]:
        again = [tick for tick, row in sorted(self.runs.items()) if row.outcome in ("running", "waiting")]
        done = [tick for tick, row in self.runs.items() if row.outcome == "done"]
        failed = [
            FailedTick(tick, row.failures, self.ago_us)
            for tick, row in sorted(self.runs.items())
            if row.outcome == "failed"
        ]
        return {
            job: Ran(max(self.runs, default=None), max(done, default=None), tuple(again), tuple(failed)) for job in jobs
        }

    async def begin_run(self, job: str, tick_us: int, token: UUID, owner: str, *, again: bool) -> str | None:
        if self.leases.get(lease_name(job), ("", None))[1] != token:
            return None
        row = self.runs.get(tick_us)
        if row is None:
            self.runs[tick_us] = Row(token)
            return ""
        if row.outcome == "done" and not again:
            return None
        self.runs[tick_us] = replace(row, token=token, outcome="running", attempts=row.attempts + 1)
        return row.progress

    async def mark_run(self, job: str, tick_us: int, token: UUID, progress: str) -> bool:
        row = self.runs[tick_us]
        row.progress = progress if row.token == token else row.progress
        return row.token == token

    async def end_run(
        self, job: str, tick_us: int, token: UUID, outcome: str, figures: Mapping[str, Any], note: str
    ) -> bool:
        row = self.runs[tick_us]
        if row.token != token or row.outcome != "running":
            return False
        row.outcome, row.note, row.failures = outcome, note, row.failures + (outcome == "failed")
        return True

    async def skip_run(self, job: str, tick_us: int, token: UUID, note: str) -> None:
        self.runs.setdefault(tick_us, Row(token, "skipped", note=note))


def runner(tables: Tables, told: list[Told] | None = None, owner: str = "one", **given: Any) -> Runner:
    return Runner(tables, owner, (told if told is not None else []).append, **given)


def minutes(ticks: Sequence[int]) -> list[int]:
    return [(tick - NOON) // MINUTE for tick in ticks]


# ---- what is due ----------------------------------------------------------------------------------------------------


def test_a_job_that_never_ran_begins_with_the_newest_tick() -> None:
    """Of a job without rows only the newest tick is due, and none that lies too far back."""
    assert due([Ticking()], {}, NOON + MINUTE) == {"ticking": Due((NOON,))}
    assert due([Ticking(first_us=MINUTE)], {}, NOON + 2 * MINUTE) == {}


def test_missed_ticks_are_due_in_order_and_old_ones_are_skipped() -> None:
    """What was missed for less than the bound is run in order; of what is older the first is named once."""
    found = due([Ticking()], {"ticking": Ran(NOON, NOON)}, NOON + HOUR)["ticking"]
    assert (minutes(found.ticks), found.skipped_us) == ([15, 30, 45, 60], None)
    found = due([Ticking()], {"ticking": Ran(NOON, NOON)}, NOON + DAY)["ticking"]
    assert minutes(found.ticks) == list(range(22 * 60 + 15, 24 * 60 + 1, 15))
    assert found.skipped_us == NOON + 15 * MINUTE
    found = due([Ticking(only_newest=True)], {"ticking": Ran(NOON, NOON)}, NOON + HOUR)["ticking"]
    assert (minutes(found.ticks), found.skipped_us) == ([60], NOON + 15 * MINUTE)


def test_a_clock_set_back_makes_nothing_due() -> None:
    """Before the newest tick that has a row nothing is due, neither new ticks nor unfinished later ones."""
    ran = {"ticking": Ran(NOON, NOON - HOUR, (NOON,))}
    assert due([Ticking()], ran, NOON - 10 * MINUTE) == {}
    assert due([Ticking()], ran, NOON) == {"ticking": Due((NOON,))}


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=30),
    st.integers(1, 12),
    st.booleans(),
)
def test_every_tick_is_run_once_or_skipped(steps: list[int], bound: int, only_newest: bool) -> None:
    """Whenever a job is looked at, and whatever the clock does, no tick is due twice, and ticks come in order."""
    job = Ticking(catch_up_us=bound * 15 * MINUTE, only_newest=only_newest)
    seen: list[int] = []
    ran = Ran()
    for step in steps:
        at_us = NOON + (step * 15 - 7) * MINUTE
        found = due([job], {"ticking": ran}, at_us).get("ticking", Due())
        assert all(tick <= at_us for tick in found.ticks)
        seen += found.ticks
        if found.ticks:
            ran = Ran(found.ticks[-1], found.ticks[-1])
    assert seen == sorted(set(seen))


# ---- cron syntax ----------------------------------------------------------------------------------------------------


def local(ticks: Iterator[int], zone: str) -> list[str]:
    shown = (datetime.fromtimestamp(tick / SECOND, UTC).astimezone(ZoneInfo(zone)) for tick in ticks)
    return [f"{at:%m-%d %H:%M}" for at in shown]


def test_cron_follows_the_clock_of_its_zone() -> None:
    """A time that a day skips comes just after the gap, one it has twice comes once; an hourly one keeps its hours."""
    spring, autumn = (parse_instant(f"2026-{day}T12:00:00Z") for day in ("03-27", "10-23"))
    zone = "Europe/Berlin"
    nightly = Cron("30 2 * * *", zone)
    assert local(nightly.between(spring, spring + 3 * DAY), zone) == ["03-28 02:30", "03-29 03:00", "03-30 02:30"]
    assert local(nightly.between(autumn, autumn + 3 * DAY), zone) == ["10-24 02:30", "10-25 02:30", "10-26 02:30"]
    hourly = list(Cron("0 * * * *", zone).between(autumn, autumn + 3 * DAY))
    assert len(hourly) == 72
    assert {later - earlier for earlier, later in pairwise(hourly)} == {HOUR}


def test_cron_dates_that_never_come() -> None:
    """A date that no year has gives no tick, and no fault."""
    assert list(Cron("0 9 31 2 *").between(NOON, NOON + 366 * DAY)) == []


@given(st.integers(0, 400 * 24 * 60), st.integers(0, 30), st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]))
def test_cron_bounds(minute: int, days: int, zone: str) -> None:
    """Ticks lie after one instant and up to the other, and cutting the time in two gives the same ones."""
    start = NOON + minute * MINUTE
    both = Together((Cron("15 */6 * * *", zone), Cron("0 9 1 * *", zone), Cron("15 6 * * *", zone)))
    whole = list(both.between(start, start + days * DAY))
    middle = start + days * DAY // 2
    assert whole == [*both.between(start, middle), *both.between(middle, start + days * DAY)]
    assert whole == sorted(set(whole))
    assert all(start < tick <= start + days * DAY for tick in whole)


# ---- running --------------------------------------------------------------------------------------------------------


async def test_a_tick_runs_once() -> None:
    """Two runners that look at the same instant run a tick once; who asks by name runs it once more."""
    tables, job = Tables(), Ticking()
    assert [one.outcome for one in await runner(tables).take(job, NOON) or ()] == ["done"]
    assert await runner(tables, owner="two").take(job, NOON) == []
    assert len(await runner(tables, owner="two").take(job, NOON, forced=True) or ()) == 1
    assert [run.forced for run in job.runs] == [False, True]


async def test_overlapping_runs_are_refused() -> None:
    """While one runner has a job in hand another gets none of it."""
    tables, entered, leave = Tables(), asyncio.Event(), asyncio.Event()

    async def slowly(run: Run) -> Figures:
        entered.set()
        await leave.wait()
        return Figures()

    job = Ticking(slowly)
    running = asyncio.create_task(runner(tables).take(job, NOON))
    await entered.wait()
    assert await runner(tables, owner="two").take(job, NOON + HOUR, forced=True) is None
    leave.set()
    assert [one.outcome for one in await running or ()] == ["done"]


async def test_a_killed_run_is_taken_again_where_it_was() -> None:
    """A tick whose runner died runs again, told what was noted, before later ticks; those know what was done."""
    tables = Tables()

    async def dies(run: Run) -> Figures:
        await run.mark("u7")
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await runner(tables).take(Ticking(dies), NOON)
    assert tables.runs[NOON].outcome == "running"
    job = Ticking()
    await runner(tables, owner="two").take(job, NOON + 15 * MINUTE)
    assert [(run.tick_us, run.progress, run.previous_us) for run in job.runs] == [
        (NOON, "u7", None),
        (NOON + 15 * MINUTE, "", NOON),
    ]


async def test_a_runner_that_slept_past_its_lease_writes_nothing() -> None:
    """Once another runner has the job, the first one's marks and its end are refused."""
    tables, entered, leave = Tables(), asyncio.Event(), asyncio.Event()
    marked: list[str] = []

    async def sleeps(run: Run) -> Figures:
        entered.set()
        await leave.wait()
        await run.mark("late")
        marked.append("late")
        return Figures()

    told: list[Told] = []
    running = asyncio.create_task(runner(tables, told).take(Ticking(sleeps), NOON))
    await entered.wait()
    tables.leases.clear()
    await runner(tables, owner="two").take(Ticking(), NOON)
    leave.set()
    assert await running == []
    assert (marked, told, tables.runs[NOON].outcome) == ([], [], "done")


async def test_a_lease_that_cannot_be_kept_ends_the_run() -> None:
    """Where the lease is refused while a run goes on, the run is cut off and written by nobody."""
    tables = Tables()
    tables.renewing = False

    async def waits(run: Run) -> Figures:
        await asyncio.Event().wait()
        return Figures()

    assert await runner(tables, lease_seconds=0.03).take(Ticking(waits), NOON) == []
    assert tables.runs[NOON].outcome == "running"


async def taken(tables: Tables, job: Ticking, at_us: int) -> list[str]:
    """What came of the runs that were due."""
    with capture_logs():  # a trace takes its time to be drawn
        told = await runner(tables).take(job, at_us)
    assert told is not None
    return [one.outcome for one in told]


def failing_at_noon(error: Exception) -> Callable[[Run], Awaitable[Figures]]:
    """Work that cannot be done at noon."""

    async def fails(run: Run) -> Figures:
        if run.tick_us == NOON:
            raise error
        return Figures()

    return fails


async def test_while_a_service_is_away_ticks_wait_in_order() -> None:
    """However often it is tried in vain, a tick stays due; those after it, which need the service too, follow it."""
    tables = Tables()
    job = Ticking(failing_at_noon(TransientError("Kafka is away")))
    for number in range(9):
        assert await taken(tables, job, NOON + number * 15 * MINUTE) == ["waiting"]
    assert [run.tick_us for run in job.runs] == [NOON] * 9
    job.action = None
    assert await taken(tables, job, NOON + 30 * MINUTE) == ["done"] * 3
    assert minutes([run.tick_us for run in job.runs[9:]]) == [0, 15, 30]


@pytest.mark.parametrize("error", [OperatorError("wrong"), KeyError("wrong")])
async def test_a_tick_that_fails_is_never_given_up_and_holds_no_other(error: Exception) -> None:
    """It stays due, is told of with each run and seen as overdue; later ticks are run as they come, however long."""
    tables, told = Tables(), list[Told]()
    job = Ticking(failing_at_noon(error))
    for number in range(12):
        await runner(tables, told).take(job, NOON + number * 15 * MINUTE)
    assert minutes([run.tick_us for run in job.runs if run.tick_us != NOON]) == [number * 15 for number in range(1, 12)]
    assert [run.previous_us for run in job.runs if run.tick_us > NOON] == [
        None, *(NOON + number * 15 * MINUTE for number in range(1, 11))
    ]  # fmt: skip
    assert [one.outcome for one in told if one.tick_us == NOON] == ["failed"] * 12
    assert {job_line(one).get("failed_ticks") for one in told if one.tick_us > NOON} == {1}
    ran = (await tables.last_runs(["ticking"]))["ticking"]
    assert due_since(job, ran, NOON + 3 * HOUR) == NOON
    job.action = None
    assert await taken(tables, job, NOON + 11 * 15 * MINUTE) == ["done"]
    assert due_since(job, (await tables.last_runs(["ticking"]))["ticking"], NOON + 11 * 15 * MINUTE) is None


async def test_where_all_fails_few_are_tried_at_a_time() -> None:
    """After some failures the rest is left for later; each tick was tried in the end, and once mended each is done."""
    tables = Tables()

    async def fails(run: Run) -> Figures:
        raise OperatorError("wrong")

    job = Ticking()
    await taken(tables, job, NOON)
    job.action = fails
    assert [await taken(tables, job, NOON + 75 * MINUTE) for _ in range(2)] == [["failed"] * MOST_FAILURES] * 2
    assert minutes([run.tick_us for run in job.runs]) == [0, 15, 30, 45, 60, 75, 15]
    job.action = None
    assert await taken(tables, job, NOON + 75 * MINUTE) == ["done"] * 5


def test_a_tick_that_failed_rests() -> None:
    """It is not due again for a while, longer after each failure; other ticks are, and it is for who asks by name."""
    ran = {"ticking": Ran(NOON + 15 * MINUTE, NOON + 15 * MINUTE, (), (FailedTick(NOON, 2, 59 * SECOND),))}
    later = {"ticking": replace(ran["ticking"], failed=(FailedTick(NOON, 2, 60 * SECOND),))}
    assert due([Ticking()], ran, NOON + 15 * MINUTE) == {}
    assert due([Ticking()], ran, NOON + 15 * MINUTE, rested=True) == {"ticking": Due((NOON,))}
    assert due([Ticking()], later, NOON + 15 * MINUTE) == {"ticking": Due((NOON,))}
    assert minutes(due([Ticking()], ran, NOON + 30 * MINUTE)["ticking"].ticks) == [30]
    assert minutes(due([Ticking()], later, NOON + 30 * MINUTE)["ticking"].ticks) == [30, 0]
    newest = {"ticking": Ran(NOON + 15 * MINUTE, None, (NOON,), (FailedTick(NOON + 15 * MINUTE, 1, 0),))}
    assert due([Ticking(only_newest=True)], newest, NOON + 15 * MINUTE) == {}
    assert minutes(due([Ticking(only_newest=True)], newest, NOON + 30 * MINUTE)["ticking"].ticks) == [30]


async def test_where_only_the_newest_counts_a_failure_does_not_stand_in_its_way() -> None:
    """A newer tick is run after one that fails; once it is done, the one that failed is due no more."""
    tables = Tables()
    job = Ticking(failing_at_noon(OperatorError("wrong")), only_newest=True)
    assert [await taken(tables, job, NOON) for _ in range(2)] == [["failed"]] * 2
    assert await taken(tables, job, NOON + 15 * MINUTE) == ["failed", "done"]
    assert await taken(tables, job, NOON + 15 * MINUTE) == []
    assert [tables.runs[NOON + at * MINUTE].outcome for at in (0, 15)] == ["failed", "done"]


@pytest.mark.parametrize(
    ("ran", "only_newest", "since"),
    [
        (Ran(), False, None),
        (Ran(NOON, NOON), False, 15),
        (Ran(NOON + 60 * MINUTE, NOON + 60 * MINUTE), False, None),
        (Ran(NOON, None, (NOON,)), False, 0),
        (Ran(NOON + 30 * MINUTE, NOON, (NOON + 15 * MINUTE, NOON + 30 * MINUTE)), True, 15),
        (Ran(NOON + 15 * MINUTE, NOON + 15 * MINUTE, (NOON,)), True, 30),
        (Ran(NOON + 15 * MINUTE, NOON + 15 * MINUTE, (NOON,)), False, 0),
        (Ran(NOON + 15 * MINUTE, NOON + 15 * MINUTE, (), (FailedTick(NOON, 1, 0),)), False, 0),
        (Ran(NOON + 15 * MINUTE, NOON + 15 * MINUTE, (), (FailedTick(NOON, 1, 0),)), True, 30),
    ],
)
def test_how_long_a_job_is_due(ran: Ran, only_newest: bool, since: int | None) -> None:
    """It is due since the oldest tick that is not done; a job that never began, or is done, is not."""
    found = due_since(Ticking(only_newest=only_newest), ran, NOON + 50 * MINUTE)
    assert found == (None if since is None else NOON + since * MINUTE)


def test_rest_after_failures() -> None:
    """Each failure after another doubles the rest, up to a bound, however many there were."""
    assert [rest_seconds(failures) for failures in (0, 1, 2, 3, 5, 6, 10_000)] == [30, 30, 60, 120, 480, 900, 900]


# ---- what is sent ---------------------------------------------------------------------------------------------------


def event_of(message: Message) -> Event:
    found = decode_line(message.value, Dictionary(schedules=["cron.monthly"]), number=1)
    assert isinstance(found, Event)
    return found


def test_events_say_the_same_each_time() -> None:
    """What is sent of a user and a tick is an event of that user, the same bytes whenever it is built."""
    one = event_of(scheduled("u1", "cron.monthly", NOON))
    assert (one.user_id, one.type, one.occurred_us) == ("u1", "cron.monthly", NOON)
    day = datetime(2026, 3, 1, tzinfo=UTC).date()
    assert anniversary("u1", day, NOON) == anniversary("u1", day, NOON)
    found = event_of(anniversary("ü", day, NOON))
    assert (found.user_id, found.type, found.id) == ("ü", "cron.anniversary", "cron.anniversary:2026-03-01")


class People:
    """Users by number."""

    def __init__(self, count: int) -> None:
        self.ids = [f"u{number:05}" for number in range(count)]

    async def next_users(self, after: str, limit: int) -> list[str]:
        return [user_id for user_id in self.ids if user_id > after][:limit]


async def test_schedules_reach_every_user_once() -> None:
    """A tick sends the events of the schedules due then to all users; killed, it goes on behind what was noted."""
    sent: list[Event] = []
    entries = [{"event": "cron.monthly", "cron": "0 12 1 * *"}, {"event": "cron.other", "cron": "0 11 * * *"}]

    async def send(messages: Sequence[Message]) -> None:
        sent.extend(map(event_of, messages))

    job = Schedules(People(2_500), send, entries, "UTC")
    tables = Tables()
    (told,) = await runner(tables).take(job, NOON + MINUTE) or ()
    assert told.figures == Figures(users=2_500, events=2_500, awards=None, note="cron.monthly")
    assert job_line(told)["awards"] is None, "workers give them, later"
    assert told.figures.as_json()["awards"] is None
    assert [event.user_id for event in sent] == People(2_500).ids
    sent.clear()
    tables.runs[NOON].outcome = "running"
    tables.runs[NOON].progress = "u01999"
    await runner(tables).take(job, NOON + MINUTE)
    assert [event.user_id for event in sent] == People(2_500).ids[2_000:]


async def test_sender_keeps_its_rate_and_opens_again() -> None:
    """No more is sent than the rate allows; after a failure the next call opens another producer."""
    slept: list[float] = []
    opened: list[list[int]] = []

    class Producer:
        def __init__(self) -> None:
            self.sizes: list[int] = []
            opened.append(self.sizes)

        async def publish(self, messages: Sequence[tuple[str, Message]]) -> None:
            assert {topic for topic, _ in messages} == {"control"}
            if len(messages) == 1:
                raise TransientError("away")
            self.sizes.append(len(messages))

        async def close(self) -> None:
            self.sizes.append(-1)

    async def open_one() -> Producer:
        return Producer()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    sender = Sender(open_one, "control", 1_000, clock=lambda: 0.0, sleep=sleep)
    message = Message(b"u", b"{}")
    await sender.send([message] * 1_200)
    assert slept == [0.5, 1.0]
    with pytest.raises(TransientError):
        await sender.send([message])
    await sender.send([message] * 2)
    await sender.close()
    assert opened == [[500, 500, 200], [2, -1]]
