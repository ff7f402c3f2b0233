"""Throws drawn and mutated flows at the reading of catalogs for a while: a plan or located faults must come out.

python -m tests.acceptance.fuzz_grammar --seconds 60
python -m tests.acceptance.fuzz_grammar --seed 1234 --rounds 1      # the flow that failed once more
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

from tests.properties.grammar import check_one, corpus, drawn


def main() -> None:
    """Try one flow a seed until the time is over; what fails is said with its seed and left in a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--rounds", type=int, default=10**9)
    parser.add_argument("--keep-going", action="store_true", help="report every failure, not the first alone")
    options = parser.parse_args()
    flows, failed, rounds = corpus(), 0, 0
    deadline = time.monotonic() + options.seconds
    print(f"seed {options.seed}", flush=True)
    while rounds < options.rounds and time.monotonic() < deadline:
        draw = random.Random(options.seed + rounds)
        flow = drawn(draw, flows)
        try:
            check_one(flow, draw)
        except Exception as error:
            failed += 1
            file = Path(f"flow-{options.seed + rounds}.json")
            file.write_text(flow, encoding="utf-8")
            print(f"seed {options.seed + rounds}, kept as {file}: {type(error).__name__}: {str(error)[:500]}")
            if not options.keep_going:
                raise
        rounds += 1
    if failed:
        raise SystemExit(f"{failed} of {rounds:,} flows failed")
    print(f"{rounds:,} flows, each a plan or located faults, within a second and 100 MB")


if __name__ == "__main__":
    main()
