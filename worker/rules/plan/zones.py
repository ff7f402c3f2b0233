"""Users' own time zones: where they come from, what is remembered of them, and whose calendar counts at an event.

Remembered per user: the zone last named, and since when; nothing where the catalog names no source of zones. A trail
(decisions 6): an event is in the zone that was named last up to it in the order of events, itself included. So a change
moves nothing that was before it, and a late one is found in its place when the user is folded again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from worker.events.types import Event
from worker.rules.catalog.definitions import Catalog
from worker.rules.ir import Fold, canonical
from worker.rules.operators import KINDS, TRAILS
from worker.rules.operators.calendar import MONTHS, Calendar, calendar_of, is_zone
from worker.rules.operators.problems import MISSING_FIELD, NO_ZONE, note
from worker.rules.operators.values import MISSING, lookup
from worker.rules.state import UserState


class ZoneRule(msgspec.Struct, frozen=True):
    """Which zone counts: the catalog's, and where users have their own, the event type and the field that name it."""

    default: str = "UTC"
    event: str | None = None
    field: str | None = None


#: Memories under this rule keep the identity their fold has without any.
PLAIN: Final = ZoneRule()


def zone_rule(catalog: Catalog) -> ZoneRule:
    """The rule of a catalog; the event type by its canonical name."""
    source = catalog.options.get("user_timezone")
    return ZoneRule(catalog.timezone, source["event"], source["field"]) if source else ZoneRule(catalog.timezone)


def memory_id(fold: Fold, rule: ZoneRule) -> str:
    """The identity of a fold's memory: with the rule where the memory depends on local dates (decisions 7)."""
    if rule == PLAIN or not reads_calendar(fold):
        return fold.id
    return _id(canonical(fold) + canonical(rule))


def reads_calendar(fold: Fold) -> bool:
    """Whether one history may leave different memories of this fold in different zones."""
    match = fold.match
    if match.days or any(unit in MONTHS for bound in match.bounds for _, unit in bound.moment.steps):
        return True
    return (KINDS.get(fold.kind) or TRAILS[fold.kind]).local


def _id(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Zones:
    """The calendars of the users of a catalog that names a source of zones.

    `id` is that of the memory among a user's own: [zone, since_us]. A value that is no zone's name changes nothing.
    """

    event: str
    field: str
    default: Calendar
    id: str

    @staticmethod
    def of(rule: ZoneRule, default: Calendar) -> Zones | None:
        """The zones of a rule; None where all users have the default."""
        if rule.event is None or rule.field is None:
            return None
        return Zones(rule.event, rule.field, default, _id("zone:" + canonical(rule)))

    def now(self, state: UserState) -> Calendar:
        """The user's calendar after the newest event of the state."""
        memory = state.scopes.get("", {}).get(self.id)
        return self.default if memory is None else calendar_of(memory[0])

    def at(self, state: UserState, event: Event) -> Calendar:
        """The user's calendar at an event that follows the state's newest; the change it may be is remembered."""
        if event.type == self.event:
            self._change(state, event)
        return self.now(state)

    def _change(self, state: UserState, event: Event) -> None:
        zone = lookup(event.payload, self.field)
        if not isinstance(zone, str) or not is_zone(zone):
            note(MISSING_FIELD if zone is MISSING else NO_ZONE)
            return
        states = state.scopes.setdefault("", {})
        memory = states.get(self.id)
        if memory is None or memory[0] != zone:
            states[self.id] = [zone, event.occurred_us]
            state.touch("")
