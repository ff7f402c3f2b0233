"""Throws mutated envelopes at the decoder for a while, from another seed each round, beyond what a test run tries.

python -m tests.acceptance.fuzz --seconds 60
"""

from __future__ import annotations

import argparse
import random
import time

from hypothesis import seed

from tests.properties.test_decoder import test_any_bytes_give_an_event_or_a_reason as any_bytes


def main() -> None:
    """Run rounds until the time is over; a round that fails prints its seed and its smallest example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    options = parser.parse_args()
    deadline, rounds = time.monotonic() + options.seconds, 0
    while time.monotonic() < deadline:
        print(f"seed {options.seed + rounds}", flush=True)
        seed(options.seed + rounds)(any_bytes)()
        rounds += 1
    print(f"{rounds} rounds, no exception left the decoder")


if __name__ == "__main__":
    main()
