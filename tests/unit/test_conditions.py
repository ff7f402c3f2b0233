"""Tests of the door to JavaScript: what hostile sources can do (nothing), what a fault is, what one call leaves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.rig.waiting import until
from worker.conditions import Door, child, process
from worker.conditions.parking import LEAST_CALLS, LOOKED_AT, SLOW_IN_A_ROW, Parking
from worker.conditions.process import Child, processor_seconds
from worker.errors import OperatorError, TransientError
from worker.events import Event, json_text
from worker.rules.catalog.definitions import Condition

CASES = json.loads((Path(__file__).parents[1] / "cases" / "hostile_javascript.json").read_text())
#: Each hostile text as the body of a condition, and as the whole source.
HOSTILE = {
    **{f"{name} in a body": f"() => {{ {text} }}" for name, text in CASES["scripts"].items()},
    **{f"{name} as a source": text for name, text in CASES["scripts"].items()},
    **{
        f"{name} returned": f"() => {{ {text} }}" if text.startswith("throw") else f"() => {text}"
        for name, text in CASES["returns"].items()
    },
    **{f"{name} as a source": text for name, text in CASES["returns"].items()},
}
#: One step of the engine that takes far longer than the engine can stop it.
HANGS = "() => (3n ** 500000n).toString().length > 0"
GOOD = "(event, params) => event.payload.total > params.min"


def event(number: int = 12, user: str = "u", **payload: Any) -> Event:
    """An event whose total is its number."""
    payload = {"total": number, **payload}
    return Event(user, "a", 1_700_000_000_000_000, "", str(number), payload, json_text.dumps(payload))


def condition(source: str, params: str = '{"min":10}', name: str = "") -> Condition:
    """A condition; equal sources with equal params are one."""
    return Condition(f"{source} {params}", name or source[:40], source, params)


class Asking:
    """A door, with what was wrong kept, and one question at a time."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.door = Door(tell=lambda _, message, __: self.said.append(message))

    async def about(self, source: str, *events: Event, params: str = '{"min":10}') -> list[str]:
        """The verdicts of one condition on these events."""
        asked = condition(source, params)
        judged = await self.door.judge({"a": [asked]}, events or [event()])
        return [(one.verdicts or {})[asked.hash] for one in judged]


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    """A door that is closed in the end."""
    asking = Asking()
    yield asking
    await asking.door.close()


@pytest.mark.parametrize("half", [0, 1])
async def test_hostile_sources_are_stopped(asking: Asking, half: int) -> None:
    """Each hostile source is a fault within its limit, and the next condition has its verdict all the same."""
    slow = []
    for name, source in list(HOSTILE.items())[half::2]:
        began = monotonic()
        assert await asking.about(source) == ["error"], name
        if monotonic() - began > 8.0:  # its own limits end it in 2 s, a new process begins; the machine may be busy
            slow.append(name)
        assert await asking.about(GOOD) == ["yes"], name
    assert slow == []


async def test_what_the_engine_cannot_stop_is_killed(asking: Asking) -> None:
    """A call that hangs in one step of the engine costs the process, and only that call its verdict."""
    asked = {"a": [condition(GOOD), condition(HANGS)]}
    judged = await asking.door.judge(asked, [event(9), event(11)])
    verdicts = [[(one.verdicts or {})[each.hash] for each in asked["a"]] for one in judged]
    assert verdicts == [["no", "error"], ["yes", "error"]]
    assert asking.said == ["the process that ran it had to be ended"] * 2
    assert await asking.about(GOOD, event(9)) == ["no"]


VERDICTS = [
    ("() => true", "yes"),
    ("() => false", "no"),
    ("function (event) { return event.payload.total === 12 }", "yes"),
    ("(e, p) => e.payload.total > p.min // with a comment", "yes"),
    ("() => 1", "error"),
    ("() => 'true'", "error"),
    ("() => new Boolean(true)", "error"),
    ("() => ({valueOf() { return true }})", "error"),
    ("async () => true", "error"),
    ("() => { }", "error"),
    ("() => null", "error"),
    ("(event) => event.payload.missing.field", "error"),
    ("() => { throw new Error('no') }", "error"),
    ("true", "error"),
    ("() => {", "error"),
    ("() => true); let leaked = 1; (() => true", "error"),
    ("", "error"),
]


async def test_a_long_name_stays_a_name(asking: Asking) -> None:
    """What a condition throws is told as a name, cut short, a colon and a message."""
    await asking.about("() => { throw {name: 'x'.repeat(500), message: 'm'} }")
    assert asking.said == ["x" * 40 + ": m"]


