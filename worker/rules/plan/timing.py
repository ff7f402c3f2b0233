"""When a formula can become true: at a step of one of its folds only, or by the mere passing of time.

What becomes true only when a fold changes is tested only then; a threshold is tested only when it is crossed. What time
alone can make true, and what holds before anything happened, is tested at each of the badge's triggers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from worker.rules.ir import (
    All,
    Bound,
    Check,
    Fold,
    Held,
    Moment,
    Node,
    Not,
    Some,
    Test,
    Windowed,
)
from worker.rules.operators import KINDS, VERDICTS, always
from worker.rules.operators.moving import may_cap, rises_with_now
from worker.rules.plan.identity import fold_key

Number = int | Fraction

#: Kinds whose unit fact more events never lower (a gauge's they may).
GROWING = frozenset({"count", "distinct", "periods"})
#: Kinds that keep at most `cap` members of a set where the fold has a cap.
BOUNDED_SETS = frozenset({"distinct", "periods"})


#: Ways in which time alone, between two events, can change a verdict: a sum of these. (A Flag takes ten times as long.)
UP, DOWN = 1, 2
BOTH = UP | DOWN


@dataclass(frozen=True, slots=True)
class Threshold:
    """A formula that holds exactly while one fact of one fold is at least (`strict`: more than) a number."""

    fold: Fold
    fact: str
    number: Number
    strict: bool


def drift(node: Node) -> int:
    """What the passing of time alone can do to a formula's verdict."""
    match node:
        case Test():
            return _test_drift(node)
        case All(children=children) | Some(children=children):
            found = 0
            for child in children:
                found |= drift(child)
            return found
        case Not(child=child):
            below = drift(child)
            return (DOWN if below & UP else 0) | (UP if below & DOWN else 0)
        case Windowed(child=child):
            return drift(child)
        case Held():
            return 0


def _test_drift(test: Test) -> int:
    found = 0
    moving = [bound for bound in test.fold.match.bounds if bound.moment.at_us is None]
    if test.operator in VERDICTS:
        return BOTH if moving else 0
    for check in test.checks:
        if check.operator == "$years":
            found |= UP if not moving else BOTH
        elif _names_now(check):
            found |= _against_rising_bound(check) if not moving else BOTH
        elif moving:
            shrinking = is_unit(test.fold, test.fact) and all(map(_only_shrinks, moving))
            found |= _of_falling_fact(check) if shrinking else BOTH
    return found


def _names_now(check: Check) -> bool:
    operands = check.operand if isinstance(check.operand, tuple) else (check.operand,)
    return any(isinstance(operand, Moment) and operand.at_us is None for operand in operands)


def _against_rising_bound(check: Check) -> int:
    """Between events the fact stands still and the bound rises with now."""
    return _of_falling_fact(check) if rises_with_now(check.operand) else BOTH


def _of_falling_fact(check: Check) -> int:
    if check.operator in ("$gte", "$gt"):
        return DOWN
    return UP if check.operator in ("$lte", "$lt") else BOTH


def _only_shrinks(bound: Bound) -> bool:
    """Whether events only ever leave the window while time passes."""
    return bound.operator in ("$gte", "$gt") and rises_with_now(bound.moment)


def is_unit(fold: Fold, fact: str) -> bool:
    """Whether this is a figure that each event raises by at most one and that nothing lowers but time."""
    kind = KINDS.get(fold.kind)
    return kind is not None and fold.kind in GROWING and kind.unit_fact == fact


def may_be_capped(fold: Fold) -> bool:
    """Whether a cap at K leaves `unit fact >= K`, and what is shown when it first holds, as they are."""
    return may_cap(fold) if fold.match.bounds else fold.kind in BOUNDED_SETS


def threshold(node: Node) -> Threshold | None:
    """The threshold a formula amounts to, if it does: lower bounds on one fact, beside parts that always hold."""
    match node:
        case Test(checks=checks, operator=operator) if checks and operator not in VERDICTS:
            return _of_test(node)
        case Windowed(child=child):
            return threshold(child)
        case Some(children=(child,)):
            return threshold(child)
        case All(children=children):
            found: Threshold | None = None
            for child in children:
                if isinstance(child, Test) and always(child):
                    continue
                other = threshold(child)
                if other is None or (found is not None and _other_fact(found, other)):
                    return None
                found = other if found is None else max(found, other, key=lambda one: (one.number, one.strict))
            return found
    return None


def _of_test(test: Test) -> Threshold | None:
    strongest: tuple[Number, bool] | None = None
    for check in test.checks:
        number = exact_number(check.operand)
        if number is None or check.operator not in ("$gte", "$gt"):
            return None
        bound = (number, check.operator == "$gt")
        strongest = bound if strongest is None else max(strongest, bound)
    return None if strongest is None else Threshold(test.fold, test.fact, *strongest)


def ceilings(node: Node) -> Iterator[Threshold]:
    """Thresholds on unit figures that a formula cannot hold at: where it holds, each of these figures is below."""
    match node:
        case Test(fold=fold, fact=fact, checks=checks, operator=operator):
            if operator not in VERDICTS and is_unit(fold, fact):
                yield from (Threshold(fold, fact, *found) for check in checks if (found := _ceiling(check)) is not None)
        case Not(child=child):
            below = threshold(child)
            if below is not None and is_unit(below.fold, below.fact):
                yield below
        case Windowed(child=child) | Some(children=(child,)):
            yield from ceilings(child)
        case All(children=children):
            for child in children:
                yield from ceilings(child)


def _ceiling(check: Check) -> tuple[Number, bool] | None:
    """What a figure that passes a check does not reach (`strict`: exceed), where there is such a number."""
    operand = check.operand
    if check.operator == "$between":
        operand = operand[1]
    number = exact_number(operand)
    if number is None or check.operator not in ("$lt", "$lte", "$eq", "$between"):
        return None
    return number, check.operator != "$lt"


def _other_fact(one: Threshold, other: Threshold) -> bool:
    return one.fact != other.fact or fold_key(one.fold) != fold_key(other.fold)


def exact_number(value: object) -> Number | None:
    """A number that compares with every other exact number; None for what is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Fraction):
        return value
    return Fraction(value) if isinstance(value, Decimal) and value.is_finite() else None


def thresholds(node: Node) -> list[Threshold] | None:
    """The thresholds of a formula that holds where any of them does; None for every other formula."""
    parts = node.children if isinstance(node, Some) else (node,)
    found = [one for part in parts if (one := threshold(part)) is not None]
    return found if len(found) == len(parts) else None


def covers(triggers: frozenset[str], found: Iterable[Test]) -> bool:
    """Whether every event that can change a fold of these tests is a trigger: `*` stands for all of them."""
    return all(triggers.issuperset(test.fold.match.types or ("*",)) for test in found)
