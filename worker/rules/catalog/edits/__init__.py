"""One entry of a catalog written anew: the whole document as it is then, and where its faults lie in what was sent.

Documents are never changed in place.
"""

from __future__ import annotations

from worker.rules.catalog.edits.badges import BADGE_ANSWERS, badge_added, badge_changed, badge_deprecated, key_of_name
from worker.rules.catalog.edits.edit import ANSWERS, Edit, Fixed, Nameless, Taken, entry_of
from worker.rules.catalog.edits.made import made_added, made_changed
from worker.rules.catalog.edits.types import (
    condition_type_added,
    condition_type_changed,
    condition_type_removed,
    event_type_added,
    event_type_changed,
    event_type_removed,
)

__all__ = [
    "ANSWERS",
    "BADGE_ANSWERS",
    "Edit",
    "Fixed",
    "Nameless",
    "Taken",
    "badge_added",
    "badge_changed",
    "badge_deprecated",
    "condition_type_added",
    "condition_type_changed",
    "condition_type_removed",
    "entry_of",
    "event_type_added",
    "event_type_changed",
    "event_type_removed",
    "key_of_name",
    "made_added",
    "made_changed",
]
