"""Flows as nobody should write them: drawn from the grammar, then mutated, deepened, widened; and what must hold."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from worker.bench.cpu import memory_mb
from worker.errors import Fault
from worker.events import Event
from worker.events.dictionary import NAME
from worker.events.json_text import dumps, loads
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.load import Source, read
from worker.rules.evaluate import apply, explain
from worker.rules.plan import compile_plan
from worker.rules.state import UserState
from worker.rules.takes import Takes

CASES = Path(__file__).parents[1] / "cases"
MOST_BYTES = 256 * 1024
MOST_SECONDS = 1.0
MOST_MB = 100.0
#: Below this size a flow is not worth the time that measuring its memory takes.
_WORTH_MEASURING = 16 * 1024

WORDS = (
    *("event", "criteria", "payload", "timestamp", "snapshot", "badge", "steps", "condition", "pattern"),
    *("$and", "$or", "$not", "$timeWindow", "$withinTimeWindow", "$timePeriod", "$eventCount", "$distinctCount"),
    *("$aggregate", "$pattern", "$sequence", "$gap", "$duration", "$condition"),
    *("$eq", "$ne", "$neq", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$between"),
    *("$contains", "$startsWith", "$endsWith", "$regex", "flow", "last", "start", "end", "businessDaysOnly"),
    *("holidays", "window", "conditions", "periodType", "periodCount", "excludeWeekends", "excludeHolidays"),
    *("field", "property", "type", "function", "value", "result", "sequence", "maxGapSeconds", "requireStrict"),
    *("minGapHours", "maxGapHours", "startEvent", "endEvent", "matchProperty", "duration", "unit", "params"),
    *("minPeriods", "maxDeviation", "minIncreasePct", "maxDecreasePct", "n", "o.p", "", "$", "$$", "~", "/", "~1"),
)
TEXTS = (
    *("a", "b.done", "day", "week", "quarter", "year", "30d", "2w", "1m", "999999999y", "24h", "15min", "0d", "-5d"),
    *("$NOW", "$NOW()", "$NOW(-30d)", "$NOW(-1y-3M)", "$NOW(+999999999y)", "$NOW(-999999999s)", "$NOW(" + "-1d" * 999),
    *("2024-02-29T23:59:60Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999+14:00", "2024-13-01T00:00:00Z"),
    *(
        "consistent",
        "increasing",
        "decreasing",
        "hours",
        "seconds",
        "sum",
        "avg",
        "count",
        "5",
        "1,2",
        "2,1",
        ",",
        "-0",
    ),
    *("1,1e999999999", "1e5,1e6", "NaN,5", "1_0,20", "٣,5"),
    *(
        "DE",
        "US-CA",
        "ZZ",
        "company",
        "2024-12-25",
        "m1",
        "comments",
        "(a*)*b",
        "(" * 500,
        "a{1000}{1000}",
        r"\p{Greek}",
    ),
    *("[^" + "a-z" * 200 + "]", "(?i)", "\\", "(?P<x>a)(?P<x>b)", "(?=a)", "x{0,1001}", "٣", "Ω≈ç√", "\u202eabc", "é"),
    *("\U0001f600", "a\u0300" * 50, "\ufeff", "\u2028", " ", "\t", "\x7f", "İ", "ß", "ﬀ", "𝟛", "x" * 5000, "🏳️‍🌈"),
)
#: Texts that JSON can only say by escapes: half pairs and NUL.
ESCAPED = ('"\\ud800"', '"\\u0000"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"')
NUMBERS = (
    *("0", "-0", "1", "-1", "2", "0.15", "1e0", "1.0", "0.1e1", "5e-324", "1e308", "-1e308", "1E-308", "1e309"),
    *("1e999999999", "1E-999999999999999999999", "9" * 38, "9" * 39, "9" * 5000, "0." + "0" * 300 + "1", "1e-400"),
    *("2147483648", "9007199254740993", "18446744073709551616", "1000000000", "1000000001", "0.30000000000000004"),
    *("NaN", "Infinity", "-Infinity", "1e+0", "00", "+1", ".5"),
)
PLAIN = ("null", "true", "false", "[]", "{}", '""', "[null]", '{"":{}}', '{"$":1}', "[[]]")

Draw = random.Random


def corpus() -> list[Any]:
    """Flows to start from: the published ones, right and wrong."""
    files = ("cases.json", "invalid_cases.json")
    found = [case["flow"] for file in files for case in json.loads((CASES / file).read_text(encoding="utf-8"))]
    return [flow for flow in found if "milestone" not in flow]


def texts(tree: Any) -> Iterator[str]:
    """Every text that stands as a value in a tree."""
    if isinstance(tree, str):
        yield tree
    for item in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from texts(item)


class Raw(str):
    """JSON text that stands in a tree of Python data as it is."""

    __slots__ = ()


def leaf(draw: Draw) -> Any:
    """A value without structure of its own, likely or not."""
    kind = draw.randrange(10)
    if kind < 4:
        return draw.choice(TEXTS)
    if kind < 7:
        return Raw(draw.choice(NUMBERS))
    return Raw(draw.choice(PLAIN)) if kind < 9 else Raw(draw.choice(ESCAPED))


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in inner:
            found.append((node, key))
            waiting.append(value)
    return found


def mutate(tree: Any, draw: Draw, flows: list[Any]) -> Any:
    """The tree with one thing changed: a value, a key, a subtree, how deep or wide it is."""
    tree = copied(tree)
    spots = places(tree)
    if not spots:
        return leaf(draw)
    node, key = draw.choice(spots)
    match draw.randrange(8):
        case 0 | 1:
            node[key] = leaf(draw)
        case 2:
            node[key] = copied(draw.choice(flows))
        case 3 if isinstance(node, dict):
            node[draw.choice(WORDS)] = node.pop(key)
        case 4 if isinstance(node, dict):
            node[draw.choice((*WORDS, *TEXTS))] = draw.choice((leaf(draw), copied(draw.choice(flows))))
        case 5:
            other, there = draw.choice(spots)
            node[key] = copied(other[there]) if there_is(other, there) else leaf(draw)
        case 6:
            node[key] = [node[key]] * draw.choice((0, 1, 2, 50))
        case _:
            del node[key]
    return tree


def there_is(node: Any, key: Any) -> bool:
    """Whether a place is still there after a change."""
    return key in node if isinstance(node, dict) else key < len(node)


def copied(tree: Any) -> Any:
    """A copy whose containers are its own."""
    if isinstance(tree, dict):
        return {key: copied(value) for key, value in tree.items()}
    return [copied(value) for value in tree] if isinstance(tree, list) else tree


def text_of(tree: Any) -> str:
    """The tree as JSON; what is Raw as it stands."""
    if isinstance(tree, Raw):
        return str(tree)
    if isinstance(tree, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{text_of(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(map(text_of, tree)) + "]"
    return json.dumps(tree)


# -- flows that are large ----------------------------------------------------------------------------------------------

_LEAF = '{"event":"a","criteria":{"n":{"$gte":1}}}'


def deep(draw: Draw, size: int) -> str:
    """One operator within another, from a few levels to as many as fit."""
    opening, closing = draw.choice(
        (
            ('{"$not":', "}"),
            ('{"$and":[', "]}"),
            ('{"$or":[{"event":"a"},', "]}"),
            ('{"$timeWindow":{"last":"1d","flow":', "}}"),
            ('{"$timeWindow":{"start":"$NOW(-1M)","businessDaysOnly":true,"flow":', "}}"),
            ('{"$withinTimeWindow":{"window":"1h","conditions":', "}}"),
            ('{"event":"a","criteria":{"n":', "}}"),
            ('{"event":"a","criteria":{"payload":{"n":{"$eq":', "}}}}"),
            ("[", "]"),
            ('{"a":', "}"),
        )
    )
    most = (size - len(_LEAF)) // (len(opening) + len(closing))
    levels = draw.choice((5, 28, 31, 32, 33, 100, 1_000, most))
    levels = min(levels, most)
    return opening * levels + _LEAF + closing * levels


def wide(draw: Draw, size: int) -> str:
    """Very many of one thing, side by side."""
    before, each, after = draw.choice(
        (
            ('{"$and":[', lambda n: f'{{"event":"a","criteria":{{"n":{n}}}}}', "]}"),
            ('{"$or":[', lambda n: _LEAF, "]}"),
            ('{"$or":[', lambda n: f'{{"$timeWindow":{{"last":"{n % 900 + 1}d","flow":{_LEAF}}}}}', "]}"),
            ('{"$and":[', lambda n: "{}", "]}"),
            ('{"$and":[', lambda n: f'{{"$nope{n}":1}}', "]}"),
            ('{"$and":[', lambda n: f'{{"evnt":{n}}}', "]}"),
            ('{"event":"a","criteria":{', lambda n: f'"f{n}":{{"$gte":{n}}}', "}}"),
            ('{"event":"a","criteria":{', lambda n: f'"$eventCount{n}":{{"$gte":{n}}}', "}}"),
            ('{"event":"a","criteria":{"n":{', lambda n: f'"$gte{n}":{n}', "}}}"),
            ('{"event":"a","criteria":{"n":{"$in":[', lambda n: f'"v{n}"', "]}}}"),
            ('{"event":"a","criteria":{"n":{"$in":[', lambda n: f"[{n}]", "]}}}"),
            ('{"event":"a","criteria":{"n":{"$eq":{', lambda n: f'"k{n}":{n}', "}}}}"),
            ('{"event":"a","criteria":{"n":[', lambda n: "[[1]]", "]}}"),
            ('{"$sequence":{"sequence":[', lambda n: '"a"' if n % 2 else '"b.done"', "]}}"),
            ('{"$sequence":{"sequence":[', lambda n: f'"t{n}"', "]}}"),
            ('{"$timePeriod":{"periodType":"day","excludeHolidays":true,"holidays":[',
             lambda n: f'"2{n % 1000:03}-01-0{n % 9 + 1}"', "]}}"),
            ('{"$timePeriod":{"periodType":"day",', lambda n: f'"k{n}":{n}', "}}"),
            ('{"snapshot":{', lambda n: f'"m{n}":{{"$gte":{n}}}', "}}"),
            ('{"$duration":{"endEvent":{"type":"b.done"},"startEvent":{"type":"a",', lambda n: f'"f{n}":{n}', "}}}"),
            ("{", lambda n: f'"k{n}":{n}', "}"),
            ("[", lambda n: "0", "]"),
        )
    )  # fmt: skip
    parts: list[str] = []
    left = draw.choice((2_000, 40_000, size)) - len(before) - len(after)
    for number in range(10**6):
        part = each(number)
        left -= len(part) + 1
        if left < 0:
            break
        parts.append(part)
    return before + ",".join(parts) + after


def long(draw: Draw, size: int) -> str:
    """One text or key as long as it may be, where something reads it."""
    text = draw.choice(("a", "é", "\U0001f600", "(a", "a|", "1", "-1d", "~/", "a.", "\u0301", "$", " "))
    text *= max(1, draw.choice((100, 1_000, 70_000, size - 200)) // len(text.encode()))
    said = json.dumps(text, ensure_ascii=draw.random() < 0.2)
    frame = draw.choice(
        (
            '{"event":%s}', '{"$%s":1}', '{"event":"a","criteria":{%s:1}}', '{"event":"a","criteria":{"n":%s}}',
            '{"event":"a","criteria":{"n":{"$regex":%s}}}', '{"event":"a","criteria":{"n":{"$in":[%s]}}}',
            '{"event":"a","criteria":{"timestamp":{"$gte":%s}}}', '{"$timeWindow":{"last":%s,"flow":{"event":"a"}}}',
            '{"event":"a","criteria":{"n":{"$between":%s}}}', '{"badge":%s}', '{"snapshot":{%s:{"$gte":1}}}',
            '{"$timePeriod":{"periodType":%s}}', '{"$aggregate":{"type":"sum","field":%s}}', "%s",
            '{"$timePeriod":{"periodType":"day","excludeHolidays":true,"holidays":%s}}',
        )
    )  # fmt: skip
    if frame == '{"$%s":1}':
        said = said[1:-1]
    found = frame % said
    return found if len(found.encode()) <= size else frame % '"x"'


def drawn(draw: Draw, flows: list[Any]) -> str:
    """One flow's text, of at most 256 KiB."""
    kind = draw.random()
    if kind < 0.08:
        return deep(draw, MOST_BYTES)
    if kind < 0.16:
        return wide(draw, MOST_BYTES)
    if kind < 0.22:
        return long(draw, MOST_BYTES)
    tree = draw.choice(flows)
    for _ in range(draw.choice((1, 1, 2, 3, 5, 12))):
        tree = mutate(tree, draw, flows)
        if len(text := text_of(tree)) > MOST_BYTES:
            return _LEAF
    return text


