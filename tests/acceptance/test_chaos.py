"""Nothing is lost and nothing doubled while workers, broker and database are killed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_awards_are_exact_while_everything_is_killed() -> None:
    """Awards stored and published equal brute force after workers, broker and database were killed mid-stream."""
    seed = os.environ.get("BADGES_TEST_SEED", "20261121")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.chaos", "--seed", seed], capture_output=True, text=True, check=False
    )
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
