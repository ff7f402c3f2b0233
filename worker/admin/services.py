"""What the API asks of the rest, as protocols; `app` hands it the real ones, tests their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from worker.admin.applied import Applied, EventLog
from worker.admin.awards import AwardLog
from worker.admin.catalog_view import Catalogs
from worker.admin.outlet import Outlet
from worker.admin.people import PeopleDesk
from worker.admin.profiles import Profiles
from worker.admin.rehearsal import Rehearsal
from worker.admin.roles import Actor
from worker.admin.sessions import EndedTable
from worker.auditing import ChangeLog
from worker.config import Settings
from worker.exchange import AuditLine
from worker.rules.plan import Plan


class StoredToken(Protocol):
    """A token as it is kept: never its text, only the hash."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def name(self) -> str:
        """Who uses it; the actor of what is done with it."""

    @property
    def role(self) -> str:
        """A value of `roles.Role`."""

    @property
    def sha256(self) -> bytes:
        """The hash of its text."""


class Tokens(Protocol):
    """The table of API tokens."""

    async def live_tokens(self) -> Sequence[StoredToken]:
        """All that are not revoked."""

    async def any_token(self) -> bool:
        """Whether one was ever created, revoked ones too."""

    async def touch_tokens(self, ids: Collection[int]) -> None:
        """Note that these were used now."""


class GivenAward(Protocol):
    """An award that a certain event earned."""

    @property
    def badge_key(self) -> str:
        """The badge."""

    @property
    def context(self) -> str:
        """The award's context, or an empty text."""

    @property
    def awarded_us(self) -> int:
        """When it was earned, microseconds."""

    @property
    def origin(self) -> str:
        """How it came to be (decisions 16)."""


class Requests(EventLog, Protocol):
    """What the intake of events asks."""

    async def first_request(
        self, name: bytes, body: bytes, occurred_us: int, line: AuditLine | None = None
    ) -> tuple[bytes, int]:
        """The hash of the body and the instant that a request of this name first came with, which leaves `line`."""

    async def awards_by(self, user_id: str, event_id: str) -> Sequence[GivenAward]:
        """What the user holds that this event earned."""


class Store(Tokens, EndedTable, ChangeLog, Requests, Protocol):
    """What the API reads and writes of the database."""

    async def ping(self) -> None:
        """Answer, or raise what is wrong."""


class Plans(Protocol):
    """The compiled catalog, following its head."""

    @property
    def current(self) -> Plan | None:
        """The plan of the newest version seen; None before the first."""

    async def refresh(self) -> Plan | None:
        """Look at the head now, and compile what is new."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything an endpoint may ask. `now` is the wall clock in microseconds since 1970."""

    store: Store
    plans: Plans
    outlet: Outlet
    applied: Applied
    catalog: Catalogs
    profiles: Profiles
    awards: AwardLog
    people: PeopleDesk
    rehearsal: Rehearsal
    now: Callable[[], int]


async def note_login(services: Services, actor: Actor, by: str) -> None:
    """Write down that somebody comes in, before they are in: `by` token or oidc."""
    after = {"by": by, "role": actor.role.value}
    await services.store.audit(AuditLine(actor.name, "session.began", "panel", after=after))


def services_of(request: Request) -> Services:
    """The services of the app that serves a request."""
    found: Services = request.app.state.services
    return found


def settings_of(request: Request) -> Settings:
    """The settings of the app that serves a request."""
    found: Settings = request.app.state.settings
    return found


# A dependency that is no coroutine would be run by a thread, which takes longer than most answers.
async def _services(request: Request) -> Services:
    return services_of(request)


async def _settings(request: Request) -> Settings:
    return settings_of(request)


#: What endpoints write: `async def read(services: Asked, …)`.
Asked = Annotated[Services, Depends(_services)]
Set = Annotated[Settings, Depends(_settings)]
Json = Mapping[str, Any]
