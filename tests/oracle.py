"""The language as it is meant, read naively: every answer from the whole history, nothing remembered, speed no goal.

The engine is held to this. It shares no code with `worker.rules`; of the project it uses the data of an event alone.
Criteria decisions are the source; where a rule below has a reason beyond them, a comment says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from tests.oracle_catalog import World, counted, reads
from tests.oracle_days import listed, pattern, tenure, time_period
from tests.oracle_figures import aggregate, condition, distinct_count, event_count, gap
from tests.oracle_values import (
    ABSENT,
    EPOCH,
    LENGTHS,
    Unknown,
    day_off,
    field_matches,
    figure_matches,
    instant,
    look_up,
    moment,
    moment_matches,
    months_later,
    number,
    same,
    text_of,
    written,
    zone_named,
)
from worker.events import Event

Flow = Mapping[str, Any]
Verdict = tuple[bool, dict[str, Any]]


@dataclass(frozen=True)
class View:
    """The events in sight at an instant: of the badge's context, and of the whole user for metrics without one.

    `zones` are the user's changes of zone up to now, whatever window or context is looked at.
    """

    events: Sequence[Event]
    user: Sequence[Event]
    now: datetime
    world: World
    zones: Sequence[tuple[tuple[int, str, str], ZoneInfo]] = ()
    per: str | None = None
    context: str = ""

    def keep(self, wanted: Callable[[Event], bool]) -> View:
        return replace(self, events=[e for e in self.events if wanted(e)], user=[e for e in self.user if wanted(e)])

    @property
    def zone(self) -> ZoneInfo:
        """The zone in force now."""
        return ([self.world.zone] + [zone for (us, *_), zone in self.zones if instant(us) <= self.now])[-1]

    def day(self, event: Event) -> date:
        """The local date of an event, in the zone that was in force then."""
        zone = ([self.world.zone] + [zone for order, zone in self.zones if order <= event.order])[-1]
        return instant(event.occurred_us).astimezone(zone).date()


def holds(flow: Flow, events: Iterable[Event], now: int, world: World | None = None) -> Verdict:
    """Whether a flow holds for one user's events as of `now` (microseconds), and the metadata of its branches."""
    seen = sorted((e for e in events if e.occurred_us <= now), key=lambda e: e.order)
    world = world or World()
    return read(flow, View(seen, seen, instant(now), world, zones_of(seen, world)))


def zones_of(events: Iterable[Event], world: World) -> list[tuple[tuple[int, str, str], ZoneInfo]]:
    """When the user's zone changed and to what; a value that names no zone changes nothing."""
    said = world.zone_field
    if said is None:
        return []
    changes = [(e.order, look_up(e.payload, said["field"])) for e in events if e.type == world.type(said["event"])]
    return [(order, zone) for order, name in changes if (zone := zone_named(name)) is not None]


def read(flow: Flow, view: View) -> Verdict:
    """The verdict on one flow object; all branches are looked at."""
    if "event" in flow:
        return leaf(flow, view)
    ((word, operand),) = flow.items()
    match word:
        case "$and" | "$or":
            parts = [read(part, view) for part in operand]
            return (all if word == "$and" else any)(passed for passed, _ in parts), merged(parts)
        case "$not":
            passed, metadata = read(operand, view)
            return not passed, metadata
        case "$timeWindow":
            passed, metadata = read(operand["flow"], window(operand, view))
            return passed, windowed(metadata)
        case "snapshot":
            parts = [snapshot(name, check, view) for name, check in operand.items()]
            return all(passed for passed, _ in parts), merged(parts)
        case "badge":
            return prerequisite(operand, view), {}
        case "$timePeriod" | "$aggregate" | "$pattern" | "$gap":
            return OPERATORS[word](operand, [e for e in view.events if counted(e.type)], view)
        case "$sequence":
            return sequence(operand, view)
        case "$duration":
            return duration(operand, view)
        case "$withinTimeWindow":
            return within(operand, view)
        case "milestone":
            return milestone(operand, view)
        case "tenure":
            return tenure(operand, view)
    raise Unknown(word)


