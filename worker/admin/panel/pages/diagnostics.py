"""Diagnostics: a dry run for one user, and a simulator that plays events; neither writes anything."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlencode

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from worker.admin.catalog_view import Refused
from worker.admin.panel import playing
from worker.admin.panel.frame import ROOT, Wrong
from worker.admin.panel.page import Opened, Page, triggers_of
from worker.admin.panel.pages.users import moment
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import guarded_router
from worker.admin.services import Asked, Services
from worker.errors import BadgesError
from worker.events import Event, format_instant
from worker.rules.catalog.definitions import Catalog

router = guarded_router(prefix=ROOT, include_in_schema=False)

#: What the simulator is given, in its form and in its link.
_GIVEN: Final = ("user", "events", "set", "at", "log", "jobs")
#: A link that keeps more than so many characters is not offered: mail and chat would cut it.
_LONGEST_LINK: Final = 4_000
#: Of pasted events and of a file with them so many characters are read.
_MOST_TEXT: Final = 500_000
#: How far the clock's buttons move it, in years and days.
_SHIFTS: Final = {"day": (0, 1), "year": (1, 0)}


@router.get("/diagnostics")
@least(Role.READER)
async def diagnostics(page: Opened) -> Response:
    """What there is to try."""
    return await page.show("diagnostics.html", title="Diagnostics", section="Diagnostics")


@router.get("/diagnostics/dry-run")
@least(Role.SUPPORT, Role.AUTHOR)
async def dry_run(
    request: Request,
    page: Opened,
    services: Asked,
    user: str = "",
    badge: str = "",
    trigger: str = "",
    at: str = "",
    event: str = "",
    context: str = "",
) -> Response:
    """Would this user earn it at this moment, perhaps after one event more? A link keeps the question."""
    given = {"user": user.strip()[:200], "badge": badge, "trigger": trigger, "at": at}
    given |= {"event": event[:20_000], "context": context[:200]}
    wrong: list[Wrong] = []
    answers = []
    if given["user"] and page.catalog is not None:
        at_us = _at(request, page, at, wrong)
        events = list(await page.desk.history(given["user"]))
        more, faults = playing.read_lines(given["event"], page.catalog, user_id=given["user"])
        wrong += [Wrong(one, "f-event") for one in faults]
        listening = [key for key, one in page.badges.items() if not trigger or {trigger, "*"} & one.triggers]
        keys = [badge] if badge in page.badges else listening
        judged = [] if wrong else await _judged(services, page.catalog, events, more, "f-event", wrong)
        if not wrong:
            answers = await asyncio.to_thread(
                playing.ask, page.catalog, given["user"], judged, keys, at_us=at_us, context=given["context"]
            )
            if not judged:
                wrong.append(Wrong(f"No event of {given['user']} was ever logged.", "f-user", "Ids are exact."))
    return await page.show(
        "dry_run.html",
        title="Dry run",
        section="Diagnostics",
        faults=wrong,
        given=given,
        answers=answers,
        keys=sorted(page.badges),
        triggers=triggers_of(page),
    )


@router.get("/diagnostics/simulator")
@least(Role.SUPPORT, Role.AUTHOR)
async def simulator(request: Request, page: Opened, services: Asked) -> Response:
    """The form; with `play`, what a link kept is played."""
    asked = request.query_params
    given = {name: asked.get(name, "")[:_LONGEST_LINK] for name in _GIVEN}
    if not asked.get("play"):
        return await _simulator(page, {**given, "log": "1"}, [], None)
    return await _play(request, page, services, given)


@router.post("/diagnostics/simulator")
@least(Role.SUPPORT, Role.AUTHOR, accepts=FORM)
async def simulate(request: Request, page: Opened, services: Asked) -> Response:
    """Play: the user's log, the events pasted, with metrics set, up to a moment; `shift` moves the clock on before."""
    async with request.form() as form:
        given = {name: str(form.get(name) or "")[:_MOST_TEXT] for name in _GIVEN}
        shift = str(form.get("shift") or "")
        file = form.get("file")
        if isinstance(file, UploadFile):
            text = (await file.read(_MOST_TEXT)).decode("utf-8-sig", "replace").replace("\r\n", "\n")
            given["events"] = f"{given['events']}\n{text}".strip()[:_MOST_TEXT]
    return await _play(request, page, services, given, shift=shift)


async def _play(
    request: Request, page: Page, services: Services, given: dict[str, str], *, shift: str = ""
) -> Response:
    wrong: list[Wrong] = []
    if page.catalog is None:
        return await _simulator(page, given, [Wrong("No catalog rules yet.")], None)
    user = given["user"].strip()[:200]
    at_us = _at(request, page, given["at"], wrong)
    if shift in _SHIFTS:
        at_us = playing.later(at_us, _SHIFTS[shift])
        given["at"] = format_instant(at_us)
    events, faults = playing.read_lines(given["events"], page.catalog, user_id=user)
    overrides, more = playing.read_overrides(given["set"], page.catalog)
    wrong += [Wrong(one, "f-events") for one in faults] + [Wrong(one, "f-set") for one in more]
    logged = list(await page.desk.history(user)) if given["log"] and user else []
    events = [*logged, *events]
    if not events and not overrides and not wrong:
        wrong.append(Wrong("There is nothing to play.", "f-events", "Paste events, or name a user and take their log."))
    if wrong:
        return await _simulator(page, given, wrong, None)
    if given["jobs"]:
        seen = [event for event in events if event.occurred_us <= at_us]
        try:
            events = list(await page.desk.with_jobs(page.catalog, seen, at_us))
            many = f"The clock would send more than {playing.MOST_TICKS:,} events."
            said = many if len(events) - len(seen) > playing.MOST_TICKS else ""
        except BadgesError as error:
            said = error.message
        if said:
            return await _simulator(page, given, [Wrong(said, "f-at", "Set the clock to an earlier time.")], None)
    known = {(event.source, event.id) for event in logged}
    sent = [event for event in events if (event.source, event.id) not in known]
    events = await _judged(services, page.catalog, logged, sent, "f-events", wrong)
    if wrong:
        return await _simulator(page, given, wrong, None)
    played = await asyncio.to_thread(playing.play, page.catalog, events, overrides, until_us=at_us, user_id=user)
    return await _simulator(page, given, [], played)


async def _judged(
    services: Services, catalog: Catalog, logged: list[Event], sent: list[Event], field: str, wrong: list[Wrong]
) -> list[Event]:
    """All the events with what conditions say of them; where none may be asked, `wrong` has why, at a field."""
    try:
        return await services.rehearsal.judged(catalog, logged, sent)
    except Refused as error:
        wrong.append(Wrong(error.message, field, error.help or ""))
        return []


async def _simulator(page: Page, given: dict[str, str], wrong: list[Wrong], played: playing.Played | None) -> Response:
    link = "?" + urlencode({**{name: text for name, text in given.items() if text}, "play": "1"})
    return await page.show(
        "simulator.html",
        title="Simulator",
        section="Diagnostics",
        faults=wrong,
        given=given,
        played=played,
        link=link if len(link) <= _LONGEST_LINK else "",
        metrics=sorted(page.catalog.metrics) if page.catalog is not None else [],
    )


def _at(request: Request, page: Page, text: str, wrong: list[Wrong]) -> int:
    at_us = moment(text, request, "f-at", wrong)
    return page.desk.now() if at_us is None else at_us
