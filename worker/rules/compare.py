"""What changed between two catalogs, as data and in short phrases: badges, ladders, metrics, event types, settings."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from worker.errors import Fault
from worker.events import json_text
from worker.rules.catalog.definitions import Badge, Catalog
from worker.rules.normalize import normalize
from worker.rules.plan import EVALUATED, fold_key, meaning, prerequisites
from worker.rules.takes import Takes

Kind = Literal["added", "display", "test", "status", "deprecated"]

_SUMMED: tuple[tuple[Kind, str], ...] = (
    ("added", "added"),
    ("test", "test changed"),
    ("display", "relabelled"),
    ("status", "of another status"),
    ("deprecated", "deprecated"),
)
#: What only people see of a badge.
DISPLAY = (
    *("label", "description", "icon", "color", "image_url", "tier", "sort_score", "family"),
    *("animation", "translations", "revocable", "breaker"),
)
#: Sections that are compared on their own; every other one is a setting of the catalog.
_COMPARED = frozenset({"version", "badges", "ladders", "tenures", "milestones", "metrics", "events"})
_EMPTY: tuple[Any, ...] = (None, [], {})
_WORDS = re.compile(r"[,()]|[^\s,()]+")
#: Words that belong to the number behind them.
_OF_A_NUMBER = frozenset(
    ("at", "least", "most", "more", "less", "fewer", "than", "exactly", "not", "one", "none", "of", "from", "to")
)


@dataclass(frozen=True, slots=True)
class BadgeChange:
    """One badge that is new, changed or gone; `kind` is the gravest of what changed.

    `test`: what it takes changed, or when it is looked at. `display` names what else did, as far as people see it.
    `ladder` is the key of the ladder it belongs to. `old` is None for a new badge, `new` for one that was left out.
    """

    key: str
    kind: Kind
    old: Badge | None
    new: Badge | None
    test: bool = False
    display: tuple[str, ...] = ()
    ladder: str | None = None

    @property
    def label(self) -> str:
        """The label, and where it changed, what it becomes: Commentator II -> III."""
        labels = [badge.label for badge in (self.old, self.new) if badge is not None]
        return labels[0] if labels[0] == labels[-1] else " -> ".join(shortened(*labels))

    @property
    def gives(self) -> bool:
        """Whether the new version gives it."""
        return self.new is not None and self.new.status in EVALUATED


@dataclass(frozen=True, slots=True)
class Named:
    """Something of the catalog that has a name: `+` new, `~` changed, `-` gone; old and new as they read."""

    sign: Literal["+", "~", "-"]
    name: str
    old: str = ""
    new: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that changed between two catalogs, in the new one's order; `takes` says what a badge of each takes."""

    badges: tuple[BadgeChange, ...]
    ladders: tuple[Named, ...]
    metrics: tuple[Named, ...]
    events: tuple[Named, ...]
    settings: tuple[Named, ...]

    @property
    def differs(self) -> bool:
        """Whether anything changed."""
        return any((self.badges, self.ladders, self.metrics, self.events, self.settings))

    def count(self, kind: Kind) -> int:
        """How many badges changed in this way."""
        return sum(change.kind == kind for change in self.badges)

    @property
    def summary(self) -> str:
        """All of it in a line: 1 added, 1 test changed, 2 relabelled."""
        counted = [f"{count:,} {word}" for kind, word in _SUMMED if (count := self.count(kind))]
        listed = (("metric", self.metrics), ("event type", self.events), ("setting", self.settings))
        counted += [f"{len(found):,} {name}{'s' * (len(found) != 1)}" for name, found in listed if found]
        return ", ".join(counted) or "nothing but the order in which it is written"


def compare(old: Catalog | None, new: Catalog) -> Comparison:
    """What `new` changes; everything of it is new where there is no `old`."""
    was: Mapping[str, Any] = {} if old is None else old.document
    return Comparison(
        badges=tuple(_badges(old, new)),
        ladders=tuple(_ladders(was.get("ladders") or (), new.document.get("ladders") or ())),
        metrics=tuple(_named(was.get("metrics") or {}, new.document.get("metrics") or {})),
        events=tuple(_named(was.get("events") or {}, new.document.get("events") or {})),
        settings=tuple(
            _named(
                {name: value for name, value in was.items() if name not in _COMPARED and value not in _EMPTY},
                {name: value for name, value in new.document.items() if name not in _COMPARED and value not in _EMPTY},
            )
            if old is not None
            else ()
        ),
    )


