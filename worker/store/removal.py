"""Which events must not come back: of erased users, and of an age that retention has removed (decisions 27, 28)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from worker.events import Event


def user_hash(user_id: str) -> bytes:
    """What stays of an erased user: sha256 of the id."""
    return hashlib.sha256(user_id.encode()).digest()


def screened(events: Sequence[Event], floors: Mapping[str, int], erased: Mapping[bytes, int]) -> dict[int, str]:
    """Index to dead-letter code of the events refused: `floors` by type, `erased` by user hash, in microseconds."""
    refused: dict[int, str] = {}
    for index, event in enumerate(events):
        if erased and event.occurred_us <= erased.get(user_hash(event.user_id), -1):
            refused[index] = "erased"
        elif event.occurred_us < floors.get(event.type, 0):
            refused[index] = "too_old"
    return refused
