"""The child process: runs conditions in QuickJS and nothing else; started as a script of its own, with no environment.

Requests and replies are frames of four bytes (the length, big-endian) and JSON. A request is
`{"conditions": [[id, source, params], …], "events": [text, …], "calls": [[id, index of the event], …]}` or
`{"check": [source, …]}`; for each call or source there is one reply, in order: `true`, `false`, or a text that says why
there is no verdict. Replies leave in bundles; where the request says `"careful": true`, each before the next call
begins, so that the parent knows which call it waits for. With `"seconds": s` no call begins after so long but the first
`"least": n`: of those that did not, the reply is `null`.
"""

from __future__ import annotations

import json
import math
import os
import resource
import struct
import sys
import time
from pathlib import Path
from typing import Any

from jsbox import JavaScriptError, JsTimeoutError, Runtime

#: Of the engine, bytes: its heap, its stack, what goes in or out at once.
HEAP, STACK, VALUE = 16 * 1024 * 1024, 256 * 1024, 2 * 1024 * 1024
#: Of the process: bytes of address space, and processor seconds that may pass without a look at the clock.
ADDRESS_SPACE, PROCESSOR_SECONDS = 1024 * 1024 * 1024, 10
#: A call that takes longer is stopped, seconds.
CALL_SECONDS = 0.25
#: Replies wait so long for company, seconds.
BUNDLE_SECONDS = 0.002
#: After so many calls the engine is made anew: what calls leave in it (jobs that never run) stays bounded.
CALLS_PER_ENGINE = 10_000

_PRELUDE = Path(__file__).with_name("prelude.js").read_text(encoding="utf-8")
_LENGTH = struct.Struct(">I")
_YES, _NO, _UNASKED = (_LENGTH.pack(len(text)) + text for text in (b"true", b"false", b"null"))
_TOO_SLOW = f"it took longer than {CALL_SECONDS} s"
#: Stands for a call that was stopped for its time without having had a processor for half of it: it is made again.
_STALLED = "stalled"
#: What the engine throws, or what is left of it, where memory is short.
_EXHAUSTED = ("out of memory", "null")


class Engine:
    """QuickJS with the conditions that were asked for; made anew after every fault that could leave a trace."""

    def __init__(self) -> None:
        self.conditions: dict[str, tuple[int, str, str]] = {}
        self.calls = 0
        self._work: list[str | None] | None = None
        self._made: set[str] = set()
        self._event: str | None = None
        self._runtime: Runtime | None = None

    def call(self, condition: str, event: str) -> bool | str:
        """The verdict, or why there is none."""
        found = self._call(condition, event)
        while found is _STALLED:
            found = self._call(condition, event)
        if type(found) is str and found.endswith(_EXHAUSTED):
            again, self._runtime = self.calls > 1, None
            # Memory may have been short because of what earlier calls left: a fresh engine tells.
            found = self._call(condition, event) if again else found
        return found

    def check(self, source: str) -> bool | str:
        """True where the source is one expression; else what is wrong with it."""
        while (found := self._run(0, [None, source, None])) is _STALLED:
            pass
        return found

    def _call(self, condition: str, event: str) -> bool | str:
        if self._runtime is None or self.calls >= CALLS_PER_ENGINE:
            self._renew()
        number, source, params = self.conditions[condition]
        known, same = condition in self._made, event is self._event
        self._made.add(condition)
        self._event = event
        return self._run(number, [None if same else event, *((None, None) if known else (source, params))])

    def _run(self, number: int, work: list[str | None]) -> bool | str:
        if self._runtime is None:
            self._renew()
        runtime = self._runtime
        assert runtime is not None  # noqa: S101 (just made)
        self.calls += 1
        self._work = work
        began = time.process_time()
        try:
            found = runtime.eval(f"$({number})", timeout=CALL_SECONDS)
        except JsTimeoutError:
            self._runtime = None
            return _TOO_SLOW if time.process_time() - began >= CALL_SECONDS / 2 else _STALLED
        except JavaScriptError as error:
            self._runtime = None
            return str(error)[:200]
        except (ValueError, TypeError, MemoryError, RuntimeError) as error:
            self._runtime = None
            return f"{type(error).__name__}: {error}"[:200]
        return found if type(found) is bool else str(found)[:300]

    def _renew(self) -> None:
        self._runtime = Runtime(memory_limit=HEAP, max_stack_size=STACK, max_value_bytes=VALUE)
        self._runtime.bind_function("__pull", self._pull)
        self._runtime.eval(_PRELUDE, timeout=5.0)
        self.calls = 0
        self._made.clear()
        self._event = None

    def _pull(self) -> list[str | None] | None:
        work, self._work = self._work, None
        return work


def confine() -> None:
    """Give away what a condition never needs: memory, files, sockets, processes, core dumps."""
    for limit, most in (
        (resource.RLIMIT_AS, ADDRESS_SPACE),
        (resource.RLIMIT_NOFILE, 3),  # the pipes are open: nothing else can be
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))


def serve() -> None:
    """Answer requests until the parent has gone."""
    engine = Engine()
    processor_until = 0.0
    while (request := _read()) is not None:
        for condition, source, params in request.get("conditions", ()):
            engine.conditions.setdefault(condition, (len(engine.conditions) + 1, source, params))
        events = request.get("events", ())
        asked: list[Any] = request.get("calls") or request.get("check") or []
        replies, patience = bytearray(), 0.0 if request.get("careful") else BUNDLE_SECONDS
        leave_at, least = time.monotonic() + patience, request.get("least", 0)
        until = time.monotonic() + request.get("seconds", math.inf)
        for number, item in enumerate(asked):
            if number >= least and time.monotonic() >= until:
                replies += _UNASKED * (len(asked) - number)
                break
            if (began := time.process_time()) > processor_until:
                processor_until = _more_processor_time()
            found = engine.check(item) if type(item) is str else engine.call(item[0], events[item[1]])
            if found is _TOO_SLOW and time.process_time() - began < CALL_SECONDS / 2:
                # The machine was busy with other things: the same call again.
                found = engine.check(item) if type(item) is str else engine.call(item[0], events[item[1]])
            replies += _reply(found)
            if (now := time.monotonic()) >= leave_at:
                leave_at = now + patience
                _write(replies)
                replies.clear()
        _write(replies)


def _more_processor_time() -> float:
    """Let the process run on for a while; a call that the engine cannot stop ends with it, parent or no parent."""
    soft = int(time.process_time()) + PROCESSOR_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    return soft - PROCESSOR_SECONDS / 2


def _read() -> Any:
    header = sys.stdin.buffer.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    return json.loads(sys.stdin.buffer.read(_LENGTH.unpack(header)[0]))


def _reply(found: bool | str) -> bytes:
    if found is True:
        return _YES
    if found is False:
        return _NO
    text = json.dumps(found).encode()
    return _LENGTH.pack(len(text)) + text


def _write(replies: bytes | bytearray) -> None:
    while replies:
        replies = replies[os.write(1, replies) :]


if __name__ == "__main__":
    confine()
    _write(_YES)  # ready
    serve()