def may_gain(changed: Comparison, new: Catalog) -> frozenset[str]:
    """The badges that a change can give to users who had earned none before: the changed ones, and who asks for them.

    Badges that are no longer given are among those asked for: a badge may ask that one is not held.
    """
    touched = {
        change.key for change in changed.badges if change.test or change.kind in ("added", "status", "deprecated")
    }
    if any(one.name in ("timezone", "user_timezone") for one in changed.settings):
        touched = {badge.key for badge in new.badges}
    askers: dict[str, list[str]] = {}
    for badge in new.badges:
        for key in prerequisites(badge.formula):
            askers.setdefault(key, []).append(badge.key)
    waiting = list(touched)
    while waiting:
        for key in askers.get(waiting.pop(), ()):
            if key not in touched:
                touched.add(key)
                waiting.append(key)
    return frozenset(badge.key for badge in new.badges if badge.key in touched and badge.status in EVALUATED)


def shortened(old: str, new: str) -> tuple[str, str]:
    """Two phrases without what they share: (score at least 10, at least 8), (Commentator II, III).

    The old one keeps a word before the difference, or after it, so that it still says something.
    """
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    first = _shared(before, after)
    last = _shared(before[first:][::-1], after[first:][::-1])
    if not first + last or len(before) == last + first or len(after) == last + first:
        return old, new
    while first and before[first - 1] in _OF_A_NUMBER:
        first -= 1
    ends = (len(before) - last, len(after) - last)
    start = _word_before(before, first)
    stop = ends[0] if start < first or last == 0 else ends[0] + 1
    return _text(before[start:stop]), _text(after[first : ends[1]])


def different_numbers(old: str, new: str) -> tuple[str, str] | None:
    """The one number in which two phrases differ, in each; None where they differ otherwise."""
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    pairs = [(one, other) for one, other in zip(before, after, strict=False) if one != other]
    if len(before) != len(after) or len(pairs) != 1 or not all(word[0].isdecimal() for word in pairs[0]):
        return None
    return pairs[0]


@dataclass(frozen=True, slots=True)
class InPlace:
    """A badge whose test a new version changes under the same key: `given` awards stay and look like those of now.

    `before` and `now` are the thresholds where they alone differ; `apart` is the key that would keep the two apart.
    """

    key: str
    before: str | None
    now: str | None
    apart: str

    def sentence(self, given: int | None) -> str:
        """What comes of it; `given` is how many awards there are, None where that is not known."""
        under = " before" if self.before is None else f" at {self.before}"
        like = "given now" if self.now is None else f"given at {self.now}"
        if given == 1:
            return f"the 1 award given{under} stays and will look like those {like}"
        count = "" if given is None else f"{given:,} "
        return f"the {count}awards given{under} stay and will look like those {like}"

    @property
    def help(self) -> str:
        """What to do instead."""
        return f"to keep them apart, deprecate {self.key} and add {self.apart}"


def in_place(change: BadgeChange, phrases: Phrases) -> InPlace | None:
    """What to say of a change that edits a badge's test in place; None for any other."""
    if not change.test or change.old is None or change.new is None or change.old.status == "draft":
        return None
    before, now = different_numbers(phrases.old(change.old), phrases.new(change.new)) or (None, None)
    return InPlace(change.key, before, now, f"{change.key}_{now or 2}")


def badge_in_place(old: Catalog, new: Catalog, key: str) -> InPlace | None:
    """What to say where a new catalog edits one badge's test in place; None where it does not."""
    was, now = (next((badge for badge in catalog.badges if badge.key == key), None) for catalog in (old, new))
    change = None if now is None else _change(was, now, None)
    return None if change is None else in_place(change, Phrases(old, new))


