"""The tree of a dry run in words: figures short enough to read, exact enough to compare."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from worker.cli.tree import _figures


@pytest.mark.parametrize(
    ("actual", "shown"),
    [
        (None, "none"),
        (1269, "1,269"),
        (Decimal("0.15"), "0.15"),
        ({"average": Decimal("1.3333333333333333"), "is_consistent": False}, "average 1.333333, is_consistent no"),
        (
            {"max_deviation": Decimal("0.12345678"), "period_counts": [1, 2]},
            "max_deviation 0.123457, period_counts [1,2]",
        ),
        ({}, "none"),
    ],
)
def test_figures_have_six_decimals_at_most(actual: Any, shown: str) -> None:
    """A figure is shown with its name, cut where nobody reads on; what is shorter stays as it is."""
    assert _figures(actual) == shown
