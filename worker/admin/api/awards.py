"""The feed of awards: pages of the log, and server-sent events as awards come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from itertools import pairwise
from time import monotonic
from typing import Annotated, Any, Final, Literal

import structlog
from fastapi import Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from worker.admin import shapes
from worker.admin.admission import check_room
from worker.admin.answers import as_json
from worker.admin.awards import NEWEST, News, award_json
from worker.admin.limits import Crowd
from worker.admin.paging import MOST, Cursor, cursor, page, position
from worker.admin.problems import Problem
from worker.admin.roles import Actor, Role, least
from worker.admin.routes import By, guarded_router
from worker.admin.services import Asked, Services
from worker.errors import BadgesError
from worker.events import parse_instant

log = structlog.get_logger(__name__)

router = guarded_router(prefix="/api/v1/awards", tags=["awards"])

Origin = Literal["live", "late", "backfill", "cron", "manual"]

_DAY_US: Final = 86_400_000_000
_LIST: Final = "awards"
#: Who listens: some hundred to one process, some of them by one token or person.
LISTENERS: Final = Crowd("listeners", most=200, each=50)
#: A line that says nothing, so that nobody on the way takes the silence for the end; seconds.
_HEARTBEAT_SECONDS: Final = 15.0
_TOLD: Final = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["award", "reset"]},
        "data": {"type": "string", "description": "JSON of the award, as the list has it"},
        "id": {"type": "string", "description": "Where to go on, for `Last-Event-ID`"},
    },
}
_RESET: Final = b"event: reset\ndata: {}\n"
#: No transaction has this number, and no award this instant.
_TRANSACTIONS: Final = 2**63
_NEVER_US: Final = 253_402_300_800_000_000
_SNAPSHOT: Final = re.compile(r"[0-9]{1,19}:[0-9]{1,19}:(?:[0-9]{1,19}(?:,[0-9]{1,19})*)?")


class Trigger(BaseModel):
    """The event that earned an award."""

    id: str
    type: str | None


class AwardOut(BaseModel):
    """One line of the log of awards; the id is that of the message on the awards topic."""

    id: str
    type: Literal["badge.awarded", "badge.revoked"]
    user_id: str
    badge_key: str
    badge_id: int | None
    name: str
    context: str
    awarded_at: str
    logged_at: str
    source: Literal["auto", "manual"]
    origin: Origin
    sequence: int
    trigger: Trigger | None
    reason: str | None
    metadata: shapes.JsonObject


@router.get("", summary="Awards, newest first", responses={200: {"model": list[AwardOut]}})
@least(Role.READER)
async def listed(
    request: Request,
    services: Asked,
    limit: Annotated[int, Query(ge=1, le=MOST, description="How many at most; `Link` then names the next page")] = 100,
    cursor: Cursor = None,
    since: Annotated[
        str | None, Query(max_length=64, description="From this instant on (RFC 3339); without it the last 24 hours")
    ] = None,
    badge: Annotated[str | None, Query(max_length=200, description="Of this badge: its id, key or name")] = None,
    trigger: Annotated[str | None, Query(max_length=200, description="Earned by this type of event")] = None,
    origin: Annotated[Origin | None, Query(description="Given in this way")] = None,
    user: Annotated[str | None, Query(max_length=200, description="To this user")] = None,
) -> Response:
    """The log of awards and revocations in the order in which they were written down, newest first.

    It has no end, so that it comes in pages also without `limit`: of 100, and `Link` names the next one.
    """
    before = NEWEST if cursor is None else position(cursor, tuple[int, str, int], of=_LIST)
    view = await services.catalog.view()
    rows = await services.awards.page(
        since_us=services.now() - _DAY_US if since is None else _instant(since),
        before=before,
        limit=limit + 1,
        badge_key=None if badge is None else known.key if (known := view.badge(badge)) is not None else badge,
        trigger=trigger if trigger is None else _canonical(view.catalog.dictionary, trigger),
        origin=origin,
        user_id=user,
    )
    shown = rows[:limit]
    following = None
    if len(rows) > limit:
        following = (shown[-1].logged_us, shown[-1].user_id, shown[-1].sequence)
    return page(request, [award_json(view, one) for one in shown], following, of=_LIST)


@router.get(
    "/stream",
    summary="Awards as they come",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `award`, with the award as data",
            "content": {"text/event-stream": {"schema": _TOLD}},
        }
    },
)
@least(Role.READER)
async def stream(
    request: Request,
    services: Asked,
    actor: By,
    last_event_id: Annotated[str | None, Header(max_length=20_000, description="Where the client was cut off")] = None,
) -> Response:
    """Server-sent events within a second of the award; with `Last-Event-ID` first what was missed in the last hour.

    After a cut an award may come twice: its id says so. `event: reset` says that some were missed: read the list.
    """
    check_room(LISTENERS, actor)
    since, reset = _place(last_event_id)
    return StreamingResponse(
        _admitted(actor, _lines(services, since, reset=reset, still=partial(request.app.state.gate.still, actor))),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _admitted(actor: Actor, lines: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """The lines, with their listener counted as long as they come; where they cannot go on they end, and it returns."""
    with LISTENERS.joined(actor.key):
        try:
            async with aclosing(lines) as found:
                async for line in found:
                    yield line
        except BadgesError as error:
            log.info("feed_ended", reason=error.message)


async def _lines(
    services: Services, since: tuple[str, int] | None, *, reset: bool, still: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes]:
    """What is told until the listener may not listen any more, which `still` says, or goes away."""
    if reset:
        yield _RESET + b"\n"
    looked = monotonic()
    async with aclosing(_with_heartbeat(services.awards.listen(since))) as found:  # type: ignore[type-var]
        async for news in found:
            if monotonic() - looked >= _HEARTBEAT_SECONDS:
                if not await still():
                    return
                looked = monotonic()
            yield b": \n\n" if news is None else await _told(services, news)


async def _told(services: Services, news: News) -> bytes:
    """News as lines. The last award of a look has an id: who is cut off before it is told of the look again."""
    lines = [_RESET] if news.missed else []
    if news.awards:
        view = await services.catalog.view()
        lines += [b"event: award\ndata: %b\n" % as_json(award_json(view, one)) for one in news.awards]
    elif news.place is not None:
        lines.append(b"")
    if news.place is not None:
        lines[-1] += b"id: %b\n" % cursor((news.place.snapshot, news.place.at_us), of="feed").encode()
    return b"".join(b"%b\n" % line for line in lines)


async def _with_heartbeat(source: AsyncIterator[News]) -> AsyncIterator[News | None]:
    """What comes, and None wherever nothing came for a while."""
    async with aclosing(source):  # type: ignore[type-var]
        coming: asyncio.Task[News] | None = None
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(source))
                done, _ = await asyncio.wait([coming], timeout=_HEARTBEAT_SECONDS)
                if not done:
                    yield None
                    continue
                try:
                    news = coming.result()
                except StopAsyncIteration:
                    return
                coming = None
                yield news
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)


def _place(text: str | None) -> tuple[tuple[str, int] | None, bool]:
    """The place of a Last-Event-ID, and whether it was one that cannot be gone on from."""
    if not text:
        return None, False
    try:
        snapshot, at_us = position(text, tuple[str, int], of="feed")
    except Problem:
        return None, True
    if not _is_snapshot(snapshot) or not 0 <= at_us < _NEVER_US:
        return None, True
    return (snapshot, at_us), False


def _is_snapshot(text: str) -> bool:
    """Whether a text is a snapshot as PostgreSQL writes one: `xmin:xmax:xip,…`, in order; it refuses others."""
    if _SNAPSHOT.fullmatch(text) is None:
        return False
    lowest, end, running = text.split(":")
    first, last, within = int(lowest), int(end), [int(one) for one in running.split(",") if one]
    ascending = all(one < other for one, other in pairwise(within))
    return 0 < first <= last < _TRANSACTIONS and ascending and all(first <= one < last for one in within)


def _instant(text: str) -> int:
    try:
        return parse_instant(text)
    except ValueError as error:
        message = f"{error}."
        raise Problem(422, message, details=[{"path": "?since", "message": message}]) from None


def _canonical(dictionary: Any, name: str) -> str:
    kind = dictionary.resolve(name)
    return name if kind is None else str(kind.name)
