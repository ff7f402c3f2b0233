"""Progress of long work: a line that renews itself on a terminal, else a line each half minute; on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click

#: Nothing is said of work that is done within this, seconds.
QUIET_SECONDS = 0.5
_TERMINAL_SECONDS = 0.2
_LINE_SECONDS = 30.0


class Progress:
    """Says how far work is; `clock` gives seconds that only grow."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._terminal = sys.stderr.isatty()
        self._started = clock()
        self._next = self._started + (QUIET_SECONDS if self._terminal else _LINE_SECONDS)
        self._shown = False

    @property
    def seconds(self) -> float:
        """How long the work has taken."""
        return self._clock() - self._started

    def say(self, text: str) -> None:
        """Show where the work is, if it is time to."""
        if (now := self._clock()) < self._next:
            return
        self._next = now + (_TERMINAL_SECONDS if self._terminal else _LINE_SECONDS)
        self._shown = self._terminal
        click.echo(f"\r\x1b[K{text}" if self._terminal else text, nl=not self._terminal, err=True)

    def close(self) -> None:
        """Take the line away."""
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)
            self._shown = False
