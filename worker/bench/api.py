"""What the HTTP API bears: profiles read with and without ETag, events sent one by one and in streams, by `wrk`."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

import msgspec

from worker.app import open_store
from worker.bench.child import Order
from worker.bench.cpu import machine
from worker.bench.ground import Ground
from worker.bench.measures import Said
from worker.bench.process import Child, child, vanished
from worker.bench.streams import PARTITIONS
from worker.config import Settings
from worker.errors import BadgesError, OperatorError
from worker.events import json_text
from worker.rules.catalog.load import catalog_from_document
from worker.store.pool import quote

CONNECTIONS: Final = 16
#: Each user of the bench holds so many badges, as a page of a busy profile shows.
BADGES: Final = 20
LINES: Final = 1_000
#: How many users' pages are asked for with their ETag.
_TAGGED: Final = 200

#: Where each figure must lie (issue of the API); p99 in milliseconds.
BOUNDS: Final[Mapping[str, float]] = {"read": 1_500, "read_etag": 3_000, "send": 1_500, "stream": 15_000, "p99_ms": 20}


@dataclass(frozen=True, slots=True)
class ApiSizes:
    """How long each part is measured, seconds, and over how many users."""

    seconds: int
    users: int


NORMAL: Final = ApiSizes(10, 20_000)
QUICK: Final = ApiSizes(2, 2_000)


class Answers(msgspec.Struct):
    """What `wrk` saw of one part: requests a second, latencies in milliseconds, answers that were not 2xx or 3xx."""

    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


#: What every script of wrk ends with: its sums as one line of JSON.
_SUMS: Final = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"per_second": %.3f, "p50_ms": %.3f, "p99_ms": %.3f, "failed": %d}\\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
_READ: Final = """
request = function() return wrk.format("GET", string.format("/api/v1/users/u%d/badges", math.random(0, USERS - 1))) end
"""
_READ_TAGGED: Final = """
local tags = {TAGS}
request = function()
  local user = math.random(0, #tags - 1)
  wrk.headers["If-None-Match"] = tags[user + 1]
  return wrk.format("GET", string.format("/api/v1/users/u%d/badges", user))
end
"""
_SEND: Final = """
wrk.headers["Content-Type"] = "application/json"
request = function()
  local body = string.format('{"event_type": "page.read", "user_id": "u%d", "payload": {"page": "p%d"}}',
    math.random(0, USERS - 1), math.random(1000))
  return wrk.format("POST", "/api/v1/events", nil, body)
end
"""
_STREAM: Final = """
wrk.headers["Content-Type"] = "application/x-ndjson"
local lines = {}
for n = 1, LINES do
  lines[n] = string.format('{"event_type": "page.read", "user_id": "u%d", "payload": {"page": "p%d"}}', n, n)
end
local body = table.concat(lines, "\\n")
request = function() return wrk.format("POST", "/api/v1/events", nil, body) end
"""


async def run(settings: Settings, sizes: ApiSizes, *, said: Said) -> dict[str, Any]:
    """Measure all parts on a schema and topics of its own; nothing is left on the services, whatever happens.

    Raises OperatorError where services are not fit or vanish, or an answer is not as it must be.
    """
    if shutil.which("wrk") is None:
        raise OperatorError("The load comes from wrk, which is not here.", help="apt-get install wrk")
    ground = Ground(settings)
    await ground.inspect()
    try:
        figures = await _measure(ground, sizes, said)
    except BadgesError:
        await vanished(ground)
        raise
    finally:
        left = await ground.clear()
        if left:
            said(f"left behind: {', '.join(left)}; remove them once the services are back")
    return figures


async def _measure(ground: Ground, sizes: ApiSizes, said: Said) -> dict[str, Any]:
    begun, token = monotonic(), secrets.token_urlsafe(32)
    topic = await ground.topic("events", PARTITIONS)
    async with ground.schema("api") as schema:
        await _populate(ground, schema, sizes.users)
        said(f"api: {sizes.users:,} users with {BADGES} badges each, {CONNECTIONS} connections")
        overrides = {
            "event_topics": topic,
            "admin_host": "127.0.0.1",
            "admin_port": 0,
            "admin_metrics_port": 0,
            "admin_token": token,
            "log_format": "json",
            "log_level": "error",
        }
        async with child(ground, Order("api", schema, topic, [], overrides)) as serving:
            address = f"http://127.0.0.1:{(await serving.expect('serving')).applied}"
            load = _Load(address, token, sizes.seconds)
            parts = await _parts(load, sizes, serving, said)
    return {
        "scenario": "api",
        "connections": CONNECTIONS,
        "users": sizes.users,
        "badges_per_user": BADGES,
        "lines_per_stream": LINES,
        **parts,
        "bounds": dict(BOUNDS),
        "machine": machine(),
        "seconds": monotonic() - begun,
    }


async def _parts(load: _Load, sizes: ApiSizes, serving: Child, said: Said) -> dict[str, Any]:
    users = f"local USERS = {sizes.users}\n"
    tags = await load.tags(min(_TAGGED, sizes.users))
    scripts = {
        "read": users + _READ,
        "read_etag": _READ_TAGGED.replace("TAGS", ", ".join(f"'{tag}'" for tag in tags)),
        "send": users + _SEND,
        "stream": f"local LINES = {LINES}\n" + _STREAM,
    }
    figures: dict[str, Any] = {}
    for name, script in scripts.items():
        await load.wrk(script, seconds=1)  # warms connections, plans and pages
        before = await serving.ask()
        answers = await load.wrk(script, seconds=load.seconds)
        after = await serving.ask()
        if answers.failed:
            raise OperatorError(f"Of the part {name} {answers.failed:,} answers were not as they must be.")
        each = LINES if name == "stream" else 1
        served = max(1.0, answers.per_second * load.seconds * each)
        figures[name] = {
            "per_second": answers.per_second * each,
            "p50_ms": answers.p50_ms,
            "p99_ms": answers.p99_ms,
            "cpu_us": (after.worker_us - before.worker_us) / served,
        }
        said(f"{name}: {answers.per_second * each:,.0f} a second, p99 {answers.p99_ms:.1f} ms")
    return figures


class _Load:
    """Asks the API: one request to look, many by wrk."""

    def __init__(self, address: str, token: str, seconds: int) -> None:
        self.address = address
        self.seconds = seconds
        self._header = f"Authorization: Bearer {token}"

    async def wrk(self, script: str, *, seconds: int) -> Answers:
        """What wrk saw with this script."""
        with tempfile.TemporaryDirectory(prefix="badges-bench-") as folder:
            file = Path(folder) / "load.lua"
            file.write_text(script + _SUMS)
            words = await self._run(f"{seconds}s", file)
        return msgspec.json.decode(words.strip().splitlines()[-1], type=Answers)

    async def _run(self, duration: str, file: Path) -> str:
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{duration}", "-H", self._header, "-s", str(file), self.address]
        return await _output(command)

    async def tags(self, users: int) -> Sequence[str]:
        """The ETags of the first users' pages, each of which must hold all their badges."""
        import httpx2

        name, _, value = self._header.partition(": ")
        found = []
        async with httpx2.AsyncClient(base_url=self.address, headers={name: value}) as client:
            for user in range(users):
                answer = await client.get(f"/api/v1/users/u{user}/badges")
                if answer.status_code != 200 or len(answer.json()) != BADGES or "etag" not in answer.headers:
                    raise OperatorError(f"The page of user u{user} is not as it must be: {answer.text[:200]}")
                found.append(answer.headers["etag"])
        return found


async def _output(command: Sequence[str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True
    )
    try:
        words, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    text = words.decode("utf-8", "replace")
    if process.returncode:
        raise OperatorError(f"wrk ended with {process.returncode}: {text[-300:]}")
    return text


def document() -> dict[str, Any]:
    """A catalog of one event type and the badges that every user holds."""
    return {
        "version": 1,
        "events": {"page.read": {"schema": {"type": "object", "properties": {"page": {"type": "string"}}}}},
        "badges": [
            {
                "key": f"reader_{number}",
                "label": f"Reader {number}",
                "description": f"{number} pages read",
                "icon": "book",
                "image_url": f"https://example.com/reader/{number}.png",
                "sort_score": number,
                "flow": {"event": "page.read", "criteria": {"$eventCount": {"$gte": number}}},
            }
            for number in range(1, BADGES + 1)
        ],
    }


async def _populate(ground: Ground, schema: str, users: int) -> None:
    text = json_text.dumps(document())
    catalog = catalog_from_document(document(), 1)
    async with open_store(ground.settings, name=ground.name, schema=schema) as store:
        await store.apply_catalog(
            text,
            hashlib.sha256(text.encode()).hexdigest(),
            badges=catalog.badges,
            event_types=list(catalog.dictionary.types),
            applied_by="bench",
        )
    table = f"{quote(schema)}.user_badges"
    await ground.ask(
        f"INSERT INTO {table} (user_id, badge_key, awarded_at, source, origin, sequence, award_id, catalog_version,"  # noqa: S608
        " metadata) SELECT 'u' || u, 'reader_' || b, timestamptz '2026-03-01' + b * interval '1 hour', 'auto', 'live',"
        """ b, gen_random_uuid(), 1, '{"event_count": 1, "first_event_id": "a", "last_event_id": "b"}'"""
        " FROM generate_series(0, $1::integer - 1) AS u, generate_series(1, $2::integer) AS b",
        users,
        BADGES,
    )
    await ground.ask(f"ANALYZE {table}")
