"""What the panel's pages need, joined: tables, the catalog that rules and its versions, answers about users."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

from worker.admin.services import Plans
from worker.app.comparing import readable
from worker.app.control import send_control
from worker.app.coverage import Trigger
from worker.app.dead_letters import redrive_letters
from worker.app.doctor import Finding, examine_all, summary
from worker.app.erasure import erase_user, export_user
from worker.app.job_asks import JobAsk, JobAsks
from worker.app.lookout import Lag, Lookout, PanelReads, Trend
from worker.app.people import People, UnknownUser
from worker.app.proposals import Proposal, Proposals
from worker.app.quarantine import settle_quarantine
from worker.app.redrives import Redrive, Redrives
from worker.config import Settings
from worker.control import ControlEvent
from worker.errors import OperatorError
from worker.events import Event
from worker.exchange import AuditLine
from worker.jobs.simulated import with_jobs
from worker.pipeline.redrive import Redriven
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import Reading, read
from worker.rules.rehearse import in_order
from worker.store.dead_letters import LetterFilter
from worker.store.histories import HistoryTable
from worker.store.panel import BadgeCount
from worker.store.people import Erased
from worker.store.postgres import PostgresStore

#: So many versions of the catalog are kept in memory; they never change.
_KEPT: Final = 8


class PanelDesk:
    """Answers `admin.panel.needs.Desk` from the real services."""

    def __init__(self, store: PostgresStore, plans: Plans, settings: Settings, *, now: Callable[[], int]) -> None:
        self.reads = PanelReads(store.pool, group_id=store.group_id)
        self.group_id = store.group_id
        self.managed_by_file = settings.catalog_managed == "file"
        self.catalog_file = "" if settings.catalog is None else str(settings.catalog)
        self.now = now
        self._store = store
        self._plans = plans
        self._proposals = Proposals(store)
        self._asks = JobAsks(store)
        self._redrives = Redrives(store, settings)
        self._settings = settings
        self._people: People | None = None
        self._versions: dict[int, Catalog] = {}
        self._texts: dict[int, Mapping[str, Any]] = {}
        self._lookout = Lookout(self.reads, settings, self.catalog, now)

    async def catalog(self) -> Catalog | None:
        """The catalog that rules, as of a second ago."""
        plan = self._plans.current or await self._plans.refresh()
        return None if plan is None else plan.catalog

    async def version(self, number: int) -> Catalog | None:
        """A version of the catalog; None where there is none. Raises OperatorError where it cannot be read."""
        if not 0 < number < 2**31:
            return None
        if number not in self._versions:
            stored = await self._store.catalog_stored(number)
            if stored is None:
                return None
            while len(self._versions) >= _KEPT:
                del self._versions[next(iter(self._versions))]
            self._versions[number] = await asyncio.to_thread(readable, stored)
        return self._versions[number]

    async def entry_text(self, number: int, section: str, key: str) -> str:
        """One entry of a version's document as it is written, "" where it has none."""
        if number not in self._texts:
            stored = await self._store.catalog_stored(number)
            document = {} if stored is None else await asyncio.to_thread(json.loads, stored.document)
            while len(self._texts) >= 4 * _KEPT:
                del self._texts[next(iter(self._texts))]
            self._texts[number] = document
        for entry in self._texts[number].get(section) or ():
            if key in (entry.get("key"), entry.get("code")):
                return json.dumps(entry, indent=2, ensure_ascii=False)
        return ""

    async def open(self) -> None:
        """Begin to find what pages tell of the whole system."""
        await self._lookout.open()

    async def close(self) -> None:
        """Leave off finding it, and what people wait for; comes before the store's own end."""
        await self._redrives.close()
        await self._lookout.close()

    async def counts(self) -> Mapping[str, BadgeCount] | None:
        """Holders and awards of 28 days by badge, as of some minutes ago; None while they are counted first."""
        return await self._lookout.counts()

    async def trend(self, key: str | None = None) -> Trend | None:
        """Awards of 28 days, of a badge or of all, and what was usual; None while they are counted first."""
        return await self._lookout.trend(key)

    async def coverage(self) -> tuple[Sequence[Trigger], bool]:
        """Each event type, worst first; False where what arrived is not counted yet."""
        return await self._lookout.coverage()

    async def letters_by_type(self) -> Mapping[str, int] | None:
        """How many dead letters say that they are of each type or alias; None while they are counted first."""
        return await self._lookout.letters()

    async def lag(self) -> Lag | None:
        """How far behind the workers are; None where the broker does not tell."""
        return await self._lookout.lag()

    async def checks(self) -> tuple[Sequence[Finding], str]:
        """What `badges doctor` finds from here, and its sum in words."""
        found = [one async for one in examine_all(self._settings)]
        return found, summary(found)

    async def overview(self, user_id: str) -> Mapping[str, Any] | None:
        """All of a user, as the API answers it; None where nothing is known of them."""
        people = await self._asked()
        if people is None:
            return None
        try:
            return (await people.overview(user_id, at_us=self.now())).as_json()
        except UnknownUser:
            return None

    async def why(
        self, user_id: str, key: str, *, at_us: int | None, context: str | None, closest: bool
    ) -> Mapping[str, Any]:
        """Why a user holds a badge or not. Raises OperatorError where user or badge is unknown."""
        people = await self._asked()
        if people is None:
            raise UnknownUser(user_id)
        found = await people.why(user_id, key, at_us=at_us, now_us=self.now(), context=context, closest=closest)
        return found.as_json()

    async def read(self, name: str, text: str) -> Reading:
        """What a catalog's text says, and all that is wrong with it."""
        return await asyncio.to_thread(read, [Source(name, text)])

    async def propose(self, document: Mapping[str, Any], *, actor: str, back: str) -> Proposal:
        """Compare a catalog's document with the one that rules, and begin to try it. Raises AuthorError."""
        return await self._proposals.propose(document, actor=actor, back=back)

    def proposal(self, proposal_id: str) -> Proposal | None:
        """A change that is looked at; None where it is forgotten."""
        return self._proposals.proposal(proposal_id)

    async def apply(self, proposal: Proposal, *, actor: str, note: str) -> int:
        """Make it the catalog that rules; its version. Raises HeadMoved where another one rules by now."""
        version = await self._proposals.apply(proposal, actor=actor, note=note)
        await self._plans.refresh()
        return version

    async def ask_job(self, kind: str, *, user: str, badge: str, trigger: str, notify: bool) -> JobAsk:
        """Check a job over users and begin its preview. Raises OperatorError for what nobody knows."""
        return await self._asks.ask(kind, user=user, badge=badge, trigger=trigger, notify=notify)

    def asked_job(self, ask_id: str) -> JobAsk | None:
        """A job that is looked at; None where it is forgotten."""
        return self._asks.asked(ask_id)

    async def start_job(self, made: JobAsk, *, actor: str) -> int:
        """Leave a job to the workers; its number."""
        return await self._asks.start(made, actor=actor)

    def letters_wanted(
        self,
        *,
        reason: str | None,
        topic: str | None,
        since_us: int | None,
        places: tuple[tuple[str, int, int], ...],
        event_type: str | None,
    ) -> LetterFilter:
        """Which dead letters are meant: by what they have, or those at places."""
        return LetterFilter(reason, topic, since_us, places, event_type)

    async def count_letters(self, wanted: LetterFilter) -> int:
        """How many of them were not applied yet."""
        return (await self._store.count_letters(wanted))[0]

    async def try_letters(self, wanted: LetterFilter, *, most: int) -> Redriven:
        """What would come of them now; so many of the oldest are looked at. Raises OperatorError."""
        return await redrive_letters(self._store, self._settings, wanted, dry=True, most=most)

    async def replay_letters(self, wanted: LetterFilter, *, line: AuditLine) -> Redrive:
        """Begin to try all of them again, for good, in the background. Raises OperatorError where another one runs."""
        return await self._redrives.begin(wanted, line=line)

    def letters_replay(self, replay_id: str | None = None) -> Redrive | None:
        """A replay of dead letters, None where it is forgotten; without an id the one that runs."""
        return self._redrives.running() if replay_id is None else self._redrives.get(replay_id)

    async def erase(self, user_id: str, *, actor: str, note: str) -> Erased:
        """Remove everything held about a user. Raises OperatorError where nothing is."""
        return await erase_user(self._store, self._settings, user_id, actor=actor, note=note)

    def export(self, user_id: str, *, actor: str) -> AsyncIterator[str]:
        """Everything held about a user, as JSON in pieces; noted first. Raises OperatorError where nothing is."""
        return export_user(self._store, user_id, actor=actor)

    async def history(self, user_id: str) -> Sequence[Event]:
        """A user's logged events, in order."""
        return await HistoryTable(self._store.pool).history(user_id)

    async def with_jobs(self, catalog: Catalog, events: Sequence[Event], until_us: int) -> Sequence[Event]:
        """The events with those that the clock would send up to an instant. Raises OperatorError for too many."""
        ordered, _ = in_order(events)
        return await asyncio.to_thread(with_jobs, catalog, ordered, until_us)

    async def send(self, events: Sequence[ControlEvent]) -> None:
        """Publish events on the control topic. Raises OperatorError where Kafka cannot be reached."""
        await send_control(self._settings, events)

    async def settle_held(
        self, verb: str, *, badge: str, places: Sequence[tuple[str, str]] | None, actor: str, note: str
    ) -> int:
        """Release or drop what is held back of a badge: at these (user, context), or all of it; how many that were."""
        plan = await self._plans.refresh()
        if plan is None:
            raise OperatorError("No catalog rules yet.", help="apply one")
        done = 0
        async for count in settle_quarantine(
            self._store,
            plan,
            "release" if verb == "release" else "drop",
            badge_key=badge,
            topic=self._settings.award_topic,
            actor=actor,
            note=note,
            places=places,
        ):
            done += count
        return done

    async def _asked(self) -> People | None:
        catalog = await self.catalog()
        if catalog is None:
            return None
        if self._people is None or self._people.catalog is not catalog:
            self._people = People(self._store, catalog)
        return self._people
