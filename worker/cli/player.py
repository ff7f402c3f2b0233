"""What `simulate` prints beside awards: what each event changed, and how far everybody is as of an instant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker.cli.output import Column, Format, emit

if TYPE_CHECKING:
    from worker.events import Event
    from worker.rules.catalog.definitions import Catalog
    from worker.rules.player import Change, Player, Turn


def _time(text: str) -> str:
    from worker.events import parse_instant
    from worker.rules.phrases import moment

    return moment(parse_instant(text))


_STEPS: list[Column | str] = [
    Column("occurred_at", whole=True, show=_time),
    Column("user_id", whole=True),
    Column("type", "event", whole=True),
    Column("verdict", ""),
    Column("badge_key", "badge", whole=True),
    Column("context"),
    Column("sentence", "what it changed"),
]
_STANDING: list[Column | str] = [
    Column("user_id", whole=True),
    Column("verdict", ""),
    Column("badge_key", "badge", whole=True),
    Column("context"),
    Column("sentence", "how far"),
]


def emit_played(
    catalog: Catalog,
    events: Sequence[Event],
    overrides: Mapping[str, Any],
    format: Format,
    *,
    steps: bool,
    at_us: int | None,
) -> tuple[int, int]:
    """Print what each event changed (`steps`), or how far everybody is at `at_us`; gives how many awards and users."""
    from worker.rules.player import Player

    player = Player(catalog, overrides=overrides)
    earned: set[tuple[str, str, str]] = set()

    def played() -> Iterator[Turn]:
        for turn in player.play(events):
            earned.update((turn.event.user_id, one.badge.key, one.context) for one in turn.changes if one.earned)
            yield turn

    if steps and format == "table":
        emit((row for turn in played() for row in _lines(turn)), _STEPS, format)
    elif steps:
        emit((_turn(turn) for turn in played()), [], format)
    else:
        for _ in played():
            pass
    users = dict.fromkeys(event.user_id for event in events)
    if at_us is not None:
        rows = (row for user_id in users for row in _standing(player, user_id, at_us))
        emit(rows, _STANDING, format)
    return len(earned), len({user_id for user_id, _, _ in earned})


def _turn(turn: Turn) -> dict[str, Any]:
    from worker.rules.phrases import short_instant

    event = turn.event
    return {
        "occurred_at": short_instant(event.occurred_us),
        "user_id": event.user_id,
        "event_id": event.id,
        "type": event.type,
        "changes": [change.as_json() for change in turn.changes],
    }


def _lines(turn: Turn) -> Iterator[dict[str, Any]]:
    """An event's changes, one a line; an event that changed nothing has one as well."""
    row = _turn(turn)
    head = {name: row[name] for name in ("occurred_at", "user_id", "type")}
    if not turn.changes:
        yield {**head, "sentence": "nothing"}
    yield from ({**head, **_change(change)} for change in turn.changes)


def _standing(player: Player, user_id: str, at_us: int) -> Iterator[dict[str, Any]]:
    from worker.rules.phrases import short_instant

    for change in player.standing(user_id, at_us=at_us):
        yield {"user_id": user_id, "at": short_instant(at_us), **change.as_json(), **_change(change)}


def _change(change: Change) -> dict[str, Any]:
    return {
        "verdict": "earned" if change.earned else "taken back" if change.taken else "not yet",
        "badge_key": change.badge.key,
        "context": change.context,
        "sentence": change.sentence,
    }
