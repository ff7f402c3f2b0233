"""A connection lost before any statement of an act: the act and its line in the log of changes, both or neither."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.samples import NOON, grant, load
from tests.contracts.test_store_withheld import withheld
from tests.rig.faults import Faults, store_on
from tests.rig.required import DEEP
from worker.admin.catalog_view import View
from worker.app.catalog import apply_catalog, head_plan
from worker.app.catalog_desk import CatalogDesk
from worker.app.job_asks import JobAsk, JobAsks
from worker.app.people_desk import PeopleAnswers
from worker.app.plans import HeadPlans
from worker.app.profiles import GatheredProfiles
from worker.app.quarantine import Verb, settle_quarantine
from worker.app.user_jobs import Asked
from worker.app.user_jobs import ask as ask_job
from worker.config import load_settings
from worker.errors import TransientError
from worker.exchange import AuditLine
from worker.rules.catalog import edits
from worker.rules.catalog.edits import Edit
from worker.rules.plan import Plan
from worker.store.postgres import PostgresStore

CATALOG = """
version: 1
events: {question.scored: {}}
badges: [{key: first, flow: {event: question.scored}, description: "0"}]
"""


@dataclass
class Rig:
    """A store with a catalog, and what acts on it; `name` stands for one try of an act."""

    store: PostgresStore
    plan: Plan
    folder: Path
    desk: CatalogDesk
    made: dict[str, int] = field(default_factory=dict)

    async def count(self, statement: str, *arguments: Any) -> int:
        """What a statement counts."""
        return int(await self.store.pool.fetchval(statement, *arguments))


Act = Callable[[Rig, str], Awaitable[Any]]


async def nothing(_rig: Rig, _name: str) -> None:
    """Nothing has to be there before."""


async def edit(rig: Rig, name: str) -> None:
    """A badge is made over the API."""

    def change(view: View, _spare: str | None) -> Edit:
        body = {"name": name, "flow_definition": {"event": "question.scored"}}
        return edits.badge_added(view.catalog.document, body)

    def line(made: Edit, _view: View, _version: int) -> AuditLine:
        return AuditLine("anna", "badge.created", f"badge {made.key}", note=name)

    await rig.desk.edit(change, by="anna", note=name, line=line)


async def apply(rig: Rig, name: str) -> None:
    """A file is applied."""
    path = rig.folder / "catalog.yaml"
    path.write_text(CATALOG.replace('"0"', f'"{name}"'))
    await apply_catalog(rig.store, path, applied_by="anna", note=name)


async def held(rig: Rig, name: str) -> None:
    """A user holds an award, and another award is held back."""
    async with rig.store.transaction() as transaction:
        await load(transaction, {name: ()})
        await transaction.grant([grant(name, "other", sequence=1)], topic="awards")
        await transaction.withhold([withheld(user_id=name)])


async def place(rig: Rig, name: str) -> None:
    """An award is placed on a profile."""
    line = AuditLine("anna", "award.placed", f"user {name}", note=name)
    await GatheredProfiles(rig.store).set_sort_override(name, "other", None, 7, line=lambda _count: line)


def settle(verb: Verb) -> Act:
    """An award that is held back is released or dropped."""

    async def act(rig: Rig, name: str) -> None:
        parts = settle_quarantine(
            rig.store, rig.plan, verb, badge_key="first", topic="awards", actor="anna", note=name, users=[name]
        )
        async for _ in parts:
            pass

    return act


async def job(rig: Rig, name: str) -> None:
    """A job waits."""
    rig.made[name] = await rig.store.create_user_job("sweep", {})


async def cancel(rig: Rig, name: str) -> None:
    """A job is cancelled."""
    await rig.store.cancel_user_job(rig.made[name], note=name, line=AuditLine("anna", "job.cancel", "job", note=name))


async def cancelled(rig: Rig, name: str) -> None:
    """A job was cancelled."""
    await job(rig, name)
    await rig.store.cancel_user_job(rig.made[name], note="")
    await rig.store.pool.execute("UPDATE user_jobs SET requested_by = $1 WHERE id = $2", name, rig.made[name])


async def resume(rig: Rig, name: str) -> None:
    """A cancelled job goes on."""
    await rig.store.resume_user_job(rig.made[name], line=AuditLine("anna", "job.resume", "job", note=name))


async def start(rig: Rig, name: str) -> None:
    """A job is started in the panel."""
    await JobAsks(rig.store).start(JobAsk(id="j", asked=Asked(rig.plan, "backfill", {}, 1)), actor=name)


async def ended(rig: Rig, _name: str) -> None:
    """No job of the tries before waits any more."""
    await rig.store.pool.execute("UPDATE user_jobs SET state = 'done'")


async def recompute(rig: Rig, name: str) -> None:
    """A recompute of everybody is asked for over the API."""
    await PeopleAnswers(rig.store).recompute(["first"], None, by=name, note=name)


async def log_out(rig: Rig, name: str) -> None:
    """Somebody logs out."""
    await rig.store.end_session(name.encode(), AuditLine("anna", "session.ended", "panel", note=name))


async def ask(rig: Rig, name: str) -> None:
    """An act is begun under an Idempotency-Key."""
    line = AuditLine("anna", "grant.added", f"user {name}", note=name)
    await rig.store.first_request(hashlib.sha256(name.encode()).digest(), b"body", NOON, line)


#: What comes before, the act, what counts its effect and what counts its line, for `$1` a try's name.
ACTS: dict[str, tuple[Act, Act, str, str]] = {
    "edit": (nothing, edit, "catalog_versions WHERE note = $1", "note = $1"),
    "apply": (nothing, apply, "catalog_versions WHERE note = $1", "note = $1"),
    "place": (held, place, "user_badges WHERE user_id = $1 AND sort_override = 7", "note = $1"),
    "release": (held, settle("release"), "user_badges WHERE user_id = $1 AND badge_key = 'first'", "note = $1"),
    "drop": (held, settle("drop"), "withheld_awards WHERE user_id = $1 AND state = 'dropped'", "note = $1"),
    "cancel": (job, cancel, "user_jobs WHERE note = $1", "note = $1"),
    "resume": (cancelled, resume, "user_jobs WHERE requested_by = $1 AND state = 'waiting'", "note = $1"),
    "start": (nothing, start, "user_jobs WHERE requested_by = $1", "actor = $1"),
    "recompute": (ended, recompute, "user_jobs WHERE requested_by = $1", "actor = $1"),
    "log out": (nothing, log_out, "ended_sessions WHERE sha256 = $1::text::bytea", "note = $1"),
    "ask": (nothing, ask, "idempotent_requests WHERE name = sha256($1::text::bytea)", "note = $1"),
}


@pytest.fixture(scope="module")
def module_dsn(postgres: Any) -> Any:
    """One database for all acts."""
    with postgres.database() as dsn:
        yield dsn


@pytest.fixture
async def rig(module_dsn: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """A catalog that rules, as it was at first."""
    async with store_on(module_dsn, connections=2) as store:
        (tmp_path / "catalog.yaml").write_text(CATALOG)
        await apply_catalog(store, tmp_path / "catalog.yaml", applied_by="test")
        plan = await head_plan(store)
        assert plan is not None
        yield Rig(store, plan, tmp_path, CatalogDesk(store, HeadPlans(store), load_settings()))


async def test_one_job_is_noted_alike(rig: Rig) -> None:
    """A recompute that is asked for over the API is noted as that of the panel is, with why; again it is one."""
    number = await PeopleAnswers(rig.store).recompute(["first"], None, by="anna", note="for ben")
    assert await PeopleAnswers(rig.store).recompute(["first"], None, by="anna", note="for ben") == number
    asked = await ask_job(rig.store, "recompute", badges=["first"])
    other = await JobAsks(rig.store).start(JobAsk(id="j", asked=asked), actor="anna")
    panel, api = await rig.store.changes(actor="anna", limit=2)
    assert (panel.subject, api.subject) == (f"job {other}", f"job {number}")
    assert (panel.action, panel.after) == (api.action, api.after) == ("recompute.started", '{"badges": ["first"]}')
    assert (panel.note, api.note) == ("", "for ben")


async def test_only_chosen_awards_are_settled(rig: Rig) -> None:
    """Of a badge's awards that are held, the one that is chosen is dropped or released: no other of its user's."""
    async with rig.store.transaction() as transaction:
        await load(transaction, {"u1": (), "u2": ()})
        held = [("u1", "4"), ("u1", "5"), ("u1", "6"), ("u2", "4")]
        await transaction.withhold([withheld(user_id=user_id, context=context) for user_id, context in held])

    async def settled(verb: Verb, *places: tuple[str, str]) -> int:
        given = {"badge_key": "first", "topic": "awards", "actor": "anna", "note": "chosen", "places": places}
        return sum([count async for count in settle_quarantine(rig.store, rig.plan, verb, **given)])

    assert await settled("drop", ("u1", "5"), ("u1", "5"), ("u2", "7")) == 1
    assert await settled("release", ("u1", "4")) == 1
    assert await settled("drop") == 0
    left = "SELECT user_id, context, state FROM withheld_awards WHERE context <> '' ORDER BY 1, 2"
    rows = [tuple(row) for row in await rig.store.pool.fetch(left)]
    assert rows == [("u1", "5", "dropped"), ("u1", "6", "held"), ("u2", "4", "held")]
    assert await rig.count("SELECT count(*) FROM user_badges WHERE user_id = 'u1' AND context = '4'") == 1


# Every act is for CI: a cut takes a new connection.
@pytest.mark.parametrize("name", ACTS if DEEP else ["edit", "release", "cancel"])
async def test_an_act_and_its_line_are_one(rig: Rig, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Wherever the connection is cut, the act is done and its line is there, or neither; uncut, both are, once."""
    before, act, effect, line = ACTS[name]
    faults = Faults(monkeypatch)
    seen = set()
    for number in range(1, 60):
        one = f"{name.replace(' ', '')}{number}"
        await before(rig, one)
        faults.left = number
        try:
            await act(rig, one)
        except TransientError:
            cut = True
        else:
            cut = faults.left is None
        faults.left = None
        done = await rig.count(f"SELECT count(*) FROM {effect}", one)
        told = await rig.count(f"SELECT count(*) FROM audit_log WHERE {line}", one)
        assert (done, told) in ((0, 0), (1, 1)), (name, faults.names[-1])
        seen.add((done, told))
        if not cut:
            break
    assert seen == {(0, 0), (1, 1)}