def merged(parts: Iterable[Verdict]) -> dict[str, Any]:
    """What the branches show, in the order of the leaves: where a window makes two keys one, the later wins."""
    found: dict[str, Any] = {}
    for _, metadata in parts:
        for key, value in metadata.items():
            found.pop(key, None)
            found[key] = value
    return found


def windowed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"window_" + key.removeprefix("window_"): value for key, value in metadata.items()}


def filtered(events: Iterable[Event], name: str, fields: Iterable[tuple[str, Any]], view: View) -> list[Event]:
    """The events of a type (`*`: all) that meet every condition on payload fields."""
    wanted = view.world.type(name)
    fields = list(fields)
    typed = [e for e in events if (counted(e.type) if name == "*" else e.type == wanted)]
    return [e for e in typed if all(field_matches(e.payload, *one) for one in fields)]


def leaf(flow: Flow, view: View) -> Verdict:
    """An event leaf: the filter first, then the operators over what is left."""
    criteria = flow.get("criteria", {})
    fields = [(k, v) for k, v in criteria.items() if k[0] != "$" and k not in ("payload", "timestamp")]
    kept = filtered(view.events, flow["event"], [*fields, *criteria.get("payload", {}).items()], view)
    if "timestamp" in criteria:
        kept = [e for e in kept if moment_matches(instant(e.occurred_us), criteria["timestamp"], view.now, view.zone)]
    metadata: dict[str, Any] = {"filtered_event_count": len(kept)}
    if kept:
        metadata |= {"first_event_id": kept[0].id, "last_event_id": kept[-1].id}
    parts = [OPERATORS.get(k, unknown)(v, kept, view) for k, v in criteria.items() if k[0] == "$"]
    return all(passed for passed, _ in parts) if parts else bool(kept), merged([(True, metadata), *parts])


def window(operand: Mapping[str, Any], view: View) -> View:
    """The events with start <= t <= end, without the days that are left out."""
    start, end = EPOCH, view.now
    if "last" in operand:
        amount, unit = -int(operand["last"][:-1]), operand["last"][-1]
        months = {"m": 1, "q": 3, "y": 12}.get(unit)
        if months:
            start = months_later(view.now, amount * months, view.zone)
        else:
            start = view.now + timedelta(seconds=amount * LENGTHS[unit])
    if "start" in operand:
        start = moment(operand["start"], view.now, view.zone)
    if "end" in operand:
        end = moment(operand["end"], view.now, view.zone)
    view = view.keep(lambda e: start <= instant(e.occurred_us) <= end)
    if operand.get("businessDaysOnly"):
        view = view.keep(lambda e: view.day(e).isoweekday() < 6 and not day_off(view.day(e), *listed(operand, view)))
    return view


def within(operand: Mapping[str, Any], view: View) -> Verdict:
    """Some event's instant at which the events of the length before it hold; events nobody counts must be named."""
    ((amount, unit),) = re.findall(r"^(\d+)(s|min|h|d|w)$", operand["window"])
    length, named = timedelta(seconds=int(amount) * LENGTHS[unit[0]]), reads(operand["conditions"], view.world)
    verdicts: list[Verdict] = []
    told: Verdict = False, {}
    for t in sorted({e.occurred_us for e in view.events if counted(e.type) or e.type in named}):
        end = instant(t)
        inside = view.keep(lambda e, end=end: end - length <= instant(e.occurred_us) <= end)
        verdicts.append(read(operand["conditions"], replace(inside, now=end)))
        # Where none holds, the last instant of an event that the conditions look at is told; another one within looks
        # at all.
        every = "*" in named or "$withinTimeWindow" in str(operand["conditions"])
        if any(e.type in named or (every and counted(e.type)) for e in view.events if e.occurred_us == t):
            told = verdicts[-1]
    passing = [verdict for verdict in verdicts if verdict[0]]
    return bool(passing), windowed((passing[0] if passing else told)[1])


