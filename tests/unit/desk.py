"""The panel on a desk in memory: a catalog, some awards, users and dead letters that a test can poison."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from fastapi import FastAPI

from tests.unit.serving import NOON, Clock, FakeStore, fakes
from tests.unit.serving_catalog import FakeCatalogs
from worker.admin.app import build
from worker.app.comparing import Difference
from worker.app.coverage import coverage
from worker.app.doctor import Finding, summary
from worker.app.job_asks import JobAsk
from worker.app.lookout import Lag, trend_of
from worker.app.proposals import Proposal
from worker.app.redrives import Redrive
from worker.app.user_jobs import Asked, started
from worker.config import load_settings
from worker.control import ControlEvent
from worker.errors import OperatorError
from worker.events import Event, json_text
from worker.events.instants import DAY
from worker.exchange import AuditLine, UserJob, Withheld
from worker.jobs.simulated import with_jobs
from worker.pipeline.redrive import Redriven
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import Reading, load_catalog, read
from worker.rules.compare import compare, may_gain
from worker.rules.plan import compile_plan
from worker.rules.preview import Preview
from worker.store.admin import Change, TokenRow
from worker.store.arrivals import TypeDays
from worker.store.catalog import HeadMoved, StoredCatalog, VersionRow
from worker.store.dead_letters import BuriedLetter, LetterFilter, ReasonCount
from worker.store.holders import Share
from worker.store.jobs import JobRun
from worker.store.panel import (
    AwardEntry,
    BadgeCount,
    BuildStand,
    GroupStand,
    HeldAward,
    HeldBack,
    SampleEvent,
    UserEntry,
    UserRow,
)
from worker.store.people import Erased
from worker.store.quarantine import Quarantined

#: Text that must stay text wherever it is shown.
HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>{{7*7}}"


def document(text: str = "Nice question") -> dict[str, Any]:
    """A catalog whose words are `text` wherever people write some."""
    return {
        "version": 1,
        "events": {
            "question.scored": {
                "description": text,
                "schema": {"type": "object", "properties": {"score": {"type": "integer"}, "post_id": {}}},
            },
            "comment.posted": {"noun": {"one": "comment", "other": "comments"}, "aliases": ["comment.added"]},
        },
        "metrics": {"comments": {"count": "comment.posted"}},
        "badges": [
            {
                "key": "nice_question",
                "label": text,
                "description": text,
                "family": "misc",
                "icon": text,
                "flow": {"event": "question.scored", "criteria": {"score": {"$gte": 10}}},
                "per": "post_id",
                "translations": {"de": {"label": text}},
                "animation": {"kind": "confetti"},
            },
            {"key": "asks", "label": "Asks", "flow": {"badge": "nice_question"}, "triggers": ["comment.posted"]},
        ],
        "ladders": [{"key": "commentator", "metric": "comments", "levels": [10, 50], "label": "Commentator"}],
    }


def catalog_of(found: Mapping[str, Any], version: int = 3) -> Catalog:
    """A catalog of a document."""
    from dataclasses import replace

    return replace(load_catalog([Source("catalog.json", json_text.dumps(found))]), version=version)


@dataclass
class FakeReads:
    """Tables with one row each, whose texts are `text`; empty where `empty`."""

    text: str = "u1"
    empty: bool = False
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    lines: list[tuple[Any, ...]] = field(default_factory=list)
    held_at: list[tuple[str, str]] | None = None
    bounds: int = 0

    def _some(self, *rows: Any) -> list[Any]:
        return [] if self.empty else list(rows)

    async def panel_awards(self, **given: Any) -> Sequence[Any]:
        self.asked.append(("awards", given))
        entry = AwardEntry(
            self.text, 1, "nice_question", self.text, NOON, "awarded", "live", self.text, self.text, 3, self.text, NOON
        )
        return self._some(entry, AwardEntry("u2", 2, self.text, "", NOON, "revoked", "manual", None, None, 3, None, 1))

    async def panel_awards_bound(self, **given: Any) -> tuple[int, str, int] | None:
        if self.bounds == 0:
            return None
        self.bounds -= 1
        return NOON, "u9", 7

    async def panel_count_awards(self, since_us: int) -> int:
        return 0 if self.empty else 10_001

    async def panel_count_letters(self, since_us: int) -> int:
        return 0 if self.empty else 3

    async def panel_users(self, prefix: str, *, after: str = "", limit: int = 50) -> Sequence[Any]:
        return self._some(UserRow(self.text, NOON, 3), UserRow("u2", None, None))

    async def panel_user_awards(self, user_id: str, **given: Any) -> Sequence[Any]:
        award = HeldAward("nice_question", self.text, NOON, "auto", "live", 1, 3, "e1", "question.scored", UUID(int=1))
        return self._some(award)

    async def panel_user_log(self, user_id: str, *, before: int | None = None, limit: int = 50) -> Sequence[Any]:
        return self._some(
            UserEntry(1, "nice_question", self.text, "awarded", NOON, "auto", "live", self.text, "e1", 3, self.text, 1)
        )

    async def panel_long(self, user_id: str, events: int) -> bool:
        return user_id == "long"

    async def panel_group(self, group_id: str) -> Any:
        return GroupStand(0, 0, 0, None) if self.empty else GroupStand(8, 8, 2, NOON)

    async def panel_builds(self, limit: int = 5) -> Sequence[Any]:
        return self._some(BuildStand(3, 10, 2, NOON, NOON, None))

    async def panel_held_back(self) -> Sequence[Any]:
        return self._some(HeldBack("nice_question", 212, NOON))

    async def panel_letters(self, **given: Any) -> Sequence[Any]:
        return self._some(self._letter())

    async def panel_waiting_letters(self, **given: Any) -> tuple[int, bool]:
        self.asked.append(("waiting", given))
        return {"not_json": (1_204, True), "erased": (0, False), "too_old": (0, True)}.get(given["reason"], (41, False))

    async def panel_letter_counts(self) -> Sequence[Any]:
        return self._some(ReasonCount("not_json", 3, 0, NOON))

    async def panel_sample(self, event_type: str, received_us: int) -> Any | None:
        payload = json_text.dumps({"note": self.text})
        return None if self.empty else SampleEvent(self.text, self.text, self.text, NOON, received_us, payload)

    async def panel_topics(self) -> Sequence[str]:
        return self._some("badges.events")

    async def dead_letter(self, topic: str, partition: int, offset: int) -> Any | None:
        return None if self.empty else self._letter()

    async def catalog_versions(self, *, before: int | None = None, limit: int = 50) -> Sequence[Any]:
        rows = [VersionRow(one, one, 3, self.text, self.text, self.text, NOON, one == 3) for one in (3, 2, 1)]
        return self._some(*rows)

    async def panel_unpublished(self) -> tuple[int, float]:
        return (0, 0.0) if self.empty else (5, 90.0)

    async def user_jobs(self, **given: Any) -> Sequence[Any]:
        if "before" not in given:
            self.asked.append(("jobs", given))
        return self._some(self._job("running"), self._job("done"))

    async def user_job(self, job_id: int) -> Any | None:
        return None if self.empty or job_id > 9 else self._job("running" if job_id == 1 else "cancelled")

    async def cancel_user_job(self, job_id: int, *, note: str = "", line: AuditLine | None = None) -> bool:
        self.asked.append(("cancel", {"id": job_id, "note": note}))
        return self._changed(job_id == 1, line)

    async def resume_user_job(self, job_id: int, *, line: AuditLine | None = None) -> bool:
        return self._changed(job_id != 1, line)

    def _changed(self, done: bool, line: AuditLine | None) -> bool:
        if done and line is not None:
            self.lines.append(astuple(line))
        return done

    async def job_runs(self, **given: Any) -> Sequence[Any]:
        return self._some(
            JobRun("holders", NOON, "done", self.text, 1, {"users": 3, "awards": None}, self.text, NOON, NOON)
        )

    async def newest_runs(self) -> Sequence[Any]:
        return await self.job_runs()

    async def trigger_days(self, types: Sequence[str]) -> Mapping[str, Any]:
        day = date(2026, 3, 1)
        return {} if self.empty else {"comment.posted": TypeDays("comment.posted", NOON, day, 31, day, {day: 29})}

    async def arrivals_counted(self) -> int | None:
        return None if self.empty else NOON

    async def tokens(self) -> Sequence[Any]:
        return self._some(TokenRow(1, self.text, "reader", NOON, self.text, None, None))

    async def create_token(self, name: str, role: str, sha256: bytes, *, actor: str) -> int:
        if name == "taken":
            raise OperatorError("There is a token named taken already.", help="take another name")
        self.asked.append(("token", {"name": name, "role": role, "sha256": sha256, "actor": actor}))
        return 2

    async def revoke_token(self, which: int | str, *, actor: str) -> Any | None:
        return None if which != 1 else TokenRow(1, "old", "reader", NOON, "x", None, None)

    async def changes(self, **given: Any) -> Sequence[Any]:
        return self._some(Change(1, NOON, self.text, self.text, self.text, self.text, self.text, self.text))

    async def quarantined(self, *, places: Sequence[tuple[str, str]] | None = None, **given: Any) -> Sequence[Any]:
        held = [(self.text, self.text)] if self.held_at is None else self.held_at
        rest = (NOON, "auto", "live", 3, "e1", self.text, "{}", self.text)
        return self._some(
            *(
                Quarantined(Withheld(place[0], "nice_question", place[1], "held", *rest), NOON)
                for place in held
                if places is None or place in places
            )
        )

    def _job(self, state: str) -> UserJob:
        return UserJob(
            1, "backfill", {"badges": [self.text], "notify": True}, state, "", 3, 10, 20, 2, {"gained": 2},
            self.text, NOON, NOON, NOON, None, self.text,
        )  # fmt: skip

    def _letter(self) -> BuriedLetter:
        raw = self.text.encode()
        return BuriedLetter(
            1, "badges.events", 3, 88, 1, "not_json", self.text, f"/{self.text}", self.text, len(raw), NOON, NOON,
            "new", raw, raw, bytes(32), said_type=self.text,
        )  # fmt: skip


@dataclass
class FakeDesk:
    """Answers `needs.Desk` from memory."""

    text: str = "Nice question"
    reads: Any = field(default_factory=FakeReads)
    group_id: str = "badges"
    managed_by_file: bool = False
    catalog_file: str = ""
    none: bool = False
    sent: list[ControlEvent] = field(default_factory=list)
    slow: bool = False
    overtaken: bool = False
    proposals: dict[str, Any] = field(default_factory=dict)
    applied: list[tuple[Any, str, str]] = field(default_factory=list)
    changes: list[tuple[Any, ...]] = field(default_factory=list)
    replay: Redrive | None = None

    @property
    def now(self) -> Clock:
        return Clock()

    async def catalog(self) -> Catalog | None:
        return None if self.none else catalog_of(self._document())

    async def version(self, number: int) -> Catalog | None:
        return catalog_of(document(f"{self.text} {number}"), number) if 0 < number < 4 else None

    async def entry_text(self, number: int, section: str, key: str) -> str:
        return f'{{\n  "label": "{self.text} {number}"\n}}'

    async def checks(self) -> tuple[Sequence[Any], str]:
        found = [
            Finding("ok", "database", f"PostgreSQL {self.text}"),
            Finding("warn", "settings", self.text, self.text, grave=True),
            Finding("FAIL", "kafka", self.text, "start the broker"),
            Finding("skip", "topics", "needs kafka"),
        ]
        return found, summary(found)

    async def overview(self, user_id: str) -> Mapping[str, Any] | None:
        if user_id == "nobody":
            return None
        return {
            "zone": "UTC", "zone_source": "catalog", "events": 3, "first_event_at": "2026-03-01T12:00:00Z",
            "last_event_at": "2026-03-01T12:00:00Z", "building": 0.5,
            "awards": [
                {
                    "badge_key": "nice_question", "label": self.text, "context": self.text, "origin": "live",
                    "awarded_at": "2026-03-01T12:00:00Z", "note": self.text, "sentence": self.text,
                }
            ],
            "withheld": [
                {
                    "badge_key": "asks", "context": "", "state": "held", "note": self.text,
                    "withheld_at": "2026-03-01T12:00:00Z",
                }
            ],
            "missing": [{"badge_key": "asks", "context": self.text}],
            "progress": [
                {"badge_key": "commentator_10", "label": "Commentator I", "fraction": 0.4, "sentence": self.text}
            ],
        }  # fmt: skip

    async def why(
        self, user_id: str, key: str, *, at_us: int | None, context: str | None, closest: bool
    ) -> Mapping[str, Any]:
        if user_id == "nobody":
            raise OperatorError("No event and no award for nobody.", help="ids are exact")
        leaf = {"verdict": "not_passed", "sentence": self.text, "operator": "event", "children": [], "event_ids": ["e"]}
        return {
            "verdict": "not_yet", "sentence": self.text, "at": "2026-03-01T12:00:00Z", "context": self.text,
            "award": None, "blocker": {"sentence": self.text, "help": None}, "fraction": 0.3,
            "closest": {"at": "2026-03-01T12:00:00Z", "sentence": self.text, "event_id": self.text},
            "explanation": {**leaf, "operator": "$and", "children": [leaf]},
        }  # fmt: skip

    async def read(self, name: str, text: str) -> Reading:
        return read([Source(name, text)])

    async def propose(self, document: Mapping[str, Any], *, actor: str, back: str) -> Any:
        head = StoredCatalog(3, "h", "{}", 3)
        old, new = catalog_of(self._document()), catalog_of(document)
        found = Difference(head, old, new, "{}", "d", compare(old, new), builds=True, given={"nice_question": 39})
        made = Proposal(id=f"p{len(self.proposals)}", actor=actor, back=back, found=found, done=1, total=2)
        if not self.slow:
            made.preview = Preview(new, may_gain(found.changed, new))
            for gain in made.preview.gains.values():
                gain.samples.append((NOON, self.text))
        self.proposals[made.id] = made
        return made

    def proposal(self, proposal_id: str) -> Any | None:
        return self.proposals.get(proposal_id)

    async def apply(self, proposal: Any, *, actor: str, note: str) -> int:
        if self.overtaken:
            raise HeadMoved(2)
        self.applied.append((proposal.found.new.document, actor, note))
        self.changes.append((actor, "catalog.applied", "version 4", None, None, note))
        return 4

    async def ask_job(self, kind: str, *, user: str, badge: str, trigger: str, notify: bool) -> Any:
        if user == "nobody":
            raise OperatorError("No event of nobody was ever logged; nothing was changed.", help="ids are exact")
        plan = compile_plan(catalog_of(document(self.text)))
        made = JobAsk(id="j0", asked=Asked(plan, kind, {"user": user, "badges": [self.text]}, 1))
        if not self.slow:
            made.preview = Preview(plan.catalog, {"nice_question"})
            made.preview.gains["nice_question"].awards = 3
            made.preview.gains["nice_question"].samples.append((NOON, self.text))
        self.proposals[made.id] = made
        return made

    def asked_job(self, ask_id: str) -> Any | None:
        return self.proposals.get(ask_id)

    async def start_job(self, made: Any, *, actor: str) -> int:
        self.applied.append((made.asked.kind, actor, ""))
        self.changes.append(astuple(started(made.asked, actor, 1)))
        return 1

    async def history(self, user_id: str) -> Sequence[Event]:
        return []

    async def with_jobs(self, catalog: Catalog, events: Sequence[Event], until_us: int) -> Sequence[Event]:
        return with_jobs(catalog, events, until_us)

    async def send(self, events: Sequence[ControlEvent]) -> None:
        self.sent += events

    def letters_wanted(self, **given: Any) -> Any:
        return LetterFilter(**given)

    async def count_letters(self, wanted: Any) -> int:
        return 5_000 if wanted.reason == "many" else 3

    async def try_letters(self, wanted: Any, *, most: int) -> Any:
        self.applied.append((wanted, "dry", ""))
        seen = min(most, await self.count_letters(wanted))
        return Redriven(seen=seen, tried=seen, passed=seen - 1, kept=Counter({self.text: 1}))

    async def replay_letters(self, wanted: Any, *, line: AuditLine) -> Any:
        self.changes.append(astuple(line))
        self.applied.append((wanted, "replay", ""))
        total = await self.count_letters(wanted)
        self.replay = Redrive(id="r0", total=total, found=Redriven(seen=3, tried=3, passed=2, kept=Counter({"x": 1})))
        if total > 3:
            self.replay.task = asyncio.create_task(asyncio.sleep(3600))
        return self.replay

    def letters_replay(self, replay_id: str | None = None) -> Any | None:
        if self.replay is None or (replay_id is None and not self.replay.running):
            return None
        return self.replay if replay_id in (None, "r0") else None

    async def erase(self, user_id: str, *, actor: str, note: str) -> Any:
        if user_id == "nobody":
            raise OperatorError("No event and no award for nobody.")
        self.applied.append((user_id, actor, note))
        return Erased(NOON, {"events": 3, "users": 1})

    async def export(self, user_id: str, *, actor: str) -> AsyncIterator[str]:
        if user_id == "nobody":
            raise OperatorError("No event and no award for nobody.")
        self.changes.append((actor, "user.exported", f"user {user_id}", None, None, ""))
        yield '{"user_id": '
        yield '"u1"}'

    async def settle_held(
        self, verb: str, *, badge: str, places: Sequence[tuple[str, str]] | None, actor: str, note: str
    ) -> int:
        self.applied.append(((verb, badge, places), actor, note))
        done = "released" if verb == "release" else "dropped"
        self.changes.append((actor, f"quarantine.{done}", f"badge {badge}", None, None, note))
        return 3

    def _document(self) -> dict[str, Any]:
        return document(self.text)

    async def trend(self, key: str | None = None) -> Any:
        return None if self.reads.empty else trend_of([(NOON // DAY - day, day % 7) for day in range(40)], NOON // DAY)

    async def coverage(self) -> Any:
        if self.reads.empty:
            return (), False
        days = await self.reads.trigger_days([])
        return coverage(catalog_of(document(self.text)), days, NOON + 30 * DAY), True

    async def letters_by_type(self) -> Mapping[str, int] | None:
        return None if self.reads.empty else {"comment.posted": 2, "comment.added": 1_001}

    async def lag(self) -> Any:
        return None if self.reads.empty else Lag(1_204, 75.0)

    async def counts(self) -> Mapping[str, Any] | None:
        return (
            None
            if self.reads.empty
            else {"nice_question": BadgeCount(17, (0, 1, 5, 2), None, Share(8, 94, 30, NOON), (0, 2))}
        )


def panel(desk: FakeDesk | None = None, store: FakeStore | None = None, **settings: Any) -> FastAPI:
    """The application with the panel on fakes; what the API changes of the catalog is `services.catalog`'s."""
    shown = desk or FakeDesk()
    store = store or FakeStore()
    shown.changes = shown.reads.lines = store.changes
    services = fakes(store, catalog=FakeCatalogs(document(shown.text)))
    return build(services, load_settings(**settings), desk=shown)
