"""Which entries of a catalog are not as they were: those whose rows say when they were last changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from worker.events import json_text
from worker.rules.catalog.definitions import Badge, Catalog

_SHOWN: Final = (
    *("family", "label", "description", "icon", "color", "image_url", "sort_score", "tier", "status", "revocable"),
    *("animation", "breaker", "translations"),
)


@dataclass(frozen=True, slots=True)
class Touched:
    """Names of entries that both catalogs have and that differ: badges in anything, `criteria` in what they ask."""

    badges: frozenset[str] = frozenset()
    criteria: frozenset[str] = frozenset()
    event_types: frozenset[str] = frozenset()
    condition_types: frozenset[str] = frozenset()


NOTHING: Final = Touched()


def touched(old: Catalog | None, new: Catalog) -> Touched:
    """What `new` changes of the entries of `old`; nothing where there is no `old`."""
    if old is None:
        return NOTHING
    before = {badge.key: badge for badge in old.badges}
    pairs = [(was, badge) for badge in new.badges if (was := before.get(badge.key)) is not None]
    criteria = frozenset(badge.key for was, badge in pairs if not _asks_the_same(was, badge))
    shown = frozenset(badge.key for was, badge in pairs if not _looks_the_same(was, badge))
    return Touched(
        badges=shown | criteria,
        criteria=criteria,
        event_types=_changed((old.document.get("events") or {}).items(), new.document.get("events") or {}),
        condition_types=_changed(
            ((entry["name"], entry) for entry in old.document.get("condition_types") or ()),
            {entry["name"]: entry for entry in new.document.get("condition_types") or ()},
        ),
    )


def _asks_the_same(one: Badge, other: Badge) -> bool:
    return one.per == other.per and one.triggers == other.triggers and json_text.equal(one.flow, other.flow)


def _looks_the_same(one: Badge, other: Badge) -> bool:
    return all(json_text.equal(getattr(one, name), getattr(other, name)) for name in _SHOWN)


def _changed(old: Iterable[tuple[str, Any]], new: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(name for name, entry in old if name in new and not json_text.equal(entry, new[name]))