def sequence(operand: Mapping[str, Any], view: View) -> Verdict:
    """Every choice is tried. Shown is what ended first, of those what began each step latest."""
    wanted, events = [view.world.type(name) for name in operand["sequence"]], view.events

    def follows(a: Event, b: Event) -> bool:
        between = [e for e in events if a.occurred_us < e.occurred_us < b.occurred_us]
        seen = [e for e in between if counted(e.type) or e.type in wanted]
        gap, most = Fraction(b.occurred_us - a.occurred_us, 10**6), operand.get("maxGapSeconds")
        return gap > 0 and (most is None or gap <= Fraction(most)) and not (operand.get("requireStrict") and seen)

    def chains(chain: list[Event]) -> Iterator[list[Event]]:
        yield chain
        for event in events if len(chain) < len(wanted) else []:
            if event.type == wanted[len(chain)] and (not chain or follows(chain[-1], event)):
                yield from chains([*chain, event])

    longest = max(map(len, found := list(chains([]))))
    if longest < len(wanted):
        return False, {"sequence_found": False, "missing_event_type": wanted[longest]}
    whole = [[events.index(event) for event in chain] for chain in found if len(chain) == longest]
    best = min(whole, key=lambda places: (places[-1], [-place for place in places[-2::-1]]))
    ids = [events[place].id for place in best]
    return True, {
        "sequence_found": True, "start_event_id": ids[0], "end_event_id": ids[-1], "sequence_event_ids": ids,
    }  # fmt: skip


def duration(operand: Mapping[str, Any], view: View) -> Verdict:
    """An end closes the latest open start before it; any pair will do. Shown is the first that does, or the last."""
    name, pairs, opened = operand.get("matchProperty"), list[tuple[Event, Event]](), list[Event]()

    def value(event: Event) -> Any:
        return None if name is None else look_up(event.payload, name)

    def meets(event: Event, end: Mapping[str, Any]) -> bool:
        conditions = [(key, condition) for key, condition in end.items() if key != "type"]
        return bool(filtered([event], end["type"], conditions, view)) and value(event) is not ABSENT

    for event in view.events:
        if meets(event, operand["endEvent"]):
            mine = [s for s in opened if s.occurred_us < event.occurred_us and same(value(s), value(event))]
            if mine:
                opened.remove(mine[-1])
                pairs.append((mine[-1], event))
        if meets(event, operand["startEvent"]):
            opened.append(event)
    if not pairs:
        return False, {}
    unit = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400}[operand.get("unit", "hours")]
    lengths = [Fraction(end.occurred_us - start.occurred_us, unit * 10**6) for start, end in pairs]
    good = [
        pair
        for pair, length in zip(pairs, lengths, strict=True)
        if figure_matches(length, operand.get("duration") or {})
    ]
    start, end = good[0] if good else pairs[-1]
    ids = {"start_event_id": start.id, "end_event_id": end.id}
    return bool(good), {**ids, "shortest_duration": min(lengths), "longest_duration": max(lengths)}


def unknown(operand: Any, _events: Sequence[Event], _: View) -> Verdict:
    raise Unknown(operand)


OPERATORS: dict[str, Callable[[Any, Sequence[Event], View], Verdict]] = {
    "$eventCount": event_count,
    "$timePeriod": time_period,
    "$aggregate": aggregate,
    "$distinctCount": distinct_count,
    "$condition": condition,
    "$pattern": pattern,
    "$gap": gap,
}


def snapshot(name: str, check: Any, view: View) -> Verdict:
    """A metric against a check; one without `per` is of the whole user."""
    metric = view.world.metrics[name]
    events = view.events if metric.get("per", metric.get("by")) else view.user
    conditions = metric.get("where", {}).items()
    for edge in ("first", "last"):
        if edge in metric:
            found = filtered(events, metric[edge], conditions, view)
            if not found:
                return False, {}
            at = instant(found[0 if edge == "first" else -1].occurred_us)
            return moment_matches(at, check, view.now, view.zone), {name: written(at)}
    if "sum" in metric:
        values = [look_up(e.payload, metric["sum"]) for e in filtered(events, metric["event"], conditions, view)]
        figure: Any = sum(Fraction(value) for value in values if number(value))
    else:
        figure = len(filtered(events, metric["count"], conditions, view))
        if "less" in metric:
            figure -= len(filtered(events, metric["less"], conditions, view))
    return figure_matches(figure, check), {name: figure}


