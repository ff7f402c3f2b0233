"""`POST /api/v1/events`: one event or a stream of them, answered once the broker has stored them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from time import monotonic
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec
import structlog
from fastapi import Request, Response

from worker.admin.admission import check_room
from worker.admin.answers import instant, json_answer
from worker.admin.intake import YOUNGER, Headers, Taken, checked_key, refusal, take
from worker.admin.limits import Crowd
from worker.admin.lines import Batch, lines_of
from worker.admin.problems import Problem, unavailable
from worker.admin.roles import Role, least
from worker.admin.routes import actor_of, body_limit, direct, guarded_router, media_type, too_large
from worker.admin.services import GivenAward, Services, services_of, settings_of
from worker.admin.spool import spooled
from worker.config import Settings
from worker.errors import BadgesError
from worker.events import Dictionary, Event, Rejected
from worker.events.json_text import MAX_BYTES, dumps
from worker.exchange import Message
from worker.rules.plan import Plan

log = structlog.get_logger(__name__)

STREAMS: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
#: Streams that are being read, each of which may hold some 40 MB of answers. Speed is promised for 16 connections, and
#: twice as many are here where a client breaks all off and comes again at once.
RUNNING: Final = Crowd("streams", most=32, each=32)
#: Streams with a key, which are kept in files until they are read whole: each may be as large as `BADGES_MAX_STREAM`.
KEPT: Final = Crowd("streams with a key", most=4, each=2)
_CLOUD_EVENT: Final = "application/cloudevents+json"
_WAIT_MS: Final = 2_000
#: How long what an applied event earned may take to be read, where nothing is left of the wait, seconds.
_LOOK_SECONDS: Final = 0.1
_LONGEST_WAIT_MS: Final = 30_000
_DONE: Final = "Event processed successfully"

_EXAMPLE: Final = {
    "event_type": "question.scored",
    "user_id": "u42",
    "timestamp": "2026-03-01T12:00:00.123Z",
    "payload": {"post_id": 35, "score": 10},
}
_BODY: Final = {
    "parameters": [
        {
            "name": "wait",
            "in": "query",
            "description": "Answer after evaluation, with what the event earned",
            "schema": {"type": "string", "enum": ["award"]},
        },
        {
            "name": "timeout_ms",
            "in": "query",
            "description": "How long to wait for it at most",
            "schema": {"type": "integer", "minimum": 1, "maximum": _LONGEST_WAIT_MS, "default": _WAIT_MS},
        },
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Makes a retry the same event: its id, where it has none",
            "schema": {"type": "string", "minLength": 1, "maxLength": 200},
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": _EXAMPLE},
            _CLOUD_EVENT: {"schema": {"type": "object"}},
            STREAMS[0]: {"schema": {"type": "string", "description": "One event a line"}},
        },
    },
    "responses": {
        "200": {
            "description": "The broker has it; of a stream, one result a line",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["success", "event_id", "message"],
                        "properties": {
                            "success": {"type": "boolean"},
                            "event_id": {"type": "string"},
                            "message": {"type": "string"},
                            "evaluated": {
                                "type": "boolean",
                                "description": "With wait=award: whether what it earned is known within timeout_ms",
                            },
                            "awards": {"type": "array", "items": {"type": "object"}},
                        },
                    },
                    "example": {"success": True, "event_id": "459659ad", "message": _DONE},
                },
                STREAMS[0]: {"schema": {"type": "string"}},
            },
        }
    },
}

router = guarded_router(prefix="/api/v1", tags=["events"])


@router.post("/events", summary="Send an event, or a stream of them", openapi_extra=_BODY)
@direct
@body_limit(None)
@least(Role.PRODUCER, accepts=("application/json", _CLOUD_EVENT, *STREAMS))
async def send(request: Request) -> Response:
    """Check events by the catalog's dictionary as a worker would, and store them in the topic.

    An event without an instant happened now. One without an id gets the `Idempotency-Key`, or a random id.
    """
    # parameters are read by hand: as arguments they would take longer than the event itself
    services, settings = services_of(request), settings_of(request)
    arrived, timeout_ms = monotonic(), _wait_ms(request)
    key = checked_key(request.headers.get("idempotency-key"))
    topic = _topic(settings)
    if media_type(request) in STREAMS:
        if timeout_ms is not None:
            raise Problem(400, "A stream of events is answered at once: leave wait out.")
        check_room(RUNNING, actor_of(request))
        with RUNNING.joined(actor_of(request).key):
            return await _stream(request, services, settings, topic, key)
    body = await _body(request)
    taken = await _taken(body, services, settings, headers=_cloud_event(request), key=key)
    if key is not None:
        taken = await _same_again(taken, body, services)
    event = taken.event
    await services.outlet.send([(topic, taken.message())])
    said: dict[str, Any] = {"success": True, "event_id": event.id, "message": _DONE}
    if timeout_ms is not None:
        given = await _given(event, services, arrived + timeout_ms / 1000)
        said["evaluated"] = given is not None
        said["awards"] = [_shown(award, services.plans.current) for award in given or ()]
    return json_answer(said)


async def _given(event: Event, services: Services, until: float) -> Sequence[GivenAward] | None:
    """What a stored event earned; None where that is not known in time, be it that the database is away.

    `until` is an instant of the monotonic clock. A statement that is broken off late is not waited for.
    """
    left = max(0.0, until - monotonic())
    if not await services.applied.wait((event.user_id, event.source, event.id), seconds=left):
        return None
    looking = asyncio.ensure_future(services.store.awards_by(event.user_id, event.id))
    looking.add_done_callback(_looked_at)
    await asyncio.wait({looking}, timeout=max(_LOOK_SECONDS, until - monotonic()))
    try:
        if looking.done():
            return looking.result()
        looking.cancel()
        reason = "the database does not answer"
    except BadgesError as error:
        reason = error.message
    log.info("awards_not_told", reason=reason)
    return None


def _looked_at(done: asyncio.Future[Any]) -> None:
    """Look at what a statement raised, which nobody may wait for any more."""
    if not done.cancelled():
        done.exception()


def _wait_ms(request: Request) -> int | None:
    """How long awards are waited for, milliseconds; None where they are not."""
    query = request.query_params
    if (wait := query.get("wait")) is None:
        return None
    if wait != "award":
        raise Problem(422, "wait must be award.", details=[{"path": "?wait", "message": "must be award"}])
    text = query.get("timeout_ms", str(_WAIT_MS))
    wanted = f"must be a whole number from 1 to {_LONGEST_WAIT_MS}"
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= _LONGEST_WAIT_MS):
        raise Problem(422, f"timeout_ms {wanted}.", details=[{"path": "?timeout_ms", "message": wanted}])
    return int(text)


def _topic(settings: Settings) -> str:
    names = settings.event_topics.names
    if not names:
        raise unavailable("BADGES_EVENT_TOPICS is a pattern, which names no topic to send events to.", seconds=3600)
    return names[0]


async def _body(request: Request) -> bytes:
    """The body of one event, which has at most as many bytes as an event may have."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BYTES:
            raise too_large(MAX_BYTES)
        parts.append(part)
    return b"".join(parts)


