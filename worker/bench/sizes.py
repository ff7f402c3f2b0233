"""How much each way of calling the bench measures, cut so that it ends in the time it promises on two cores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class History:
    """One row of the growth by history: so many users with so many events each, before the measured ones."""

    users: int
    each: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of events, rounds and rows. An empty table, and a zero, leave the figure out (null)."""

    mode: str
    events: int
    rounds: int
    naive_events: int
    latency_seconds: int
    latency_rounds: int
    repeat_events: int
    repeat_rounds: int
    handover_events: int
    session_timeout_ms: int | None
    scaling_events: int
    catalog: tuple[int, ...]
    catalog_events: int
    history: tuple[History, ...]
    history_events: int
    users: tuple[int, ...]
    users_events: int
    growth_rounds: int


NORMAL: Final = Sizes(
    mode="normal",
    events=300_000,
    rounds=3,
    naive_events=3_000,
    latency_seconds=20,
    latency_rounds=3,
    repeat_events=100_000,
    repeat_rounds=2,
    handover_events=50_000,
    session_timeout_ms=None,
    scaling_events=300_000,
    catalog=(10, 100, 1_000, 10_000),
    catalog_events=60_000,
    history=(History(100, 10), History(100, 100), History(100, 1_000), History(100, 10_000)),
    history_events=10_000,
    users=(1_000, 10_000, 100_000),
    users_events=200_000,
    growth_rounds=3,
)
QUICK: Final = replace(
    NORMAL,
    mode="quick",
    events=40_000,
    rounds=1,
    naive_events=200,
    latency_seconds=4,
    latency_rounds=1,
    repeat_events=20_000,
    repeat_rounds=1,
    handover_events=4_000,
    session_timeout_ms=6_000,
    scaling_events=0,
    catalog=(10, 1_000),
    catalog_events=10_000,
    history=(History(20, 10), History(20, 1_000)),
    history_events=5_000,
    users=(1_000, 20_000),
    users_events=20_000,
    growth_rounds=1,
)
FULL: Final = replace(
    NORMAL,
    mode="full",
    events=1_000_000,
    rounds=5,
    catalog=(*NORMAL.catalog, 100_000),
    # A tenth of the users for the longest history: each row is held against one of as many users.
    history=(*NORMAL.history, History(10, 10), History(10, 100_000)),
    users=(*NORMAL.users, 1_000_000),
)
