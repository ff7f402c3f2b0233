"""What scheduled jobs cost the database: anniversaries among many users, holders of badges after a day's awards.

The data is made by statements in a schema of the bench's own; only the jobs themselves are timed. The counts that the
job keeps piece by piece are held to a count of everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median
from time import monotonic, time
from typing import Any, Final

from worker.app import open_store
from worker.app.services import check_surroundings
from worker.bench.cpu import machine
from worker.bench.ground import Ground
from worker.bench.measures import Said
from worker.config import Settings
from worker.errors import OperatorError
from worker.exchange import Message
from worker.jobs.anniversaries import Anniversaries
from worker.jobs.base import DAY, MINUTE, Run
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.load import catalog_from_document
from worker.store.pool import quote
from worker.store.postgres import PostgresStore

_CATALOG: Final = {
    "version": 1,
    "events": {"user.registered": {}},
    "tenures": [{"key": "member", "since": "user.registered", "years": [1, 5, 10], "label": "M", "description": "D"}],
}
#: Rows made by one statement.
_PIECE: Final = 1_000_000
_BADGES: Final = 50
#: Of them so many are given per context: whether another one was held says only the user's log.
_WITH_CONTEXTS: Final = 5
_DAYS: Final = 365
#: What issue and README promise, seconds: a run of anniversaries, a day's awards.
BOUNDS: Final = {"anniversaries": 5.0, "holders": 1.0}


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is made and measured: users, awards over a year, and of that year how many last days."""

    mode: str
    users: int
    awards: int
    days: int


NORMAL: Final = Effort("normal", 1_000_000, 10_000_000, 5)
QUICK: Final = Effort("quick", 100_000, 500_000, 3)


async def run(settings: Settings, effort: Effort, *, said: Said, name: str | None = None) -> dict[str, Any]:
    """Measure; nothing is left in the database. Raises OperatorError where it is not fit, or a count is wrong."""
    check_surroundings(settings)
    ground, begun, left = Ground(settings, name=name), monotonic(), []
    try:
        async with (
            ground.schema("jobs") as schema,
            open_store(settings, name=ground.name, connections=2, schema=schema) as store,
        ):
            anniversaries = await _anniversaries(ground, store, schema, effort, said)
            holders = await _holders(ground, store, schema, effort, said)
    finally:
        left += await ground.clear()
        if left:
            said(f"left behind: {', '.join(left)}; remove them once the services are back")
    return {
        "scenario": "jobs",
        "mode": effort.mode,
        "anniversaries": anniversaries,
        "holders": holders,
        "bounds": BOUNDS,
        "machine": machine(),
        "seconds": monotonic() - begun,
    }


# ---- anniversaries --------------------------------------------------------------------------------------------------


