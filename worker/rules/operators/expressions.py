"""Regular expressions of authors: linear in time where they are used, and bounded in what compiling them costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import re2

#: How long one may be, characters.
MAX_REGEX: Final = 1_000
#: Steps that the expressions of one flow, or of one rule, may be compiled to: some half a second's work.
MAX_STEPS_OF_FLOW: Final = 500_000
#: The same of a whole catalog: some three seconds and 100 MB.
MAX_STEPS_OF_CATALOG: Final = 5_000_000
#: What one is charged that is too large to be compiled, which it takes as long to find out as to compile the largest.
_TOO_LARGE_STEPS: Final = MAX_STEPS_OF_FLOW // 5


@dataclass(slots=True)
class Steps:
    """What the expressions of something (`whose`: this flow, this catalog) are compiled to, and may be at most."""

    whose: str
    most: int
    taken: int = 0


class TooManySteps(ValueError):
    """An expression is not looked at, since those before it are together too large."""

    def __init__(self, steps: Steps) -> None:
        super().__init__(f"The expressions of {steps.whose} are together too large")
        self.help = "fewer expressions, or shorter counts such as {1,3}"


def compile_regex(text: str) -> Any:
    """A linear-time expression; raises ValueError with the engine's reason."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if error.args else error
        raise ValueError(reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)) from error


def check_regex(text: str, *accounts: Steps) -> None:
    """Compile an expression on account of what it is part of. Raises TooManySteps, ValueError with the reason."""
    for steps in accounts:
        if steps.taken > steps.most:
            raise TooManySteps(steps)
    try:
        _charge(compile_regex(text).programsize, accounts)
    except ValueError as error:
        if "too large" in str(error):
            _charge(_TOO_LARGE_STEPS, accounts)
        raise


def _charge(taken: int, accounts: Iterable[Steps]) -> None:
    for steps in accounts:
        steps.taken += taken
