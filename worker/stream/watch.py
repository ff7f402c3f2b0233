"""When a consumer's client object is lost and must be replaced by a new one; no public sign says so (4.1 row 16).

Three signs: out of the group for long although the broker answers, behind without moving although the broker has more,
an error that its client never recovers from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    UnknownError,
    UnsupportedCodecError,
)

from worker.errors import OperatorError

#: Out of the group for so long, seconds: joining takes 10 s at most while another member is frozen.
OUTSIDE_SECONDS = 60.0
#: How often an idle consumer is compared with the broker, and how often it must be found behind, at one position.
PROBE_SECONDS = 20.0
PROBES = 3
PROBE_DEADLINE_SECONDS = 5.0
#: How many client objects in a row may fail before the process gives up.
MOST_REPLACEMENTS = 3

_HEALING = (
    TopicAuthorizationFailedError,
    CorruptRecordException,
    UnsupportedCodecError,
    OffsetOutOfRangeError,
    NoOffsetForPartitionError,
    RecordTooLargeError,
    IllegalStateError,
)


def heals_by_itself(error: BaseException) -> bool:
    """Whether the same client object can go on after this error came out of a poll."""
    if isinstance(error, UnknownError) or not isinstance(error, KafkaError):
        return False
    return error.retriable or isinstance(error, _HEALING)


class Watch:
    """Keeps the times that matter (monotonic seconds, given by the caller) and says when to replace."""

    def __init__(self) -> None:
        self.replacements = 0
        self._outside_since: float | None = None
        self._calm_since = 0.0
        self._probed_at = 0.0
        self._stuck: dict[TopicPartition, tuple[int, int]] = {}

    def opened(self, at: float) -> None:
        """A client object was connected; it is not in the group yet."""
        self._outside_since = self._calm_since = self._probed_at = at
        self._stuck.clear()

    def assigned(self, at: float) -> None:
        """It is in the group, be it without partitions."""
        self._outside_since = None
        self._calm_since = at

    def revoked(self, at: float) -> None:
        """The group is being formed again."""
        self._outside_since = at

    def progressed(self, at: float) -> None:
        """Records came."""
        self.replacements = 0
        self._probed_at = at
        self._stuck.clear()

    def failed(self, at: float) -> None:
        """A poll raised."""
        self._calm_since = at

    def replaced(self, reason: str) -> None:
        """Count a replacement; OperatorError where as many as are allowed came to nothing."""
        if self.replacements >= MOST_REPLACEMENTS:
            raise OperatorError(
                f"{MOST_REPLACEMENTS} new connections to Kafka did not help: {reason}",
                help="check the brokers and the rights of this worker's user on its group and topics, then start again",
            )
        self.replacements += 1

    def joined_within(self, seconds: float, *, at: float) -> bool:
        """Whether it is in the group, or has not been out of it for so long."""
        return self._outside_since is None or at - self._outside_since < seconds

    async def verdict(
        self, client: AIOKafkaConsumer, positions: Mapping[TopicPartition, int | None], *, at: float
    ) -> str | None:
        """Why the client must be replaced, None where it is well; `positions` are of the partitions that want records.

        Asks the broker every 20 s at most, within 5 s. A broker that does not answer is waited for, not replaced.
        """
        if self._outside_since is None and at - self._calm_since > OUTSIDE_SECONDS:
            self.replacements = 0
        if at - self._probed_at < PROBE_SECONDS:
            return None
        self._probed_at = at
        try:
            async with asyncio.timeout(PROBE_DEADLINE_SECONDS):
                if self._outside_since is not None:
                    if at - self._outside_since < OUTSIDE_SECONDS:
                        return None
                    await client.topics()
                    return f"no place in the group for {at - self._outside_since:.0f} s although the broker answers"
                ends = await client.end_offsets([tp for tp, position in positions.items() if position is not None])
        except (KafkaError, OSError, TimeoutError):
            return None
        return self._behind(positions, ends)

    def _behind(self, positions: Mapping[TopicPartition, int | None], ends: Mapping[TopicPartition, int]) -> str | None:
        stuck: dict[TopicPartition, tuple[int, int]] = {}
        for tp, end in ends.items():
            position = positions[tp]
            if position is not None and position < end:
                before, times = self._stuck.get(tp, (position, 0))
                stuck[tp] = (position, times + 1 if before == position else 1)
        self._stuck = stuck
        for tp, (position, times) in stuck.items():
            if times >= PROBES:
                return f"partition {tp.partition} of {tp.topic} stands at {position} although the broker has {ends[tp]}"
        return None
