"""How far live work is behind is found by looking where partitions end, and how far they were applied."""

from __future__ import annotations

from worker.app.live_lag import Backlog

ONE, OTHER = ("events", 0), ("events", 1)


def test_what_was_there_at_a_look_and_is_not_applied_has_waited_since() -> None:
    """The first look knows nothing; later ones know how long the oldest record they saw has waited at least."""
    backlog = Backlog()
    assert backlog.look(0.0, {ONE: 100}, {ONE: 40}) == 0.0
    assert backlog.look(1.0, {ONE: 150}, {ONE: 90}) == 1.0
    # all that was seen at 0.0 is applied, of what was seen at 1.0 some waits
    assert backlog.look(2.5, {ONE: 200}, {ONE: 100}) == 1.5
    assert backlog.look(3.0, {ONE: 200}, {ONE: 199}) == 0.5
    assert backlog.look(4.0, {ONE: 200}, {ONE: 200}) == 0.0


def test_a_group_that_keeps_up_is_not_behind() -> None:
    """However many records wait, who has applied by each look what was there at the one before is not behind."""
    backlog = Backlog()
    found = [backlog.look(at, {ONE: 20_000 * at + 9_000}, {ONE: 20_000 * at}) for at in range(10)]
    assert found == [0.0] * 10


def test_the_slowest_partition_counts() -> None:
    """One partition that is behind is enough; one that is given no more is forgotten."""
    backlog = Backlog()
    backlog.look(0.0, {ONE: 10, OTHER: 10}, {ONE: 0, OTHER: 0})
    assert backlog.look(3.0, {ONE: 10, OTHER: 10}, {ONE: 10, OTHER: 9}) == 3.0
    assert backlog.look(4.0, {ONE: 10}, {ONE: 10}) == 0.0
    assert backlog.look(5.0, {ONE: 10, OTHER: 10}, {ONE: 10, OTHER: 9}) == 0.0


def test_a_long_wait_takes_little_memory() -> None:
    """Looks of an hour in which nothing is applied are thinned out; the first of them is kept."""
    backlog = Backlog()
    found = [backlog.look(float(at), {ONE: 1 + at}, {ONE: 0}) for at in range(3600)]
    assert found == [float(at) for at in range(3600)]
    assert len(backlog._ends[ONE]) <= 64
