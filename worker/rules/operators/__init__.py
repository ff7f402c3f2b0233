"""The table of operators: how authors write each, what is remembered for it, how its test is built.

What is not in these tables is refused. Signatures that plan and evaluation use:

    FLOW_OPERATORS, CRITERIA_OPERATORS: word -> Operator (`place.py`), what may stand as a flow and inside `criteria`
    KINDS: name -> Kind, TRAILS: name -> Trail          (`fold.kind` names one of them)
    memory(fold) -> Kind | Trail                        a window around it where the match has moving bounds
    params_of(fold) -> dict                             dict(fold.params), with "cap" where the fold has one
    Kind:  lift(event, params, calendar) -> state | None · merge(a, b, cap=None) · step(state, event, params, calendar)
           facts(state, params) -> dict · level(state) -> int · unit_fact: str | None
    Trail: step(state, event, params, calendar) · facts(state, now_us, params, calendar) -> dict
    VERDICTS: word -> Verdict                           decides tests of this `operator`, not their checks and shows
    always(test) -> bool                                whether a test asks for nothing and only shows
    moving.may_cap(fold) -> bool                        whether `cap = K` is safe for `unit fact >= K` in a window
    calendar.Calendar(zone): period · ordinal · local_date · shift(us, moment) · drops(us, days) · anniversary
    calendar.period_name(kind, key) -> "2024-W08"
    values.compile_clause(clause) -> (payload) -> bool · values.lookup(payload, field) -> value | MISSING
    facts.check_fact(check, value, now_us, calendar) -> bool         value: a fact, exactly as facts() gave it
    facts.figure(value) -> JSON number                               a fact as it stands in metadata
    tenure.tenure_test(event_type, years, path=…, feb_29=…) -> Test   for the catalog's tenures

`step` returns the same object where the event changes nothing. Facts are exact: int, Decimal or Fraction; instants are
microseconds under names ending in `_us`; None is "there is none" and passes no check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.rules.ir import Fold, Test
from worker.rules.operators.aggregate import AGGREGATE
from worker.rules.operators.badge import BADGE
from worker.rules.operators.condition import CONDITION, Answers
from worker.rules.operators.count import Count
from worker.rules.operators.distinct import Distinct
from worker.rules.operators.distinct_count import DISTINCT_COUNT
from worker.rules.operators.duration import DURATION, duration_verdict
from worker.rules.operators.edges import First, Last
from worker.rules.operators.event_count import EVENT_COUNT
from worker.rules.operators.facts import Verdict
from worker.rules.operators.gap import GAP, gap_verdict
from worker.rules.operators.gauge import Gauge
from worker.rules.operators.kind import Kind, Trail
from worker.rules.operators.latch import Within
from worker.rules.operators.logic import AND, NOT, OR
from worker.rules.operators.login import Logins
from worker.rules.operators.moving import Moving
from worker.rules.operators.newest import Newest
from worker.rules.operators.number import Numbers
from worker.rules.operators.paired import Paired
from worker.rules.operators.pairs import Pairs
from worker.rules.operators.pattern import PATTERN, pattern_verdict
from worker.rules.operators.pauses import Pauses
from worker.rules.operators.periods import Periods
from worker.rules.operators.place import Operator
from worker.rules.operators.sequence import SEQUENCE
from worker.rules.operators.settled import Settled, only_fills
from worker.rules.operators.sliding import Behind, Sliding, is_behind
from worker.rules.operators.snapshot import SNAPSHOT
from worker.rules.operators.stepped import Stepped
from worker.rules.operators.steps import Steps
from worker.rules.operators.tallied import Tallied
from worker.rules.operators.tally import Tally
from worker.rules.operators.tenure import Since
from worker.rules.operators.time_period import TIME_PERIOD
from worker.rules.operators.time_window import TIME_WINDOW
from worker.rules.operators.within import WITHIN_TIME_WINDOW, within_verdict

FLOW_OPERATORS: Mapping[str, Operator] = {
    operator.name: operator
    for operator in (
        *(TIME_PERIOD, PATTERN, GAP, SEQUENCE, DURATION, AGGREGATE, TIME_WINDOW, WITHIN_TIME_WINDOW),
        *(AND, OR, NOT, SNAPSHOT, BADGE),
    )
}
CRITERIA_OPERATORS: Mapping[str, Operator] = {
    operator.name: operator
    for operator in (EVENT_COUNT, TIME_PERIOD, PATTERN, GAP, AGGREGATE, DISTINCT_COUNT, CONDITION)
}

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (Count(), Gauge(), Numbers(), Distinct(), Periods(), Tally(), First(), Last(), Since(), Answers())
}

VERDICTS: Mapping[str, Verdict] = {
    GAP.name: gap_verdict,
    DURATION.name: duration_verdict,
    PATTERN.name: pattern_verdict,
    WITHIN_TIME_WINDOW.name: within_verdict,
}


def memory(fold: Fold) -> Kind | Trail:
    """What keeps this fold: its kind or trail, or a moving window around that."""
    kept = KINDS.get(fold.kind) or TRAILS[fold.kind].of(dict(fold.params))
    if not fold.match.bounds:
        return kept
    moving = Moving(kept, fold.match.bounds, fold.cap)
    if only_fills(fold.match.bounds) and (kept.joins or WINDOWS.get(fold.kind) is Newest):
        return Settled(moving)
    if not is_behind(fold.match.bounds):
        return moving
    if fold.kind == Count.name and (moving.keeps_window or fold.cap is not None):
        return moving
    window = WINDOWS.get(fold.kind, Sliding if kept.joins else None)
    return moving if window is None else window(moving)


#: What keeps a moving window of some kinds, where now bounds it on its far side only; of those that join, `Sliding`.
WINDOWS: Mapping[str, type[Behind]] = {
    "distinct": Newest,
    "periods": Newest,
    "tally": Tallied,
    "steps": Stepped,
    "pairs": Paired,
}

TRAILS: Mapping[str, Trail] = {
    trail.name: trail for trail in (Logins(), Pauses(), Steps(), Pairs(), Within(memory, VERDICTS))
}


def always(test: Test) -> bool:
    """Whether a test holds whatever is remembered: it has no checks, and no verdict in place of them."""
    return not test.checks and test.operator not in VERDICTS


def params_of(fold: Fold) -> dict[str, Any]:
    """The parameters its methods take: the fold's own, and its cap where the kind itself keeps a bounded set."""
    params = dict(fold.params)
    if fold.cap is not None and not fold.match.bounds:
        params["cap"] = fold.cap
    return params
