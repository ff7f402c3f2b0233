"""A tenure: so many years since something first happened, by local dates.

Written in the catalog's `tenures`. Remembered: one event's instant (`edges.First`). 29 February has its anniversary on
28 February or 1 March of a common year, as the catalog's `feb_29` says. Source: the catalog beyond the documents.
"""

from __future__ import annotations

from worker.rules.ir import Check, Fold, Match, Test


def tenure_test(event_type: str, years: int, *, path: str, feb_29: str = "feb_28", per: str | None = None) -> Test:
    """The test that holds from the local day on which the years since the first such event are complete."""
    fold = Fold("first", Match(types=(event_type,)), (), per)
    checks = (Check("$years", (years, feb_29)),)
    return Test(fold, "at_us", checks, "tenure", path, (("at", "since"),), (("years", years),))
