"""Why a user does not hold a badge: the first thing in the way, in one sentence, with what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from worker.app.coverage import Trigger
from worker.events import json_text
from worker.events.dictionary import Dictionary
from worker.printable import printable
from worker.rules.catalog.definitions import Badge
from worker.rules.evaluate import Explanation
from worker.rules.phrases import moment, plural, short_instant
from worker.rules.plan import EVALUATED
from worker.rules.standing import sentence_of
from worker.store.diagnosis import LetterRow, RevocationRow, WithheldRow

_STATUS: Final = {
    "draft": ("is a draft and is not evaluated", "set status: active when it is ready"),
    "locked": ("is locked: it is shown, and gives no new awards", "set status: active to give it again"),
    "deprecated": ("is deprecated: it gives no new awards", "set status: active to give it again"),
}


@dataclass(frozen=True, slots=True)
class Blocker:
    """What is in the way: a code, a sentence, what to do (None: nothing but time), and figures for programs.

    Codes: unknown_badge, not_active, never_seen, silent, building, held, dropped, revoked, dead_letters, criterion,
    no_occasion, drift.
    """

    code: str
    sentence: str
    help: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As API and panel show it."""
        return {"code": self.code, "sentence": self.sentence, "help": self.help, "detail": dict(self.detail)}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that may be in the way of one badge of one user; `missing` where the log earns it.

    `badge` is None, and `last_known` the version that left it out, where the catalog has it no more. `building` is the
    share of users who are done, where the user is not.
    """

    user_id: str
    badge_key: str
    badge: Badge | None
    explanation: Explanation | None
    missing: bool
    building: Fraction | None
    queued: bool
    withheld: WithheldRow | None
    revocation: RevocationRow | None
    letters: Sequence[LetterRow]
    silences: Sequence[Trigger]


def first_blocker(found: Circumstances) -> Blocker:
    """The first that holds, in the order in which one would look."""
    if found.badge is None or found.badge.status not in EVALUATED:
        return _not_active(found.badge_key, found.badge)
    for look in (_silent, _building, _withheld, _revoked, _letters):
        blocker = look(found)
        if blocker is not None:
            return blocker
    return _criterion(found, found.badge)


def _not_active(key: str, badge: Badge | None) -> Blocker:
    if badge is None:
        return Blocker("not_active", f"The catalog has no badge {key} any more.", "add it to the catalog again")
    what, remedy = _STATUS[badge.status]
    return Blocker("not_active", f"{badge.label or key} {what}.", remedy, {"status": badge.status})


def _silent(found: Circumstances) -> Blocker | None:
    """Where each of the badge's triggers is silent; what the log earns all the same is not kept back by that."""
    if found.missing or found.badge is None or (found.explanation is not None and found.explanation.passed):
        return None
    quiet = {one.type: one for one in found.silences}
    if not quiet or not found.badge.triggers <= quiet.keys():
        return None
    triggers = [quiet[name] for name in sorted(found.badge.triggers)]
    sentence = "; ".join(one.sentence for one in triggers)
    sentence = f"No{sentence[2:]}." if sentence.startswith("no ") else f"{sentence}."
    if all(one.state == "never_seen" for one in triggers):
        return Blocker("never_seen", sentence, "look at the app that should send it", {"types": sorted(quiet)})
    return Blocker("silent", sentence, "look at the app that sends it", {"types": sorted(quiet)})


def _building(found: Circumstances) -> Blocker | None:
    if found.queued:
        return Blocker(
            "building",
            f"The log of {found.user_id} waits to be read again, after an event that came late.",
            "a running worker does it; wait, or run `badges recompute --user`",
        )
    if found.building is None:
        return None
    share = f"{float(found.building):.0%}".replace("%", " %")
    return Blocker(
        "building",
        f"The history behind this version of the catalog is still being built ({share} of users are done).",
        "a running worker does it; wait",
        {"share": round(float(found.building), 4)},
    )


def _withheld(found: Circumstances) -> Blocker | None:
    row = found.withheld
    if row is None or row.state == "revoked":
        return None
    why = f": {row.reason}" if row.reason else ""
    detail = {"state": row.state, "since": short_instant(row.withheld_us), "reason": row.reason}
    if row.state == "held":
        remedy = f"badges quarantine list --badge {found.badge_key} shows what is held, and how to release it"
        return Blocker("held", f"Earned, and held since {moment(row.withheld_us)}{why}.", remedy, detail)
    return Blocker("dropped", f"Earned, held, and dropped on {moment(row.withheld_us)}{why}.", None, detail)


def _revoked(found: Circumstances) -> Blocker | None:
    """What was taken away by hand stays away; what was withdrawn by itself comes back by itself."""
    row, logged = found.withheld, found.revocation
    if row is not None and row.state == "revoked":
        when, reason, actor = row.withheld_us, row.reason, row.actor
    elif logged is not None and logged.source == "manual":
        when, reason, actor = logged.logged_us, logged.reason, logged.actor
    else:
        return None
    why = f": {reason}" if reason else ""
    remedy = f"badges grants add {found.user_id} --badge {found.badge_key} --note … gives it again"
    detail = {"at": short_instant(when), "reason": reason, "actor": actor}
    return Blocker("revoked", f"Revoked by {actor or 'hand'} on {moment(when)}{why}.", remedy, detail)


def _letters(found: Circumstances) -> Blocker | None:
    letters = found.letters
    if not letters or found.missing:
        return None
    newest = letters[0]
    codes = ", ".join(sorted({letter.reason for letter in letters}))
    many = plural(len(letters), "event")
    verb = "could not be read and is a dead letter" if len(letters) == 1 else "could not be read and are dead letters"
    place = f"{newest.topic}:{newest.partition}:{newest.offset}"
    return Blocker(
        "dead_letters",
        f"{many} of {found.user_id} {verb} ({codes}), the last on {moment(newest.buried_us)}.",
        f"badges dlq show {place} shows it",
        {"letters": [f"{one.topic}:{one.partition}:{one.offset}" for one in letters], "reasons": codes.split(", ")},
    )


def _criterion(found: Circumstances, badge: Badge) -> Blocker:
    if found.missing:
        return Blocker(
            "drift",
            f"The log of {found.user_id} earns {badge.label or badge.key}, and it was not given.",
            f"badges recompute --user {found.user_id} gives it",
        )
    explanation = found.explanation
    if explanation is None:
        return Blocker("criterion", "Nothing is known of this badge for this user.")
    code = "no_occasion" if explanation.passed else "criterion"
    return Blocker(code, f"{sentence_of(badge, explanation)}.")


def letters_that_matter(
    letters: Sequence[LetterRow], triggers: Collection[str], dictionary: Dictionary
) -> list[LetterRow]:
    """Of a user's dead letters those that may have been an occasion for a badge: of its types, or of unknown type."""
    found = []
    for letter in letters:
        event_type = _type_of(letter.raw)
        entry = None if event_type is None else dictionary.resolve(event_type)
        if letter.state == "new" and (entry is None or "*" in triggers or entry.name in triggers):
            found.append(letter)
    return found


def _type_of(raw: bytes) -> str | None:
    """The event type that a record names; None where none can be read."""
    try:
        read = json_text.loads(raw)
    except json_text.JsonFault:
        return None
    name = (read.get("type") or read.get("event_type")) if isinstance(read, dict) else None
    return printable(name) if isinstance(name, str) else None
