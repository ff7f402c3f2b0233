"""Finds the filters an event passes, at a cost that depends on those it passes and not on how many there are.

Filters with an equality are found by hash, filters with numeric bounds and filters with fixed instants in a tree of
intervals; what is left of a filter is checked one by one. A table's cells are indexes themselves, so that a catalog of
many badges that share their first condition is still searched by the second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import inf
from typing import Any, Generic, TypeVar

from worker.events.types import Event
from worker.rules.ir import Clause, Frozen, Match
from worker.rules.operators.calendar import Calendar
from worker.rules.operators.problems import note_unusable
from worker.rules.operators.values import MISSING, compile_clause, lookup

T = TypeVar("T")

#: Up to this many filters are checked one by one: an index would cost more than it saves.
FEW = 2

_TRUE, _FALSE = object(), object()
_BOUNDS = frozenset({"$gte", "$gt", "$lte", "$lt", "$between"})

#: Whether an event passes, days by its user's calendar at it.
Check = Callable[[Event, Calendar], bool]
Watch = Callable[[Check], Check]
Read = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Filter(Generic[T]):
    """A target, and what an event must satisfy: `clauses` may still be indexed, `kept` are only to be checked."""

    target: T
    match: Match
    clauses: tuple[Clause, ...]
    kept: tuple[Clause, ...] = ()


def filter_of(target: T, match: Match) -> Filter[T]:
    """The filter of a match; its types are the route's matter, its moving bounds the memory's."""
    return Filter(target, match, match.clauses)


class Dispatch(Generic[T]):
    """All filters of one event type, ready to be asked which ones an event passes."""

    __slots__ = ("_always", "_lists", "_spans", "_tables", "_times", "free", "size")

    def __init__(self, filters: Sequence[Filter[T]], watch: Watch | None = None) -> None:
        """`watch` wraps every check, for counting them; a plan that serves events has none.

        `free` are the targets that every event reaches.
        """
        self.size = len(filters)
        self._tables: list[tuple[Read, dict[Any, Dispatch[T]]]] = []
        self._lists: list[tuple[Read, dict[Any, Dispatch[T]]]] = []
        self._spans: list[tuple[Read, Spans[tuple[T, Check | None]]]] = []
        self._times: Spans[tuple[T, Check | None]] | None = None
        left = list(filters)
        while len(left) > FEW and (best := _best_index(left)) is not None:
            index, field = best
            chosen = [one for one in left if _indexable(one, index, field)]
            left = [one for one in left if not _indexable(one, index, field)]
            match index:
                case "$eq":
                    self._tables.append((reader(field), _equal(chosen, field, watch)))
                case "$in":
                    self._lists.append((reader(field), _member(chosen, field, watch)))
                case "span":
                    rows = [(*_interval(one, field), _entry(_bounded(one, field), watch)) for one in chosen]
                    self._spans.append((reader(field), Spans(rows)))
                case _:
                    times = [(one.match.start_us, one.match.end_us, one) for one in chosen]
                    self._times = Spans((*time[:2], _entry(time[2], watch)) for time in times)
        always = [_entry(one, watch) for one in left]
        self.free = tuple(target for target, check in always if check is None)
        self._always = tuple((target, check) for target, check in always if check is not None)

    @property
    def alike(self) -> bool:
        """Whether every event passes the same filters."""
        return len(self.free) == self.size

    def passed(self, event: Event, calendar: Calendar, found: list[T]) -> None:
        """Append the targets of the filters that this event passes, each once; `calendar` is the user's at it."""
        found.extend(self.free)
        for checked, passes in self._always:
            if passes(event, calendar):
                found.append(checked)
        payload = event.payload
        for read, table in self._tables:
            if (cell := table.get(json_key(read(payload)))) is not None:
                cell.passed(event, calendar, found)
        for read, table in self._lists:
            _passed_members(read(payload), table, event, calendar, found)
        for read, spans in self._spans:
            value = read(payload)
            if type(value) is int or type(value) is Decimal:
                for target, check in spans.at(value):
                    if check is None or check(event, calendar):
                        found.append(target)
            else:
                note_unusable(value, MISSING)
        if self._times is not None:
            for target, check in self._times.at(event.occurred_us):
                if check is None or check(event, calendar):
                    found.append(target)


