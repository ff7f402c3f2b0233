"""The table of jobs: which there are, and what each is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from worker.jobs.anniversaries import Anniversaries, Tenures
from worker.jobs.arrivals import ArrivalCounts, Arrivals, active_days
from worker.jobs.base import Job
from worker.jobs.cron_events import Send
from worker.jobs.holders import HolderCounts, Holders
from worker.jobs.retention import Cutting, Retention
from worker.jobs.schedules import Schedules, Users
from worker.jobs.sweep import Sweep, Sweeping
from worker.rules.operators.calendar import Calendar
from worker.rules.plan import Plan

#: Every job by the name that `--once` takes, with what it does.
NAMES: Final = {
    "anniversaries": "sends `cron.anniversary` where a local day has begun on which users joined",
    "arrivals": "counts what arrived, by event type and day, and active users",
    "holders": "counts the holders of each badge, and what is usual of it",
    "retention": "removes events older than the catalog's `retention` keeps them, and dead letters of 30 days",
    "schedules": "sends the catalog's `schedules` to every user",
    "sweep": "holds a share of all users against their logs and puts right what differs; with `--once` all users",
}


class Tables(Users, Tenures, ArrivalCounts, HolderCounts, Protocol):
    """What the jobs ask of the store together."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What jobs are made of: the store, the way to the control topic, the plan of the catalog that rules, the sweep,
    what removes events."""

    store: Tables
    send: Send
    plan: Plan
    sweeping: Sweeping | None = None
    cutting: Cutting | None = None


def jobs_of(parts: Parts) -> Sequence[Job]:
    """The jobs of a catalog."""
    catalog = parts.plan.catalog
    return (
        Anniversaries(parts.store, parts.send, catalog),
        Arrivals(parts.store, catalog),
        Holders(parts.store, active_days=active_days(catalog)),
        *(() if parts.cutting is None else (Retention(parts.cutting, catalog.options, Calendar(catalog.timezone)),)),
        Schedules(parts.store, parts.send, catalog.options.get("schedules", ()), catalog.timezone),
        *(() if parts.sweeping is None else (Sweep(parts.sweeping),)),
    )
