"""Warnings: what works, but hardly as its author meant it."""

from __future__ import annotations

from collections.abc import Iterable

from worker.errors import Fault
from worker.rules.catalog.definitions import Badge
from worker.rules.catalog.document import escape
from worker.rules.normalize import true_on_empty


def warnings(badges: Iterable[Badge], metrics: Iterable[str], used: set[str]) -> list[Fault]:
    """`true_on_empty` and `unused_metric`; `name_style` and `no_effect` are found where names and flows are read."""
    found = [
        Fault(
            "true_on_empty", f"{badge.path}/flow", f"{badge.key} holds for a user without any event.",
            "Ask for something that happened as well: {$and: [{event: …}, …]}.", "warning",
        )
        for badge in badges
        if badge.kind == "badge" and true_on_empty(badge.formula)
    ]  # fmt: skip
    for name in metrics:
        if name not in used:
            path = f"/metrics/{escape(name)}"
            message = f'No badge, ladder or milestone looks at the metric "{name[:60]}".'
            found.append(Fault("unused_metric", path, message, "Delete it, or write a badge that uses it.", "warning"))
    return found
