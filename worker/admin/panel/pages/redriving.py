"""Dead letters again, after the fix: those chosen or all that match, tried dry first, then replayed."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from starlette.responses import Response

from worker.admin.panel.frame import ROOT, Wrong
from worker.admin.panel.page import PAGE, Opened
from worker.admin.panel.pages.letters import SINCE
from worker.admin.panel.phrasing import plural
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import guarded_router
from worker.admin.services import Asked
from worker.auditing import letters_line, noted

router = guarded_router(prefix=ROOT, include_in_schema=False)

#: So many letters are tried while a page waits; more are for the command.
MOST: Final = 2_000


@router.post("/dead-letters/replay")
@least(Role.SUPPORT, accepts=FORM)
async def replay(request: Request, page: Opened, services: Asked) -> Response:
    """Say what would pass now; with `verb` replay, apply it."""
    form = await request.form()
    given = {name: str(form.get(name) or "")[:249] for name in ("which", "reason", "type", "topic", "since", "verb")}
    places = [one for text in form.getlist("letter")[:PAGE] if (one := _place(str(text))) is not None]
    chosen = given["which"] == "chosen"
    since = SINCE.get(given["since"])
    since_us = None if since is None or chosen else page.desk.now() - since
    reason, topic, said = (None if chosen else given[name] or None for name in ("reason", "topic", "type"))
    wanted = page.desk.letters_wanted(
        reason=reason,
        topic=topic,
        since_us=since_us,
        places=tuple(places) if chosen else (),
    )
    wrong = []
    count = await page.desk.count_letters(wanted) if places or not chosen else 0
    if not count:
        wrong.append(Wrong("No letter that waits is chosen.", help="Choose some in the list, or all that match."))
    elif count > MOST:
        message = f"{count:,} letters match; a page tries {MOST:,} at most."
        wrong.append(Wrong(message, help="Filter more, or run: badges dlq replay."))
    dry = given["verb"] != "replay"
    line = letters_line(page.actor.name, letters=count, reason=reason, topic=topic, type=said)
    async with noted(services.store, None if wrong or dry else line):
        found = None if wrong else await page.desk.redrive(wanted, event_type=said, dry=dry)
    if found is not None and not dry:
        still = found.tried - found.passed
        return page.go("/dead-letters", f"{plural(found.passed, 'letter')} passed, {still:,} stayed.")
    return await page.show(
        "replay.html",
        title="Replay dead letters",
        section="Dead letters",
        status=422 if wrong else 200,
        faults=wrong,
        given=given,
        places=[f"{topic}~{partition}~{offset}" for topic, partition, offset in places],
        found=found,
        count=count if found is None else found.tried,
    )


def _place(text: str) -> tuple[str, int, int] | None:
    """The topic, partition and offset of a letter; None of what names none."""
    topic, partition, offset = ("", "", "") if text.count("~") != 2 else text.split("~")
    digits = partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()
    if not topic or "\0" in topic or not digits or len(partition) > 9 or len(offset) > 18:
        return None
    return topic[:249], int(partition), int(offset)