async def test_only_true_and_false_are_verdicts(asking: Asking) -> None:
    """The boolean true is a yes, the boolean false a no, and everything else a fault."""
    for source, verdict in VERDICTS:
        assert await asking.about(source) == [verdict], source


async def test_what_a_condition_sees(asking: Asking) -> None:
    """It sees the event as producers write it, with JavaScript's numbers, and its params; nothing of it can change."""
    seen = """(event, params) => JSON.stringify([event, params]) === params.expected
        && Object.isFrozen(event) && Object.isFrozen(event.payload.list[0]) && Object.isFrozen(params)"""
    payload = {"list": [{"b": 1, "a": None}], "big": 12345678901234567890, "part": json_text.loads("0.10")}
    shown = (
        '[{"id":"12","occurred_at":"2023-11-14T22:13:20.000000Z","payload":{"big":12345678901234567000,'
        '"list":[{"a":null,"b":1}],"part":0.1,"total":12},"source":"","type":"a","user_id":"u"},{"expected":0}]'
    )
    text = json_text.dumps({"expected": shown})
    source = seen.replace("[event, params]", "[event, {expected: 0}]")
    assert await asking.about(source, event(**payload), params=text) == ["yes"]
    assert await asking.about("(event) => { event.payload.total = 1; return true }") == ["error"]
    # a key that is the prototype's elsewhere is a key like any other here
    odd = event(**json_text.loads('{"__proto__": {"admin": true}}'))
    assert await asking.about("(e) => e.payload.admin === undefined && ({}).admin === undefined", odd) == ["yes"]


ABSENT = [
    "Date",
    "performance",
    "WeakRef",
    "FinalizationRegistry",
    "SharedArrayBuffer",
    "Atomics",
    "console",
    "Intl",
    "require",
    "process",
    "fetch",
    "setTimeout",
    "queueMicrotask",
    "__pull",
    "std",
    "os",
    "Math.random",
    "(() => { try { return globalThis.constructor.constructor('return Date')() } catch (e) {} })()",
]


async def test_no_clock_no_chance_no_world(asking: Asking) -> None:
    """There is nothing that tells the time, draws a lot, or reaches out of the engine."""
    for name in ABSENT:
        there = f"typeof ({name}) !== 'undefined'"
        assert await asking.about(f"() => {there}") == ["no"], name


def leaving(found: str, left: str) -> str:
    """A condition that says yes where it finds a trace, and leaves one."""
    return f"(event, params) => {{ const was = {found}; try {{ {left} }} catch (e) {{}} return was }}"


def holding(place: str) -> str:
    """The same with a property of what an expression gives."""
    return leaving(f"'leak' in ({place})", f"({place}).leak = 1")


NAMED = "typeof leak !== 'undefined'"
LEAKS = {
    "a closure": "(() => { let n = 0; return () => ++n > 1 })()",
    "a global by name": leaving(NAMED, "leak = 1"),
    "a property of globalThis": leaving("'leak' in globalThis", "globalThis.leak = 1"),
    "a var by eval": leaving(NAMED, "(0, eval)('var leak = 1')"),
    "a let by eval": leaving(NAMED, "(0, eval)('let leak = 1')"),
    "a function by eval": leaving(NAMED, "(0, eval)('function leak() {}')"),
    "a function made": leaving(NAMED, "Function('leak = 1')()"),
    "this of a sloppy function": holding("Function('return this')()"),
    "a redefined method": leaving("[].includes(1)", "Array.prototype.includes = () => true"),
    "a property defined": leaving("'leak' in []", "Object.defineProperty(Array.prototype, 'leak', {value: 1})"),
    "a function of JSON": leaving("JSON.parse('1') === 2", "JSON.parse = () => 2"),
    "another prototype": leaving("'leak' in Math", "Object.setPrototypeOf(Math, {leak: 1})"),
    "a tag of templates": leaving("0 in ((s) => s)`` && 'leak' in ((s) => s)``", "((s) => s)``.leak = 1"),
    "an expression's lastIndex": leaving(
        "(() => { const r = /a/g; const at = r.lastIndex; r.test('a'); return at > 0 })()", ""
    ),
    "the last match": leaving("RegExp.$1 === 'x' || RegExp.lastMatch === 'x'", "/(x)/.test('x')"),
    "the depth of stacks": leaving("Error.stackTraceLimit === 1", "Error.stackTraceLimit = 1"),
    "a trap for stacks": leaving("typeof Error.prepareStackTrace === 'function'", "Error.prepareStackTrace = () => 1"),
    "the stack of a prototype": leaving("Error.prototype.stack === 'leak'", "Error.prototype.stack = 'leak'"),
    "the entry": "() => { try { $(1) } catch (e) { return false } return true }",
    "a job for later": leaving("'leak' in globalThis", "Promise.resolve().then(() => { globalThis.leak = 1 })"),
    **{
        place: holding(place)
        for place in (
            "event",
            "event.payload",
            "params",
            "Object.prototype",
            "Function.prototype",
            "Error.prototype",
            "Symbol.iterator.constructor.prototype",
            "Object.getPrototypeOf(function* () {})",
            "Object.getPrototypeOf(function* () {}).prototype",
            "Object.getPrototypeOf(async () => {})",
            "Object.getPrototypeOf(async function* () {})",
            "Object.getPrototypeOf(Object.getPrototypeOf(async function* () {}).prototype)",
            "Object.getPrototypeOf([].values())",
            "Object.getPrototypeOf(new Map().values())",
            "Object.getPrototypeOf(new Set().values())",
            "Object.getPrototypeOf(''[Symbol.iterator]())",
            "Object.getPrototypeOf('a'.matchAll(/a/g))",
            "Object.getPrototypeOf([].values().map((x) => x))",
            "Object.getPrototypeOf(Iterator.from({next() {}}))",
            "Object.getPrototypeOf(Uint8Array)",
            "Object.getOwnPropertyDescriptor(Function.prototype, 'caller').get",
            "Object.getOwnPropertyDescriptor(Map, Symbol.species).get",
            "new Proxy(Array.prototype, {})",
        )
    },
}


