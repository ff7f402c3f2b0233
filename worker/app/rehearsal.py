"""Tries things out for the API and the panel: dry runs, simulations, a condition about one event. Nothing is written.

Answers `admin.rehearsal.Rehearsal`. Work that takes its time is done off the loop, two pieces at once at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from worker.admin.catalog_view import Refused, View
from worker.conditions import Door, check_engine
from worker.config import Settings
from worker.errors import AuthorError, Fault, OperatorError
from worker.events import Event, Rejected, decode_line, json_text, parse_instant
from worker.rules.catalog.conditions_section import ConditionTypes
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.nearest import nearest
from worker.rules.operators.values import is_number
from worker.rules.phrases import short_instant
from worker.rules.plan import EVALUATED, asked_conditions, compile_plan, counted
from worker.rules.rehearse import DryRun, in_order, outcomes
from worker.store.histories import HistoryTable
from worker.store.postgres import PostgresStore

#: Users with longer logs are asked about by the command, which has the time.
_MOST_EVENTS: Final = 100_000
_AT_ONCE: Final = 2


class Rehearsals:
    """Tries the head's catalog on the log of one database, or on events that are sent."""

    def __init__(self, store: PostgresStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def ask_condition(self, view: View, name: str, body: Any) -> tuple[str, str | None]:
        """What a condition type says of an event, and what was wrong with it where it gave no answer."""
        sent = _object(body, "", {"event", "params"})
        params = sent.get("params", {})
        if not isinstance(params, dict):
            raise AuthorError([Fault("bad_operand", "/params", "The params are an object.", 'Write {"min": 100}.')])
        faults: list[Fault] = []
        types = ConditionTypes(view.catalog.document.get("condition_types"), faults)
        hashed = types.use(name, params, "")
        if hashed is None:
            raise AuthorError(faults)
        event = _event(sent.get("event", {}), view, "/event", filled={"id": "test", "user_id": "test"})
        self._must_run()
        told: list[str] = []
        async with Door(tell=lambda _, message, __: told.append(message)) as door:
            (judged,) = await door.judge({event.type: [types.used[hashed]]}, [event])
        return (judged.verdicts or {})[hashed], told[0] if told else None

    async def dry_run(self, view: View, body: Mapping[str, Any], *, now_us: int) -> Sequence[Mapping[str, Any]]:
        """Whether and why a user would earn badges, as of an instant, by the log and perhaps one event more."""
        user_id, catalog = str(body["user_id"]), view.catalog
        if (await self._store.rows("log_exceeds", user_id, _MOST_EVENTS))[0]["longer"]:
            raise Refused(
                f"The log of {user_id} has more than {_MOST_EVENTS:,} events.", help="run `badges dry-run --database`"
            )
        events = await self._history(user_id)
        newest = events[-1].occurred_us if events else now_us
        at_us = _instant(body.get("at"), "/at", newest)
        extra = None
        if body.get("event") is not None:
            filled = {"id": "as-if", "user_id": user_id, "occurred_at": short_instant(at_us)}
            extra = _event(body["event"], view, "/event", filled=filled)
            if extra.user_id != user_id:
                message = f"The event is of {extra.user_id}, the question of {user_id}."
                raise AuthorError([Fault("bad_operand", "/event/user_id", message, "Leave it out.")])
            if body.get("at") is None:
                at_us = max(at_us, extra.occurred_us)
        keys = _keys(view, body.get("badge_key"), extra)
        events, _ = in_order(await self.judged(catalog, events, [] if extra is None else [extra]))
        async with self._turns:
            answers = await asyncio.to_thread(
                DryRun(catalog).answers, user_id, events, keys, at_us=at_us, context=body.get("context")
            )
        return [
            {
                "user_id": user_id,
                "badge_key": answer.badge.key,
                "at": short_instant(at_us),
                "context": answer.context,
                "passed": answer.passed,
                "metadata": answer.metadata,
                "explanation": answer.explanation.tree,
            }
            for answer in answers
        ]

    async def simulate(self, view: View, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """What events would earn, each award with the sentence that says why."""
        catalog, until = view.catalog, _instant(body.get("until"), "/until", None)
        overrides = _overrides(catalog, body.get("set") or {})
        read = [_event(sent, view, f"/events/{number}", number=number) for number, sent in enumerate(body["events"])]
        events, clashes = in_order(event for event in read if until is None or event.occurred_us <= until)
        events = await self.judged(catalog, [], events)

        def played() -> list[dict[str, Any]]:
            found = outcomes(compile_plan(catalog, overrides=overrides), events)
            return [one.as_json() for one in sorted(found, key=lambda one: one.place)]

        async with self._turns:
            awards = await asyncio.to_thread(played)
        return {"awards": awards, "events": len(events), "conflicts": len(clashes)}

    async def _history(self, user_id: str) -> list[Event]:
        return await HistoryTable(self._store.pool).history(user_id)

    async def judged(self, catalog: Catalog, logged: Sequence[Event], sent: Sequence[Event]) -> list[Event]:
        """Events of the log and others, with what conditions in JavaScript say of them.

        Where none may run, the log knows of its own, and `sent` ones that conditions are asked about are Refused.
        """
        whole = [*logged, *sent]
        asked = asked_conditions(catalog, (badge for badge in catalog.badges if badge.status in EVALUATED))
        new = [event for event in sent if asked is not None and event.type in asked]
        if asked is None or not whole or (self._settings.js == "off" and not new):
            return whole
        self._must_run()
        async with Door() as door:
            return await door.judge(asked, whole)

    def _must_run(self) -> None:
        if self._settings.js == "off":
            raise Refused("Conditions in JavaScript do not run here: BADGES_JS is off.", help="set BADGES_JS=on")
        try:
            check_engine()
        except OperatorError as error:
            raise Refused(error.message, help=error.help) from None


def _event(sent: Any, view: View, path: str, *, filled: Mapping[str, Any] | None = None, number: int = 0) -> Event:
    """An event that was sent, what it lacks filled in. Raises AuthorError with pointers into the body."""
    if not isinstance(sent, Mapping):
        raise AuthorError([Fault("bad_operand", path, "An event is an object.", 'Write {"type": "comment.posted"}.')])
    whole = {**(filled or {}), **sent}
    if filled is not None and {"timestamp", "time"} & sent.keys():
        whole.pop("occurred_at", None)
    elif "occurred_at" not in whole and filled is not None:
        whole["occurred_at"] = "2026-01-01T00:00:00Z"
    found = decode_line(json_text.dumps(whole).encode(), view.catalog.dictionary, number=number)
    if isinstance(found, Rejected):
        raise AuthorError([Fault(found.code, f"{path}{found.path}", found.message)])
    return found


def _keys(view: View, ref: str | None, event: Event | None) -> frozenset[str]:
    """The badges asked about: the one named, else those that look at the event, else all that are evaluated."""
    badges = view.catalog.badges
    if ref is not None:
        known = view.badge(ref)
        if known is None or known.badge is None:
            near = nearest(ref, [badge.key for badge in badges])
            remedy = f'Write "{near}".' if near else "Write the key of a badge of the catalog."
            raise AuthorError([Fault("unknown_badge", "/badge_key", f"The catalog has no badge {ref[:200]}.", remedy)])
        return frozenset({known.key})
    tested = [badge for badge in badges if badge.status in EVALUATED]
    if event is None:
        return frozenset(badge.key for badge in tested)
    names = {event.type, "*"} if counted(event.type) else {event.type}
    return frozenset(badge.key for badge in tested if names & badge.triggers)


def _overrides(catalog: Catalog, given: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that metrics shall have. Raises AuthorError for names and values that do not suit."""
    faults: list[Fault] = []
    found: dict[str, Any] = {}
    for name, value in given.items():
        metric = catalog.metrics.get(name)
        if metric is None:
            near = nearest(name, catalog.metrics.keys())
            remedy = f'Write "{near}".' if near else "Write the name of a metric of the catalog."
            faults.append(Fault("unknown_metric", f"/set/{name}", f"The catalog has no metric {name[:200]}.", remedy))
        elif metric.instant:
            found[name] = _instant(value, f"/set/{name}", None)
        elif is_number(value):
            found[name] = value
        else:
            faults.append(Fault("bad_operand", f"/set/{name}", f"{name} is a number.", "Write 25."))
    if faults:
        raise AuthorError(faults)
    return found


def _instant(text: Any, path: str, default: Any) -> Any:
    if text is None:
        return default
    try:
        return parse_instant(str(text))
    except ValueError as error:
        raise AuthorError([Fault("bad_time", path, f"{error}.", 'Write "2026-03-01T12:00:00Z".')]) from None


def _object(body: Any, path: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise AuthorError([Fault("bad_operand", path, "An object must stand here.", 'Write {"event": {…}}.')])
    unknown = [name for name in body if name not in known]
    if unknown:
        message = f"There is no key {unknown[0][:60]} here."
        raise AuthorError(
            [Fault("unknown_key", f"{path}/{unknown[0]}", message, f"Write {' or '.join(sorted(known))}.")]
        )
    return body
