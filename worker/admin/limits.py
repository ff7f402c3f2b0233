"""How often and how many may ask: a bucket for each token, failed log-ins by address, crowds; bounded memory."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import SystemRandom
from time import monotonic
from typing import Final

#: Failed log-ins of an address in a minute (interfaces 5).
FAILED_LOGINS: Final = 20
_MINUTE: Final = 60.0
#: So much later, seconds, at most is a failure forgotten.
_JITTER: Final = 10.0
#: So many tokens or addresses are told apart; of more, those unseen for longest are forgotten.
_MOST_KEYS: Final = 10_000
_UNITS: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}

Clock = Callable[[], float]


class Bucket:
    """At most `count` requests of a key in `seconds`, refilled evenly; `seconds` 0 lets all pass."""

    def __init__(self, count: int, seconds: float, *, clock: Clock = monotonic) -> None:
        self._count = float(count)
        self._per_second = count / seconds if seconds else math.inf
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @staticmethod
    def of(rate: str, *, clock: Clock = monotonic) -> Bucket:
        """The bucket of a setting: `100/s`, `6000/min`, `off`."""
        if rate == "off":
            return Bucket(1, 0.0, clock=clock)
        count, _, unit = rate.partition("/")
        return Bucket(int(count), _UNITS[unit], clock=clock)

    def take(self, key: str, amount: int = 1) -> float:
        """Take from a key's bucket: 0 where it may pass, else the seconds until it may."""
        if math.isinf(self._per_second):
            return 0.0
        now = self._clock()
        left, since = self._left.pop(key, (self._count, now))
        left = min(self._count, left + (now - since) * self._per_second)
        wait = 0.0 if left >= 1 else (1 - left) / self._per_second
        self._left[key] = (left - amount if wait == 0 else left, now)
        if len(self._left) > _MOST_KEYS:
            self._left.popitem(last=False)
        return wait


class Failures:
    """Failed log-ins by address within the last minute, and some seconds by chance: nobody knows when it begins anew.

    `chance` draws from 0 to 1.
    """

    def __init__(self, most: int = FAILED_LOGINS, *, clock: Clock = monotonic, chance: Clock | None = None) -> None:
        self._most = most
        self._clock = clock
        self._chance = chance or SystemRandom().random
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def note(self, address: str) -> None:
        """Count a failure."""
        late = self._clock() + _JITTER * self._chance()
        self._times[address] = sorted([*self._recent(address), late])[-self._most :]
        self._times.move_to_end(address)
        if len(self._times) > _MOST_KEYS:
            self._times.popitem(last=False)

    def wait(self, address: str) -> float:
        """Seconds until the address may try again; 0 where it may now."""
        times = self._recent(address)
        return 0.0 if len(times) < self._most else max(0.001, times[0] + _MINUTE - self._clock())

    def _recent(self, address: str) -> list[float]:
        oldest = self._clock() - _MINUTE
        return [at for at in self._times.get(address, ()) if at > oldest]


class Crowd:
    """Who does something that takes long: at most `most` at once in this process, `each` of them of one key."""

    def __init__(self, limit: str, *, most: int, each: int) -> None:
        self.limit = limit
        self.most = most
        self.each = each
        self._inside: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether nobody more may come in."""
        return self._inside.total() >= self.most

    def many_of(self, key: str) -> bool:
        """Whether nobody more of this key may come in."""
        return self._inside.get(key, 0) >= self.each

    @contextmanager
    def joined(self, key: str) -> Iterator[None]:
        """Be inside."""
        self._inside[key] += 1
        try:
            yield
        finally:
            self._inside[key] -= 1
            if not self._inside[key]:
                del self._inside[key]
