"""The language as it is meant, read naively: every answer from the whole history, nothing remembered, speed no goal.

The engine is held to this. It shares no code with `worker.rules`; of the project it uses the data of an event alone.
Criteria decisions are the source; where a rule below has a reason beyond them, a comment says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from tests.oracle_values import (
    EPOCH,
    LENGTHS,
    Unknown,
    field_matches,
    figure_matches,
    instant,
    look_up,
    moment,
    moment_matches,
    months_later,
    number,
    same,
)
from worker.events import Event

Flow = Mapping[str, Any]
Verdict = tuple[bool, dict[str, Any]]


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
        self.metrics = self.document.get("metrics") or {}
        self.holidays = self.document.get("holidays") or {}
        self.badges = {badge["key"]: badge for badge in all_badges(self)}

    def type(self, name: str) -> str:
        return self.aliases.get(name, name)


@dataclass(frozen=True)
class View:
    """The events in sight at an instant: of the badge's context, and of the whole user for metrics without one."""

    events: Sequence[Event]
    user: Sequence[Event]
    now: datetime
    world: World
    per: str | None = None
    context: str = ""

    def keep(self, wanted: Callable[[Event], bool]) -> View:
        return replace(self, events=[e for e in self.events if wanted(e)], user=[e for e in self.user if wanted(e)])

    def day(self, event: Event) -> date:
        return instant(event.occurred_us).astimezone(self.world.zone).date()


def holds(flow: Flow, events: Iterable[Event], now: int, world: World | None = None) -> Verdict:
    """Whether a flow holds for one user's events as of `now` (microseconds), and the metadata of its branches."""
    seen = sorted((e for e in events if e.occurred_us <= now), key=lambda e: e.order)
    return read(flow, View(seen, seen, instant(now), world or World()))


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
            return passed, {"window_" + key.removeprefix("window_"): value for key, value in metadata.items()}
        case "snapshot":
            parts = [snapshot(name, check, view) for name, check in operand.items()]
            return all(passed for passed, _ in parts), merged(parts)
        case "badge":
            return prerequisite(operand, view), {}
        case "$timePeriod" | "$aggregate":
            return OPERATORS[word](operand, [e for e in view.events if counted(e.type)], view)
        case "milestone":
            return milestone(operand, view)
    raise Unknown(word)


def merged(parts: Iterable[Verdict]) -> dict[str, Any]:
    """What the branches show, in the order of the leaves: where a window makes two keys one, the later wins."""
    found: dict[str, Any] = {}
    for _, metadata in parts:
        for key, value in metadata.items():
            found.pop(key, None)
            found[key] = value
    return found


def counted(name: str) -> bool:
    """Whether a type counts in "all of the user's events"."""
    return not name.startswith(("cron.", "badge.")) and name != "user.erased"


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
        kept = [
            e for e in kept if moment_matches(instant(e.occurred_us), criteria["timestamp"], view.now, view.world.zone)
        ]
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
            start = months_later(view.now, amount * months, view.world.zone)
        else:
            start = view.now + timedelta(seconds=amount * LENGTHS[unit])
    if "start" in operand:
        start = moment(operand["start"], view.now, view.world.zone)
    if "end" in operand:
        end = moment(operand["end"], view.now, view.world.zone)
    view = view.keep(lambda e: start <= instant(e.occurred_us) <= end)
    if operand.get("businessDaysOnly"):
        free = dates(operand, view)
        view = view.keep(lambda e: view.day(e).isoweekday() < 6 and view.day(e).isoformat() not in free)
    return view


def dates(operand: Mapping[str, Any], view: View) -> set[str]:
    """ISO dates, written out or by the name of one of the catalog's lists."""
    listed = operand.get("holidays", [])
    items = listed if isinstance(listed, list) else [listed]
    return {day for item in items for day in view.world.holidays.get(item, [item])}


def event_count(operand: Mapping[str, Any], events: Sequence[Event], _: View) -> Verdict:
    return figure_matches(len(events), operand), {"event_count": len(events)}


