"""What is to be read again: from the words of the command to a range of offsets of each partition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from worker.errors import OperatorError
from worker.pipeline.replay import Partition, Range


@dataclass(frozen=True, slots=True)
class Asked:
    """Where to start, one of three: an instant, an offset of every partition of events, or places; and where to end.

    Instants are microseconds and mean the time stamps of records. The end is not read itself; without one, it is where
    each partition ends now. With `from_offset` the control topic is read whole: its offsets have nothing to do with
    those of events. `allow_gaps`: where records have expired, what is left is read.
    """

    from_us: int | None = None
    from_offset: int | None = None
    places: Mapping[Partition, int] = field(default_factory=dict)
    until_us: int | None = None
    until_offset: int | None = None
    until_places: Mapping[Partition, int] = field(default_factory=dict)
    allow_gaps: bool = False


class Offsets(Protocol):
    """What is asked of a reader."""

    async def all_bounds(self, partitions: list[Partition]) -> dict[Partition, tuple[int, int]]:
        """The beginning and end offsets of partitions."""

    async def offsets_at(self, partitions: list[Partition], at_us: int) -> dict[Partition, int | None]:
        """The first offset of each at or after an instant; None: all records are older."""


def check_order(asked: Asked) -> None:
    """Raises OperatorError where the end lies before the start, as far as that shows without asking anybody."""
    pairs: list[tuple[object, int | None, int | None]] = [
        ("--until", asked.from_us, asked.until_us),
        ("--until", asked.from_offset, asked.until_offset),
        *((_name(place), start, asked.until_places.get(place)) for place, start in asked.places.items()),
        *((_name(place), start, asked.until_offset) for place, start in asked.places.items()),
    ]
    for what, start, end in pairs:
        if start is not None and end is not None and end < start:
            raise _turned(f" ({what})")


def chosen(asked: Asked, there: list[Partition]) -> list[Partition]:
    """The partitions to read: those named, or all. Raises OperatorError for one that is not there, or only ends."""
    for place in (*asked.places, *asked.until_places):
        if place not in there:
            topics = sorted({topic for topic, _ in there})
            count = sum(topic == place[0] for topic, _ in there)
            if not count:
                raise OperatorError(f'"{place[0]}" is no topic that is read.', help=f"those are {', '.join(topics)}")
            raise OperatorError(f"{place[0]} has no partition {place[1]}.", help=f"its partitions are 0 to {count - 1}")
    if not asked.places:
        return there
    for place in asked.until_places:
        if place not in asked.places:
            raise OperatorError(
                f"--until ends {_name(place)}, which is not read: no start names it. Nothing was read.",
                help=f"add a start, as {_name(place)}:0, or end a partition that has one",
            )
    return [place for place in there if place in asked.places]


async def resolve(asked: Asked, places: list[Partition], offsets: Offsets, *, control_topic: str) -> list[Range]:
    """The range of each partition, empty ones left out. Raises OperatorError where what was asked cannot be read."""
    bounds = await offsets.all_bounds(places)
    starts = await _starts(asked, places, offsets, bounds, control_topic)
    ends = await _ends(asked, places, offsets, bounds, control_topic)
    for place, start in starts.items():
        beginning = bounds[place][0]
        at_edge = asked.from_us is not None and start == beginning > 0
        if (start < beginning or at_edge) and not asked.allow_gaps:
            raise _gap(place, start, beginning, by_time=at_edge)
    if ends and all(ends[place] < starts[place] for place in places):
        raise _turned()
    for place in asked.until_places:
        if ends[place] < starts[place]:
            raise _turned(f": {_name(place)} starts at offset {starts[place]:,} and ends at {ends[place]:,}")
    ranges = [Range(*place, max(starts[place], bounds[place][0]), ends[place]) for place in places]
    return [one for one in ranges if one.length]


async def _starts(
    asked: Asked,
    places: list[Partition],
    offsets: Offsets,
    bounds: Mapping[Partition, tuple[int, int]],
    control_topic: str,
) -> dict[Partition, int]:
    if asked.from_us is not None:
        found = await offsets.offsets_at(places, asked.from_us)
        return {place: bounds[place][1] if (at := found[place]) is None else at for place in places}
    if asked.places:
        for place, start in asked.places.items():
            if start > bounds[place][1]:
                raise _beyond(f"{_name(place)} ends", start, bounds[place][1])
        return dict(asked.places)
    start = asked.from_offset or 0
    furthest = max((bounds[place][1] for place in places if place[0] != control_topic), default=0)
    if start > furthest:
        raise _beyond("The partitions end", start, furthest)
    return {place: bounds[place][0] if place[0] == control_topic else min(start, bounds[place][1]) for place in places}


async def _ends(
    asked: Asked,
    places: list[Partition],
    offsets: Offsets,
    bounds: Mapping[Partition, tuple[int, int]],
    control_topic: str,
) -> dict[Partition, int]:
    ends = {place: bounds[place][1] for place in places}
    if asked.until_us is not None:
        found = await offsets.offsets_at(places, asked.until_us)
        return {place: ends[place] if (at := found[place]) is None else at for place in places}
    if asked.until_offset is not None:
        wanted = {place: asked.until_offset for place in places if place[0] != control_topic or asked.places}
        furthest = max((ends[place] for place in wanted), default=0)
        if asked.until_offset > furthest:
            raise _beyond("The partitions end", asked.until_offset, furthest)
        return {place: min(wanted.get(place, end), end) for place, end in ends.items()}
    for place, end in asked.until_places.items():
        if end > ends[place]:
            raise _beyond(f"{_name(place)} ends", end, ends[place])
        ends[place] = end
    return ends


def _gap(place: Partition, start: int, beginning: int, *, by_time: bool) -> OperatorError:
    lost = (
        f"what lies before may be from that time and has expired (offsets 0 to {beginning - 1:,})"
        if by_time
        else f"offsets {start:,} to {beginning - 1:,} have expired"
    )
    return OperatorError(
        f"{_name(place)} begins at offset {beginning:,}: {lost}. Nothing was read.",
        help="--allow-gaps reads what is left",
    )


def _turned(where: str = "") -> OperatorError:
    return OperatorError(f"The end lies before the start{where}; nothing was read.", help="swap the two")


def _beyond(what: str, offset: int, end: int) -> OperatorError:
    return OperatorError(
        f"{what} at offset {end:,}, before {offset:,}; nothing was read.", help=f"name an offset up to {end:,}"
    )


def _name(place: Partition) -> str:
    return f"{place[0]}:{place[1]}"
