"""Every failure the project names, cut by who must act: author, operator, nobody (it passes), or us.

One base class; each error carries one sentence that says what is wrong (`message`) and, where there is one, the remedy
(`help`). Foreign exceptions are translated at the doors (`store`, `stream`); nothing else handles asyncpg or aiokafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class BadgesError(Exception):
    """Something went wrong that a person can understand and act on."""

    def __init__(self, message: str = "", *, help: str | None = None) -> None:
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        self.help = help
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with what an author wrote, as `catalog lint` reports it.

    `path` is a JSON pointer to the smallest wrong place; `message` says what is wrong; `help` what to write instead.
    `file`, `line` and `column` (1-based) are filled where the text is at hand.
    """

    code: str
    path: str
    message: str
    help: str | None = None
    severity: str = "error"
    file: str | None = None
    line: int | None = None
    column: int | None = None


class AuthorError(BadgesError):
    """The catalog or a flow in it is faulty; `faults` holds all of them at once."""

    def __init__(self, faults: Sequence[Fault], message: str = "", *, help: str | None = None) -> None:
        self.faults = tuple(faults)
        first = self.faults[0] if self.faults else None
        super().__init__(
            message or (f"{first.code} at {first.path or '/'}: {first.message}" if first else ""),
            help=help or (first.help if first else None),
        )


class OperatorError(BadgesError):
    """A setting, a service or a schema is not as it must be; the person who runs it must act."""


class TransientError(BadgesError):
    """A service did not answer or answered that it cannot now; the same work is tried again later."""


class TimedOut(TransientError):
    """A service did not finish in time; the same work may pass in smaller pieces."""


class Fenced(BadgesError):
    """The partition belongs to another worker now, or moved on without this one; the batch left no effect."""


class PoisonBatch(BadgesError):
    """Data in this batch was refused for what it is; the batch is cut down until the one culprit is found."""