def time_period(operand: Mapping[str, Any], events: Sequence[Event], view: View) -> Verdict:
    days = {view.day(e) for e in events}
    if operand.get("excludeWeekends"):
        days = {day for day in days if day.isoweekday() < 6}
    if operand.get("excludeHolidays"):
        days = {day for day in days if day.isoformat() not in dates(operand, view)}
    keys: dict[str, Callable[[date], Any]] = {
        "day": lambda day: day,
        "week": lambda day: day.isocalendar()[:2],
        "month": lambda day: (day.year, day.month),
        "quarter": lambda day: (day.year, (day.month - 1) // 3),
        "year": lambda day: day.year,
    }
    periods = len({keys[operand["periodType"]](day) for day in days})
    return figure_matches(periods, operand.get("periodCount", {"$gte": 1})), {"unique_period_count": periods}


def aggregate(operand: Mapping[str, Any], events: Sequence[Event], _: View) -> Verdict:
    """Of JSON numbers only; where there are none it is false, whatever is asked."""
    function, name = operand.get("type", operand.get("function")), operand.get("field", operand.get("property"))
    check = operand.get("value", operand.get("result"))
    values = [Fraction(value) for e in events if number(value := look_up(e.payload, name))]
    if not values:
        return False, {f"count_{name}": 0} if function == "count" else {}
    mean = sum(values) / len(values)
    figures = {"min": min(values), "max": max(values), "sum": sum(values), "avg": mean, "count": len(values)}
    return check is None or figure_matches(figures[function], check), {f"{function}_{name}": figures[function]}


def distinct_count(operand: Mapping[str, Any], events: Sequence[Event], _: View) -> Verdict:
    check = {word: bound for word, bound in operand.items() if word != "field"}
    values: list[Any] = []
    for value in (look_up(e.payload, operand["field"]) for e in events):
        scalar = isinstance(value, str | bool | int | Decimal)
        if scalar and not any(same(value, other) for other in values):
            values.append(value)
    return figure_matches(len(values), check or {"$gte": 1}), {"distinct_count": len(values)}


def unknown(operand: Any, _events: Sequence[Event], _: View) -> Verdict:
    raise Unknown(operand)


OPERATORS: dict[str, Callable[[Any, Sequence[Event], View], Verdict]] = {
    "$eventCount": event_count,
    "$timePeriod": time_period,
    "$aggregate": aggregate,
    "$distinctCount": distinct_count,
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
            text = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
            return moment_matches(at, check, view.now, view.world.zone), {name: text}
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


def all_badges(world: World) -> list[dict[str, Any]]:
    """Every badge of a catalog with key, flow, triggers; a badge comes after those it asks for."""
    document = world.document
    found = [dict(badge) for badge in document.get("badges") or []]
    for ladder in document.get("ladders") or []:
        per = world.metrics[ladder["metric"]].get("per", world.metrics[ladder["metric"]].get("by"))
        for level in ladder["levels"]:
            flow = {"snapshot": {ladder["metric"]: {"$gte": level}}}
            found.append({**ladder, "key": f"{ladder['key']}_{level}", "flow": flow, "per": per})
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
        elif word == "badge":
            found.add("held:" + operand)
        elif word in ("$timePeriod", "$aggregate"):
            found.add("*")
        elif word in ("$and", "$or", "$not", "$timeWindow"):
            found |= reads(operand["flow"] if word == "$timeWindow" else operand, world)
    return {world.type(name) for name in found}


Award = tuple[str, str, str, int, str, dict[str, Any]]


def awards(document: Mapping[str, Any], events: Sequence[Event], *, arrival: bool = False) -> list[Award]:
    """(user, badge, context, awarded_at in microseconds, event id, metadata) in order of user and instant.

    In order: the badge at the first trigger event at which it holds. With `arrival` the events are as they arrived,
    and the awards those of every prefix in turn, what was given staying given.
    """
    found: list[Award] = []
    for user in sorted({e.user_id for e in events}):
        first: dict[tuple[str, str], Event] = {}
        for event in (e for e in events if e.user_id == user):
            first.setdefault((event.source, event.id), event)
        mine, world = list(first.values()), World(document)
        for end in range(1, len(mine) + 1) if arrival else [len(mine)]:
            found += ever(world, sorted(mine[:end], key=lambda e: e.order))
    return sorted(found, key=lambda award: (award[0], award[3], award[1], award[2]))


def ever(world: World, events: Sequence[Event]) -> Iterable[Award]:
    """The awards not held so far that some trigger event of the ordered history earns."""
    for index, event in enumerate(events):
        me = (event.source, event.id)
        granted = {"held:" + key for (key, _), by in world.given.items() if by == me}
        for key, badge in world.badges.items():
            triggers = {world.type(name) for name in badge["triggers"]}
            hit = event.type in triggers or ("*" in triggers and counted(event.type))
            context = text_of(event, badge.get("per"))
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
    mine = [e for e in seen if text_of(e, badge.get("per")) == context]
    return View(mine, seen, instant(now), world, badge.get("per"), context)


def text_of(event: Event, per: str | None) -> str | None:
    """The context an event belongs to: a JSON scalar as canonical text; None where there is none."""
    value = "" if per is None else look_up(event.payload, per)
    if isinstance(value, bool):
        return "true" if value else "false"
    if number(value):
        value = str(int(value)) if value == int(value) else format(value.normalize(), "f")
    return value if isinstance(value, str) and len(value) <= 200 else None
