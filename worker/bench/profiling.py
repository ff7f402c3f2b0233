"""Where time goes: Python by function, statements by name as the worker waits for them, PostgreSQL by statement."""

from __future__ import annotations

import cProfile
import pstats
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from worker.bench.ground import Ground
from worker.errors import OperatorError
from worker.store.queries import QUERIES
from worker.store.session import Session

_MOST_ROWS: Final = 40
_ALIKE: Final = 0.85
_HERE: Final = Path(__file__).resolve().parents[2]

_STATEMENTS: Final = """
SELECT queryid, query, calls, total_exec_time, rows, shared_blks_hit + shared_blks_read
FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"""

Counts = dict[int, tuple[str, int, float, int, int]]


class Profile:
    """cProfile over this process, and a clock at the door that every statement passes."""

    def __init__(self) -> None:
        self._profile = cProfile.Profile()
        self._waits: dict[str, list[float]] = {}
        self._door = Session.door

    def start(self) -> None:
        """Begin."""
        waits, door = self._waits, self._door

        @contextmanager
        def timed(session: Session, during: str) -> Iterator[None]:
            begun = perf_counter()
            try:
                with door(session, during):
                    yield
            finally:
                count_and_sum = waits.setdefault(during, [0, 0.0])
                count_and_sum[0] += 1
                count_and_sum[1] += perf_counter() - begun

        setattr(Session, "door", timed)  # noqa: B010 (the one door, for the length of a profile)
        self._profile.enable()

    def stop(self) -> None:
        """End."""
        self._profile.disable()
        setattr(Session, "door", self._door)  # noqa: B010

    def found(self) -> dict[str, Any]:
        """Functions by their own time, statements by the time the worker waited for them; totals, in microseconds."""
        stats: Any = pstats.Stats(self._profile)
        functions: list[dict[str, Any]] = [
            {"function": _name(place), "calls": calls, "own_us": own * 1e6, "total_us": total * 1e6}
            for place, (_, calls, own, total, _) in stats.stats.items()
        ]
        functions.sort(key=lambda row: -row["own_us"])
        statements: list[dict[str, Any]] = [
            {"statement": name, "calls": int(calls), "waited_us": seconds * 1e6}
            for name, (calls, seconds) in self._waits.items()
        ]
        statements.sort(key=lambda row: -row["waited_us"])
        whole = sum(row["own_us"] for row in functions)
        return {"python_us": whole, "python": functions[:_MOST_ROWS], "statements": statements}


def _name(place: tuple[str, int, str]) -> str:
    file, line, function = place
    if file == "~":
        return function
    path = Path(file)
    try:
        shown = str(path.resolve().relative_to(_HERE))
    except ValueError:
        shown = "/".join(path.parts[-2:])
    return f"{shown}:{line} {function}"


async def statements_before(ground: Ground) -> Counts | None:
    """What pg_stat_statements holds now; None where the database has no such thing."""
    try:
        rows = await ground.ask(_STATEMENTS)
    except OperatorError:
        return None
    return {row[0]: (row[1], row[2], row[3], row[4], row[5]) for row in rows}


async def statements_since(ground: Ground, before: Counts | None, events: int) -> list[dict[str, Any]] | None:
    """Statements by PostgreSQL's own time per event since then; None where the database does not count them."""
    now = None if before is None else await statements_before(ground)
    if before is None or now is None:
        return None
    found: list[dict[str, Any]] = []
    for key, (query, calls, milliseconds, rows, blocks) in now.items():
        _, had_calls, had_ms, had_rows, had_blocks = before.get(key, ("", 0, 0.0, 0, 0))
        if calls > had_calls:
            found.append(
                {
                    "statement": _statement(query),
                    "calls": calls - had_calls,
                    "us_per_event": (milliseconds - had_ms) * 1000 / events,
                    "rows_per_event": (rows - had_rows) / events,
                    "blocks_per_event": (blocks - had_blocks) / events,
                }
            )
    return sorted(found, key=lambda row: -row["us_per_event"])[:_MOST_ROWS]


def _statement(query: str) -> str:
    """The name a statement has in sql/queries*.sql, or its beginning; constants are numbered, so most words decide."""
    words = _words(query)

    def likeness(text: str) -> float:
        other = _words(text)
        return (words & other).total() / max(1, (words | other).total())

    name, text = max(QUERIES.items(), key=lambda item: likeness(item[1]))
    return name if likeness(text) > _ALIKE else " ".join(query.split())[:90]


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[a-z_]+", text.lower()))