def _cloud_event(request: Request) -> Headers:
    """The headers that make a CloudEvent, as they are named in Kafka."""
    found: list[tuple[str, bytes | None]] = [
        (f"ce_{name[3:]}", unquote_to_bytes(value)) for name, value in request.headers.items() if name.startswith("ce-")
    ]
    if media_type(request) == _CLOUD_EVENT:
        found.append(("content-type", _CLOUD_EVENT.encode()))
    return found


async def dictionary_of(services: Services, *, again: bool = False) -> Dictionary:
    """The types there are; `again`: as the head has them at this moment."""
    plan = services.plans.current
    if plan is None or again:
        plan = await services.plans.refresh()
    return _NOTHING if plan is None else plan.catalog.dictionary


_NOTHING: Final = Dictionary()


async def _taken(body: bytes, services: Services, settings: Settings, *, headers: Headers, key: str | None) -> Taken:
    """The event of a body; Problem where it is none. A type may be younger than the catalog that is known here."""
    now_us, most = services.now(), settings.max_future_us
    found = take(body, await dictionary_of(services), now_us=now_us, max_future_us=most, headers=headers, key=key)
    if isinstance(found, Rejected) and found.code in YOUNGER:
        types = await dictionary_of(services, again=True)
        found = take(body, types, now_us=now_us, max_future_us=most, headers=headers, key=key)
    if isinstance(found, Rejected):
        raise refusal(found)
    return found


