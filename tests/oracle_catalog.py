"""The catalog around a flow, read naively for the oracle: names, zones, metrics, badges; no code of `worker.rules`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

#: Under which name the verdicts of an event hold the answer of a condition type with params (sorted JSON).
ANSWERS: dict[tuple[str, str], str] = {}


@dataclass
class World:
    """The catalog around a flow; by badge and context, since when the user holds it and what event earned it."""

    document: Mapping[str, Any] = field(default_factory=dict)
    held: dict[tuple[str, str], int] = field(default_factory=dict)
    given: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = {name: kind or {} for name, kind in (self.document.get("events") or {}).items()}
        self.aliases = {alias: name for name, kind in kinds.items() for alias in kind.get("aliases", [])}
        said = {name for name, kind in kinds.items() if kind.get("login")}
        self.logins = {self.type(name) for name in ("UserLoggedIn", "user.logged_in")} | said
        self.zone = ZoneInfo(self.document.get("timezone", "UTC"))
        self.zone_field = self.document.get("user_timezone")
        self.metrics = self.document.get("metrics") or {}
        self.holidays = self.document.get("holidays") or {}
        self.badges = {badge["key"]: badge for badge in all_badges(self)}

    def type(self, name: str) -> str:
        return self.aliases.get(name, name)


def counted(name: str) -> bool:
    """Whether a type counts in "all of the user's events"."""
    return not name.startswith(("cron.", "badge.", "grant.")) and name not in ("user.erased", "recompute.requested")


def all_badges(world: World) -> list[dict[str, Any]]:
    """Every badge of a catalog with key, flow, triggers; a badge comes after those it asks for."""
    document = world.document
    found = [dict(badge) for badge in document.get("badges") or []]
    for ladder in document.get("ladders") or []:
        per = world.metrics[ladder["metric"]].get("per", world.metrics[ladder["metric"]].get("by"))
        for level in ladder["levels"]:
            flow = {"snapshot": {ladder["metric"]: {"$gte": level}}}
            found.append({**ladder, "key": f"{ladder['key']}_{level}", "flow": flow, "per": per})
    for entry in document.get("tenures") or []:
        for years in entry["years"]:
            flow = {"tenure": {"since": entry["since"], "years": years}}
            found.append({**entry, "key": f"{entry['key']}_{years}y", "flow": flow})
    for entry in document.get("milestones") or []:
        if entry.get("is_active", True):
            found.append({"key": entry["code"], "flow": {"milestone": entry}})
    done: dict[str, dict[str, Any]] = {}
    lent: dict[str, set[str]] = {}
    while found:
        badge = found.pop(0)
        types = reads(badge["flow"], world)
        needs = {name.removeprefix("held:") for name in types if name.startswith("held:")}
        if not needs <= set(done):
            found.append(badge)
            continue
        # A flow that asks for a badge reads what that badge reads: every badge has an event to be looked at by.
        lent[badge["key"]] = types.union(*(lent[key] for key in needs))
        done[badge["key"]] = {"triggers": lent[badge["key"]], **badge}
    return list(done.values())


def reads(flow: Any, world: World) -> set[str]:
    """The event types a flow reads; `*` for all of the user's, `held:K` for the grant of badge K."""
    if isinstance(flow, list):
        return set().union(*(reads(part, world) for part in flow))
    found: set[str] = set()
    for word, operand in flow.items():
        if word == "event":
            return {world.type(operand)}
        if word == "milestone":
            return {world.type(operand["trigger_event"])}
        if word == "snapshot":
            forms = [world.metrics[name] for name in operand]
            found |= {m[k] for m in forms for k in ("count", "less", "event", "first", "last") if k in m}
        elif word == "tenure":
            # The years are full on a day, of which only the clock tells.
            found.add("cron.anniversary")
        elif word == "badge":
            found.add("held:" + operand)
        elif word in ("$timePeriod", "$aggregate", "$pattern", "$gap"):
            found.add("*")
        elif word == "$sequence":
            found |= {*operand["sequence"], *("*" if operand.get("requireStrict") else "")}
        elif word == "$duration":
            found |= {operand["startEvent"]["type"], operand["endEvent"]["type"]}
        elif word in ("$timeWindow", "$withinTimeWindow"):
            found |= reads(operand["flow" if word == "$timeWindow" else "conditions"], world)
        elif word in ("$and", "$or", "$not"):
            found |= reads(operand, world)
    return {world.type(name) for name in found}