# -- what must hold ----------------------------------------------------------------------------------------------------

CODES = frozenset(
    (
        "flow_definition_required",
        "event_type_required",
        "multiple_operators",
        "unknown_operator",
        "unsupported_format",
        "missing_pattern_wrapper",
        "mixed_spelling",
        "missing_field",
        "bad_operand",
        "bad_time",
        "bad_window",
        "bad_regex",
        "unknown_rule",
        "unknown_event",
        "unknown_field",
        "unknown_metric",
        "unknown_badge",
        "duplicate_key",
        "invalid_key",
        "unknown_key",
        "missing_key",
        "no_trigger",
        "no_test",
        "trigger_mismatch",
        "bad_levels",
        "cyclic_prerequisite",
        "invalid_schema",
        "invalid_syntax",
        "true_on_empty",
        "name_style",
        "no_effect",
        "unused_metric",
        "silent_trigger",
    )
)
_TYPES = {"a": {}, "b.done": {}, "c.done": {}, "login": {"login": True}}
_AROUND = {
    "version": 1,
    "events": {**{name: {} for name in sorted({text for text in texts(corpus()) if NAME.fullmatch(text)})}, **_TYPES},
    "metrics": {"comments": {"count": "a"}, "joined": {"first": "a"}},
    "holidays": {"company": ["2024-12-25"]},
}


