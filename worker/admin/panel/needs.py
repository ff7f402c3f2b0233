"""What the panel asks of the rest, as protocols; `app` hands it the real ones, tests their own.

Rows come as the store's own dataclasses, whose fields the templates name; what the API answers too comes as its JSON.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from worker.control import ControlEvent
from worker.events import Event
from worker.exchange import AuditLine
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.load import Reading

Json = Mapping[str, Any]


class Reads(Protocol):
    """What pages read of the database; see `worker.store.panel`."""

    async def panel_awards(
        self,
        *,
        since_us: int,
        before: tuple[int, str, int] | None = None,
        badges: Collection[str] | None = None,
        trigger: str | None = None,
        origin: str | None = None,
        limit: int = 50,
    ) -> Sequence[Any]:
        """The newest awards, newest first; with a filter, of a bounded number of them."""

    async def panel_awards_bound(
        self, *, since_us: int, before: tuple[int, str, int] | None = None
    ) -> tuple[int, str, int] | None:
        """The key of the last award that a filter looks at, where older ones are not looked at."""

    async def panel_count_awards(self, since_us: int) -> int:
        """How many awards were logged since an instant."""

    async def panel_count_letters(self, since_us: int) -> int:
        """How many dead letters came since an instant."""

    async def panel_users(self, prefix: str, *, after: str = "", limit: int = 50) -> Sequence[Any]:
        """Users whose id begins with a text."""

    async def panel_user_awards(
        self, user_id: str, *, before: tuple[int, str, str] | None = None, limit: int = 50
    ) -> Sequence[Any]:
        """A user's awards, newest first."""

    async def panel_user_log(self, user_id: str, *, before: int | None = None, limit: int = 50) -> Sequence[Any]:
        """What was given to a user and taken back, newest first."""

    async def panel_long(self, user_id: str, events: int) -> bool:
        """Whether a user's log has more than so many events."""

    async def panel_group(self, group_id: str) -> Any:
        """Where the group of workers stands."""

    async def panel_builds(self, limit: int = 5) -> Sequence[Any]:
        """How far the newest versions of the catalog are built."""

    async def panel_held_back(self) -> Sequence[Any]:
        """Badges with awards that are held back."""

    async def panel_letters(
        self,
        *,
        reason: str | None = None,
        topic: str | None = None,
        since_us: int | None = None,
        event_type: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> Sequence[Any]:
        """Dead letters, newest first."""

    async def panel_waiting_letters(
        self,
        *,
        reason: str | None = None,
        topic: str | None = None,
        since_us: int | None = None,
        event_type: str | None = None,
    ) -> tuple[int, bool]:
        """How many of the newest dead letters that match were not applied yet, and whether there may be more."""

    async def panel_letter_counts(self) -> Sequence[Any]:
        """How many dead letters there are for each reason."""

    async def panel_sample(self, event_type: str, received_us: int) -> Any | None:
        """An event of a type that arrived at an instant; None where the log no longer has one."""

    async def panel_topics(self) -> Sequence[str]:
        """The topics that have been read."""

    async def dead_letter(self, topic: str, partition: int, offset: int) -> Any | None:
        """One dead letter, whole."""

    async def catalog_versions(self, *, before: int | None = None, limit: int = 50) -> Sequence[Any]:
        """The newest versions of the catalog, newest first."""

    async def panel_unpublished(self) -> tuple[int, float]:
        """How many messages wait to be published, and for how many seconds the oldest does."""

    async def quarantined(
        self,
        *,
        badge_key: str | None = None,
        places: Sequence[tuple[str, str]] | None = None,
        after: tuple[str, str, str] = ("", "", ""),
        limit: int = 50,
    ) -> Sequence[Any]:
        """Awards that are held back (at these (user, context)), in order of (badge, user, context)."""

    async def user_jobs(
        self, *, kind: str | None = None, state: str | None = None, before: int | None = None, limit: int = 50
    ) -> Sequence[Any]:
        """Jobs over users, newest first."""

    async def user_job(self, job_id: int) -> Any | None:
        """One of them."""

    async def cancel_user_job(self, job_id: int, *, note: str = "", line: AuditLine | None = None) -> bool:
        """End one before its time, which `line` says in the log of changes; False where it had ended."""

    async def resume_user_job(self, job_id: int, *, line: AuditLine | None = None) -> bool:
        """Let a cancelled or failed one go on, which `line` says; False where it is neither."""

    async def job_runs(self, *, job: str | None = None, limit: int = 50) -> Sequence[Any]:
        """What the clock ran, newest first."""

    async def newest_runs(self) -> Sequence[Any]:
        """The newest run of each job of the clock."""

    async def trigger_days(self, types: Sequence[str]) -> Mapping[str, Any]:
        """When events of these types arrived; types of which none ever did are left out."""

    async def arrivals_counted(self) -> int | None:
        """Up to when arrivals are counted; None while that begins."""

    async def tokens(self) -> Sequence[Any]:
        """All tokens."""

    async def create_token(self, name: str, role: str, sha256: bytes, *, actor: str) -> int:
        """Store a token by its hash. Raises OperatorError where a live one has the name."""

    async def revoke_token(self, which: int | str, *, actor: str) -> Any | None:
        """End a token; None where there is no live one."""

    async def changes(
        self,
        *,
        before: int | None = None,
        actor: str | None = None,
        action: str | None = None,
        limit: int = 50,
    ) -> Sequence[Any]:
        """The log of changes, newest first."""


class Desk(Protocol):
    """What pages do beyond reading tables: the catalog that rules and its versions, users, changes."""

    @property
    def reads(self) -> Reads:
        """The database's tables."""

    @property
    def group_id(self) -> str:
        """The group of workers that is looked at."""

    @property
    def managed_by_file(self) -> bool:
        """Whether the catalog comes from a file, so that nothing here may change it."""

    @property
    def catalog_file(self) -> str:
        """The file or folder that `BADGES_CATALOG` names here, "" where it names none."""

    @property
    def now(self) -> Callable[[], int]:
        """The wall clock, microseconds since 1970."""

    async def catalog(self) -> Catalog | None:
        """The catalog that rules, as of a second ago; None before the first."""

    async def version(self, number: int) -> Catalog | None:
        """A version of the catalog; None where there is none. Raises OperatorError where it cannot be read."""

    async def counts(self) -> Mapping[str, Any] | None:
        """Holders and awards of 28 days by badge, as of some minutes ago; None while they are counted first."""

    async def trend(self, key: str | None = None) -> Any | None:
        """Awards of 28 days, of a badge or of all, and between which a day is usual; None while they are counted."""

    async def coverage(self) -> tuple[Sequence[Any], bool]:
        """Each event type and whether it comes, worst first; False where what arrived is not counted yet."""

    async def letters_by_type(self) -> Mapping[str, int] | None:
        """How many dead letters say that they are of each type or alias of the catalog, at most 1,001 each.

        Those with none are left out; None while they are counted first.
        """

    async def lag(self) -> Any | None:
        """How many records wait to be read, for how long; None where the broker does not tell."""

    async def checks(self) -> tuple[Sequence[Any], str]:
        """What `badges doctor` finds of settings and connections, and its sum in words; seconds where one is away."""

    async def overview(self, user_id: str) -> Json | None:
        """All of a user, as the API answers it; None where nothing is known of them."""

    async def why(self, user_id: str, key: str, *, at_us: int | None, context: str | None, closest: bool) -> Json:
        """Why a user holds a badge or not. Raises OperatorError where user or badge is unknown."""

    async def entry_text(self, number: int, section: str, key: str) -> str:
        """One entry of a version's document as it is written, "" where it has none."""

    async def read(self, name: str, text: str) -> Reading:
        """What a catalog's text says, and all that is wrong with it."""

    async def propose(self, document: Json, *, actor: str, back: str) -> Any:
        """Compare a catalog's document with the one that rules, and begin to try it. Raises AuthorError."""

    def proposal(self, proposal_id: str) -> Any | None:
        """A change that is looked at; None where it is forgotten."""

    async def apply(self, proposal: Any, *, actor: str, note: str) -> int:
        """Make it the catalog that rules, which leaves a line in the log of changes; its version.

        Raises HeadMoved where another one rules by now.
        """

    async def ask_job(self, kind: str, *, user: str, badge: str, trigger: str, notify: bool) -> Any:
        """Check a job over users and begin its preview. Raises OperatorError for what nobody knows."""

    def asked_job(self, ask_id: str) -> Any | None:
        """A job that is looked at; None where it is forgotten."""

    async def start_job(self, made: Any, *, actor: str) -> int:
        """Leave a job to the workers, which leaves a line in the log of changes; its number."""

    async def settle_held(
        self, verb: str, *, badge: str, places: Sequence[tuple[str, str]] | None, actor: str, note: str
    ) -> int:
        """Release or drop what is held back of a badge: at these (user, context), or all of it; how many that were.

        What is done leaves a line in the log of changes, one for each transaction.
        """

    def letters_wanted(
        self,
        *,
        reason: str | None,
        topic: str | None,
        since_us: int | None,
        places: tuple[tuple[str, int, int], ...],
        event_type: str | None,
    ) -> Any:
        """Which dead letters are meant: by what they have, or those at places."""

    async def count_letters(self, wanted: Any) -> int:
        """How many of them were not applied yet."""

    async def try_letters(self, wanted: Any, *, most: int) -> Any:
        """What would come of them now; so many of the oldest are looked at. Raises OperatorError."""

    async def replay_letters(self, wanted: Any, *, line: AuditLine) -> Any:
        """Begin to try all of them again, for good, in the background, which `line` says in the log of changes.

        Raises OperatorError where another one runs.
        """

    def letters_replay(self, replay_id: str | None = None) -> Any | None:
        """A replay of dead letters, None where it is forgotten; without an id the one that runs."""

    async def erase(self, user_id: str, *, actor: str, note: str) -> Any:
        """Remove everything held about a user. Raises OperatorError where nothing is."""

    def export(self, user_id: str, *, actor: str) -> AsyncIterator[str]:
        """Everything held about a user, as JSON in pieces; noted first. Raises OperatorError where nothing is."""

    async def history(self, user_id: str) -> Sequence[Event]:
        """A user's logged events, in order."""

    async def with_jobs(self, catalog: Catalog, events: Sequence[Event], until_us: int) -> Sequence[Event]:
        """The events with those that the clock would send up to an instant. Raises OperatorError for too many."""

    async def send(self, events: Sequence[ControlEvent]) -> None:
        """Publish events on the control topic. Raises OperatorError where Kafka cannot be reached."""
