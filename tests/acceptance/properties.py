"""Tries every property with 2,000 examples and the grammar for ten minutes, two at a time, each piece once a commit.

python -m tests.acceptance.properties [--examples 2000] [--seconds 600] [PART OF A NAME …]

A piece is a property, or of one that is tried for several things that for one of them; what took longest the last time
is begun first, so that both end together. What passed is noted in `.cache/properties` by commit and piece, so that a
run that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import glob
import math
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FUZZ = "tests.acceptance.fuzz_grammar"


def pieces() -> list[str]:
    """The grammar's fuzz, and the properties, each parameter of one a piece of its own."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "hypothesis", "tests/properties"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [line for line in said.stdout.splitlines() if "::" in line]
    if not found:
        raise SystemExit(f"no property was found:\n{said.stdout}{said.stderr}")
    return [FUZZ, *found]


def note_name(piece: str, options: argparse.Namespace) -> str:
    """What a piece's note is called; of one that was tried less thoroughly it is another."""
    return f"{piece.replace('/', '.').replace(':', '.')}-{options.seconds if piece == FUZZ else options.examples}"


def seconds_before(name: str) -> float:
    """How long a piece took when it last passed, on any commit; infinite where that is not known."""
    found = max((ROOT / ".cache" / "properties").glob(f"*/{glob.escape(name)}"), key=os.path.getmtime, default=None)
    first = "" if found is None else found.read_text().partition("\n")[0]
    return float(first) if first.replace(".", "", 1).isdigit() else math.inf


def notes() -> Path | None:
    """Where this commit's pieces are noted; None where files differ from it, or there is no git."""
    try:
        state = [
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["status", "--porcelain"], ["rev-parse", "HEAD"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return None if state[0] else ROOT / ".cache" / "properties" / state[1]


def tried(piece: str, options: argparse.Namespace, folder: Path | None) -> tuple[str, bool, str]:
    """The piece, whether it passed, and what it said."""
    note = None if folder is None else folder / note_name(piece, options)
    if note is not None and note.exists():
        return piece, True, "passed on this commit before"
    if piece == FUZZ:
        command = ["-m", FUZZ, "--seconds", str(options.seconds)]
    else:
        command = ["-m", "pytest", "-q", "--timeout=1800", "-p", "no:cacheprovider", piece]
    began = time.monotonic()
    environment = {**os.environ, "BADGES_TEST_PROFILE": "acceptance", "BADGES_TEST_EXAMPLES": str(options.examples)}
    ran = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    took = time.monotonic() - began
    if ran.returncode:
        return piece, False, ran.stdout + ran.stderr
    if note is not None:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{took:.1f}\n{ran.stdout}")
    return piece, True, f"passed in {took:.0f} s"


def main() -> None:
    """Say of each piece how it went; exit 1 where one failed, its output above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only pieces with one of these in their name")
    parser.add_argument("--examples", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    chosen = [piece for piece in pieces() if not options.names or any(name in piece for name in options.names)]
    # The sort keeps the order of what was never run, which is before all that was.
    chosen.sort(key=lambda piece: -seconds_before(note_name(piece, options)))
    folder, failed, began = notes(), 0, time.monotonic()
    with ThreadPoolExecutor(2) as lanes:
        running = [lanes.submit(tried, one, options, folder) for one in chosen]
        for number, (piece, passed, said) in enumerate((done.result() for done in as_completed(running)), 1):
            failed += not passed
            print(f"{number} of {len(chosen)} {piece}: {'' if passed else 'FAILED' + chr(10)}{said}", flush=True)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes, cpu = (time.monotonic() - began) / 60, (spent.ru_utime + spent.ru_stime) / 60
    print(f"{len(chosen)} pieces with {options.examples:,} examples each: {failed or 'none'} failed; ", end="")
    print(f"{minutes:.1f} minutes, {cpu:.1f} of CPU")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
