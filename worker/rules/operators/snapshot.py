"""`snapshot`: checks on the catalog's metrics, the named figures of a user.

Written: `{"snapshot": {"owned": {"$gte": 3}, "joined_at": {"$lte": "$NOW(-1y)"}}}`; several are and-ed. Remembered per
user: what each metric does; at most three values (`edges.py`), in a window that moves with now an entry for each of its
events (`sliding.py`), or what its count keeps; read from the event log: nothing as events come, all of the user's after
a late one. Inside a window a metric is of the window's events. Source: the format beyond the documents.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from worker.rules.ir import All, Check, Node, Test
from worker.rules.operators.checks import read_instant_checks, read_number_checks
from worker.rules.operators.filters import intersect
from worker.rules.operators.names import Metric
from worker.rules.operators.place import Operator, Place, described


def read(value: Any, place: Place) -> Node | None:
    """All of the metrics' tests."""
    written = place.object(value, '{"snapshot": {"comments": {"$gte": 10}}}')
    if written is None:
        return None
    if not written:
        place.fault("bad_operand", "snapshot names no metric.", 'Write {"snapshot": {"comments": {"$gte": 10}}}.')
        return None
    tests = [_metric(name, condition, place.at(name)) for name, condition in written.items()]
    found = tuple(test for test in tests if test is not None)
    return All(found, place.path, "snapshot") if len(found) == len(tests) else None


def _metric(name: str, condition: Any, place: Place) -> Test | None:
    if not place.counts():
        return None
    metric = place.names.metric(name, place.path)
    if metric is None:
        return None
    checks = read_instant_checks(condition, place) if metric.instant else read_number_checks(condition, place)
    return None if checks is None else metric_test(metric, checks, place, "snapshot")


def metric_test(
    metric: Metric, checks: tuple[Check, ...], place: Place, operator: str, *, shown_as: str = ""
) -> Test | None:
    """The test of a metric's fact within the window in view; a fault where its contexts are not the badge's."""
    fold = metric.fold
    if fold.per is not None and fold.per != place.names.per:
        place.fault(
            "bad_operand",
            f"The metric {metric.name} is kept per {fold.per}, the badge "
            + (f"is given per {place.names.per}." if place.names.per else "is given once per user."),
            f"Write per: {fold.per} at the badge, or take a metric without per.",
        )
        return None
    fold = replace(fold, match=intersect(place.match, fold.match))
    fact = "at" if metric.instant else metric.fact
    shows = ((fact, shown_as or metric.name),)
    return Test(fold, metric.fact, checks, operator, place.path, shows, (("metric", metric.name),))


def read_threshold(name: Any, threshold: tuple[Check, ...] | None, place: Place, operator: str) -> Test | None:
    """A metric by name, held to checks already read: the milestone rule `count`."""
    text = place.text(name, '"comments"')
    metric = None if text is None else place.names.metric(text, place.path)
    if metric is None or threshold is None:
        return None
    if metric.instant:
        place.fault(
            "bad_operand", f"The metric {metric.name} is a point in time, not {described(0)}.", "Name a counted metric."
        )
        return None
    return metric_test(metric, threshold, place, operator, shown_as="value")


SNAPSHOT = Operator("snapshot", read)
