"""The streams that are sent: events of 244 bytes from a fixed seed, the catalog they meet, the awards they give."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, Final

from worker.bench.brute import Award, CountRule, Rule, WindowRule, awards_of
from worker.events import format_instant

#: The size of one event, bytes (costs.md).
EVENT_BYTES: Final = 244
PARTITIONS: Final = 8
SEED: Final = 20_261_121

_START_US: Final = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
_DAY_US: Final = 86_400_000_000
#: The stretch of time that a stream covers, whatever its length.
_SPAN_US: Final = 60 * _DAY_US

#: The scenario's ladder of ten. With 10^5 users, and a window of 14 days, about 14 % of events make an award.
LEVELS: Final = (3, 5, 10, 20, 30, 50, 100, 250, 500, 1_000)
WINDOW: Final = WindowRule("busy_fortnight", "habit.completed", count=8, days=14)

Record = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Stream:
    """Records in the order they are sent, the catalog they meet, and every award that must come of them.

    The first `warm` records bring users into being; what is measured begins after them.
    """

    name: str
    catalog: dict[str, Any]
    records: Sequence[Record]
    expected: frozenset[Award]
    users: int
    warm: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def event(user: str, us: int, draw: random.Random, *, habit: int) -> Record:
    """One event of exactly EVENT_BYTES, keyed by its user."""
    head = (
        f'{{"id":"{draw.getrandbits(128):032x}","type":"habit.completed","user_id":"{user}",'
        f'"occurred_at":"{format_instant(us)}","payload":{{"habit":"h{habit}","minutes":{5 + habit},"note":"'
    )
    return user.encode(), f'{head}{"." * (EVENT_BYTES - len(head) - 3)}"}}}}'.encode()


def ladder_catalog(levels: Sequence[int] = LEVELS, extra: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    """The scenario's catalog: a ladder over the count of events and a window of 14 days, `extra` badges beside them."""
    window = {"event": WINDOW.event, "criteria": {"$eventCount": {"$gte": WINDOW.count}}}
    return {
        "version": 1,
        "events": {
            "habit.completed": {"description": "A habit was kept up."},
            "habit.skipped": {"description": "A habit was let go for a day."},
        },
        "metrics": {"completed": {"count": "habit.completed"}},
        "ladders": [
            {"key": "keeper", "metric": "completed", "levels": list(levels), "label": "Keeper",
             "description": "{level} habits kept up"}
        ],
        "badges": [
            {"key": WINDOW.key, "label": "Busy fortnight", "description": "8 habits kept up within 14 days",
             "flow": {"$timeWindow": {"last": f"{WINDOW.days}d", "flow": window}}},
            *extra,
        ],
    }  # fmt: skip


def ladder_rules(levels: Sequence[int] = LEVELS) -> list[Rule]:
    """What `ladder_catalog` asks for, as brute force reads it."""
    return [*(CountRule(f"keeper_{level}", "habit.completed", level) for level in levels), WINDOW]


def ladder(events: int, *, users: int = 100_000, seed: int = SEED, extra: Iterable[dict[str, Any]] = ()) -> Stream:
    """The scenario `ladder`: Zipf-like users, instants that rise over 60 days."""
    draw = random.Random(seed)  # noqa: S311 (the same events each time)
    # Plain Zipf would give one user a tenth of all events; the shift keeps the shape of the tail.
    weights = list(accumulate(1 / (rank + 50) for rank in range(users)))
    chosen = draw.choices(range(users), cum_weights=weights, k=events)
    records = _timed([f"u{number:07}" for number in chosen], draw)
    return _stream("ladder", records, users=len(set(chosen)), catalog=ladder_catalog(extra=extra))


def even(name: str, *, users: int, warm_each: int, then: int, seed: int = SEED) -> Stream:
    """Every user first has `warm_each` events; then come `then` events, spread over all users as evenly as can be.

    Levels are far apart, so that what is measured makes next to no awards, whatever there was before.
    """
    draw = random.Random(seed)  # noqa: S311 (the same events each time)
    names = [f"u{number:07}" for number in range(users)]
    warm = [user for _ in range(warm_each) for user in names]
    later: list[str] = []
    while len(later) < then:
        later += draw.sample(names, min(users, then - len(later)))
    levels = (1, *(1_000_000 * step for step in range(1, 10)))
    stream = _stream(
        name, _timed([*warm, *later], draw), users=users, catalog=ladder_catalog(levels), rules=ladder_rules(levels)
    )
    return Stream(name, stream.catalog, stream.records, stream.expected, users, warm=len(warm))


def repeated(stream: Stream, share: float, *, seed: int = SEED) -> Stream:
    """The same stream, in which this share of all records says again what one shortly before it said."""
    draw = random.Random(seed + 1)  # noqa: S311 (the same events each time)
    count = round(len(stream.records) * share / (1 - share))
    placed = [(float(index), record) for index, record in enumerate(stream.records)]
    again = draw.sample(range(len(stream.records)), count)
    placed += [(index + draw.uniform(0.5, 20_000), stream.records[index]) for index in again]
    placed.sort(key=lambda item: item[0])
    records = [record for _, record in placed]
    return Stream(f"{stream.name} with repeats", stream.catalog, records, stream.expected, stream.users)


def silent_badges(count: int) -> list[dict[str, Any]]:
    """Badges that no event of the stream matches: other types, other values, bounds out of reach, in turn."""
    flows = (
        lambda n: {"event": "habit.skipped", "criteria": {"habit": f"s{n}"}},
        lambda n: {"event": "habit.completed", "criteria": {"habit": f"s{n}"}},
        lambda n: {"event": "habit.completed", "criteria": {"minutes": {"$gte": 1_000 + n}}},
        lambda n: {
            "event": "habit.completed",
            "criteria": {"habit": f"w{n}", "$timePeriod": {"periodType": "day", "periodCount": {"$gte": 3}}},
        },
    )
    return [
        {"key": f"silent_{n}", "label": f"Silent {n}", "description": "Nobody gets this one",
         "flow": flows[n % len(flows)](n)}
        for n in range(count)
    ]  # fmt: skip


def _timed(users: Sequence[str], draw: random.Random) -> list[Record]:
    step = max(2, _SPAN_US // max(1, len(users)))
    return [
        event(user, _START_US + number * step + draw.randrange(step), draw, habit=draw.randrange(30))
        for number, user in enumerate(users)
    ]


def _stream(
    name: str, records: list[Record], *, users: int, catalog: dict[str, Any], rules: list[Rule] | None = None
) -> Stream:
    return Stream(name, catalog, records, awards_of(records, ladder_rules() if rules is None else rules), users)
