"""A catalog of names for tests of the reader, and a slow evaluation of what it reads, from the folds alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from worker.errors import Fault
from worker.events import Event, format_instant, parse_instant
from worker.events.json_text import dumps
from worker.rules.ir import NEVER_COUNTED, All, Fold, Match, Node, Not, Some, Test, Windowed
from worker.rules.normalize import triggers
from worker.rules.operators import VERDICTS, memory, params_of
from worker.rules.operators.calendar import Calendar
from worker.rules.operators.expressions import MAX_STEPS_OF_CATALOG, Steps
from worker.rules.operators.facts import check_fact, figure
from worker.rules.operators.kind import Kind
from worker.rules.operators.values import compile_clause
from worker.rules.parse import parse_flow, parse_milestone


@dataclass(frozen=True)
class Figure:
    """A metric."""

    name: str
    fold: Fold
    fact: str = "event_count"
    instant: bool = False


def counted(name: str, event_type: str, per: str | None = None) -> Figure:
    """A metric that counts one type."""
    return Figure(name, Fold("count", Match(types=(event_type,)), (), per))


STATS = (
    counted("login_count", "UserLoggedIn"),
    counted("total_wins", "WinLogged"),
    counted("total_habits_completed", "HabitCompleted"),
    counted("likes_of_post", "post.liked", per="post_id"),
    Figure("joined_at", Fold("first", Match(types=("user.registered",))), "at_us", instant=True),
)


@dataclass
class Known:
    """Names for one badge: any event type but `no.such`, any field but `scroe`, and what is listed here."""

    faults: list[Fault] = field(default_factory=list)
    expressions: Steps = field(default_factory=lambda: Steps("this catalog", MAX_STEPS_OF_CATALOG))
    per: str | None = None
    aliases: Mapping[str, str] = field(default_factory=lambda: {"CommentPosted": "comment.posted"})

    def event_type(self, name: str, path: str) -> str | None:
        if name == "no.such":
            self.faults.append(Fault("unknown_event", path, "There is no event no.such."))
            return None
        return self.aliases.get(name, name)

    def field(self, types: tuple[str, ...], name: str, path: str) -> None:
        if name == "scroe":
            self.faults.append(Fault("unknown_field", path, "There is no field scroe.", "Did you mean score?"))

    def metric(self, name: str, path: str) -> Figure | None:
        found = next((one for one in STATS if one.name == name), None)
        if found is None:
            self.faults.append(Fault("unknown_metric", path, f"There is no metric {name}."))
        return found

    def badge(self, key: str, path: str) -> str | None:
        if key == "first_steps":
            return key
        self.faults.append(Fault("unknown_badge", path, f"There is no badge {key}."))
        return None

    def condition(self, name: str, params: Mapping[str, Any], path: str) -> str | None:
        if name == "big_order":
            return hashlib.sha256(repr(sorted(params.items())).encode()).hexdigest()[:16]
        self.faults.append(Fault("bad_operand", f"{path}/type", f"There is no condition type {name}."))
        return None

    def holidays(self, name: str) -> tuple[str, ...] | None:
        return ("2026-12-24",) if name == "company" else None

    def logins(self) -> Iterable[str]:
        return ("UserLoggedIn", "user.logged_in")

    def is_login(self, event_type: str) -> bool:
        return event_type in self.logins()


def read(flow: Any, names: Known | None = None) -> Node:
    """The formula of a flow that must be clean."""
    names = names or Known()
    node = parse_flow(flow, path="", names=names)
    assert node is not None, names.faults
    return node


def faults(flow: Any, names: Known | None = None) -> list[tuple[str, str]]:
    """(code, path) of every error in a flow, or in a milestone written as `{"milestone": …}`."""
    names = names or Known()
    if isinstance(flow, Mapping) and "milestone" in flow:
        node: Any = parse_milestone(flow["milestone"], path="/milestone", names=names)
    else:
        node = parse_flow(flow, path="", names=names)
    errors = [fault for fault in names.faults if fault.severity == "error"]
    assert (node is None) == bool(errors), errors
    assert all(fault.message and fault.message[-1] in ".?" for fault in names.faults), names.faults
    return [(fault.code, fault.path) for fault in errors]


def event(at: str | int, type: str = "a", payload: Mapping[str, Any] | None = None, id: str = "0001") -> Event:
    """An event of one user."""
    us = parse_instant(at) if isinstance(at, str) else at
    return Event("u", type, us, "", id, payload or {}, dumps(payload or {}))


def matches(match: Match, event: Event, calendar: Calendar) -> bool:
    """Whether an event belongs, but for the moving bounds."""
    known = event.type in match.types
    if not match.types or "*" in match.types:
        known = known or not event.type.startswith(NEVER_COUNTED)
    return (
        known
        and (match.start_us is None or event.occurred_us >= match.start_us)
        and (match.end_us is None or event.occurred_us <= match.end_us)
        and not any(calendar.drops(event.occurred_us, days) for days in match.days)
        and all(compile_clause(clause)(event.payload) for clause in match.clauses)
    )


def facts(fold: Fold, events: Sequence[Event], now_us: int, calendar: Calendar) -> dict[str, Any]:
    """What a fold states of the events up to now."""
    kept, params, state = memory(fold), params_of(fold), None
    for one in sorted(events, key=lambda one: one.order):
        if one.occurred_us <= now_us and matches(fold.match, one, calendar):
            state = kept.step(state, one, params, calendar)
    if isinstance(kept, Kind):
        return kept.facts(state, params)
    return kept.facts(state, now_us, params, calendar)


def answer(node: Node, events: Sequence[Event], now_us: int, zone: str = "UTC") -> tuple[bool, dict[str, Any]]:
    """Whether a formula holds as of now, and its metadata."""
    calendar = Calendar(zone)
    match node:
        case Test():
            found = facts(node.fold, events, now_us, calendar)
            if (verdict := VERDICTS.get(node.operator)) is not None:
                passed, told = verdict(found, dict(node.params), now_us, calendar)
                return passed, {key: figure(value) for key, value in told.items() if value is not None}
            passed = all(check_fact(check, found[node.fact], now_us, calendar) for check in node.checks)
            shown = {key: figure(found[fact]) for fact, key in node.shows if found[fact] is not None}
            return passed, shown
        case All() | Some():
            parts = [answer(child, events, now_us, zone) for child in node.children]
            metadata = {key: value for _, shown in parts for key, value in shown.items()}
            verdicts = [passed for passed, _ in parts]
            return (all(verdicts) if isinstance(node, All) else any(verdicts)), metadata
        case Not():
            passed, metadata = answer(node.child, events, now_us, zone)
            return not passed, metadata
        case Windowed():
            passed, metadata = answer(node.child, events, now_us, zone)
            return passed, {f"window_{key.removeprefix('window_')}": value for key, value in metadata.items()}
    raise AssertionError(node)


def first_time(
    node: Node, events: Sequence[Event], now_us: int, trigger: str | None = None
) -> tuple[Event, dict[str, Any]] | None:
    """The first trigger event up to now at which a formula holds, seeing the events up to and with it in order."""
    listens = {trigger} if trigger else triggers(node)
    ordered = sorted((one for one in events if one.occurred_us <= now_us), key=lambda one: one.order)
    for index, one in enumerate(ordered):
        if one.type in listens or ("*" in listens and not one.type.startswith(NEVER_COUNTED)):
            passed, metadata = answer(node, ordered[: index + 1], one.occurred_us)
            if passed:
                return one, {**metadata, "awarded_at": format_instant(one.occurred_us), "event_id": one.id}
    return None


def exact(value: Any) -> Any:
    """JSON data with floats as the decimals they are written as."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    return value
