"""`$and`, `$or`, `$not`: flows joined; every leaf stands alone, so two leaves may be met by different events.

Written: `{"$and": [flow, …]}`, `{"$or": [flow, …]}`, `{"$not": flow}`. Remembered per user: nothing of its own; at most
what the flows in it do; read from the event log: nothing as events come, all of the user's after a late one. Source:
document 2 "Logical Operators".
"""

from __future__ import annotations

from typing import Any

from worker.rules.ir import All, Node, Not, Some
from worker.rules.operators.place import Operator, Place, described


def _read_all(value: Any, place: Place) -> Node | None:
    children = _children(value, place)
    return None if children is None else All(children, place.path, "$and")


def _read_some(value: Any, place: Place) -> Node | None:
    children = _children(value, place)
    return None if children is None else Some(children, place.path)


def _read_not(value: Any, place: Place) -> Node | None:
    child = place.flow(value)
    return None if child is None else Not(child, place.path)


def _children(value: Any, place: Place) -> tuple[Node, ...] | None:
    if not isinstance(value, list | tuple) or not value:
        place.fault(
            "bad_operand",
            f"{place.last()} takes an array of at least one flow, not {described(value)}.",
            f'Write "{place.last()}": [{{"event": "a.done"}}, {{"event": "b.done"}}].',
        )
        return None
    children = [place.at(index).flow(item) for index, item in enumerate(value)]
    found = tuple(child for child in children if child is not None)
    return found if len(found) == len(children) else None


AND = Operator("$and", _read_all)
OR = Operator("$or", _read_some)
NOT = Operator("$not", _read_not)
