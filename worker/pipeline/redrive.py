"""Tries dead letters again, as the records they are: what is an event by now is applied, the rest says why it is not.

They go through the same transaction as a batch, but stand in no partition's line: nothing is fenced, no offset moves.
An event without an id gets that of its original coordinates, so one that came in meanwhile is a duplicate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple
from uuid import uuid4

from worker.errors import BadgesError, PoisonBatch
from worker.events import Record, Rejected
from worker.exchange import Claim, DeadLetter
from worker.pipeline.batch import Applier
from worker.pipeline.facts import BatchFacts
from worker.pipeline.protocols import Transaction


class Tried(NamedTuple):
    """A dead letter with its number, as the record it was."""

    number: int
    record: Record
    incarnation: int


@dataclass(slots=True)
class Redriven:
    """What came of dead letters: `passed` are events now (`known` of them were logged already).

    `kept` are none, by the reason they have now; of the `lost` the topic no longer holds the record. `seen` is how many
    were looked at.
    """

    seen: int = 0
    tried: int = 0
    passed: int = 0
    known: int = 0
    lost: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    awards: Counter[tuple[str, str]] = field(default_factory=Counter)


class _Undone(BadgesError):
    """A trial that ends without effect."""


async def redrive(applier: Applier, letters: Sequence[Tried], total: Redriven, *, dry: bool) -> None:
    """Apply what is an event by now and note the rest, one transaction for each partition; adds to `total`.

    `dry`: everything is tried and undone. The applier's limits must say `past`. Raises CatalogMoved, TransientError:
    then the partitions before are done, and those after are as they were.
    """
    for group in _groups(letters):
        await _together(applier, group, total, dry=dry)


def _groups(letters: Sequence[Tried]) -> Iterator[list[Tried]]:
    def line(one: Tried) -> tuple[str, int, int]:
        return one.record.topic, one.record.partition, one.incarnation

    ordered = sorted(letters, key=lambda one: (*line(one), one.record.offset))
    for _, group in groupby(ordered, line):
        yield list(group)


async def _together(applier: Applier, group: list[Tried], total: Redriven, *, dry: bool) -> None:
    try:
        await _apply(applier, group, total, dry=dry)
    except PoisonBatch as poison:
        if len(group) > 1:
            half = len(group) // 2
            await _together(applier, group[:half], total, dry=dry)
            await _together(applier, group[half:], total, dry=dry)
        else:
            rejected = Rejected("invalid_field", f"The database could not store it: {poison.message}")
            await _apply(applier, group, total, dry=dry, refused=rejected)


async def _apply(
    applier: Applier, group: list[Tried], total: Redriven, *, dry: bool, refused: Rejected | None = None
) -> None:
    numbers = {one.record.offset: one.number for one in group}
    records = [one.record for one in group]
    told = Redriven()

    async def settle(transaction: Transaction, letters: Sequence[DeadLetter], facts: BatchFacts) -> None:
        kept = {numbers[letter.offset]: letter for letter in letters}
        told.tried, told.passed, told.known = len(group), len(group) - len(kept), facts.duplicates
        told.kept.update(letter.reason for letter in letters)
        told.awards.update(facts.awards)
        await transaction.redriven([number for number in numbers.values() if number not in kept], kept)
        if dry:
            raise _Undone

    first = records[0]
    claim = Claim(first.topic, first.partition, uuid4(), 0, group[0].incarnation, first.offset, None, None, 0)
    try:
        await applier.apply(
            claim,
            records,
            from_offset=first.offset,
            refused=None if refused is None else {first.offset: refused},
            settle=settle,
        )
    except _Undone:
        pass
    finally:
        applier.forget(claim)
    total.tried += told.tried
    total.passed += told.passed
    total.known += told.known
    total.kept.update(told.kept)
    total.awards.update(told.awards)
