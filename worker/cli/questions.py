"""The questions of a dry run: from options or from a file of requests, each checked against the catalog."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from worker.cli.histories import Warnings
from worker.errors import Fault, OperatorError
from worker.events import Event, decode_line, json_text, parse_instant
from worker.files import open_lines
from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.catalog.nearest import nearest
from worker.rules.phrases import short_instant
from worker.rules.plan import EVALUATED, counted

_MOST_USER_ID = 200


@dataclass(frozen=True, slots=True)
class Question:
    """Does this user earn these badges, as of an instant (None: the user's newest event), in one context (None: any)?

    `given` is what the answer echoes; `event` is one more event, as if it had happened.
    """

    given: Mapping[str, Any]
    user_id: str
    keys: frozenset[str]
    at_us: int | None
    context: str | None = None
    event: Event | None = None


def question(
    catalog: Catalog,
    *,
    user_id: str,
    badge_key: str | None,
    context: str | None,
    at_us: int | None,
    event: Event | None,
) -> Question:
    """The question of the options. Raises OperatorError where the catalog has no such badge."""
    keys = {badge_key} if badge_key is not None else _looking(catalog, event)
    if badge_key is not None and (fault := _unknown(badge_key, _keys(catalog), "")) is not None:
        raise OperatorError(fault.message, help=fault.help)
    return Question({}, user_id, frozenset(keys), at_us, context, event)


def hypothetical(text: str, catalog: Catalog, *, user_id: str, at_us: int) -> Event:
    """An event written as JSON; who and when are filled in where they are left out. Raises OperatorError."""
    remedy = 'write it as {"type": "comment.posted", "payload": {"post_id": 7}}'
    try:
        written = json_text.loads(text)
    except json_text.JsonFault as fault:
        raise OperatorError(f"--event is no JSON: {fault.message}.", help=remedy) from None
    if not isinstance(written, dict):
        raise OperatorError("--event is no JSON object.", help=remedy)
    filled = {"id": "as-if", "user_id": user_id, **written}
    if not {"occurred_at", "timestamp", "time"} & written.keys():
        filled["occurred_at"] = short_instant(at_us)
    found = decode_line(json_text.dumps(filled).encode(), catalog.dictionary, number=1)
    if not isinstance(found, Event):
        place = f" at {found.path}" if found.path else ""
        raise OperatorError(f"--event is refused, {found.code}{place}: {found.message}.", help=remedy)
    if found.user_id != user_id:
        raise OperatorError(f"--event is of {found.user_id}, --user is {user_id}.", help="leave user_id out of it")
    return found


def read_requests(path: str, catalog: Catalog) -> tuple[list[Question], int]:
    """The questions of a file, one `{user_id, badge_key, at}` a line, and how many lines held none.

    Those are named on standard error, with line and code.
    """
    warnings, questions, keys = Warnings(), [], _keys(catalog)
    for number, line in enumerate(open_lines(path), start=1):
        if not line.strip():
            continue
        found = _request(line, keys)
        if isinstance(found, Question):
            questions.append(found)
        else:
            remedy = f" ({found.help})" if found.help else ""
            warnings.say(f"{path}:{number} {found.code}{found.path and ' ' + found.path}: {found.message}{remedy}")
    warnings.close()
    return questions, warnings.count


def _request(line: bytes, keys: Collection[str]) -> Question | Fault:
    try:
        given = json_text.loads(line)
    except json_text.JsonFault as fault:
        return Fault(fault.code, fault.path, fault.message)
    if not isinstance(given, dict):
        return Fault("not_json", "", "a request is an object", 'write {"user_id": "u1", "badge_key": "editor"}')
    for name in ("user_id", "badge_key"):
        if name not in given:
            return Fault("missing_field", f"/{name}", f"the request has no {name}")
    user_id, key, at, context = (given.get(name) for name in ("user_id", "badge_key", "at", "context"))
    user_id = str(user_id) if type(user_id) is int else user_id
    if not isinstance(user_id, str) or not 0 < len(user_id) <= _MOST_USER_ID:
        return Fault("invalid_field", "/user_id", "a string of 1 to 200 characters is needed")
    if not isinstance(key, str):
        return Fault("invalid_field", "/badge_key", "the key of a badge is needed")
    if (unknown := _unknown(key, keys, "/badge_key")) is not None:
        return unknown
    if not isinstance(context, str | None):
        return Fault("invalid_field", "/context", "a string is needed")
    if not isinstance(at, str | None):
        return Fault("invalid_field", "/at", "an instant is needed, like 2026-03-01T12:00:00Z")
    try:
        at_us = None if at is None else parse_instant(at)
    except ValueError as error:
        return Fault("invalid_field", "/at", str(error))
    return Question(given, user_id, frozenset({key}), at_us, context)


def _keys(catalog: Catalog) -> dict[str, Badge]:
    return {badge.key: badge for badge in catalog.badges}


def _unknown(key: str, keys: Collection[str], path: str) -> Fault | None:
    if key in keys:
        return None
    near = nearest(key, keys)
    return Fault(
        "unknown_badge", path, f"The catalog has no badge {key}.", f"did you mean {near}?" if near else "check the key"
    )


def _looking(catalog: Catalog, event: Event | None) -> set[str]:
    """The badges that are tested at an event; all that are tested at all where there is none."""
    tested = (badge for badge in catalog.badges if badge.status in EVALUATED)
    if event is None:
        return {badge.key for badge in tested}
    names = {event.type, "*"} if counted(event.type) else {event.type}
    return {badge.key for badge in tested if names & badge.triggers}
