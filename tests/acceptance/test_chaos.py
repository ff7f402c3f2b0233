"""Nothing is lost and nothing doubled while workers, broker and database are killed.

`BADGES_TEST_SEEDS` says which runs: `7`, `1-20`, `3,9`. What passed is noted in `.cache/chaos` by commit and seed, so
that a row of runs that was broken off goes on where it was.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def seeds(text: str) -> list[int]:
    """The seeds of a list of numbers and ranges."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def passed(seed: int) -> Path | None:
    """Where it is noted that a seed passed on this commit; None where files differ from it, or there is no git."""
    try:
        state = [
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["status", "--porcelain"], ["rev-parse", "HEAD"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return None if state[0] else ROOT / ".cache" / "chaos" / f"{state[1]}-{seed}"


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", seeds(os.environ.get("BADGES_TEST_SEEDS", "20261121")))
def test_awards_are_exact_while_everything_is_killed(seed: int) -> None:
    """Awards stored and published equal brute force after workers, broker and database were killed mid-stream."""
    note = passed(seed)
    if note is not None and note.exists():
        print(f"seed {seed} passed on this commit before")
        return
    command = [sys.executable, "-m", "tests.acceptance.chaos", "--seed", str(seed), "--seconds", "60"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    if note is not None:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(ran.stdout)
