"""`$sequence`: events of these types one after the other, whatever other choice of events fails.

Written as a flow over the user's events: `{"$sequence": {"sequence": ["login", "search", "purchase"], "maxGapSeconds":
900, "requireStrict": true}}`. Times strictly increase; `maxGapSeconds` is of each step, inclusive; `requireStrict`: no
event of the user, of any type, strictly between two neighbours. Of several ways the one that ended first is told, of
its beginnings the latest. Inside a window that moves with now, of more than 1,000 completed chains the newest 1,000 are
told apart: whether there is one is exact whatever their number, told is the first of those. Remembered per user: how
far the user came (see `steps.py`); at most n * n ids of n steps, in a window that moves with now also those of 1,000
completed chains (`stepped.py`); read from the event log: nothing as events come, all of the user's after a late one.
Source: document 4 "Sequence Criteria".
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from worker.rules.ir import NEVER_COUNTED, Check, Node, Test
from worker.rules.operators.calendar import SECOND
from worker.rules.operators.checks import read_positive
from worker.rules.operators.filters import of_types
from worker.rules.operators.place import Operator, Place, described

#: A memory of n steps may hold n * n ids.
MAX_STEPS = 50
KEYS = ("sequence", "maxGapSeconds", "requireStrict")
SHOWS = tuple(
    (name, name)
    for name in ("sequence_found", "start_event_id", "end_event_id", "sequence_event_ids", "missing_event_type")
)
_EXAMPLE = '"sequence": ["user.logged_in", "item.viewed", "order.paid"]'


def read(value: Any, place: Place) -> Node | None:
    """The test that as many steps were done as are written."""
    written = place.object(value, f"{{{_EXAMPLE}}}")
    if written is None:
        return None
    place.only(written, KEYS)
    types = _types(written, place)
    strict = place.flag(written, "requireStrict")
    params: list[tuple[str, Any]] = []
    if "maxGapSeconds" in written:
        most = read_positive(written["maxGapSeconds"], place.at("maxGapSeconds"), "a number of seconds", whole=False)
        if most is None:
            return None
        params.append(("gap_us", int(Fraction(most) * SECOND)))
    if types is None:
        return None
    params.append(("sequence", types))
    seen = tuple(sorted(set(types)))
    if strict:
        params.append(("strict", True))
        unseen = tuple(name for name in seen if name.startswith(NEVER_COUNTED))
        seen = ("*", *unseen) if unseen else ()
    fold = place.fold("steps", tuple(params), match=of_types(place.match, seen))
    return Test(fold, "reached_steps", (Check("$gte", len(types)),), "$sequence", place.path, SHOWS)


def _types(written: Mapping[str, Any], place: Place) -> tuple[str, ...] | None:
    """The canonical types under `sequence`, each where it is known."""
    if "sequence" not in written:
        place.fault("bad_operand", "$sequence has no sequence of event types.", f"Write {_EXAMPLE}.")
        return None
    items, here = written["sequence"], place.at("sequence")
    if not isinstance(items, list | tuple) or not items:
        here.fault(
            "bad_operand", f"A sequence is an array of event types, not {described(items)}.", f"Write {_EXAMPLE}."
        )
        return None
    if len(items) > MAX_STEPS:
        here.fault("bad_operand", f"This sequence has more than {MAX_STEPS} steps.", "Split it into several badges.")
        return None
    found = []
    for index, item in enumerate(items):
        name = here.at(index).text(item, f"an event type, as in {_EXAMPLE}")
        found.append(None if name is None else place.names.event_type(name, here.at(index).path))
    types = tuple(name for name in found if name is not None)
    return types if len(types) == len(found) else None


SEQUENCE = Operator("$sequence", read)
