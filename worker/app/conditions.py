"""Ties conditions in JavaScript to the rest: whether they may run, whether their sources are sound, who asks them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from worker.conditions import Door, Tell, check_engine
from worker.config import Settings
from worker.errors import AuthorError, Fault, OperatorError
from worker.events import Event
from worker.rules.catalog.definitions import Catalog, Condition
from worker.rules.plan import EVALUATED, asked_conditions

log = structlog.get_logger(__name__)


#: Names of errors that the engine itself gives; whatever else stands before a colon may be an event's data.
_ENGINE_ERRORS = frozenset(
    {
        *("Error", "AggregateError", "EvalError", "InternalError", "RangeError", "ReferenceError", "SuppressedError"),
        *("SyntaxError", "TypeError", "URIError", "ValueError", "MemoryError", "RuntimeError"),
    }
)


class FaultLog:
    """Logs a condition type's first fault, and that it is parked; the metric counts the others."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, name: str, message: str, lately: int) -> None:
        """One more fault; `lately` so many, if the type is parked for it.

        What a condition threw may hold anything of the event: only its kind is logged.
        """
        kind, colon, _ = message.partition(":")
        reason = kind if not colon or kind in _ENGINE_ERRORS else "an error of its own"
        if name not in self._seen:
            self._seen.add(name)
            log.warning("condition_faulted", condition=name, reason=reason)
        if lately:
            log.error("condition_parked", condition=name, faults=lately, reason=reason)


def refuse_unasked(catalog: Catalog, settings: Settings) -> None:
    """Raises OperatorError where badges of the catalog ask conditions and none may run, or no engine is there."""
    asked = asked_conditions(catalog, (badge for badge in catalog.badges if badge.status in EVALUATED))
    if asked is not None:
        _refuse(asked, settings)


def _refuse(asked: Mapping[str, Sequence[Condition]], settings: Settings) -> None:
    if settings.js == "off":
        names = sorted({condition.name for conditions in asked.values() for condition in conditions})
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise OperatorError(
            f"The catalog asks conditions in JavaScript ({shown}), and BADGES_JS is off.",
            help="set BADGES_JS=on, or let no badge that is active or hidden ask one",
        )
    check_engine()


async def source_faults(document: Mapping[str, Any]) -> list[Fault]:
    """What the engine finds wrong with the sources of a catalog's condition types; nothing of them is run."""
    section = document.get("condition_types")
    sources = {
        f"/condition_types/{index}/source": entry["source"]
        for index, entry in enumerate(section if isinstance(section, list) else ())
        if isinstance(entry, Mapping) and isinstance(entry.get("source"), str) and entry["source"]
    }
    if not sources:
        return []
    async with Door() as door:
        found = await door.check(list(sources.values()))
    return [
        Fault("bad_operand", path, f"This is no function in JavaScript: {wrong}.", 'Write "(event, params) => true".')
        for path, wrong in zip(sources, found, strict=True)
        if wrong is not None
    ]


async def refuse_unsound(catalog: Catalog, settings: Settings) -> None:
    """Raises AuthorError for sources that are no JavaScript, where conditions may run."""
    if settings.js == "on" and (faults := await source_faults(catalog.document)):
        raise AuthorError(faults)


def judged(
    asked: Mapping[str, Sequence[Condition]],
    events: Sequence[Event],
    settings: Settings,
    *,
    tell: Tell,
) -> list[Event]:
    """The events with their verdicts, for commands that play them; `tell` is told of each fault. Runs a loop."""
    _refuse(asked, settings)

    async def ask() -> list[Event]:
        async with Door(tell=tell) as door:
            return await door.judge(asked, events)

    return asyncio.run(ask())