async def test_a_call_leaves_nothing(asking: Asking) -> None:
    """A condition that says yes as soon as it finds a trace of an earlier call always says no."""
    for way, source in LEAKS.items():
        assert await asking.about(source, *(event() for _ in range(3))) == ["no"] * 3, (way, asking.said)


async def test_jobs_for_later_never_run(asking: Asking) -> None:
    """What a call puts off is not done in a later call's time."""
    assert await asking.about("() => { (async () => { for (;;) await 0 })(); return true }") == ["yes"]
    assert await asking.about(GOOD, *(event(number) for number in range(50))) == ["no"] * 11 + ["yes"] * 39


async def test_memory_is_the_calls_own(asking: Asking) -> None:
    """A call is not refused memory because of what earlier ones left behind."""
    jobs = "() => { for (let i = 0; i < 200; i++) Promise.resolve(new Array(50).fill(i)).then(() => i); return true }"
    assert set(await asking.about(jobs, *(event() for _ in range(500)))) == {"yes"}


def of_users(count: int, users: int) -> list[Event]:
    """So many events, of so many users in turn."""
    return [event(number, f"u{number % users}") for number in range(count)]


async def test_a_type_that_keeps_failing_is_parked(asking: Asking) -> None:
    """What fails for ten users is asked no more, and is named; the others go on; a mended source is asked."""
    bad, good = condition("(e) => e.payload.x.y", name="bad"), condition(GOOD, name="good")
    judged = await asking.door.judge({"a": [bad, good]}, of_users(30, 10))
    assert [(one.verdicts or {})[bad.hash] for one in judged] == ["error"] * LEAST_CALLS + ["parked"] * 10
    assert [(one.verdicts or {})[good.hash] for one in judged] == ["no"] * 11 + ["yes"] * 19
    assert asking.door.parked == ["bad"]
    assert len(asking.said) == LEAST_CALLS
    judged = await asking.door.judge({"a": [bad]}, of_users(30, 10))
    assert [(one.verdicts or {})[bad.hash] for one in judged] == ["parked"] * 30
    assert len(asking.said) == LEAST_CALLS
    mended = condition("(e) => e.payload.x === undefined", name="bad")
    (one,) = await asking.door.judge({"a": [mended]}, [event()])
    assert one.verdicts == {mended.hash: "yes"}
    assert asking.door.parked == []


async def test_what_fails_nine_times_in_ten_is_parked(asking: Asking) -> None:
    """A verdict now and then does not help a type that fails for most users."""
    source = "(e) => { if (e.payload.total % 10) throw new Error('x'); return true }"
    found = await asking.about(source, *of_users(40, 40))
    assert found[:20] == (["yes"] + ["error"] * 9) * 2
    assert found[20:] == ["parked"] * 20
    assert len(asking.door.parked) == 1