async def _same_again(taken: Taken, body: bytes, services: Services) -> Taken:
    """The event as its first request had it; Problem 409 where the key was used for another body."""
    event = taken.event
    name = sha256(dumps([event.user_id, event.source, event.id]).encode()).digest()
    digest, first_us = await services.store.first_request(name, sha256(body).digest(), event.occurred_us)
    if digest != sha256(body).digest():
        raise Problem(409, "This Idempotency-Key was used for another event of this user.")
    if taken.dated or first_us == event.occurred_us:
        return taken
    return Taken(msgspec.structs.replace(event, occurred_us=first_us), dated=False)


def _shown(award: GivenAward, plan: Plan | None) -> dict[str, Any]:
    """An award with what a toast needs to show its badge."""
    badge = None if plan is None else plan.badges.get(award.badge_key)
    return {
        "key": award.badge_key,
        "name": award.badge_key if badge is None else badge.label,
        "description": "" if badge is None else badge.description,
        "image_url": None if badge is None else badge.image_url,
        "icon": None if badge is None else badge.icon,
        "color": None if badge is None else badge.color,
        "family": None if badge is None else badge.family,
        "tier": None if badge is None else badge.tier,
        "animation": None if badge is None else badge.animation,
        "awarded_at": instant(award.awarded_us),
        "context": award.context,
        "origin": award.origin,
    }


async def _stream(request: Request, services: Services, settings: Settings, topic: str, key: str | None) -> Response:
    """Send each line that is an event; the results, one a line, in the lines' order.

    One with a key is read whole first: under a key that another stream had nothing is sent (409).
    """
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > settings.max_stream:
        raise too_large(settings.max_stream)
    if key is None:
        return await _lines(request.stream(), services, settings, topic, now_us=services.now())
    actor = actor_of(request)
    check_room(KEPT, actor)
    with KEPT.joined(actor.key):
        return await _kept(request, services, settings, topic, key)


async def _kept(request: Request, services: Services, settings: Settings, topic: str, key: str) -> Response:
    async with spooled(request.stream(), most=settings.max_stream) as stream:
        name = sha256(dumps(["stream", actor_of(request).key, key]).encode()).digest()
        first, now_us = await services.store.first_request(name, stream.sha256, services.now())
        if first != stream.sha256:
            raise Problem(409, "This Idempotency-Key was used for another stream.")
        return await _lines(stream.pieces(), services, settings, topic, now_us=now_us, key=key)


async def _lines(
    stream: AsyncIterator[bytes],
    services: Services,
    settings: Settings,
    topic: str,
    *,
    now_us: int,
    key: str | None = None,
) -> Response:
    async def deliver(messages: list[Message]) -> None:
        await services.outlet.send([(topic, message) for message in messages])

    batch = Batch(
        dictionary=await dictionary_of(services),
        again=lambda: dictionary_of(services, again=True),
        deliver=deliver,
        now_us=now_us,
        max_future_us=settings.max_future_us,
        key=key,
    )
    try:
        async for lines in lines_of(stream, most=settings.max_stream):
            await batch.add(lines)
    finally:
        await batch.finish()
    if batch.away is not None and not batch.stored:
        raise unavailable(batch.away)
    return Response(b"".join(batch.told), media_type=STREAMS[0])
