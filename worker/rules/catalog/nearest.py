"""The nearest right name to a wrong one, quickly even among a hundred thousand."""

from __future__ import annotations

import difflib
import re
from bisect import bisect_left
from collections.abc import Collection, Iterable

_AMONG = 1_000


def nearest(word: str, known: Collection[str]) -> str | None:
    """The known name most like this one, where any is like it: spelled alike but for case and marks, else close."""
    return Nearest(known).of(word)


class Nearest:
    """Offers names out of one fixed collection; sorts it once, at the first question."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = known
        self._sorted: list[str] | None = None
        self._plain: dict[str, str] = {}
        self._answers: dict[str, str | None] = {}

    def of(self, word: str) -> str | None:
        """The nearest name, None where none is near."""
        word = word[:200]
        if word not in self._answers:
            self._answers[word] = self._find(word)
        return self._answers[word]

    def _find(self, word: str) -> str | None:
        if self._sorted is None:
            self._sorted = sorted(self._known)
            self._plain = {plain(name): name for name in reversed(self._sorted)}
        same = self._plain.get(plain(word))
        if same is not None:
            return same
        at = bisect_left(self._sorted, word)
        beside = self._sorted[max(0, at - _AMONG // 2) : at + _AMONG // 2]
        others = self._sorted[:_AMONG] if len(self._sorted) > len(beside) else []
        close = dict.fromkeys(name for name in (*beside, *others) if abs(len(name) - len(word)) <= 5)
        found = difflib.get_close_matches(word, list(close), n=1, cutoff=0.6)
        return found[0] if found else None


def plain(name: str) -> str:
    """A name without case and marks: `UserLoggedIn`, `user.logged_in` and `user-logged-in` are alike."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
