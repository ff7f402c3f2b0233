"""What a slice of a job over users did, and all that the job has found by then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from worker.exchange import UserJob

#: Badges of which a job says what it found; of the others it says how many awards they were together.
_NAMED: Final = 1_000


@dataclass(slots=True)
class SliceFacts:
    """What one slice did. `kinds` are counts of what was found, `awards` and `revoked` by badge and origin.

    `waiting` are users whom the queue of long logs will come to. `job` is as it stood before.
    """

    job: UserJob
    done: bool = False
    users: int = 0
    events: int = 0
    waiting: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    awards: Counter[tuple[str, str]] = field(default_factory=Counter)
    revoked: Counter[tuple[str, str]] = field(default_factory=Counter)
    restored: Counter[str] = field(default_factory=Counter)
    changes: Mapping[str, Any] = field(default_factory=dict)


def added(changes: Mapping[str, Any], facts: SliceFacts, left_out: set[str]) -> dict[str, Any]:
    """All that a job has found by now: counts by kind, and awards by badge."""
    total: Counter[str] = Counter({name: count for name, count in changes.items() if isinstance(count, int)})
    total.update(facts.kinds)
    total["left_out"] += len(left_out)
    total["waiting"] += facts.waiting
    badges: Counter[str] = Counter(changes.get("badges", {}))
    for (key, _), count in facts.awards.items():
        badges[key if key in badges or len(badges) < _NAMED else "other"] += count
    for key, count in facts.restored.items():
        badges[key if key in badges or len(badges) < _NAMED else "other"] += count
    found: dict[str, Any] = {name: count for name, count in sorted(total.items()) if count}
    if badges:
        found["badges"] = dict(sorted(badges.items()))
    return found
