"""The nodes a criterion is made of: what to remember (Match, Fold) and what to ask of it (Check, Test, All, Some, Not).

A formula is sufficient: plan and evaluation need nothing else of what the author wrote. Everything here is frozen and
hashable, so equal folds are one fold. Instants are integers, microseconds since the Unix epoch, UTC. Structs rather
than dataclasses: a catalog may hold a million nodes, and frozen dataclasses take several times as long to make.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from decimal import Context, Decimal
from json.encoder import encode_basestring as _quoted
from typing import Any

import msgspec
from msgspec.structs import replace

#: Event types that never count in "all of the user's events" unless named (decisions 10).
NEVER_COUNTED = ("cron.", "badge.", "grant.", "user.erased", "recompute.requested")

#: Wider than any number an author may write, so that no two of them become one.
_EXACT = Context(prec=400)
_PLAIN = 10**18


class Clause(msgspec.Struct, frozen=True):
    """One condition on one event: a payload field (literal key first, then dotted path) against an operand.

    `operator` is a field operator with its `$` (`$neq` is already `$ne`); `operand` is frozen (arrays are tuples,
    objects are `Frozen`). `field == "timestamp"` never stands here: it is `start_us`/`end_us`/`bounds` of the Match.
    """

    field: str
    operator: str
    operand: Any


class Frozen(msgspec.Struct, frozen=True):
    """A JSON object as an operand: items sorted by key."""

    items: tuple[tuple[str, Any], ...]


class Moment(msgspec.Struct, frozen=True):
    """An instant relative to `now`: signed steps applied in order, units `s min h d w M q y`; none is now itself.

    `s min h d w` are fixed lengths, `M q y` calendar steps in the user's zone, clamped to a month's end (decisions 5).
    With `at_us` it is that fixed instant whatever now is (only where a Match cannot say it as `start_us`/`end_us`).
    """

    steps: tuple[tuple[int, str], ...] = ()
    at_us: int | None = None


class Bound(msgspec.Struct, frozen=True):
    """A bound on `occurred_at` that moves with now: `$gte`, `$gt`, `$lte`, `$lt`, `$eq` or `$ne` a Moment."""

    operator: str
    moment: Moment


class Days(msgspec.Struct, frozen=True):
    """Local dates whose events are dropped: weekends, listed ISO dates, public holidays of countries.

    A country stands with the edition of its calendar, `DE-BY@0.109`: another edition is another fold (decisions 7).
    """

    exclude_weekends: bool = False
    holidays: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()


class Match(msgspec.Struct, frozen=True):
    """Which of a user's events belong: type, payload, fixed instants (inclusive), local days, and moving bounds.

    `types` is sorted; empty means all of the user's events but `NEVER_COUNTED`; `*` among them means those as well.
    """

    types: tuple[str, ...] = ()
    clauses: tuple[Clause, ...] = ()
    start_us: int | None = None
    end_us: int | None = None
    days: tuple[Days, ...] = ()
    bounds: tuple[Bound, ...] = ()


class Fold(msgspec.Struct, frozen=True):
    """What to remember: a kind (see `operators`), over a match, with the kind's parameters, per user or payload value.

    Threshold-free, shared by every test that asks the same memory. `cap` bounds what a moving window keeps (only set
    by the plan, where keeping fewer cannot change an answer).
    """

    kind: str
    match: Match
    params: tuple[tuple[str, Any], ...] = ()
    per: str | None = None
    cap: int | None = None

    @property
    def id(self) -> str:
        """Identity across catalog versions: 16 hex digits of sha256 over the canonical form (decisions 7)."""
        return hashlib.sha256(canonical(self).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Check(msgspec.Struct, frozen=True):
    """One comparison of a fact: operator with `$`, frozen operand (a Moment where the fact is an instant)."""

    operator: str
    operand: Any


class Test(msgspec.Struct, frozen=True):
    """Look at `fact` of a fold's memory and check it; several checks are and-ed, none is always true.

    `shows` names the facts that go to the award's metadata, as (fact, key) pairs, in order.
    `operator` is the word as written (`$eventCount`, `event`, `snapshot`, `window_count`, …), `path` the pointer to it.
    """

    fold: Fold
    fact: str
    checks: tuple[Check, ...]
    operator: str
    path: str
    shows: tuple[tuple[str, str], ...] = ()
    params: tuple[tuple[str, Any], ...] = ()


class Held(msgspec.Struct, frozen=True):
    """The user holds this badge, with `awarded_at` at or before now (decisions 12)."""

    badge_key: str
    path: str


class All(msgspec.Struct, frozen=True):
    """Every child holds. `operator` is `$and`, `event` (a leaf's parts over one filter), `snapshot` or `milestone`."""

    children: tuple[Node, ...]
    path: str
    operator: str = "$and"


class Some(msgspec.Struct, frozen=True):
    """At least one child holds."""

    children: tuple[Node, ...]
    path: str


class Not(msgspec.Struct, frozen=True):
    """The child does not hold."""

    child: Node
    path: str


class Windowed(msgspec.Struct, frozen=True):
    """`$timeWindow` as written. The folds below already carry the window; this node names it and prefixes metadata."""

    child: Node
    path: str
    last: Moment | None = None
    start_us: int | None = None
    end_us: int | None = None
    days: Days | None = None


Node = Test | Held | All | Some | Not | Windowed


def nodes(node: Node) -> Iterator[Node]:
    """A formula and every node below it, in the order written; what a fold carries of another formula is not below."""
    yield node
    match node:
        case All(children=children) | Some(children=children):
            for child in children:
                yield from nodes(child)
        case Not(child=child) | Windowed(child=child):
            yield from nodes(child)


def tests(node: Node) -> Iterator[Test]:
    """Every Test of a formula, in the order written."""
    return (one for one in nodes(node) if isinstance(one, Test))


def changed(node: Node, change: Callable[[Test], Test]) -> Node:
    """The formula with each of its Tests changed, all else as it is."""
    match node:
        case Test():
            return change(node)
        case All(children=children) | Some(children=children):
            return replace(node, children=tuple(changed(child, change) for child in children))
        case Not(child=child) | Windowed(child=child):
            return replace(node, child=changed(child, change))
        case Held():
            return node


def conditions_of(fold: Fold) -> Node | None:
    """The formula whose having held a fold remembers; None for every other kind of fold."""
    found: Node | None = dict(fold.params)["conditions"] if fold.kind == "within" else None
    return found


def leaves(node: Node) -> Iterator[Test]:
    """Every Test of a formula that looks at events itself: those of its conditions in place of one that has some."""
    for test in tests(node):
        conditions = conditions_of(test.fold)
        if conditions is None:
            yield test
        else:
            yield from leaves(conditions)


def counted(event_type: str) -> bool:
    """Whether events of this type are among "all of the user's events" (decisions 10)."""
    return not any(event_type == name or (name[-1] == "." and event_type.startswith(name)) for name in NEVER_COUNTED)


def canonical(value: Any) -> str:
    """The JSON text of frozen nodes: equal nodes give equal text, numbers by value (1 = 1.0), names of classes kept."""
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is tuple or kind is list:
        return f'["t",{",".join(map(canonical, value))}]' if value else '["t"]'
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int and -_PLAIN < value < _PLAIN:
        return f'{{"n":"{value}"}}'
    if kind is int or kind is Decimal:
        number = Decimal(value).normalize(_EXACT)
        return f'{{"n":"{number:f}"}}' if abs(number.adjusted()) < 400 else f'{{"n":"{number}"}}'
    if not issubclass(kind, msgspec.Struct):
        raise TypeError(f"not a node: {kind.__name__}")
    parts = [canonical(getattr(value, name)) for name in kind.__struct_fields__]
    return f'["{kind.__name__}",{",".join(parts)}]'
