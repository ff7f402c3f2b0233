"""Jobs: backfills, recomputes and sweeps with preview, progress, cancel and CSV; and what the clock ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Form, Request
from starlette.responses import RedirectResponse, Response

from worker.admin.panel.frame import ROOT, Wrong, is_fragment
from worker.admin.panel.page import PAGE, Opened, Page, triggers_of
from worker.admin.panel.tables import EXPORTS, csv_answer
from worker.admin.problems import Problem
from worker.admin.roles import FORM, Role, least
from worker.admin.routes import few, guarded_router
from worker.errors import OperatorError
from worker.events import format_instant, json_text
from worker.events.instants import SECOND
from worker.exchange import AuditLine

router = guarded_router(prefix=ROOT, include_in_schema=False)

KINDS: Final = ("backfill", "recompute")
LISTED: Final = ("backfill", "recompute", "sweep")
#: Rows of a CSV; what is older is fetched by narrower filters.
_MOST_ROWS: Final = 50_000
_GOING: Final = ("waiting", "running")
STATES: Final = ("waiting", "running", "done", "cancelled", "failed")


@router.get("/jobs")
@least(Role.READER)
async def jobs(page: Opened, kind: str = "", state: str = "", before: int | None = None) -> Response:
    """The list, newest first, with what the clock ran last."""
    found = await page.desk.reads.user_jobs(kind=kind or None, state=state or None, before=before, limit=PAGE + 1)
    runs = await page.desk.reads.job_runs(limit=10)
    return await page.show(
        "jobs.html",
        title="Jobs",
        section="Jobs",
        live=any(one.state in _GOING for one in found),
        jobs=found[:PAGE],
        runs=runs,
        given={"kind": kind, "state": state},
        kinds=LISTED,
        states=STATES,
        older=found[PAGE - 1].id if len(found) > PAGE else None,
        filtered=bool(kind or state),
        most=_MOST_ROWS,
    )


@router.get("/jobs.csv")
@few(EXPORTS)
@least(Role.READER)
async def jobs_csv(page: Opened, kind: str = "", state: str = "") -> Response:
    """The filtered list as CSV, in UTC."""
    found = await page.desk.reads.user_jobs(kind=kind or None, state=state or None, limit=_MOST_ROWS)
    names = (
        "id", "kind", "for", "state", "users_done", "users_total", "events", "awards", "requested_by", "requested_at",
        "started_at", "moved_at", "ended_at", "note",
    )  # fmt: skip
    lines = (
        (
            one.id, one.kind, json_text.dumps(one.parameters), one.state, one.users_done, one.users_total, one.events,
            one.awards, one.requested_by,
            *(
                "" if at is None else format_instant(at)
                for at in (one.requested_us, one.started_us, one.moved_us, one.done_us)
            ),
            one.note,
        )
        for one in found
    )  # fmt: skip
    return await csv_answer("jobs.csv", names, lines)


@router.get("/jobs/new")
@least(Role.SUPPORT, Role.AUTHOR)
async def new(page: Opened, kind: str = "backfill", user: str = "", badge: str = "", trigger: str = "") -> Response:
    """The form of a job."""
    return await _form(page, {"kind": kind, "user": user, "badge": badge, "trigger": trigger})


@router.post("/jobs/new")
@least(Role.SUPPORT, Role.AUTHOR, accepts=FORM)
async def ask(
    page: Opened,
    kind: Annotated[str, Form()] = "",
    user: Annotated[str, Form()] = "",
    badge: Annotated[str, Form()] = "",
    trigger: Annotated[str, Form()] = "",
    notify: Annotated[str, Form()] = "",
) -> Response:
    """Check what is asked for; its preview comes next."""
    given = {"kind": kind, "user": user.strip()[:200], "badge": badge, "trigger": trigger}
    wrong = []
    if kind not in KINDS:
        wrong.append(Wrong("This is no kind of job.", "f-kind", "Choose backfill or recompute."))
    elif kind == "recompute" and not any((given["user"], badge, trigger)):
        wrong.append(Wrong("A recompute is for a user, a badge or a trigger.", "f-user", "Name one of them."))
    elif kind == "backfill" and (given["user"] or trigger):
        wrong.append(Wrong("A backfill is for badges.", "f-badge", "For a user or a trigger, choose recompute."))
    if not wrong:
        try:
            made = await page.desk.ask_job(kind, user=given["user"], badge=badge, trigger=trigger, notify=bool(notify))
        except OperatorError as error:
            wrong.append(Wrong(error.message, "f-user" if given["user"] else "f-badge", f"{error.help or ''}"))
        else:
            return page.go(f"/jobs/asks/{made.id}")
    return await _form(page, given, wrong)


@router.get("/jobs/asks/{ask_id}")
@least(Role.SUPPORT, Role.AUTHOR)
async def asked(page: Opened, ask_id: str) -> Response:
    """What the job would do, and the button that starts it."""
    made = page.desk.asked_job(ask_id)
    if made is None:
        return await _forgotten(page)
    return await page.show("job_ask.html", title=f"Preview: {made.asked.kind}", section="Jobs", **_values(made))


@router.get("/_/jobs/asks/{ask_id}")
@least(Role.SUPPORT, Role.AUTHOR)
async def asked_part(request: Request, page: Opened, ask_id: str) -> Response:
    """How far the preview is."""
    if not is_fragment(request):
        return RedirectResponse(f"{ROOT}/jobs/asks/{ask_id}", 303)
    made = page.desk.asked_job(ask_id)
    if made is None:
        raise Problem(404, "This preview was forgotten: ask again.")
    return page.part("job_gains_live.html", **_values(made))


@router.post("/jobs/asks/{ask_id}")
@least(Role.SUPPORT, Role.AUTHOR, accepts=FORM)
async def start(page: Opened, ask_id: str) -> Response:
    """Leave it to the workers."""
    made = page.desk.asked_job(ask_id)
    if made is None:
        return await _forgotten(page)
    if made.preview is None:
        raise Problem(409, "Start comes after the preview: it is not done yet.")
    number = await page.desk.start_job(made, actor=page.actor.name)
    return page.go(f"/jobs/{number}", f"Job {number} was asked for; the next free worker takes it.")


@router.get("/jobs/{number}")
@least(Role.READER)
async def job(page: Opened, number: int) -> Response:
    """One job."""
    found = await page.desk.reads.user_job(number) if 0 < number < 2**63 else None
    if found is None:
        return await page.missing(f"There is no job {number}", "Old jobs are forgotten.", section="Jobs", link="/jobs")
    return await page.show("job.html", title=f"Job {number}", section="Jobs", **_stand(found))


@router.get("/_/jobs/{number}")
@least(Role.READER)
async def job_part(request: Request, page: Opened, number: int) -> Response:
    """How far it is."""
    if not is_fragment(request):
        return RedirectResponse(f"{ROOT}/jobs/{number}", 303)
    found = await page.desk.reads.user_job(number) if 0 < number < 2**63 else None
    if found is None:
        raise Problem(404, "There is no such job.")
    return page.part("job_live.html", **_stand(found))


@router.post("/jobs/{number}/{act}")
@least(Role.SUPPORT, Role.AUTHOR, accepts=FORM)
async def act(page: Opened, number: int, act: str) -> Response:
    """Cancel a job, which keeps what is done, or let a cancelled one go on."""
    if act not in ("cancel", "resume") or not 0 < number < 2**63:
        raise Problem(404, "There is no such thing to do with a job.")
    reads, line = page.desk.reads, AuditLine(page.actor.name, f"job.{act}", f"job {number}")
    if act == "cancel":
        done = await reads.cancel_user_job(number, note=f"cancelled by {page.actor.name}", line=line)
        said = "Cancelled; what was done stays."
    else:
        done = await reads.resume_user_job(number, line=line)
        said = "It goes on where it stopped."
    return page.go(f"/jobs/{number}", said if done else "It had ended already; nothing was changed.")


@dataclass(frozen=True, slots=True)
class Speed:
    """Events read a second since a job began, and for how many seconds it goes on like that (None: not known yet)."""

    events: int
    left: float | None


def _stand(job: Any) -> dict[str, Any]:
    """How far a job is; one that ended is not looked at again."""
    return {"job": job, "speed": _speed(job), "live": job.state in _GOING}


def _speed(job: Any) -> Speed | None:
    """How fast a job is that runs; None before it has moved."""
    if job.state != "running" or job.started_us is None or job.moved_us is None or job.moved_us <= job.started_us:
        return None
    spent = (job.moved_us - job.started_us) / SECOND
    left = spent * (job.users_total - job.users_done) / job.users_done if job.users_done else None
    return Speed(round(job.events / spent), None if left is None else max(0.0, left))


async def _form(page: Page, given: dict[str, str], wrong: list[Wrong] | None = None) -> Response:
    return await page.show(
        "job_new.html",
        title="New job",
        section="Jobs",
        faults=wrong,
        given=given,
        kinds=KINDS,
        keys=sorted(page.badges),
        triggers=triggers_of(page),
    )


def _values(made: Any) -> dict[str, Any]:
    gains = [] if made.preview is None else [gain for gain in made.preview.gains.values() if gain.awards]
    return {"ask": made, "gains": gains, "awards": sum(gain.awards for gain in gains)}


async def _forgotten(page: Page) -> Response:
    return await page.missing(
        "This preview was forgotten", "Nothing was changed; ask again.", section="Jobs", link="/jobs/new", act="New job"
    )
