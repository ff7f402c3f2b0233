"""Whether this program names users' memories as the one did that built them, and which of the two may go on."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.metadata import version

from worker.errors import OperatorError
from worker.pipeline.scope import closed_folds
from worker.rules.operators.calendar import holidays_version
from worker.rules.plan import Plan
from worker.store.catalog import StoredCatalog
from worker.store.postgres import PostgresStore
from worker.store.retention import RetentionTable

_NUMBER = re.compile("[0-9]+")
_BY_HAND = "`badges catalog apply FILE --rebuild` lets this one build all users anew from the events that are left"


class OtherMemories(OperatorError):
    """Users' memories are named otherwise than this program would: it would find none, and count from nothing.

    `begins` is whether this program begins them anew by itself, where it is a worker.
    """

    def __init__(self, head: StoredCatalog, plan: Plan, *, begins: bool, removed: bool) -> None:
        self.head = head
        self.plan = plan
        self.begins = begins
        lost = " Retention has removed events that cannot be counted again." if removed else ""
        here = "start a worker of this program: it builds all users anew, in the background"
        super().__init__(
            f"Users' memories for version {head.version} of the catalog were built by {head.program}; "
            f"{this_program()} names them otherwise and would count from nothing.{lost}",
            help=here if begins else f"run that program here as well; {_BY_HAND}",
        )


def this_program() -> str:
    """What names memories here: this version of badgestream, and of the holiday calendars."""
    return f"badgestream {version('badgestream')}, holidays {holidays_version()}"


async def hold_to(store: PostgresStore, head: StoredCatalog, plan: Plan, memories: str, *, note: bool) -> None:
    """Raises OtherMemories where the memories of a version that rules are not those of this plan of it.

    A version of which nothing is noted yet is taken for this program's, and with `note` that is written down.
    """
    here, found, by = this_program(), head.memories, head.program
    if found is None and note:
        found, by = await store.note_memories(head.version, memories, here)
    if found in (None, memories):
        return
    ours, theirs = _order(here), _order(by or "")
    # Of two programs with the same numbers the one that comes later goes on; what was left once is not gone back to.
    newer = ours > theirs or (ours == theirs and not await store.knows_memories(head.hash, memories))
    removed = bool(closed_folds(plan, await RetentionTable(store.pool).kept_floors()))
    raise OtherMemories(replace(head, program=by), plan, begins=newer and not removed, removed=removed)


def _order(program: str) -> list[list[int]]:
    return [[int(number) for number in _NUMBER.findall(part)] for part in program.split(", ")]
