"""When a child is started again and when it counts as hanging: decisions only, time comes as an argument."""

from __future__ import annotations

from dataclasses import dataclass, field

#: The pause before a child is started again: doubled with each end in a row, seconds.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
#: A child that was ready for so long ran well: its next end is the first of a new row, seconds.
WELL_SECONDS = 60.0
#: So many starts in a row of one child may be refused once the worker has worked (its database may be away).
REFUSALS = 10
#: A child that says nothing for so long hangs; while it imports and compiles its first word may take longer, seconds.
HANG_SECONDS = 30.0
START_SECONDS = 120.0
#: After such a gap between two looks the parent itself was away (suspended) and cannot tell who was silent, seconds.
AWAY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: whether it said that a person must act, and for how long it was ready (None: never)."""

    refused: bool
    ready_seconds: float | None = None


@dataclass(slots=True)
class Restarts:
    """What one child's ends in a row lead to."""

    ends: int = 0
    refusals: int = 0

    def pause_after(self, ended: Ended, *, worked: bool) -> float | None:
        """Seconds to wait before the next start; None where nothing but a person's act helps.

        `worked`: some child was ready since the parent started. Before that a refusal (no catalog, no topic) is final;
        so is one of a child that was ready. After it, a start may be refused because a service is away.
        """
        if ended.refused:
            self.refusals += 1
            if not worked or ended.ready_seconds is not None or self.refusals >= REFUSALS:
                return None
        else:
            self.refusals = 0
        if ended.ready_seconds is not None and ended.ready_seconds >= WELL_SECONDS:
            self.ends = 0
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self.ends, 10))
        self.ends += 1
        return pause


@dataclass(slots=True)
class Watch:
    """What the parent knows of one child's life, on its own monotonic clock."""

    unready: str | None = "not started"
    running: bool = False
    heard_at: float = 0.0
    spoke: bool = False
    ready_at: float | None = None

    def begun(self, now: float) -> None:
        """It was started."""
        self.unready, self.running, self.heard_at, self.spoke, self.ready_at = "starting", True, now, False, None

    def heard(self, now: float, unready: str | None) -> None:
        """It said whether it is ready (None) or why not."""
        self.unready, self.heard_at, self.spoke = unready, now, True
        if unready is None and self.ready_at is None:
            self.ready_at = now

    def ended(self, now: float, *, refused: bool) -> Ended:
        """It ended."""
        since, self.ready_at = self.ready_at, None
        self.unready, self.running = "ended, to be started again", False
        return Ended(refused=refused, ready_seconds=None if since is None else now - since)

    def hangs(self, now: float) -> float | None:
        """For how many seconds it was silent, where that is too long."""
        silent = now - self.heard_at
        return silent if self.running and silent > (HANG_SECONDS if self.spoke else START_SECONDS) else None


@dataclass(slots=True)
class Looks:
    """Looks at all children in turn; forgives their silence where the parent itself was away."""

    watches: list[Watch]
    last: float | None = field(default=None)

    def hanging(self, now: float) -> list[int]:
        """Indexes of the children that hang."""
        away = self.last is not None and now - self.last > AWAY_SECONDS
        self.last = now
        if away:
            for watch in self.watches:
                watch.heard_at = now
        return [index for index, watch in enumerate(self.watches) if watch.hangs(now) is not None]


def unready(watches: list[Watch]) -> str | None:
    """Why the processes as a whole are not ready; None where each of them is."""
    for number, watch in enumerate(watches, 1):
        if watch.unready is not None:
            return f"process {number} of {len(watches)}: {watch.unready}"
    return None