def catalog_text(flow: str) -> str:
    """A catalog, as JSON, whose one badge has this flow."""
    around = json.dumps(_AROUND, ensure_ascii=False)
    return f'{around[:-1]},"badges":[{{"key":"m1","flow":{flow}}}]}}'


def payloads(draw: Draw) -> Iterator[Any]:
    """Payloads in which nothing is as a flow expects it."""
    for _ in range(6):
        tree = {draw.choice(("n", "o", "o.p", "score", "points", "field", "session_id")): leaf(draw) for _ in range(3)}
        try:
            yield loads(text_of(tree))
        except ValueError:
            yield {}


def play(catalog: Catalog, draw: Draw) -> None:
    """Compile the catalog and play a few events of odd content: whatever comes of it, nothing is raised."""
    plan = compile_plan(catalog)
    state = UserState("u")
    types = sorted(catalog.dictionary.types)
    us = 1_709_000_000_000_000
    for number, payload in enumerate(payloads(draw)):
        us += draw.choice((0, 1, 3_600_000_000, 86_400_000_000, 40 * 86_400_000_000))
        one = Event("u", draw.choice(types), us, "", f"{number:03}", payload, dumps(payload))
        apply(plan, state, one)
    for badge in catalog.badges:
        found = explain(plan, badge.key, state, now_us=us)
        assert found.sentence
        dumps(found.metadata)
        dumps(found.tree)
        assert Takes(catalog).of(badge)


