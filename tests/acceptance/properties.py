"""Tries every property with 2,000 examples and the grammar for ten minutes, two at a time, each piece once a commit.

python -m tests.acceptance.properties [--examples 2000] [--seconds 600] [PART OF A NAME …]

What passed is noted in `.cache/properties` by commit and piece, so that a run that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FUZZ = "tests.acceptance.fuzz_grammar"


def pieces() -> list[str]:
    """The grammar's fuzz, and the properties, each with all its parameters."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "hypothesis", "tests/properties"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [line.partition("[")[0] for line in said.stdout.splitlines() if "::" in line]
    if not found:
        raise SystemExit(f"no property was found:\n{said.stdout}{said.stderr}")
    return [FUZZ, *dict.fromkeys(found)]


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
    size = options.seconds if piece == FUZZ else options.examples
    note = None if folder is None else folder / f"{piece.replace('/', '.').replace(':', '.')}-{size}"
    if note is not None and note.exists():
        return piece, True, "passed on this commit before"
    if piece == FUZZ:
        command = ["-m", FUZZ, "--seconds", str(size)]
    else:
        command = ["-m", "pytest", "-q", "--timeout=1800", "-p", "no:cacheprovider", piece]
    began = time.monotonic()
    environment = {**os.environ, "BADGES_TEST_PROFILE": "acceptance", "BADGES_TEST_EXAMPLES": str(options.examples)}
    ran = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        return piece, False, ran.stdout + ran.stderr
    if note is not None:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(ran.stdout)
    return piece, True, f"passed in {time.monotonic() - began:.0f} s"


def main() -> None:
    """Say of each piece how it went; exit 1 where one failed, its output above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only pieces with one of these in their name")
    parser.add_argument("--examples", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    chosen = [piece for piece in pieces() if not options.names or any(name in piece for name in options.names)]
    folder, failed = notes(), 0
    with ThreadPoolExecutor(2) as lanes:
        for number, (piece, passed, said) in enumerate(lanes.map(lambda one: tried(one, options, folder), chosen), 1):
            failed += not passed
            print(f"{number} of {len(chosen)} {piece}: {'' if passed else 'FAILED' + chr(10)}{said}", flush=True)
    print(f"{len(chosen)} pieces with {options.examples:,} examples each: {failed or 'none'} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