async def test_one_users_events_park_nothing(asking: Asking) -> None:
    """However many events of a few users a type fails on, it is asked about the others' as before."""
    source = "(e) => e.user_id === 'u0' ? e.payload.x.y : true"
    assert await asking.about(source, *(event(number, "u0") for number in range(150))) == ["error"] * 150
    assert asking.door.parked == []
    assert await asking.about(source, *of_users(30, 30)) == ["error"] + ["yes"] * 29


async def test_faults_now_and_then_park_nothing(asking: Asking) -> None:
    """A type that fails for fewer than half of the calls is asked on."""
    source = "(e) => { if (e.payload.total % 10 > 5) throw new Error('x'); return true }"
    found = await asking.about(source, *of_users(200, 200))
    assert found == (["yes"] * 6 + ["error"] * 4) * 20
    assert asking.door.parked == []


def test_what_takes_too_long_is_parked_whoever_it_is_about() -> None:
    """Twenty calls in a row that were stopped for their time, of one user; with a verdict between they are not."""
    parking, slow = Parking(), condition(GOOD, name="slow")
    for _ in range(3):
        assert [parking.failed(slow, "u", slow=True) for _ in range(SLOW_IN_A_ROW - 1)] == [0] * (SLOW_IN_A_ROW - 1)
        parking.answered(slow)
    assert parking.names == []
    assert [parking.failed(slow, "u", slow=True) for _ in range(SLOW_IN_A_ROW)][-1] > 0
    assert parking.is_parked(slow)


