"""`$eventCount`: how many events the leaf's filter leaves.

Written inside `criteria`: `{"$eventCount": {"$gte": 10}}`. Remembered per user: one `count`, shared with the leaf and
with every other threshold over the same filter; at most one number and two ids, in a window that moves with now an
entry for each of its events, or for as many as are asked for (`moving.py`); read from the event log: nothing as events
come, all of the user's after a late one. Source: document 4 "Event Count Criteria".
"""

from __future__ import annotations

from typing import Any

from worker.rules.ir import Node, Test
from worker.rules.operators.checks import read_number_checks
from worker.rules.operators.place import Operator, Place


def read(value: Any, place: Place) -> Node | None:
    """The test of the count."""
    checks = read_number_checks(value, place, whole=True)
    if checks is None:
        return None
    shows = (("event_count", "event_count"),)
    return Test(place.fold("count"), "event_count", checks, "$eventCount", place.path, shows)


EVENT_COUNT = Operator("$eventCount", read)
