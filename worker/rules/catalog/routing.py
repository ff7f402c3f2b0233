"""Which event types make a badge look: derived from its flow, held to what the author stated, through prerequisites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from worker.errors import Fault
from worker.rules.catalog.definitions import Badge
from worker.rules.catalog.names import CatalogNames
from worker.rules.ir import NEVER_COUNTED, All, Held, Node, Not, Some, Windowed, tests
from worker.rules.operators.place import shown


def route(badges: list[Badge], data: Mapping[str, Any], names: CatalogNames) -> list[Badge]:
    """The badges with their final triggers; faults for stated ones that do not fit and for circles of prerequisites."""
    required = {badge.key: keys for badge in badges if (keys := tuple(dict.fromkeys(held(badge.formula))))}
    stated = {at: types for at, badge in enumerate(badges) if (types := _stated(badge, data, names)) is not None}
    if required:
        order, circular = _in_order(required)
        _refuse_circles(badges, circular, names.faults)
        badges = _with_prerequisites(badges, required, order)
    return [replace(badge, triggers=stated[at]) if at in stated else badge for at, badge in enumerate(badges)]


def held(node: Node) -> Iterator[str]:
    """The keys of the badges a formula requires."""
    match node:
        case Held(badge_key=key):
            yield key
        case All(children=children) | Some(children=children):
            for child in children:
                yield from held(child)
        case Not(child=child) | Windowed(child=child):
            yield from held(child)


def _stated(badge: Badge, data: Mapping[str, Any], names: CatalogNames) -> frozenset[str] | None:
    """The triggers the author wrote, as canonical types; None where there are none or they are refused."""
    section, index = badge.path.split("/")[1:3]
    if section not in ("badges", "ladders") or "triggers" not in (entry := data[section][int(index)]):
        return None
    path, written = f"{badge.path}/triggers", entry["triggers"]
    if not isinstance(written, list):
        return None
    before = len(names.faults)
    types = _resolved(badge, written, path, names)
    if badge.tier not in (None, 1):
        # The levels of a ladder share what was stated; its faults were filed with the first.
        del names.faults[before:]
    return types


def _resolved(badge: Badge, written: list[Any], path: str, names: CatalogNames) -> frozenset[str] | None:
    if not written:
        names.faults.append(
            Fault("no_trigger", path, "Without a trigger this badge is never looked at.",
                  f"Leave triggers out, or write [{', '.join(sorted(badge.triggers))}].")
        )  # fmt: skip
        return None
    free = any(test.operator == "snapshot" for test in tests(badge.formula)) or any(held(badge.formula))
    found = set()
    for place, name in enumerate(written):
        kind = names.event_type(name, f"{path}/{place}") if isinstance(name, str) and name else None
        if kind is None:
            continue
        if free or _reads(badge.triggers, kind):
            found.add(kind)
            continue
        message = f"{shown(kind)} is not among what the flow reads: {', '.join(sorted(badge.triggers))}."
        names.faults.append(Fault("trigger_mismatch", f"{path}/{place}", message, "Delete it, or leave triggers out."))
    return frozenset(found) if found else None


def _reads(derived: frozenset[str], kind: str) -> bool:
    return kind in derived or ("*" in derived and not kind.startswith(NEVER_COUNTED))


def _with_prerequisites(
    badges: list[Badge], required: Mapping[str, tuple[str, ...]], order: Sequence[str]
) -> list[Badge]:
    """Adds the triggers of what a badge requires, however far down; a badge may be earned when its last one is.

    `order` has each badge that requires some after those it requires; badges of a circle are not in it and stay.
    """
    reached = {badge.key: badge.triggers for badge in badges}
    for key in order:
        own = reached[key]
        types = own.union(*(reached.get(one, own) for one in required[key]))
        reached[key] = own if types == own else types
    return [
        replace(badge, triggers=reached[badge.key]) if badge.key in required and badge.kind == "badge" else badge
        for badge in badges
    ]


def _in_order(required: Mapping[str, tuple[str, ...]]) -> tuple[list[str], dict[str, list[str]]]:
    """The badges that need others, each after those it needs; and those for which there is no such place, with them."""
    left = {key: [one for one in keys if one in required] for key, keys in required.items()}
    free = [key for key, keys in left.items() if not keys]
    needed_by: dict[str, list[str]] = {}
    for key, keys in left.items():
        for one in keys:
            needed_by.setdefault(one, []).append(key)
    waiting = {key: len(keys) for key, keys in left.items()}
    order = []
    while free:
        done = free.pop()
        order.append(done)
        del left[done]
        for key in needed_by.get(done, ()):
            waiting[key] -= 1
            if waiting[key] == 0:
                free.append(key)
    return order, left


def _refuse_circles(badges: list[Badge], left: Mapping[str, list[str]], faults: list[Fault]) -> None:
    """One `cyclic_prerequisite` for each circle, at the badge that was written first."""
    places = {badge.key: badge.path for badge in badges}
    order = {key: index for index, key in enumerate(places)}
    seen: set[str] = set()
    for start in left:
        walk: dict[str, int] = {}
        key = start
        while key not in seen and key not in walk:
            walk[key] = len(walk)
            key = next(one for one in left[key] if one in left)
        if key in walk:
            circle = list(walk)[walk[key] :]
            first = min(circle, key=order.__getitem__)
            at = circle.index(first)
            listed = " needs ".join([*circle[at:], *circle[:at], first][:12])
            message = f"{listed}: none of them can ever be earned."
            faults.append(Fault("cyclic_prerequisite", f"{places[first]}/flow", message, "Take one of them out."))
        seen.update(walk)
