"""For a badge that takes one event with a large enough figure: the largest a user's events had, and how near it is.

What the engine remembers of such a badge is how many events passed, which says nothing of those that nearly did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from worker.events.types import Event
from worker.rules.catalog.definitions import Badge
from worker.rules.evaluate import Explanation
from worker.rules.ir import All, Check, Clause, Node, Test
from worker.rules.operators.values import compile_clause, is_number, lookup
from worker.rules.phrases import bound, clause, joined, number
from worker.rules.plan import context_of

_LOWER = ("$gte", "$gt")


@dataclass(slots=True)
class Best:
    """The largest figure so far, the context of its event, and when it was; `value` is None where there was none."""

    value: int | Decimal | None = None
    context: str = ""
    at_us: int = 0


class _Asked:
    """A badge of one event with one lower bound: what else its events must be, and the best of them."""

    def __init__(self, badge: Badge, test: Test, asked: Clause) -> None:
        self.badge = badge
        self.asked = asked
        self.match = test.fold.match
        self.others = tuple(one for one in self.match.clauses if one is not asked)
        self.holds = tuple(compile_clause(one) for one in self.others)
        self.best = Best()

    def take(self, event: Event, wanted: str | None) -> None:
        match, at = self.match, event.occurred_us
        value = lookup(event.payload, self.asked.field)
        if not is_number(value) or (self.best.value is not None and value < self.best.value):
            return
        if (match.start_us is not None and at < match.start_us) or (match.end_us is not None and at > match.end_us):
            return
        context = "" if self.badge.per is None else context_of(event.payload, self.badge.per)
        if context is None or wanted not in (None, context) or not all(holds(event.payload) for holds in self.holds):
            return
        self.best = Best(value, context, at)


class Bests:
    """Follows, over a user's events in order, the best figure for each badge of which that can be said."""

    def __init__(self, badges: Iterable[Badge], *, context: str | None = None) -> None:
        """`context`: look at this one only, of badges that are given per payload value."""
        self._context = context
        self._asked: dict[str, _Asked] = {}
        self._by_type: dict[str, list[_Asked]] = {}
        for badge in badges:
            found = _single(badge)
            if found is not None:
                self._asked[badge.key] = found
                for name in found.match.types:
                    self._by_type.setdefault(name, []).append(found)

    def take(self, event: Event) -> None:
        """The next event."""
        for asked in self._by_type.get(event.type, ()):
            asked.take(event, self._context)

    def told(self, badge: Badge, context: str, explanation: Explanation) -> tuple[str, Explanation]:
        """An explanation that says how near the best came, and of which context; as it was where there is none."""
        found = self._asked.get(badge.key)
        if found is None or found.best.value is None or explanation.passed or explanation.tree["children"]:
            return context, explanation
        best = found.best
        sentence = _sentence(found, best)
        nearness = _nearness(found.asked, found.best.value)
        tree: Mapping[str, object] = {**explanation.tree, "sentence": sentence}
        return best.context, replace(explanation, tree=tree, nearness=max(nearness, explanation.nearness))


def _single(badge: Badge) -> _Asked | None:
    """What is asked of a badge that takes one event with one lower bound among its clauses; None for others."""
    node: Node = badge.formula
    while isinstance(node, All) and len(node.children) == 1:
        node = node.children[0]
    if not isinstance(node, Test) or node.operator != "event" or node.fold.kind != "count":
        return None
    match = node.fold.match
    if node.checks != (Check("$gte", 1),) or not match.types or "*" in match.types or match.bounds or match.days:
        return None
    asked = [one for one in match.clauses if one.operator in _LOWER and is_number(one.operand)]
    return _Asked(badge, node, asked[0]) if len(asked) == 1 else None


def _sentence(found: _Asked, best: Best) -> str:
    others = joined([clause(one) for one in found.others])
    tail = f" with {others}" if others else ""
    context = f" ({found.badge.per} {best.context})" if found.badge.per is not None else ""
    asked = found.asked
    shown = number(best.value, [Check(asked.operator, asked.operand)])
    return f"best {asked.field} {shown}{tail}{context}; {bound(asked.operator, asked.operand)} needed"


def _nearness(asked: Clause, value: int | Decimal | None) -> Fraction:
    """How much of the bound is reached; never all of it."""
    need = Fraction(asked.operand)
    if value is None or value <= 0 or need <= 0:
        return Fraction()
    return min(Fraction(value) / need, Fraction(1)) * Fraction(99, 100)
