"""The order in which a community's events arrive changes nothing about who holds which badge.

`BADGES_TEST_SEEDS` says which orders: `7`, `1-5`, `3,9`.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.acceptance.test_chaos import seeds


@pytest.mark.shuffled
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", seeds(os.environ.get("BADGES_TEST_SEEDS", "1")))
def test_a_shuffled_stream_gives_the_awards_of_the_true_order(seed: int) -> None:
    """Awards stored and published name the users, badges and contexts that brute force over the sorted history does."""
    command = [sys.executable, "-m", "tests.acceptance.shuffled", "--seed", str(seed)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
