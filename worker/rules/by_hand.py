"""Whether a badge can be given or taken by hand: judged alike for workers, commands, API and panel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from worker.rules.catalog.definitions import Badge
from worker.rules.catalog.nearest import nearest

#: Statuses of badges that are given to nobody, by hand neither.
_GIVES_NONE: Final = frozenset({"draft", "deprecated"})


class Unfit(NamedTuple):
    """What is wrong with an act: its field (`badge_key`, `context`, `note` or `user_id`), a sentence and the remedy.

    `unknown`: the field names what nobody knows.
    """

    field: str
    message: str
    help: str
    unknown: bool = False


def act_faults(
    badges: Mapping[str, Badge],
    user_id: str,
    badge_key: str,
    context: str,
    note: str,
    *,
    gives: bool,
    known: bool,
) -> list[Unfit]:
    """Why a grant (`gives`) or a revocation cannot be, all at once; `known` says whether there is such a user."""
    found = []
    badge = badges.get(badge_key)
    fault = award_fault(badges, badge_key, context)
    if fault is not None:
        remedy = "take a badge of the catalog" if badge is None else "mind what the badge is given per"
        found.append(Unfit(*fault, remedy, unknown=badge is None))
    if gives and badge is not None and badge.status in _GIVES_NONE:
        told = f"{badge_key} is {badge.status}: it is given to nobody."
        found.append(Unfit("badge_key", told, "give it another status in the catalog first"))
    if not note.strip():
        found.append(Unfit("note", "A note must say why.", "it stands in the audit log and in the history"))
    if not known:
        told = f"There is no user {user_id}: no event of theirs was ever read."
        found.append(Unfit("user_id", told, "check the id; users come with their first event", unknown=True))
    return found


def award_fault(badges: Mapping[str, Badge], badge_key: str, context: str) -> tuple[str, str] | None:
    """The field and the sentence where the catalog has no such award; None where it has."""
    badge = badges.get(badge_key)
    if not badge_key:
        return "badge_key", "No badge is named."
    if badge is None:
        near = nearest(badge_key, badges)
        hint = f" Did you mean {near}?" if near else ""
        return "badge_key", f"The catalog has no badge {badge_key}.{hint}"
    if badge.per is None and context:
        return "context", f"{badge_key} is given once; it takes no context."
    if badge.per is not None and not context:
        return "context", f"{badge_key} is given per {badge.per}: the context says for which one."
    return None
