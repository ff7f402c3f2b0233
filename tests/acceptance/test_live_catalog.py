"""A badge that comes while events flow is given to exactly those who earned it, whoever is killed meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.live_catalog
@pytest.mark.timeout(600)
def test_a_level_added_under_load_is_given_exactly() -> None:
    """A level and a badge added mid-stream, two of three workers killed: holders and instants are those of a count."""
    seconds = os.environ.get("BADGES_TEST_SECONDS", "45")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.live_catalog", "--seconds", seconds],
        capture_output=True,
        text=True,
        check=False,
    )
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
