"""Dead letters again, after the fix: those chosen or all that match, tried dry, then replayed beside the page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel.frame import ROOT, Wrong, is_fragment
from worker.admin.panel.page import PAGE, Opened, Page
from worker.admin.panel.pages.letters import SINCE
from worker.admin.panel.phrasing import plural
from worker.admin.problems import Problem
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import guarded_router
from worker.admin.services import Asked
from worker.auditing import letters_line
from worker.errors import OperatorError
from worker.exchange import AuditLine

router = guarded_router(prefix=ROOT, include_in_schema=False)

#: So many letters are tried dry while a page waits: the oldest, which tell of the rest.
MOST: Final = 2_000
#: So long a page waits for a replay, seconds; what takes longer goes on and is watched on a page of its own.
_PATIENCE: Final = 3.0
#: What a form says of the letters that it means.
_MEANT: Final = ("which", "reason", "type", "topic", "since")

Place = tuple[str, int, int]


@router.post("/dead-letters/replay")
@least(Role.SUPPORT, accepts=FORM)
async def replay(request: Request, page: Opened) -> Response:
    """Say what would pass now; with `verb` replay, begin to apply it."""
    form = await request.form()
    given = {name: str(form.get(name) or "")[:249] for name in (*_MEANT, "verb")}
    places = [one for text in form.getlist("letter")[:PAGE] if (one := _place(str(text))) is not None]
    chosen = given["which"] == "chosen"
    wanted = _wanted(page, given, places)
    count = await page.desk.count_letters(wanted) if places or not chosen else 0
    if not count:
        wrong = Wrong("No letter that waits is chosen.", help="Choose some in the list, or all that match.")
        return await _tried(page, given, places, wrong=[wrong])
    if given["verb"] != "replay":
        found = await page.desk.try_letters(wanted, most=MOST)
        return await _tried(page, given, places, found=found, count=count)
    if page.desk.letters_replay() is not None:
        raise Problem(409, "Another replay of dead letters runs. Wait for its end, or stop it; then try again.")
    line = letters_line(page.actor.name, letters=count, chosen=wanted.as_json())
    try:
        made = await page.desk.replay_letters(wanted, line=line)
    except OperatorError as error:
        raise Problem(409, f"{error.message} Nothing was changed.") from None
    if made.task is not None:
        await asyncio.wait({made.task}, timeout=_PATIENCE)
    if made.running or made.error or made.left:
        return page.go(f"/dead-letters/replays/{made.id}")
    still = made.found.tried - made.found.passed + made.found.lost
    return page.go("/dead-letters", f"{plural(made.found.passed, 'letter')} passed, {still:,} stayed.")


@router.get("/dead-letters/replays/{replay_id}")
@least(Role.SUPPORT)
async def watch(page: Opened, replay_id: str) -> Response:
    """How far a replay is, what came of it, what is left."""
    made = page.desk.letters_replay(replay_id)
    if made is None:
        return await page.missing(
            "This replay was forgotten",
            "What was tried is done; what was not waits in the list.",
            section="Dead letters",
            link="/dead-letters",
            act="Dead letters",
        )
    return await page.show(
        "letters_replay.html", title="Replay of dead letters", section="Dead letters", live=made.running, run=made
    )


@router.get("/_/dead-letters/replays/{replay_id}")
@least(Role.SUPPORT)
async def watch_part(request: Request, page: Opened, replay_id: str) -> Response:
    """The same, looked at every second while it runs."""
    if not is_fragment(request):
        return RedirectResponse(f"{ROOT}/dead-letters/replays/{replay_id}", 303)
    made = page.desk.letters_replay(replay_id)
    if made is None:
        raise Problem(404, "This replay was forgotten: what was not tried waits in the list.")
    return page.part("letters_replay_live.html", live=made.running, run=made)


@router.post("/dead-letters/replays/{replay_id}/stop")
@least(Role.SUPPORT, accepts=FORM)
async def stop(page: Opened, services: Asked, replay_id: str) -> Response:
    """End a replay behind the letters that are being tried."""
    made = page.desk.letters_replay(replay_id)
    if made is not None and made.running and not made.stopping:
        made.stopping = True
        after = {"seen": made.found.seen, "letters": made.total}
        await services.store.audit(AuditLine(page.actor.name, "dead_letters.stopped", "dead letters", after=after))
    return page.go(f"/dead-letters/replays/{replay_id}")


def _wanted(page: Page, given: Mapping[str, str], places: Sequence[Place]) -> Any:
    """Which letters a form means."""
    if given["which"] == "chosen":
        return page.desk.letters_wanted(reason=None, topic=None, since_us=None, places=tuple(places), event_type=None)
    span = SINCE.get(given["since"])
    return page.desk.letters_wanted(
        reason=given["reason"] or None,
        topic=given["topic"] or None,
        since_us=None if span is None else page.desk.now() - span,
        places=(),
        event_type=given["type"] or None,
    )


async def _tried(
    page: Page,
    given: Mapping[str, str],
    places: Sequence[Place],
    *,
    found: Any | None = None,
    count: int = 0,
    wrong: Sequence[Wrong] = (),
) -> Response:
    return await page.show(
        "replay.html",
        title="Replay dead letters",
        section="Dead letters",
        status=422 if wrong else 200,
        faults=wrong,
        given=given,
        meant=_MEANT,
        places=[f"{topic}~{partition}~{offset}" for topic, partition, offset in places],
        found=found,
        count=count,
    )


def _place(text: str) -> Place | None:
    """The topic, partition and offset of a letter; None of what names none."""
    topic, partition, offset = ("", "", "") if text.count("~") != 2 else text.split("~")
    digits = partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()
    if not topic or "\0" in topic or not digits or len(partition) > 9 or len(offset) > 18:
        return None
    return topic[:249], int(partition), int(offset)
