"""The metrics of all children as those of one worker: added up from their files, labels bounded once more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from prometheus_client import values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from worker.metrics import BoundedLabel


def share_files(number: int) -> None:
    """Keep this process's metrics in files named by the child's number; called before the first metric is made.

    A successor goes on in the same files, so counters never fall and there are never more files than children.
    """
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]


def forget_gauges(number: int, folder: str) -> None:
    """Remove what a dead child's gauges said; its counters stay in the sums."""
    mark_process_dead(number, folder)  # type: ignore[no-untyped-call]


class SharedFiles(Collector):
    """Adds up the files of all children: counters and histograms for good, gauges of those that live."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._bounds = {"badge": BoundedLabel(), "type": BoundedLabel()}
        self._lock = Lock()

    def collect(self) -> Iterator[Metric]:
        """One family per metric; gauges that were set to "not a number" are forgotten ones."""
        # a file that a child has just made is empty for a moment
        files = [str(file) for file in self._folder.glob("*.db") if file.stat().st_size]
        with self._lock:
            families = list(MultiProcessCollector.merge(files, accumulate=True))  # type: ignore[no-untyped-call]
            for family in families:
                family.samples = self._bounded(family)
        yield from families

    def _bounded(self, family: Metric) -> list[Sample]:
        """Each child bounds its own labels; together they might still be too many."""
        kept: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for sample in family.samples:
            if math.isnan(sample.value):
                continue
            labels = {
                key: bound(value) if (bound := self._bounds.get(key)) else value for key, value in sample.labels.items()
            }
            place = (sample.name, tuple(labels.items()))
            if place not in kept:
                kept[place] = sample.value
            elif family.type == "gauge":
                kept[place] = min(kept[place], sample.value)
            else:
                kept[place] += sample.value
        return [Sample(name, dict(labels), value) for (name, labels), value in kept.items()]
