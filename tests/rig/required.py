"""What a test cannot do without: where it is missing the test is skipped, or fails where it is required.

`BADGES_TEST_REQUIRE` names what a machine must have, with commas between: kafka, postgres, promtool,
browser, curl, wheel (PostgreSQL's programs as a Python package).
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

#: All that can be asked for.
NAMES = ("kafka", "postgres", "promtool", "browser", "curl", "wheel")
#: Whether a run takes its time, as CI does: what takes long has `skipif(not DEEP)`, or tries fewer examples.
DEEP = os.environ.get("BADGES_TEST_PROFILE", "dev") != "dev"


def required(name: str) -> bool:
    """Whether `BADGES_TEST_REQUIRE` names it: then that it is missing is a failure, never a skip."""
    assert name in NAMES, name
    return name in os.environ.get("BADGES_TEST_REQUIRE", "").replace(" ", "").split(",")


def missing(name: str, why: str) -> NoReturn:
    """End a test that lacks something: a failure where that is required, else a skip."""
    if required(name):
        pytest.fail(f"BADGES_TEST_REQUIRE asks for {name}: {why}")
    pytest.skip(why)
