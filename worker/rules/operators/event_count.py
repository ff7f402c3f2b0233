"""`$eventCount`: how many events the leaf's filter leaves.

Written inside `criteria`: `{"$eventCount": {"$gte": 10}}`. Remembered: one `count`, shared with the leaf and with every
other threshold over the same filter. Source: document 4 "Event Count Criteria".
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
