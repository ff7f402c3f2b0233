"""What is said where a partition is not what was applied of it: only a person can rule what is lost."""

from __future__ import annotations

from typing import Final

from worker.errors import OperatorError

_AGAIN: Final = "if that is right: in badges.partitions add 1 to incarnation, next_offset = 0, last_offset = NULL"


def cut(partition: tuple[str, int], *, end: int, next_offset: int) -> OperatorError:
    """The partition ends before the offset where the group goes on."""
    return OperatorError(
        f"{_named(partition)} ends at offset {end}, before {next_offset}, where this group goes on: "
        "the topic was cut or created again.",
        help=_AGAIN,
    )


def replaced(partition: tuple[str, int], offset: int) -> OperatorError:
    """The last record applied is another one now."""
    return OperatorError(
        f"{_named(partition)} holds another record at offset {offset} than the one applied: "
        "the topic was created again.",
        help=_AGAIN,
    )


def expired(partition: tuple[str, int], *, beginning: int, read_offset: int) -> OperatorError:
    """Records that were not read yet are gone."""
    return OperatorError(
        f"{_named(partition)} begins at offset {beginning}: records from {read_offset} on expired unread.",
        help="restore them or accept the loss by moving next_offset in badges.partitions",
    )


def _named(partition: tuple[str, int]) -> str:
    return f"partition {partition[1]} of {partition[0]}"
