"""Which folds are one: keys that are equal exactly where the memory is, and cheap to compare.

Dataclass equality will not do: Python holds `True == 1`, JSON does not.
"""

from __future__ import annotations

from collections.abc import Hashable

from worker.rules.ir import Fold, Match, canonical, conditions_of
from worker.rules.plan.dispatch import json_key


def fold_key(fold: Fold) -> Hashable:
    """Equal for folds that remember the same, as `Fold.id` is, without the cost of a hash over text."""
    conditions = conditions_of(fold)
    params = tuple((name, json_key(value)) for name, value in fold.params if value is not conditions)
    if conditions is not None:
        params += (("conditions", canonical(conditions)),)
    return (fold.kind, params, fold.match.bounds, fold.cap, gate_key(fold.match, fold.per))


def gate_key(match: Match, per: str | None) -> Hashable:
    """Equal for matches that the same events pass, moving bounds aside."""
    clauses = tuple((clause.field, clause.operator, json_key(clause.operand)) for clause in match.clauses)
    return (match.types, clauses, match.start_us, match.end_us, match.days, per)
