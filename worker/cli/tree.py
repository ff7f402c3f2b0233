"""An answer of a dry run in words: the verdict, the sentence, and the tree of conditions below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from worker.cli.output import cell
from worker.events import parse_instant
from worker.rules.catalog.definitions import Badge
from worker.rules.phrases import bound, joined, moment
from worker.rules.rehearse import Answer

_PLACES: Final = 6


def told(answer: Answer, *, user_id: str, at_us: int) -> Iterator[str]:
    """The lines of one answer."""
    badge = answer.badge
    yield headed(badge, badge.key, answer.context, earned=answer.passed, user_id=user_id, at_us=at_us)
    yield f"{answer.explanation.sentence}."
    yield from drawn(answer.explanation.tree)


def headed(badge: Badge | None, key: str, context: str, *, earned: bool, user_id: str, at_us: int) -> str:
    """The verdict on a badge (None: the catalog has it no more), for whom, and as of when."""
    verdict = "EARNED" if earned else "NOT YET"
    label = f" ({badge.label})" if badge is not None and badge.label and badge.label != key else ""
    per = "" if badge is None or badge.per is None else f", {badge.per} {context or '?'}"
    return f"{verdict}  {key}{label} for {user_id}{per} at {moment(at_us)}"


def drawn(tree: Mapping[str, Any]) -> Iterator[str]:
    """The conditions of an explanation, one a line, each below the one it belongs to."""
    yield from _node(tree, "", "")


def _node(node: Mapping[str, Any], first: str, rest: str) -> Iterator[str]:
    """A node's line after `first`, its children's after `rest`."""
    yield first + "  ".join(part for part in _parts(node) if part)
    children = node["children"]
    for number, child in enumerate(children, start=1):
        last = number == len(children)
        yield from _node(child, rest + ("`- " if last else "|- "), rest + ("   " if last else "|  "))


def _parts(node: Mapping[str, Any]) -> Iterator[str]:
    yield "passed" if node["verdict"] == "passed" else "not passed"
    window = node["window"] or {}
    if node["operator"] == "$timeWindow":
        yield f"$timeWindow last {window['last']}" if "last" in window else "$timeWindow"
        yield _span(window)
        return
    events = " or ".join(node["events"])
    yield events if node["operator"] == "event" else f"{events} {node['operator']}".strip()
    yield _figures(node["actual"])
    if node["bound"]:
        yield f"needs {_bounds(node['bound'])}"


def _figures(actual: Any) -> str:
    """What there is: one figure, or several by name."""
    if not isinstance(actual, Mapping):
        return "none" if actual is None else _figure(actual)
    return ", ".join(f"{name} {_figure(value)}" for name, value in actual.items()) or "none"


def _figure(value: Any) -> str:
    """A figure with six decimals at most: JSON has all of them."""
    if not isinstance(value, Decimal) or value == round(value, _PLACES):
        return cell(value)
    return f"{round(value, _PLACES):f}".rstrip("0").rstrip(".")


def _bounds(bounds: Mapping[str, Any]) -> str:
    """What is asked: comparisons of one figure, or thresholds by name."""
    return joined(
        [
            f"{name} {_bounds(operand)}" if isinstance(operand, Mapping) else bound(name, operand)
            for name, operand in bounds.items()
        ]
    )


def _span(window: Mapping[str, Any]) -> str:
    start, end = (window.get(name) for name in ("start", "end"))
    start, end = (None if at is None else moment(parse_instant(at)) for at in (start, end))
    if start and end:
        return f"{start} to {end}"
    return f"since {start}" if start else f"until {end}" if end else ""
