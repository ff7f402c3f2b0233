"""The catalog's entries as answers: event types, badges, condition types, with ids and times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.admin.answers import instant
from worker.admin.catalog_view import EntryFacts, Known, View
from worker.events import EventType


def event_type_json(kind: EventType, facts: EntryFacts) -> dict[str, Any]:
    """An event type; see `shapes.EventTypeOut`."""
    return {
        "id": facts.id,
        "name": kind.name,
        "description": kind.description,
        "schema": kind.schema if kind.schema is not None else {},
        "aliases": list(kind.aliases),
        "login": kind.login,
        "builtin": kind.builtin,
        "created_at": instant(facts.created_us),
        "updated_at": instant(facts.updated_us),
    }


def badge_json(known: Known) -> dict[str, Any]:
    """A badge as the older system prints it; see `shapes.BadgeCore`."""
    facts, badge = known.facts, known.badge
    return {
        "id": facts.id,
        "key": facts.key,
        "name": known.label,
        "description": facts.description if badge is None else badge.description,
        "image_url": None if badge is None else badge.image_url,
        "active": known.status == "active",
        "status": known.status,
        "created_at": instant(facts.created_us),
        "updated_at": instant(facts.updated_us),
    }


def criteria_json(known: Known) -> dict[str, Any]:
    """What a badge asks; its id is the badge's (decisions 36). A badge that the catalog left out asks nothing more."""
    facts = known.facts
    return {
        "id": facts.id,
        "badge_id": facts.id,
        "flow_definition": {} if known.badge is None else known.badge.flow,
        "created_at": instant(facts.created_us),
        "updated_at": instant(facts.criteria_updated_us),
    }


def whole_badge_json(known: Known) -> dict[str, Any]:
    """A badge and what it asks; see `shapes.BadgeWithCriteria`."""
    return {"badge": badge_json(known), "criteria": criteria_json(known)}


def flat_badge_json(view: View, known: Known, *, holders: int, share: float | None) -> dict[str, Any]:
    """A badge, flat; see `shapes.BadgeOut`."""
    facts, badge = known.facts, known.badge
    return {
        **badge_json(known),
        "kind": "badge" if badge is None else badge.kind,
        "family": facts.family if badge is None else badge.family,
        "tier": facts.tier if badge is None else badge.tier,
        "icon": None if badge is None else badge.icon,
        "color": None if badge is None else badge.color,
        "sort_score": facts.sort_score if badge is None else badge.sort_score,
        "per": None if badge is None else badge.per,
        "triggers": [] if badge is None else sorted(badge.triggers),
        "takes": "" if badge is None else view.takes.of(badge),
        "animation": None if badge is None else badge.animation,
        "holders": holders,
        "share": share,
    }


def condition_type_json(entry: Mapping[str, Any], facts: EntryFacts) -> dict[str, Any]:
    """A condition type; see `shapes.ConditionTypeOut`."""
    return {
        "id": facts.id,
        "name": facts.name,
        "description": entry.get("description", ""),
        "source": entry["source"],
        "params": entry.get("params", {}),
        "created_at": instant(facts.created_us),
        "updated_at": instant(facts.updated_us),
    }
