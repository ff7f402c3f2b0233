"""`badge`: the user holds another badge, from whatever source, since now or earlier.

Written: `{"badge": "first_steps"}`. Remembered per user: the awards themselves; at most one for each badge and context;
read from the event log: nothing as events come, all of the user's after a late one. Source: decisions 12.
"""

from __future__ import annotations

from typing import Any

from worker.rules.ir import Held, Node
from worker.rules.operators.place import Operator, Place


def read(value: Any, place: Place) -> Node | None:
    """Held, of a badge of this catalog."""
    key = place.text(value, '{"badge": "first_steps"}')
    known = None if key is None else place.names.badge(key, place.path)
    return None if known is None else Held(known, place.path)


BADGE = Operator("badge", read)
