"""What is to be read again: where each partition starts and ends, and what is refused in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.app.ranges import Asked, check_order, chosen, resolve
from worker.errors import OperatorError
from worker.pipeline.replay import Range

A, B, CONTROL = ("events", 0), ("events", 1), ("control", 0)


class Broker:
    """Partitions with their bounds, and the offsets of one instant."""

    def __init__(self, bounds: dict[tuple[str, int], tuple[int, int]], **at: dict[tuple[str, int], int | None]) -> None:
        self.bounds = bounds
        self.at = {int(name[1:]): found for name, found in at.items()}

    async def all_bounds(self, partitions: list[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        return {place: self.bounds[place] for place in partitions}

    async def offsets_at(self, partitions: list[tuple[str, int]], at_us: int) -> dict[tuple[str, int], int | None]:
        return {place: self.at[at_us][place] for place in partitions}


async def ranges(asked: Asked, broker: Broker) -> list[tuple[str, int, int, int]]:
    """The ranges as tuples."""
    places = chosen(asked, sorted(broker.bounds))
    found = await resolve(asked, places, broker, control_topic="control")
    return [(one.topic, one.partition, one.start, one.end) for one in found]


async def test_an_offset_means_events_and_control_is_read_whole() -> None:
    """An offset cuts the partitions of events, as far as each goes; those of the control topic are other numbers."""
    broker = Broker({A: (0, 100), B: (0, 5), CONTROL: (2, 7)})
    assert await ranges(Asked(from_offset=10), broker) == [("control", 0, 2, 7), ("events", 0, 10, 100)]
    assert await ranges(Asked(from_offset=3, until_offset=8), broker) == [
        ("control", 0, 2, 7),
        ("events", 0, 3, 8),
        ("events", 1, 3, 5),
    ]


async def test_places_read_those_partitions_alone() -> None:
    """Only partitions that are named are read."""
    broker = Broker({A: (0, 100), B: (0, 5)})
    assert await ranges(Asked(places={B: 1}, until_places={B: 4}), broker) == [("events", 1, 1, 4)]
    assert await ranges(Asked(places={B: 5}), broker) == []


async def test_an_instant_after_the_last_record_is_the_end() -> None:
    """Where all records are older than the start, nothing is read; where they are older than the end, all is."""
    broker = Broker({A: (0, 100), B: (0, 5)}, t1={A: 40, B: None}, t2={A: None, B: None})
    assert await ranges(Asked(from_us=1, until_us=2), broker) == [("events", 0, 40, 100)]


async def test_what_may_have_expired_is_named() -> None:
    """A start at the very beginning of a partition that was cut may miss records of that time."""
    broker = Broker({A: (30, 100)}, t1={A: 30}, t2={A: 31})
    with pytest.raises(OperatorError, match=r"events:0 begins at offset 30: .*offsets 0 to 29"):
        await ranges(Asked(from_us=1), broker)
    assert await ranges(Asked(from_us=1, allow_gaps=True), broker) == [("events", 0, 30, 100)]
    assert await ranges(Asked(from_us=2), broker) == [("events", 0, 31, 100)]
    with pytest.raises(OperatorError, match="events:0 begins at offset 30: offsets 7 to 29 have expired"):
        await ranges(Asked(from_offset=7), broker)


async def test_an_end_before_the_start_is_refused() -> None:
    """Of one kind that shows at once, of two kinds once the broker has said where they lie."""
    for asked in (Asked(from_us=2, until_us=1), Asked(places={A: 2}, until_offset=1)):
        with pytest.raises(OperatorError, match="lies before the start"):
            check_order(asked)
    broker = Broker({A: (0, 100)}, t1={A: 10})
    with pytest.raises(OperatorError, match="lies before the start"):
        await ranges(Asked(from_offset=20, until_us=1), broker)


async def test_no_named_end_is_passed_over() -> None:
    """An end of a partition that is not started, or of one that starts later, is refused; else it ends that one."""
    broker = Broker({A: (0, 100), B: (0, 60), CONTROL: (0, 7)}, t1={A: 10, B: 55, CONTROL: None})
    with pytest.raises(OperatorError, match="--until ends events:1, which is not read: no start names it"):
        await ranges(Asked(places={A: 20}, until_places={B: 30}), broker)
    for asked, start in ((Asked(from_offset=90), 60), (Asked(from_offset=51), 51), (Asked(from_us=1), 55)):
        with pytest.raises(OperatorError, match=f"events:1 starts at offset {start} and ends at 50; nothing was read"):
            await ranges(replace(asked, until_places={B: 50}), broker)
    assert await ranges(Asked(from_offset=50, until_places={B: 50, CONTROL: 3}), broker) == [
        ("control", 0, 0, 3),
        ("events", 0, 50, 100),
    ]


@pytest.mark.parametrize(
    ("place", "sentence"), [(("events", 9), "events has no partition 9"), (("evnts", 0), '"evnts" is no topic')]
)
def test_unknown_places(place: tuple[str, int], sentence: str) -> None:
    """A partition or topic that is not read is named, as start and as end."""
    for asked in (Asked(places={place: 0}), Asked(places={A: 0}, until_places={place: 1})):
        with pytest.raises(OperatorError, match=sentence):
            chosen(asked, [A, B])


def test_a_range_turned_round_is_empty() -> None:
    """A range never has less than no offsets."""
    assert Range("events", 0, 5, 3).length == 0
