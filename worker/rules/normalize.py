"""Small total rewrites of formulas, each of which leaves every answer and all metadata as they are; and what a formula
says of itself: what it answers on an empty history, which events it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from worker.rules.ir import All, Check, Held, Node, Not, Some, Test, Windowed, leaves
from worker.rules.operators import KINDS, TRAILS, VERDICTS
from worker.rules.operators.calendar import Calendar
from worker.rules.operators.facts import check_fact

#: Any instant will do where there is no event: the facts of an empty memory are the same at all times.
_SOME_TIME = 0
_ANYWHERE = Calendar()


def normalize(node: Node) -> Node:
    """The formula with its rewrites applied from the leaves up; `normalize(normalize(x)) == normalize(x)`."""
    match node:
        case All() | Some():
            node = replace(node, children=tuple(normalize(child) for child in node.children))
        case Not() | Windowed():
            node = replace(node, child=normalize(node.child))
    for rule in RULES:
        node = rule(node)
    return node


def flatten(node: Node) -> Node:
    """An `$and` directly in an `$and`, an `$or` directly in an `$or`, gives its children to the outer one."""
    if isinstance(node, Some):
        return replace(node, children=tuple(_inner_some(node)))
    if isinstance(node, All) and node.operator == "$and":
        return replace(node, children=tuple(_inner_all(node)))
    return node


def _inner_some(node: Some) -> Iterator[Node]:
    for child in node.children:
        yield from child.children if isinstance(child, Some) else (child,)


def _inner_all(node: All) -> Iterator[Node]:
    for child in node.children:
        yield from child.children if isinstance(child, All) and child.operator == "$and" else (child,)


def is_flat(node: Node) -> bool:
    """What `flatten` promises."""
    if isinstance(node, Some):
        return not any(isinstance(child, Some) for child in node.children)
    if isinstance(node, All) and node.operator == "$and":
        return not any(isinstance(child, All) and child.operator == "$and" for child in node.children)
    return True


def unwrap_double_not(node: Node) -> Node:
    """Not of Not of x is x: both evaluate x and give its metadata."""
    return node.child.child if isinstance(node, Not) and isinstance(node.child, Not) else node


def has_no_double_not(node: Node) -> bool:
    """What `unwrap_double_not` promises."""
    return not (isinstance(node, Not) and isinstance(node.child, Not))


def drop_repeats(node: Node) -> Node:
    """A child of `$and` or `$or` that is written twice stays once: the last one, whose metadata would win anyway."""
    if not isinstance(node, Some) and not (isinstance(node, All) and node.operator == "$and"):
        return node
    seen: set[Any] = set()
    kept: list[Node] = []
    for child in reversed(node.children):
        if (meaning := without_paths(child)) not in seen:
            seen.add(meaning)
            kept.append(child)
    return replace(node, children=tuple(reversed(kept)))


def has_no_repeats(node: Node) -> bool:
    """What `drop_repeats` promises."""
    return drop_repeats(node) == node


RULES: tuple[Callable[[Node], Node], ...] = (flatten, unwrap_double_not, drop_repeats)
CHECKERS: tuple[Callable[[Node], bool], ...] = (is_flat, has_no_double_not, has_no_repeats)


def without_paths(value: Any) -> Any:
    """A hashable form of a node in which only its meaning counts, not where it was written."""
    if isinstance(value, Struct):
        parts = (without_paths(getattr(value, name)) for name in value.__struct_fields__ if name != "path")
        return (type(value).__name__, *parts)
    if isinstance(value, tuple):
        return tuple(without_paths(item) for item in value)
    return (type(value).__name__, value) if isinstance(value, bool) else value


def true_on_empty(node: Node) -> bool:
    """Whether the formula holds for a user without any event and without any badge."""
    match node:
        case Test(fold=fold) if (verdict := VERDICTS.get(node.operator)) is not None:
            facts = _empty_facts(fold.kind, dict(fold.params))
            return verdict(facts, dict(node.params), _SOME_TIME, _ANYWHERE)[0]
        case Test(checks=checks):
            return not checks or _holds_on_empty(node.fold.kind, node.fold.params, node.fact, checks)
        case Held():
            return False
        case All(children=children):
            return all(map(true_on_empty, children))
        case Some(children=children):
            return any(map(true_on_empty, children))
        case Not(child=child):
            return not true_on_empty(child)
        case Windowed(child=child):
            return true_on_empty(child)


@lru_cache(maxsize=4096)
def _holds_on_empty(kind: str, params: tuple[tuple[str, Any], ...], fact: str, checks: tuple[Check, ...]) -> bool:
    value = _empty_facts(kind, dict(params))[fact]
    return all(check_fact(check, value, _SOME_TIME, _ANYWHERE) for check in checks)


def _empty_facts(kind: str, params: dict[str, Any]) -> dict[str, Any]:
    if (counter := KINDS.get(kind)) is not None:
        return counter.facts(None, params)
    return TRAILS[kind].facts(None, _SOME_TIME, params, _ANYWHERE)


def triggers(node: Node) -> frozenset[str]:
    """The canonical event types a formula reads; `*` where it reads all of the user's events.

    A badge it requires is none of them: that badge's own triggers are the catalog's to add.
    """
    return frozenset(name for test in leaves(node) for name in test.fold.match.types or ("*",))