def changed_in_place(old: Catalog, new: Catalog) -> list[Fault]:
    """A warning for each badge that a new catalog changes in place: `changed_in_place`, at its entry."""
    phrases = Phrases(old, new)
    edited = [(change.new, in_place(change, phrases)) for change in compare(old, new).badges]
    return [
        Fault("changed_in_place", badge.path, f"{found.key}: {found.sentence(None)}.", found.help, "warning")
        for badge, found in edited
        if badge is not None and found is not None
    ]


def _badges(old: Catalog | None, new: Catalog) -> Iterator[BadgeChange]:
    before = {} if old is None else {badge.key: badge for badge in old.badges}
    for badge in new.badges:
        change = _change(before.pop(badge.key, None), badge, _ladder_of(new, badge))
        if change is not None:
            yield change
    for badge in before.values():
        if badge.status != "deprecated" and old is not None:
            yield BadgeChange(badge.key, "deprecated", badge, None, ladder=_ladder_of(old, badge))


def _change(old: Badge | None, new: Badge, ladder: str | None) -> BadgeChange | None:
    if old is None:
        return BadgeChange(new.key, "added", None, new, ladder=ladder)
    test = _asks(old) != _asks(new)
    shown = tuple(name for name in DISPLAY if getattr(old, name) != getattr(new, name))
    if old.status != new.status:
        kind: Kind = "deprecated" if new.status == "deprecated" else "status"
        return BadgeChange(new.key, kind, old, new, test, shown, ladder)
    if test or shown:
        return BadgeChange(new.key, "test" if test else "display", old, new, test, shown, ladder)
    return None


def _asks(badge: Badge) -> Hashable:
    found = meaning(normalize(badge.formula), lambda test: fold_key(test.fold))
    return (badge.per, badge.triggers, badge.ever, found)


def _ladder_of(catalog: Catalog, badge: Badge) -> str | None:
    if badge.kind != "ladder":
        return None
    return str(catalog.document["ladders"][int(badge.path.split("/")[2])]["key"])


def _ladders(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Iterator[Named]:
    before = {entry["key"]: _levels(entry) for entry in old}
    for entry in new:
        levels, was = _levels(entry), before.pop(entry["key"], None)
        if was != levels:
            yield Named("+" if was is None else "~", entry["key"], was or "", levels)
    yield from (Named("-", key, levels) for key, levels in before.items())


def _levels(entry: Mapping[str, Any]) -> str:
    return ", ".join(str(level) for level in entry.get("levels") or ())


def _named(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Named]:
    for name, value in new.items():
        if name not in old:
            yield Named("+", name, new=_short(value))
        elif not json_text.equal(old[name], value):
            yield Named("~", name, _short(old[name]), _short(value))
    yield from (Named("-", name, _short(value)) for name, value in old.items() if name not in new)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json_text.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count


def _word_before(words: Sequence[str], first: int) -> int:
    return first - 1 if first and words[first - 1] not in ",()" else first


def _text(words: Sequence[str]) -> str:
    return re.sub(r"\s+([,)])|(\()\s+", r"\1\2", " ".join(words))


class Phrases:
    """What the badges of two catalogs take, in words; the shorter where only a part of it changed."""

    def __init__(self, old: Catalog | None, new: Catalog) -> None:
        self._old = None if old is None else Takes(old)
        self._new = Takes(new)

    def old(self, badge: Badge) -> str:
        """What a badge of the old catalog takes."""
        return "" if self._old is None else self._old.of(badge)

    def new(self, badge: Badge) -> str:
        """What a badge of the new catalog takes."""
        return self._new.of(badge)

    def changed(self, change: BadgeChange) -> tuple[str, str]:
        """What a badge took and takes, without what stayed; its triggers where only they changed."""
        if change.old is None or change.new is None:
            return "", self.new(change.new) if change.new is not None else ""
        before, after = self.old(change.old), self.new(change.new)
        if before != after:
            return shortened(before, after)
        old, new = (", ".join(sorted(badge.triggers)) for badge in (change.old, change.new))
        return (f"looked at on {old}", new) if old != new else (before, after)
