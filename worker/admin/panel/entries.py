"""The catalog as a list: one entry for a badge, one for a ladder or tenure with its badges; found, filtered, sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.phrases import joined
from worker.rules.takes import Takes

_GROUPED: Final = ("ladder", "tenure")
SORTS: Final = ("catalog", "name", "holders")


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: a badge, or the badges of a ladder or tenure in order."""

    badges: tuple[Badge, ...]

    @property
    def first(self) -> Badge:
        """The badge that stands for the row."""
        return self.badges[0]

    @property
    def label(self) -> str:
        """What the row is called: Commentator I–III."""
        labels = [badge.label or badge.key for badge in self.badges]
        if len(labels) == 1:
            return labels[0]
        start, _, end = labels[-1].rpartition(" ")
        return f"{labels[0]}–{end}" if start and labels[0].startswith(start) else f"{labels[0]} … {labels[-1]}"

    @property
    def triggers(self) -> list[str]:
        """The event types that it is looked at on."""
        return sorted({trigger for badge in self.badges for trigger in badge.triggers})

    @property
    def status(self) -> str:
        """The badges' status, or "mixed"."""
        found = {badge.status for badge in self.badges}
        return str(found.pop()) if len(found) == 1 else "mixed"


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as it is shown: what it takes, holders of each badge (None: not counted yet), awards of 28 days.

    `shares` are of the active users, one for each badge that is counted.
    """

    entry: Entry
    takes: str
    holders: tuple[int, ...] | None
    trend: Sequence[int]
    shares: tuple[Any, ...] = ()


def entries(catalog: Catalog) -> list[Entry]:
    """All rows, in the catalog's order."""
    groups: dict[str, list[Badge]] = {}
    for badge in catalog.badges:
        place = "/".join(badge.path.split("/")[:3]) if badge.kind in _GROUPED and badge.path else badge.key
        groups.setdefault(place, []).append(badge)
    return [Entry(tuple(found)) for found in groups.values()]


def chosen(
    found: Iterable[Entry],
    *,
    text: str = "",
    family: str = "",
    trigger: str = "",
    status: str = "",
    sort: str = "",
    counts: Mapping[str, Any] | None = None,
) -> list[Entry]:
    """The rows that match, sorted. `text` is looked for in keys, labels and descriptions, whatever the case."""
    wanted = text.casefold().strip()
    kept = [entry for entry in found if _matches(entry, wanted, family, trigger, status)]
    if sort == "name":
        kept.sort(key=lambda entry: entry.label.casefold())
    elif sort == "holders" and counts is not None:
        known = counts
        kept.sort(key=lambda entry: -sum(_users(known, badge) for badge in entry.badges))
    return kept


def _matches(entry: Entry, text: str, family: str, trigger: str, status: str) -> bool:
    return any(
        (not family or badge.family == family)
        and (not trigger or trigger in badge.triggers)
        and (not status or badge.status == status)
        and (not text or any(text in part.casefold() for part in (badge.key, badge.label, badge.description)))
        for badge in entry.badges
    )


def rows(
    shown: Sequence[Entry],
    catalog: Catalog,
    counts: Mapping[str, Any] | None,
) -> list[Row]:
    """What a page of entries shows."""
    takes = Takes(catalog)
    return [
        Row(
            entry,
            _taken(takes.of, entry),
            None if counts is None else tuple(_users(counts, badge) for badge in entry.badges),
            _sum([counts[badge.key].days for badge in entry.badges if badge.key in counts] if counts else []),
            _shares(counts or {}, entry.badges),
        )
        for entry in shown
    ]


def _taken(takes: Callable[[Badge], str], entry: Entry) -> str:
    """What the badges take: of a ladder the levels, then what they are levels of."""
    phrases = [takes(badge) for badge in entry.badges]
    if len(phrases) == 1:
        return phrases[0]
    words = [phrase.split() for phrase in phrases]
    same = all(len(one) == len(words[0]) for one in words)
    places = [at for at in range(len(words[0])) if len({one[at] for one in words}) > 1] if same else []
    if len(places) == 1:
        at = places[0]
        return " ".join([*words[0][:at], joined([one[at] for one in words]), *words[0][at + 1 :]])
    return f"{phrases[0]}; up to {phrases[-1]}"


def _users(counts: Mapping[str, Any], badge: Badge) -> int:
    return counts[badge.key].users if badge.key in counts else 0


def _shares(counts: Mapping[str, Any], badges: Iterable[Badge]) -> tuple[Any, ...]:
    found = (counts[badge.key].share for badge in badges if badge.key in counts)
    return tuple(share for share in found if share is not None)


def _sum(lines: Sequence[Sequence[int]]) -> list[int]:
    return [sum(day) for day in zip(*lines, strict=True)]