def test_only_the_last_calls_count() -> None:
    """What failed at first and was mended by other events is not held against a type for ever, nor the other way."""
    parking, one = Parking(), condition(GOOD)
    for number in range(9):
        parking.failed(one, f"u{number}", slow=False)
    for _ in range(LOOKED_AT):
        parking.answered(one)
    assert [parking.failed(one, "u9", slow=False) for _ in range(60)] == [0] * 60
    for _ in range(LOOKED_AT):
        parking.answered(one)
    told = [parking.failed(one, f"u{number}", slow=False) for number in range(LOOKED_AT)]
    assert told[: LOOKED_AT // 2] == [0] * (LOOKED_AT // 2 - 1) + [LOOKED_AT // 2]


async def test_there_is_an_end_to_a_batchs_time() -> None:
    """Where time runs out the events behind come back as they were; the first is always asked about, all it has."""
    asked = {"a": [condition(GOOD), condition("() => true")]}
    async with Door(seconds=0.0) as door:
        events = [event(number, f"u{number}") for number in range(5)]
        while events:
            judged = await door.judge(asked, events)
            assert [one.verdicts is None for one in judged] == [False] + [True] * (len(events) - 1)
            assert len(judged[0].verdicts or ()) == 2
            events = events[1:]
        assert door.told().cut == 4
    async with Door(seconds=0.05) as door:
        slow = {"a": [condition("() => { for (let i = 0; i < 200000; i++); return true }")]}
        judged = await door.judge(slow, events := [event(number) for number in range(300)])
        taken = [one for one in judged if one.verdicts is not None]
        assert 0 < len(taken) < len(events)
        assert [one.id for one in judged] == [one.id for one in events]
        assert all(one.verdicts is not None for one in judged[: len(taken)])
        assert (await door.judge({}, events[:1]))[0].verdicts == {}


async def test_stored_verdicts_stand(asking: Asking) -> None:
    """An event keeps the verdicts it has; what nobody asks about has none, and all have a mapping."""
    asked = condition(GOOD)
    old = Event("u", "a", 0, "", "1", {}, "{}", {asked.hash: "yes", "other": "no"})
    other = Event("u", "b", 0, "", "2", {}, "{}")
    judged = await asking.door.judge({"a": [asked]}, [old, other])
    assert [one.verdicts for one in judged] == [{asked.hash: "yes", "other": "no"}, {}]
    assert asking.door.pid is None  # nobody had to be started


async def test_a_child_killed_from_outside(asking: Asking) -> None:
    """When the process is killed, the next call has a new one and its verdict."""
    assert await asking.about(GOOD) == ["yes"]
    pid = asking.door.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert await asking.about(GOOD, event(9), event(11)) == ["no", "yes"]
    assert asking.door.pid not in (None, pid)
    assert asking.said == []
    told = asking.door.told()
    assert (told.verdicts, told.starts) == ({"yes": 2, "no": 1}, 2)


async def test_a_child_killed_while_it_works(asking: Asking) -> None:
    """Killed in the middle of many calls, the process is replaced and each call has its verdict."""
    busy = "(e) => { let n = 0; for (let i = 0; i < 20000; i++) n += i; return n > 0 && e.payload.total % 2 === 0 }"
    judging = asyncio.create_task(asking.about(busy, *(event(number) for number in range(300))))
    await until(lambda: asking.door.pid is not None, "the start")
    os.kill(asking.door.pid or 0, signal.SIGKILL)
    assert await judging == ["yes", "no"] * 150
    assert asking.said == []


async def test_a_child_without_a_processor_is_waited_for(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is silent because it does not run, whoever is to blame for that, goes on where it was."""
    await asking.about(GOOD)
    looks: list[float | None] = []

    def looked(pid: int) -> float | None:
        looks.append(processor_seconds(pid))
        return looks[-1]

    monkeypatch.setattr(process, "processor_seconds", looked)
    pid = asking.door.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    asked = asyncio.create_task(asking.about(GOOD, event(9)))
    await until(lambda: asked.done() or len(looks) > 2, "looks at a child that stands still")
    os.kill(pid, signal.SIGCONT)
    assert (await asked, asking.said, asking.door.pid) == (["no"], [], pid)


def test_a_call_stopped_without_a_processor_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that the clock stops while the process does not compute has its verdict all the same."""
    evaluate, stopped = child.Runtime.eval, [True, True]

    class Stalling(child.Runtime):  # type: ignore[misc]
        def eval(self, source: str, **limits: Any) -> Any:
            if source.startswith("$(") and stopped:
                stopped.pop()
                raise child.JsTimeoutError("time is up")
            return evaluate(self, source, **limits)

    monkeypatch.setattr(child, "Runtime", Stalling)
    engine = child.Engine()
    engine.conditions["a"] = (1, GOOD, '{"min":10}')
    assert engine.call("a", '{"payload": {"total": 12}}') is True
    assert (stopped, engine.check("() => true")) == ([], True)


async def test_a_caller_that_gives_up(asking: Asking) -> None:
    """Who is cancelled while he waits leaves nothing to the next one: no reply is taken for another's."""
    loops = asking.about("() => { for (;;) {} }", *(event() for _ in range(5)))
    waiting = asyncio.create_task(loops)
    await until(lambda: asking.door.pid is not None, "the start")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asking.about(GOOD, event(9), event(11)) == ["no", "yes"]


async def test_the_child_has_nothing_to_work_with(asking: Asking) -> None:
    """The process has no environment, can open no file and no socket, and its memory is bounded."""
    await asking.about(GOOD)
    place = Path(f"/proc/{asking.door.pid}")
    limits = {line[:26].strip(): line[26:].split()[:2] for line in place.joinpath("limits").read_text().splitlines()}
    assert limits["Max open files"] == ["3", "3"]
    assert limits["Max address space"] == [str(1024**3)] * 2
    assert limits["Max file size"] == ["0", "0"]
    assert 0 < int(limits["Max cpu time"][0]) < 60
    assert place.joinpath("environ").read_bytes() == b""
    assert sorted(file.name for file in place.joinpath("fd").iterdir()) == ["0", "1", "2"]
    assert b"-I" in place.joinpath("cmdline").read_bytes().split(b"\0")


async def test_sources_are_checked(asking: Asking) -> None:
    """What is no single expression is refused with the engine's words, without being run."""
    sources = ["() => true", "() => {", "a) , (b", "() => true); let x = 1; (() => 1", "() => 1 // x", "for(;;);", ""]
    found = await asking.door.check(sources)
    assert [one is None for one in found] == [True, False, False, False, True, False, False]
    assert all(one is None or one.startswith("SyntaxError: ") for one in found)


async def test_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the engine the door says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(OperatorError, match="jsbox") as found:
        Door()
    assert "badgestream[js]" in str(found.value.help)


async def test_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be started the work is tried again later: no verdict is made up."""

    async def refuse(*_: object, **__: object) -> None:
        raise OSError("resource temporarily unavailable")

    monkeypatch.setattr("asyncio.create_subprocess_exec", refuse)
    with pytest.raises(TransientError, match="cannot be started"):
        await Door().judge({"a": [condition(GOOD)]}, [event()])
    monkeypatch.undo()
    monkeypatch.setattr("worker.conditions.process._SCRIPT", Path("/no/such/script.py"))
    with pytest.raises(TransientError, match="before it was ready"):
        await Door().judge({"a": [condition(GOOD)]}, [event()])


async def test_replies_in_pieces() -> None:
    """Frames are put together wherever the pipe cuts them."""
    child = Child()
    texts = ["() => true", "not an expression"]
    found: list[Sequence[Any]] = []
    async for bundle in child.request({"check": texts * 2000, "careful": False}, 4000):
        found += bundle
    await child.stop()
    assert [one is True for one in found] == [True, False] * 2000
