"""What is told of one user, as data: awards, progress, and why a badge is theirs or not; each with `as_json`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from worker.app.blockers import Blocker
from worker.rules.catalog.definitions import Badge
from worker.rules.evaluate import Explanation
from worker.rules.phrases import short_instant
from worker.rules.plan import definition_hash
from worker.rules.standing import Closest, Progress, fraction_of, sentence_of, waiting
from worker.rules.state import AwardKey
from worker.store.diagnosis import AwardRow, WithheldRow

#: What is in the way of a badge whose criterion is met, and stays so at whatever event comes next.
_NO_OCCASION_HELPS: Final = frozenset({"not_active", "held", "dropped", "revoked", "drift"})


@dataclass(frozen=True, slots=True)
class Held:
    """An award of the user, with the sentence of the moment it was given (None: its event is not in the log)."""

    row: AwardRow
    badge: Badge | None
    sentence: str | None

    @property
    def note(self) -> str | None:
        """What was written beside it: by who gave it by hand, or by what restored it."""
        said = row.metadata.get("note") if (row := self.row).source == "manual" else None
        return said if isinstance(said, str) else row.reason

    @property
    def outdated(self) -> bool:
        """Whether the badge takes something else by now than when it was given."""
        known = self.badge is not None and self.row.definition is not None
        return known and self.badge is not None and self.row.definition != definition_hash(self.badge)

    def as_json(self) -> dict[str, Any]:
        """As API and panel show it."""
        row, badge = self.row, self.badge
        return {
            "badge_key": row.badge_key,
            "label": label_of(row.badge_key, badge),
            "status": "deprecated" if badge is None else badge.status,
            "context": row.context,
            "awarded_at": short_instant(row.awarded_us),
            "source": row.source,
            "origin": row.origin,
            "sequence": row.sequence,
            "award_id": row.award_id,
            "catalog_version": row.catalog_version,
            "definition": row.definition,
            "definition_changed": self.outdated,
            "trigger": None if row.trigger_id is None else {"id": row.trigger_id, "type": row.trigger_type},
            "note": self.note,
            "actor": row.metadata.get("actor") if row.source == "manual" else None,
            "metadata": row.metadata,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True)
class Step:
    """A badge that is not held yet: how far the user is, and when they came closest, where that was looked for."""

    progress: Progress
    closest: Closest | None

    def as_json(self) -> dict[str, Any]:
        """As API and panel show it."""
        found, tree = self.progress, self.progress.explanation.tree
        return {
            "badge_key": found.badge.key,
            "label": label_of(found.badge.key, found.badge),
            "status": found.badge.status,
            "family": found.badge.family,
            "tier": found.badge.tier,
            "context": found.context,
            "fraction": round(float(found.fraction), 4),
            "actual": tree["actual"],
            "bound": tree["bound"],
            "sentence": found.sentence,
            "next": found.next,
            "closest": None if self.closest is None else closest_json(self.closest),
        }


@dataclass(frozen=True, slots=True)
class Overview:
    """All of a user: awards newest first, what is withheld, what is earned and was not given, progress nearest first.

    `zone` is the user's, `own_zone` whether it is not merely the catalog's. `building` is the share of users who are
    built for the catalog, where this one is not yet; `queued` whether the log waits to be read again. `missing` is
    what the log earns and was not given: a drift, unless one of the two is so.
    """

    user_id: str
    at_us: int
    zone: str
    own_zone: bool
    events: int
    first_us: int | None
    last_us: int | None
    building: Fraction | None
    queued: bool
    held: tuple[Held, ...]
    withheld: tuple[WithheldRow, ...]
    missing: tuple[AwardKey, ...]
    steps: tuple[Step, ...]

    def as_json(self) -> dict[str, Any]:
        """As API and panel show it."""
        return {
            "user_id": self.user_id,
            "at": short_instant(self.at_us),
            "zone": self.zone,
            "zone_source": "user" if self.own_zone else "catalog",
            "events": self.events,
            "first_event_at": None if self.first_us is None else short_instant(self.first_us),
            "last_event_at": None if self.last_us is None else short_instant(self.last_us),
            "building": None if self.building is None else round(float(self.building), 4),
            "queued": self.queued,
            "awards": [one.as_json() for one in self.held],
            "withheld": [withheld_json(one) for one in self.withheld],
            "missing": [{"badge_key": key, "context": context} for key, context in self.missing],
            "progress": [one.as_json() for one in self.steps],
        }


@dataclass(frozen=True, slots=True)
class Why:
    """Why a user holds a badge, or what is in the way of it; `award` is None where it is not held at that instant.

    `explanation` is as of `at_us`: of the moment it was given where no instant was asked for and it is held.
    """

    user_id: str
    badge_key: str
    badge: Badge | None
    context: str
    at_us: int
    award: Held | None
    blocker: Blocker | None
    explanation: Explanation | None
    closest: Closest | None

    @property
    def earned(self) -> bool:
        """Whether the badge is held."""
        return self.award is not None

    @property
    def sentence(self) -> str:
        """The first sentence of the criterion."""
        if self.explanation is None:
            return "" if self.blocker is None else self.blocker.sentence
        if self.badge is None or not self._waits:
            return self.explanation.sentence
        return sentence_of(self.badge, self.explanation)

    @property
    def _waits(self) -> bool:
        """Whether the criterion is met by now, and what is missing is an occasion to give the badge."""
        kept = self.blocker is not None and self.blocker.code in _NO_OCCASION_HELPS
        return not self.earned and not kept and self.explanation is not None and self.explanation.passed

    def as_json(self) -> dict[str, Any]:
        """As API and panel show it."""
        found = self.explanation
        if found is not None and self.badge is not None and self._waits:
            found = waiting(self.badge, found)
        return {
            "user_id": self.user_id,
            "badge_key": self.badge_key,
            "label": label_of(self.badge_key, self.badge),
            "context": self.context,
            "at": short_instant(self.at_us),
            "verdict": "earned" if self.earned else "not_yet",
            "sentence": self.sentence,
            "blocker": None if self.blocker is None else self.blocker.as_json(),
            "award": None if self.award is None else self.award.as_json(),
            "fraction": None if found is None else round(float(fraction_of(found)), 4),
            "metadata": None if found is None else found.metadata,
            "explanation": None if found is None else found.tree,
            "closest": None if self.closest is None else closest_json(self.closest),
        }


def closest_json(found: Closest) -> dict[str, Any]:
    """The closest moment as API and panel show it."""
    return {
        "at": short_instant(found.at_us),
        "context": found.context,
        "event_id": found.event_id,
        "fraction": round(float(fraction_of(found.explanation)), 4),
        "actual": found.explanation.tree["actual"],
        "sentence": found.explanation.sentence,
    }


def withheld_json(row: WithheldRow) -> dict[str, Any]:
    """An award that is withheld as API and panel show it."""
    return {
        "badge_key": row.badge_key,
        "context": row.context,
        "state": row.state,
        "awarded_at": short_instant(row.awarded_us),
        "origin": row.origin,
        "note": row.reason,
        "actor": row.actor,
        "withheld_at": short_instant(row.withheld_us),
    }


def label_of(key: str, badge: Badge | None) -> str:
    """What a badge is called; its key where the catalog has it no more."""
    return key if badge is None else badge.label or key
