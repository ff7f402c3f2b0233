"""What would happen, with nothing written: questions about one user and events played step by step, for the pages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from worker.events import Event, json_text, parse_instant
from worker.events.envelope import decode_line
from worker.events.types import Rejected
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.nearest import nearest
from worker.rules.player import Player
from worker.rules.rehearse import Answer, DryRun, in_order

#: Lines of events that are pasted, and events that are played at once.
MOST_LINES: Final = 2_000
MOST_EVENTS: Final = 5_000
#: Events that the clock may send at once.
MOST_TICKS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Played:
    """Events played: each turn, where every badge stands at the end, and how many more there were."""

    turns: tuple[Any, ...]
    standing: tuple[Any, ...]
    left: int = 0


def read_lines(text: str, catalog: Catalog, *, user_id: str) -> tuple[list[Event], list[str]]:
    """Events as pasted, one JSON object a line, of `user_id` where it names no user; and what is wrong with them."""
    events: list[Event] = []
    wrong: list[str] = []
    for number, line in enumerate(text.splitlines()[:MOST_LINES], start=1):
        if not line.strip():
            continue
        found = decode_line(_with_user(line, user_id).encode(), catalog.dictionary, number=number)
        if isinstance(found, Rejected):
            wrong.append(f"Line {number}: {found.message}")
        else:
            events.append(found)
    return events, wrong[:20]


def _with_user(line: str, user_id: str) -> str:
    text = line.strip()
    if user_id and text.startswith("{") and '"user_id"' not in text:
        return f'{{"user_id":{json.dumps(user_id)},{text[1:]}' if text != "{}" else text
    return text


def read_overrides(text: str, catalog: Catalog) -> tuple[dict[str, Any], list[str]]:
    """Metrics given a value: `comments = 25`, one a line or parted by commas; and what is wrong with them."""
    found: dict[str, Any] = {}
    wrong: list[str] = []
    for part in text.replace("\n", ",").split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not part.strip():
            continue
        metric = catalog.metrics.get(name)
        if metric is None or not equals:
            near = nearest(name, catalog.metrics.keys())
            wrong.append(f'The catalog has no metric "{name[:60]}".' + (f" Write {near} = 25." if near else ""))
            continue
        try:
            found[name] = parse_instant(value) if metric.instant else _number(value)
        except (ValueError, ArithmeticError):
            wanted = "an instant, 2026-03-01T12:00:00Z" if metric.instant else "a number"
            wrong.append(f"{name} takes {wanted}.")
    return found, wrong


def _number(text: str) -> int | Decimal:
    """A number as events may have it. Raises ValueError: one with a great exponent would fill the memory as an int."""
    value = json_text.loads(text.encode())
    if type(value) not in (int, Decimal):
        raise ValueError(text)
    number: int | Decimal = value
    return int(number) if number == int(number) else number


def later(at_us: int, by: tuple[int, int]) -> int:
    """An instant some years and days later, in UTC; 29 February becomes the 28th. The last year is 9000."""
    years, days = by
    at = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    year = min(at.year + years, 9000)
    day = 28 if (at.month, at.day) == (2, 29) else at.day
    moved = at.replace(year=year, day=day if years else at.day) + timedelta(days=days)
    return int(moved.timestamp()) * 1_000_000 + at_us % 1_000_000


def play(
    catalog: Catalog, events: Sequence[Event], overrides: Mapping[str, Any], *, until_us: int, user_id: str
) -> Played:
    """Events up to an instant, played one by one; the last ones where there are more than can be shown."""
    ordered, _ = in_order(events)
    seen = [event for event in ordered if event.occurred_us <= until_us]
    player = Player(catalog, overrides=overrides)
    turns = [player.step(event) for event in seen]
    users = [user_id] if user_id else list(dict.fromkeys(event.user_id for event in seen))[:1]
    standing = [one for user in users for one in player.standing(user, at_us=until_us)]
    shown = turns[-MOST_EVENTS:]
    return Played(tuple(shown), tuple(standing), len(turns) - len(shown))


def ask(
    catalog: Catalog, user_id: str, events: Sequence[Event], keys: Sequence[str], *, at_us: int, context: str
) -> list[Answer]:
    """Whether a user earns badges as of an instant, from these events."""
    ordered, _ = in_order(events)
    return DryRun(catalog).answers(user_id, ordered, set(keys), at_us=at_us, context=context or None)
