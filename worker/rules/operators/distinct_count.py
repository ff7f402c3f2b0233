"""`$distinctCount`: how many different values a payload field has had.

Written inside `criteria`: `{"$distinctCount": {"field": "item", "$gte": 5}}`. Remembered per user: the values (see
`distinct.py`); at most a text of 65 characters for each, of as many as are asked for where the plan sets a cap, in a
window that moves with now the newest instant of each besides (`newest.py`); read from the event log: nothing as events
come, all of the user's after a late one. Source: the format beyond the documents.
"""

from __future__ import annotations

from typing import Any

from worker.rules.ir import Check, Node, Test
from worker.rules.operators.aggregate import read_field
from worker.rules.operators.checks import AT_LEAST_ONE, read_number_checks
from worker.rules.operators.place import Operator, Place


def read(value: Any, place: Place) -> Node | None:
    """The test of the number of values; without a comparison, of at least one."""
    written = place.object(value, '{"field": "item", "$gte": 5}')
    if written is None:
        return None
    comparisons = {key: operand for key, operand in written.items() if key.startswith("$")}
    place.only({key: 0 for key in written if key not in comparisons}, ("field",))
    field = read_field(written, "field", place)
    checks: tuple[Check, ...] | None = AT_LEAST_ONE
    if comparisons:
        checks = read_number_checks(comparisons, place, whole=True)
    if field is None or checks is None:
        return None
    fold = place.fold("distinct", (("field", field),))
    shows = (("distinct_count", "distinct_count"),)
    return Test(fold, "distinct_count", checks, "$distinctCount", place.path, shows)


DISTINCT_COUNT = Operator("$distinctCount", read)
