"""What the consumer makes of the records that the Kafka client hands out."""

from __future__ import annotations

import time

import pytest
from aiokafka import ConsumerRecord

from worker.events import Record
from worker.stream.consumer import read_records


def handed_out(offset: int, timestamp: int) -> ConsumerRecord:
    return ConsumerRecord("events", 3, offset, timestamp, 0, b"k", b"v", None, 1, 1, (("h", b"x"),))


def test_records_keep_what_they_came_with() -> None:
    """Coordinates, timestamp, key, value and headers of a record are those of the client's."""
    assert read_records([handed_out(7, 1_000)]) == [Record("events", 3, 7, 1_000, b"k", b"v", (("h", b"x"),))]
    assert read_records([]) == []


def test_a_record_without_a_timestamp_says_when_it_was_received() -> None:
    """The time of receiving stands beside a missing timestamp, and beside no other; the missing one stays missing."""
    stamped, stampless = read_records([handed_out(7, 0), handed_out(8, -1)])
    assert (stamped.timestamp_ms, stamped.received_ms) == (0, 0)
    assert stampless.timestamp_ms == -1
    assert stampless.received_ms == pytest.approx(time.time() * 1000, abs=60_000)
