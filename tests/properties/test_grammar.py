"""Whatever stands where a flow should: a plan or located faults, in bounded time and memory."""

from __future__ import annotations

import random

import pytest

from tests.properties.grammar import check_one, corpus, drawn

FLOWS = corpus()
#: What was found wrong once: numbers beyond every exponent, words as long as a text may be, very many of them, one key
#: again and again, many expressions that are each of thousands of steps.
FOUND = (
    '{"event": "a", "criteria": {"n": 1e999999999999999999999}}',
    '{"event": "a", "criteria": {"n": {"$gt": -1E-99999999999999999999}}}',
    '{"event": "a", "criteria": {"$eventCount": {"$between": "1,1e999999999"}}}',
    '{"event": "a", "criteria": {"$eventCount": {"$between": "1,1.5"}}}',
    f'{{"${"x" * 9_000}": 1, "event": "a"}}',
    f'{{"event": "a", "criteria": {{"${"x" * 9_000}": 1, "payload": {{"${"x" * 9_000}": 1}}}}}}',
    f'{{"event": "a", "criteria": {{"n": {{"${"x" * 9_000}": 1}}, "$eventCount": {{"${"x" * 9_000}": 1}}}}}}',
    "{" + ",".join(f'"k{number}": 1' for number in range(2_000)) + "}",
    '{"event": "a", "criteria": {' + ",".join(['"f": 1'] * 20_000) + "}}",
    '{"event": "a", "criteria": {' + ",".join(f'"f{n}": {{"$regex": "\\\\pL{{{n}}}"}}' for n in range(1, 200)) + "}}",
)


@pytest.mark.parametrize("block", range(4))
def test_any_flow_gives_a_plan_or_located_faults(block: int) -> None:
    """Flows drawn and mutated at random are compiled and played, or refused with codes and places; none raises."""
    for number in range(50):
        draw = random.Random(1_000 * block + number)
        check_one(drawn(draw, FLOWS), draw)


@pytest.mark.parametrize("flow", FOUND, ids=lambda flow: flow[:60])
def test_what_was_found_once_is_refused(flow: str) -> None:
    """Each of these is a located fault, said in a sentence of bounded length."""
    check_one(flow, random.Random(1))