def _passed_members(
    value: Any, table: dict[Any, Dispatch[T]], event: Event, calendar: Calendar, found: list[T]
) -> None:
    """`$in` looks at each element of an array: filters that name several of them are found once."""
    if not isinstance(value, list):
        if (cell := table.get(json_key(value))) is not None:
            cell.passed(event, calendar, found)
        return
    several: list[T] = []
    for key in set(map(json_key, value)):
        if (cell := table.get(key)) is not None:
            cell.passed(event, calendar, several)
    found.extend({id(target): target for target in several}.values())


class Spans(Generic[T]):
    """Intervals [low, high], found by a value within them: O(log n) for each one found. None is no bound."""

    __slots__ = ("_half", "_highest", "_items", "_lows", "_open")

    def __init__(self, intervals: Iterable[tuple[Any, Any, T]]) -> None:
        rows = [(-inf if low is None else low, inf if high is None else high, item) for low, high, item in intervals]
        rows.sort(key=lambda row: row[0])
        self._lows = [row[0] for row in rows]
        self._items = [row[2] for row in rows]
        self._open = all(row[1] == inf for row in rows)
        self._half = 1 << max(len(rows) - 1, 0).bit_length()
        highs = [row[1] for row in rows]
        #: A binary tree in an array: node i has the children 2i and 2i+1 and holds the highest end below it.
        self._highest: list[Any] = [-inf] * self._half + highs + [-inf] * (self._half - len(rows))
        for node in range(self._half - 1, 0, -1):
            self._highest[node] = max(self._highest[2 * node], self._highest[2 * node + 1])

    def at(self, value: Any) -> list[T]:
        """The items whose interval holds the value, ends included."""
        begun = bisect_right(self._lows, value)
        if self._open:
            return self._items[:begun]
        found = []
        stack = [(1, 0, self._half)]
        while stack:
            node, first, width = stack.pop()
            if first >= begun or self._highest[node] < value:
                continue
            if width == 1:
                found.append(self._items[first])
            else:
                width //= 2
                stack.append((2 * node + 1, first + width, width))
                stack.append((2 * node, first, width))
        return found


def json_key(value: Any) -> Any:
    """A dictionary key under which exactly the JSON-equal values meet: 1 and 1.0, but not true."""
    kind = type(value)
    if kind is str or kind is int:
        return value
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is list or kind is tuple:
        return ("[", *map(json_key, value))
    if kind is dict:
        return ("{", frozenset((key, json_key(item)) for key, item in value.items()))
    if kind is Frozen:
        return ("{", frozenset((key, json_key(item)) for key, item in value.items))
    return value


def reader(field: str) -> Callable[[Mapping[str, Any]], Any]:
    """Reads one field of a payload, MISSING where it is not there."""
    if "." not in field:
        return lambda payload: payload.get(field, MISSING)
    return lambda payload: lookup(payload, field)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _bounds_a_number(clause: Clause) -> bool:
    if clause.operator == "$between":
        return all(map(_is_number, clause.operand))
    return clause.operator in _BOUNDS and _is_number(clause.operand)


def _indexable(one: Filter[T], index: str, field: str) -> bool:
    match index:
        case "time":
            return one.match.start_us is not None or one.match.end_us is not None
        case "span":
            return any(clause.field == field and _bounds_a_number(clause) for clause in one.clauses)
    return any(clause.field == field and clause.operator == index for clause in one.clauses)


