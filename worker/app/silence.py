"""How long the event types that badges listen to have been silent, as one worker sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: Stands for "every event" among the triggers; it is no type that could be silent.
EVERY = "*"


class Silence:
    """When each trigger type was last applied here; before its first event, since when it is listened to.

    Instants are seconds on a monotonic clock. Nothing is kept over a restart: the log has no index by type, and a
    silence that matters outlasts a restart, so its alarm comes later but comes.
    """

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def listen(self, triggers: Iterable[str], now: float) -> set[str]:
        """Follow these types from now on; returns those that no badge listens to any more."""
        wanted = set(triggers) - {EVERY}
        gone = self._since.keys() - wanted
        self._since = {event_type: self._since.get(event_type, now) for event_type in sorted(wanted)}
        return gone

    def applied(self, types: Mapping[tuple[str, str], int], now: float) -> None:
        """A batch's events by (type, outcome) were committed; only those applied break a silence."""
        for event_type, outcome in types:
            if outcome == "applied" and event_type in self._since:
                self._since[event_type] = now

    def seconds(self, now: float) -> dict[str, float]:
        """The silence of every type that is followed."""
        return {event_type: max(0.0, now - since) for event_type, since in self._since.items()}
