"""When a consumer's client object is given up."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    UnknownError,
)

from worker.errors import OperatorError
from worker.stream.watch import MOST_REPLACEMENTS, OUTSIDE_SECONDS, PROBE_SECONDS, Watch, heals_by_itself

PARTITION = TopicPartition("events", 0)


class Client:
    """A client whose broker answers, or not."""

    def __init__(self, end: int = 0) -> None:
        self.end = end
        self.down = False

    async def topics(self) -> set[str]:
        if self.down:
            raise KafkaConnectionError
        return {"events"}

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self.down:
            raise KafkaConnectionError
        return dict.fromkeys(partitions, self.end)


@pytest.fixture
def watch() -> Watch:
    watch = Watch()
    watch.opened(0.0)
    return watch


async def verdicts(watch: Watch, client: Client, position: int, *, seconds: float, start: float) -> list[str]:
    """What the watch says every second."""
    found = []
    for second in range(int(seconds)):
        reason = await watch.verdict(client, {PARTITION: position}, at=start + second)  # type: ignore[arg-type]
        if reason:
            found.append(reason)
    return found


async def test_a_member_that_is_not_let_in_is_replaced(watch: Watch) -> None:
    """A client without a place in the group for a minute is replaced although nothing failed."""
    found = await verdicts(watch, Client(), 0, seconds=OUTSIDE_SECONDS + PROBE_SECONDS + 1, start=0.0)
    assert found
    assert "no place in the group" in found[0]


async def test_a_broker_that_is_away_is_waited_for(watch: Watch) -> None:
    """As long as the broker does not answer, no new client is made, for hours."""
    client = Client()
    client.down = True
    assert await verdicts(watch, client, 0, seconds=4000, start=0.0) == []


async def test_a_member_without_partitions_is_well(watch: Watch) -> None:
    """In the group but with nothing to read is no fault."""
    watch.assigned(1.0)
    assert await verdicts(watch, Client(), 0, seconds=4000, start=2.0) == []


async def test_a_reader_that_stands_still_before_records_is_replaced(watch: Watch) -> None:
    """Found behind at one position three times in a row, a client is stuck."""
    watch.assigned(1.0)
    found = await verdicts(watch, Client(end=10), 5, seconds=3 * PROBE_SECONDS + 1, start=2.0)
    assert found == ["partition 0 of events stands at 5 although the broker has 10"]


async def test_a_reader_that_moves_or_is_caught_up_is_well(watch: Watch) -> None:
    """Slow is not stuck, and at the end there is nothing to read."""
    watch.assigned(1.0)
    for turn in range(10):
        at = 2.0 + PROBE_SECONDS * (turn + 1)
        assert await watch.verdict(Client(end=100), {PARTITION: turn}, at=at) is None  # type: ignore[arg-type]
    assert await verdicts(watch, Client(end=5), 5, seconds=1000, start=300.0) == []


async def test_a_freeze_is_not_taken_for_a_fault(watch: Watch) -> None:
    """After a process was frozen for an hour its first look finds it behind, which is not yet stuck."""
    watch.assigned(1.0)
    assert await watch.verdict(Client(end=10), {PARTITION: 5}, at=25.0) is None  # type: ignore[arg-type]
    assert await watch.verdict(Client(end=99), {PARTITION: 5}, at=3625.0) is None  # type: ignore[arg-type]


def test_replacing_in_vain_ends(watch: Watch) -> None:
    """After three replacements without a record the fourth is an error for a person."""
    for _ in range(MOST_REPLACEMENTS):
        watch.replaced("group refused")
    with pytest.raises(OperatorError, match="3 new connections to Kafka did not help: group refused"):
        watch.replaced("group refused")
    watch.progressed(5.0)
    watch.replaced("again")


@pytest.mark.parametrize(
    ("error", "heals"),
    [
        (KafkaConnectionError(), True),
        (NotLeaderForPartitionError(), True),
        (TopicAuthorizationFailedError("t"), True),
        (CorruptRecordException(), True),
        (GroupAuthorizationFailedError("g"), False),
        (UnknownError(), False),
        (KafkaError("coordination"), False),
        (AssertionError(), False),
    ],
)
def test_which_errors_a_client_survives(error: Exception, heals: bool) -> None:
    """Errors of the moment, of one topic or of one batch leave the client; all others need a new one."""
    assert heals_by_itself(error) is heals