def check_faults(faults: list[Fault], data: Any) -> None:
    """Each fault has a code of the language, a pointer that leads somewhere, and sentences that can be printed."""
    for fault in faults:
        assert fault.code in CODES, fault
        assert fault.message, fault
        fault.message.encode()
        (fault.help or "").encode()
        assert fault.path == "" or fault.path.startswith("/"), fault
        assert len(fault.message) < 2_000, fault
        node = data
        for token in fault.path.split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            assert isinstance(node, dict | list), fault
            if isinstance(node, list):
                assert int(key) < len(node), fault
            elif key not in node:
                break  # what should stand there and does not
            node = node[int(key)] if isinstance(node, list) else node[key]


def check_one(flow: str, draw: Draw) -> None:
    """Reading a flow gives a plan or located faults, and never takes more than a second or 100 MB."""
    text = catalog_text(flow)
    reading = within_bounds(lambda: read([Source("catalog.json", text)]), large=len(text) > _WORTH_MEASURING)
    check_faults(reading.faults, reading.document.data)
    if reading.catalog is None:
        assert any(fault.severity == "error" for fault in reading.faults)
        return
    catalog = reading.catalog
    within_bounds(lambda: compile_plan(catalog), large=len(text) > _WORTH_MEASURING)
    play(catalog, draw)


def within_bounds(act: Callable[[], Any], *, large: bool) -> Any:
    """What `act` returns; it may take a second of CPU and, where the flow is large, 100 MB."""
    if large:
        _forget_peak()
    before, begun = memory_mb()[0] if large else 0.0, time.process_time()
    found = act()
    seconds = time.process_time() - begun
    if seconds > MOST_SECONDS:  # once more: the first time may have loaded modules, or the machine been busy
        begun = time.process_time()
        act()
        seconds = time.process_time() - begun
    assert seconds <= MOST_SECONDS, f"it took {seconds:.2f} s"
    if large:
        taken = memory_mb()[1] - before
        assert taken <= MOST_MB, f"it took {taken:.0f} MB"
    return found


def _forget_peak() -> None:
    """Let the peak of this process's memory begin anew."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return