def _best_index(filters: Sequence[Filter[T]]) -> tuple[str, str] | None:
    """The index that tells the most filters apart: `$eq`, `$in` or `span` of a field, or `time`.

    Equality comes first: its cells are searched by the next condition, and an event is in one of them only.
    """
    values: dict[tuple[str, str], set[Any]] = defaultdict(set)
    users: Counter[tuple[str, str]] = Counter()
    for one in filters:
        keys: dict[tuple[str, str], list[Any]] = defaultdict(list)
        for clause in one.clauses:
            if clause.operator in ("$eq", "$in"):
                keys[clause.operator, clause.field].append(json_key(clause.operand))
            elif _bounds_a_number(clause):
                keys["span", clause.field].append((clause.operator, clause.operand))
        if _indexable(one, "time", ""):
            keys["time", ""].append((one.match.start_us, one.match.end_us))
        for key, operands in keys.items():
            values[key].add(tuple(operands))
            users[key] += 1
    order = ("time", "span", "$in", "$eq")
    ranked = [(order.index(key[0]), len(values[key]), users[key], key) for key in values]
    return max(ranked)[3] if ranked else None


def _equal(filters: Sequence[Filter[T]], field: str, watch: Watch | None) -> dict[Any, Dispatch[T]]:
    """Filters by the value one of their fields must equal; the cell has answered that clause."""
    cells: dict[Any, list[Filter[T]]] = defaultdict(list)
    for one in filters:
        clause, rest = _without(one, field, "$eq")
        cells[json_key(clause.operand)].append(Filter(one.target, one.match, rest, one.kept))
    return {key: Dispatch(cell, watch) for key, cell in cells.items()}


def _member(filters: Sequence[Filter[T]], field: str, watch: Watch | None) -> dict[Any, Dispatch[T]]:
    """Filters by each value one of their fields may be; the clause is still checked."""
    cells: dict[Any, list[Filter[T]]] = defaultdict(list)
    for one in filters:
        clause, rest = _without(one, field, "$in")
        for key in {json_key(item) for item in clause.operand}:
            cells[key].append(Filter(one.target, one.match, rest, (*one.kept, clause)))
    return {key: Dispatch(cell, watch) for key, cell in cells.items()}


def _without(one: Filter[T], field: str, operator: str) -> tuple[Clause, tuple[Clause, ...]]:
    at = next(i for i, clause in enumerate(one.clauses) if clause.field == field and clause.operator == operator)
    return one.clauses[at], one.clauses[:at] + one.clauses[at + 1 :]


def _bounded(one: Filter[T], field: str) -> Filter[T]:
    """The filter without the bounds that lying in its interval answers; the strict ones are still checked."""
    rest = tuple(
        clause
        for clause in one.clauses
        if clause.field != field or not _bounds_a_number(clause) or clause.operator in ("$gt", "$lt")
    )
    return Filter(one.target, one.match, rest, one.kept)


def _interval(one: Filter[T], field: str) -> tuple[Any, Any]:
    """The closed interval outside of which the filter's bounds on this field cannot hold."""
    low, high = None, None
    for clause in one.clauses:
        if clause.field != field or not _bounds_a_number(clause):
            continue
        below, above = clause.operand if clause.operator == "$between" else (clause.operand, clause.operand)
        if clause.operator in ("$gte", "$gt", "$between"):
            low = below if low is None else max(low, below)
        if clause.operator in ("$lte", "$lt", "$between"):
            high = above if high is None else min(high, above)
    return low, high


def _entry(one: Filter[T], watch: Watch | None) -> tuple[T, Check | None]:
    check = _check(one)
    return one.target, check if check is None or watch is None else watch(check)


def _check(one: Filter[T]) -> Check | None:
    """One function for all that is left of a filter; None where nothing is."""
    clauses = tuple(compile_clause(clause) for clause in (*one.clauses, *one.kept))
    start, end, days = one.match.start_us, one.match.end_us, one.match.days
    if start is None and end is None and not days:
        if not clauses:
            return None
        if len(clauses) == 1:
            only = clauses[0]
            return lambda event, _: only(event.payload)
        return lambda event, _: all(clause(event.payload) for clause in clauses)
    low, high = -inf if start is None else start, inf if end is None else end

    def check(event: Event, calendar: Calendar) -> bool:
        return (
            low <= event.occurred_us <= high
            and all(clause(event.payload) for clause in clauses)
            and not any(calendar.drops(event.occurred_us, each) for each in days)
        )

    return check