def prerequisite(key: str, view: View) -> bool:
    """Held at or before now: in the same context where both have one by the same field, else in any."""
    per = view.world.badges[key].get("per")
    since = [at for (badge, context), at in view.world.held.items() if badge == key
            and (per is None or per != view.per or context == view.context)]  # fmt: skip
    return any(instant(at) <= view.now for at in since)


def milestone(operand: Mapping[str, Any], view: View) -> Verdict:
    """A milestone's rule as of a trigger event, which is the last one in sight."""
    data = operand["rule_data"]
    if operand["rule_type"] == "count":
        passed, metadata = snapshot(data["field"], {"$gte": data["threshold"]}, view)
        return passed, {"value": metadata[data["field"]]}
    if operand["rule_type"] == "window_count":
        start = view.now - timedelta(days=data["window_days"])
        recent = [e for e in filtered(view.events, data["event"], (), view) if instant(e.occurred_us) >= start]
        return len(recent) >= data["count"], {"event_count": len(recent)}
    logins = [e for e in view.events if e.type in view.world.logins]
    if len(logins) < 2:
        return False, {}
    gap = Fraction(logins[-1].occurred_us - logins[-2].occurred_us, 86_400 * 10**6)
    return gap >= Fraction(data["gap_days"]), {"gap_days": gap}


Award = tuple[str, str, str, int, str, dict[str, Any]]


def awards(document: Mapping[str, Any], events: Sequence[Event], *, cuts: Iterable[int] = ()) -> list[Award]:
    """(user, badge, context, awarded_at in microseconds, event id, metadata) in order of user and instant.

    In order: the badge at the first trigger event at which it holds. With `cuts` the events are as they arrived, some
    perhaps twice, and the awards those of every prefix in turn that was looked at, what was given staying given. Where
    all that a prefix adds is newer than what was there, that alone is looked at: of events at one instant an earlier
    one is not looked at again because a later one has earned what it asks for.
    """
    found: list[Award] = []
    for user in sorted({e.user_id for e in events}):
        world, before = World(document), list[Event]()
        for end in [*sorted(cuts), len(events)]:
            mine = {(e.source, e.id): e for e in reversed(events[:end]) if e.user_id == user}
            ordered = sorted(mine.values(), key=lambda e: e.order)
            found += ever(world, ordered, len(before) if ordered[: len(before)] == before else 0)
            before = ordered
    return sorted(found, key=lambda award: (award[0], award[3], award[1], award[2]))


def ever(world: World, events: Sequence[Event], begin: int = 0) -> Iterable[Award]:
    """The awards not held so far that some trigger event of the ordered history, from the one numbered, earns."""
    for index, event in list(enumerate(events))[begin:]:
        me = (event.source, event.id)
        granted = {"held:" + key for (key, _), by in world.given.items() if by == me}
        for key, badge in world.badges.items():
            triggers = {world.type(name) for name in badge["triggers"]}
            hit = event.type in triggers or ("*" in triggers and counted(event.type))
            context = text_of(event.payload, badge.get("per"))
            if not (hit or granted & reads(badge["flow"], world)) or context is None or (key, context) in world.held:
                continue
            if badge.get("status", "active") not in ("active", "hidden"):
                continue
            view = view_of(events[: index + 1], event.occurred_us, world, badge, context)
            passed, metadata = read(badge["flow"], view)
            if passed:
                world.held[key, context], world.given[key, context] = event.occurred_us, me
                granted.add("held:" + key)
                if "milestone" in badge["flow"]:
                    at = view.now.isoformat().replace("+00:00", "Z")
                    metadata |= {"awarded_at": at, "event_id": event.id}
                yield event.user_id, key, context, event.occurred_us, event.id, metadata


def view_of(seen: Sequence[Event], now: int, world: World, badge: Mapping[str, Any], context: str) -> View:
    """What a badge sees of a user's events in one context."""
    mine = [e for e in seen if text_of(e.payload, badge.get("per")) == context]
    return View(mine, seen, instant(now), world, zones_of(seen, world), badge.get("per"), context)