async def _anniversaries(
    ground: Ground, store: PostgresStore, schema: str, effort: Effort, said: Said
) -> dict[str, Any]:
    """The run at midnight (UTC), and one at another hour, among users who joined on every day of 2020."""
    sent = 0

    async def send(messages: Sequence[Message]) -> None:
        nonlocal sent
        sent += len(messages)

    async def mark(_: str) -> None:
        return

    catalog: Catalog = catalog_from_document(_CATALOG, 1)
    job = Anniversaries(store, send, catalog)
    midnight = int(time() * 1_000_000) // DAY * DAY
    # with nobody there it begins, and from then on follows the log
    await job.run(Run(midnight, None, forced=False, progress="", mark=mark))
    for first in range(0, effort.users, _PIECE):
        await ground.ask(
            f"""INSERT INTO {quote(schema)}.user_tenures
            SELECT 'user ' || lpad(n::text, 9, '0'), 'user.registered', d.day,
                   extract(month FROM d.day) * 100 + extract(day FROM d.day), 'UTC', NULL, false, d.day, '', n::text
            FROM generate_series($1::bigint, $2::bigint - 1) AS n
            CROSS JOIN LATERAL (SELECT date '2020-01-01' + (n % 366)::integer AS day) AS d""",  # noqa: S608 (our own)
            first,
            min(first + _PIECE, effort.users),
        )
    await ground.ask(f"ANALYZE {quote(schema)}.user_tenures")
    seconds = {}
    for word, tick in (("midnight", midnight), ("noon", midnight + DAY // 2)):
        sent, begun = 0, monotonic()
        await job.run(Run(tick, tick - 15 * MINUTE, forced=False, progress="", mark=mark))
        seconds[word] = (monotonic() - begun, sent)
    took, due = seconds["midnight"]
    said(f"anniversaries: {due:,} of {effort.users:,} users in {took:.3f} s")
    today = date.fromordinal(date(1970, 1, 1).toordinal() + midnight // DAY)
    expected = await _joined_today(ground, schema, today)
    if due != expected:
        raise OperatorError(f"The run found {due:,} anniversaries of {expected:,}.")
    return {"users": effort.users, "due": due, "seconds": took, "seconds_without": seconds["noon"][0]}


async def _joined_today(ground: Ground, schema: str, today: date) -> int:
    extra = " OR month_day = 229" if (today.month, today.day) == (2, 28) and today.year % 4 else ""
    rows = await ground.ask(
        f"SELECT count(*) FROM {quote(schema)}.user_tenures WHERE month_day = $1{extra}",  # noqa: S608 (our own)
        today.month * 100 + today.day,
    )
    return int(rows[0][0])


# ---- holders --------------------------------------------------------------------------------------------------------


async def _holders(ground: Ground, store: PostgresStore, schema: str, effort: Effort, said: Said) -> dict[str, Any]:
    """The last days of a year of awards, each by itself, after all that was before was counted at once.

    What is made has each badge of a user once, so awards before are holders before.
    """
    name = quote(schema)
    end = int(time() * 1_000_000) // DAY * DAY
    await _make_awards(ground, name, effort, end)
    start = end - effort.days * DAY
    await ground.ask(
        f"""INSERT INTO {name}.badge_holders (badge_key, day, holders, with_contexts)
        SELECT badge_key, (to_timestamp($1) AT TIME ZONE 'UTC')::date, count(*), bool_or(context <> '')
        FROM {name}.badge_awards_log WHERE logged_at < to_timestamp($1) GROUP BY badge_key""",  # noqa: S608 (our own)
        start // 1_000_000 - 86_400,
    )
    await ground.ask(
        f"""INSERT INTO {name}.log_readers VALUES ('holders', '', to_timestamp($1), NULL)""",  # noqa: S608 (our own)
        start // 1_000_000 - 86_400,
    )
    await store.count_holders()  # the statement's plan is made by a day that is not timed
    seconds, awards = [], []
    for _ in range(effort.days):
        begun = monotonic()
        counted = await store.count_holders()
        seconds.append(monotonic() - begun)
        awards.append(counted.awards)
    await store.write_users_with_badge()
    await _check(ground, store, name)
    said(f"holders: {median(awards):,.0f} awards a day beside {effort.awards:,} in {median(seconds):.3f} s")
    return {
        "awards": effort.awards,
        "awards_per_day": median(awards),
        "seconds_per_day": median(seconds),
        "slowest_day": max(seconds),
    }


async def _make_awards(ground: Ground, name: str, effort: Effort, end: int) -> None:
    """A year of awards up to an instant, as they would have come; keys are built once all are there.

    Nothing of it need survive a crash, so the table is not logged: it is made in half the time, and read as any other.
    """
    await ground.ask(f"ALTER TABLE {name}.badge_awards_log DROP CONSTRAINT badge_awards_log_pkey")
    await ground.ask(f"DROP INDEX {name}.badge_awards_log_by_arrival")
    await ground.ask(f"ALTER TABLE {name}.badge_awards_log SET UNLOGGED")
    step = _DAYS * 86_400 / effort.awards
    for first in range(0, effort.awards, _PIECE):
        await ground.ask(
            f"""INSERT INTO {name}.badge_awards_log (user_id, badge_key, context, award_id, awarded_at, source, origin,
                sequence, catalog_version, logged_at)
            SELECT 'user ' || lpad((n * 7919 % $3)::text, 9, '0'), 'badge_' || (n / $3 + n) % {_BADGES},
                   CASE WHEN (n / $3 + n) % {_BADGES} < {_WITH_CONTEXTS} THEN 'a' ELSE '' END,
                   '00000000-0000-0000-0000-000000000000', at, 'auto', 'live', n / $3 + 1, 1, at
            FROM generate_series($1::bigint, $2::bigint - 1) AS n
            CROSS JOIN LATERAL (SELECT to_timestamp($4 + n * $5::float8) AS at) AS t""",  # noqa: S608 (our own)
            first,
            min(first + _PIECE, effort.awards),
            effort.users,
            end // 1_000_000 - _DAYS * 86_400,
            step,
        )
    await ground.ask(f"ALTER TABLE {name}.badge_awards_log ADD PRIMARY KEY (user_id, sequence)")
    await ground.ask(
        f"CREATE INDEX badge_awards_log_by_arrival ON {name}.badge_awards_log USING brin (logged_at)"
        " WITH (pages_per_range = 16)"
    )
    await ground.ask(f"ANALYZE {name}.badge_awards_log")


async def _check(ground: Ground, store: PostgresStore, name: str) -> None:
    """What was kept piece by piece is what a count of everything gives, for some badges."""
    rows = await ground.ask(
        f"SELECT badge_key, count(DISTINCT user_id) FROM {name}.badge_awards_log"  # noqa: S608 (our own)
        " WHERE badge_key IN ('badge_0', 'badge_17', 'badge_49') GROUP BY badge_key"
    )
    today = date.fromordinal(date(1970, 1, 1).toordinal() + int(time()) // 86_400)
    for key, holders in rows:
        (last,) = await store.holders_trend(key, today, days=1)
        if last.holders != holders:
            raise OperatorError(f"{key} has {holders:,} holders, and {last.holders:,} were counted.")
