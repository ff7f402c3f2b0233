"""The HTTP application on services in memory, and a client for it: what tests of the API share."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.unit.serving_catalog import FakeAwards, FakeCatalogs, FakePeople, FakeProfiles, FakeRehearsals, Unasked
from worker.admin.app import build
from worker.admin.applied import Applied
from worker.admin.credentials import PREFIX, digest
from worker.admin.roles import Role
from worker.admin.services import Services
from worker.config import Settings, load_settings
from worker.errors import BadgesError
from worker.exchange import AuditLine, Message
from worker.rules.plan import Plan
from worker.store.admin import LiveToken
from worker.store.requests import EarnedAward

#: 2026-03-01T12:00:00Z
NOON = 1_772_366_400_000_000
#: A token of each role that every fake store knows.
TOKENS = {role: f"{PREFIX}{role}" for role in Role}


@dataclass
class FakeStore:
    """Tokens and audit log in memory; `broken` is raised by whatever is asked."""

    tokens: list[LiveToken] = field(
        default_factory=lambda: [
            LiveToken(number, f"{role} token", role, digest(text))
            for number, (role, text) in enumerate(TOKENS.items(), start=1)
        ]
    )
    changes: list[tuple[Any, ...]] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    broken: BadgesError | None = None
    requests: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    ended: list[bytes] = field(default_factory=list)
    log: set[tuple[str, str, str]] = field(default_factory=set)
    earned: dict[tuple[str, str], list[EarnedAward]] = field(default_factory=dict)

    def _look(self) -> None:
        if self.broken is not None:
            raise self.broken

    async def ping(self) -> None:
        self._look()

    async def live_tokens(self) -> list[LiveToken]:
        self._look()
        return list(self.tokens)

    async def any_token(self) -> bool:
        self._look()
        return bool(self.tokens)

    async def touch_tokens(self, ids: Collection[int]) -> None:
        self._look()
        self.touched |= set(ids)

    async def audit(self, line: AuditLine) -> None:
        self._look()
        self.changes.append(astuple(line))

    async def audit_sent(self, line: AuditLine) -> None:
        self._look()
        same = [
            action
            for actor, action, subject, _, after, _ in self.changes
            if (actor, subject, after) == (line.actor, line.subject, line.after) and action.startswith(line.action)
        ]
        if same and same[-1] == f"{line.action}.unsent":
            self.changes.append(astuple(replace(line, action=f"{line.action}.sent")))

    async def end_session(self, sha256: bytes, line: AuditLine | None = None) -> None:
        self._look()
        self.ended.append(sha256)
        if line is not None:
            self.changes.append(astuple(line))

    async def ended_sessions(self, seconds: float, most: int) -> list[bytes]:
        self._look()
        return self.ended[-most:]

    async def first_request(
        self, name: bytes, body: bytes, occurred_us: int, line: AuditLine | None = None
    ) -> tuple[bytes, int]:
        self._look()
        if line is not None and name not in self.requests:
            self.changes.append(astuple(line))
        return self.requests.setdefault(name, (body, occurred_us))

    async def logged(self, events: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
        self._look()
        return [event for event in events if event in self.log]

    async def awards_by(self, user_id: str, event_id: str) -> list[EarnedAward]:
        self._look()
        return self.earned.get((user_id, event_id), [])


@dataclass
class FakeOutlet:
    """Keeps what was sent; `broken` is raised in its place."""

    sent: list[tuple[str, Message]] = field(default_factory=list)
    calls: int = 0
    broken: BadgesError | None = None

    async def send(self, posts: Sequence[tuple[str, Message]]) -> None:
        self.calls += 1
        if self.broken is not None:
            raise self.broken
        self.sent += posts

    def events(self) -> list[dict[str, Any]]:
        """The events that were sent."""
        return [json.loads(message.value or b"") for _, message in self.sent]


@dataclass
class FakePlans:
    """A plan that is there; `later` is what a look at the head finds, where `broken` is not raised in its place."""

    current: Plan | None = None
    later: Plan | None = None
    broken: BadgesError | None = None

    async def refresh(self) -> Plan | None:
        if self.broken is not None:
            raise self.broken
        self.current = self.later or self.current
        return self.current


@dataclass
class Clock:
    """A clock that a test moves; microseconds."""

    at: int = NOON

    def __call__(self) -> int:
        return self.at


def fakes(
    store: FakeStore | None = None,
    *,
    plans: FakePlans | None = None,
    outlet: FakeOutlet | None = None,
    now: Callable[[], int] | None = None,
    **parts: Any,
) -> Services:
    """Services in memory; `parts` are those of the catalog and of profiles (`serving_catalog`).

    All write into the store's one log of changes.
    """
    store = store or FakeStore()
    made = {
        "catalog": FakeCatalogs(),
        "profiles": FakeProfiles(),
        "awards": FakeAwards(),
        "people": FakePeople(),
        "rehearsal": FakeRehearsals(Unasked(), load_settings()),
        **parts,
    }
    for part in made.values():
        part.changes = store.changes
    return Services(
        store=store,
        plans=plans or FakePlans(),
        outlet=outlet or FakeOutlet(),  # type: ignore[arg-type]
        applied=Applied(store),
        **made,
        now=now or Clock(),
    )


def served(
    store: FakeStore | None = None,
    *,
    plans: FakePlans | None = None,
    outlet: FakeOutlet | None = None,
    now: Callable[[], int] | None = None,
    parts: Mapping[str, Any] | None = None,
    **settings: Any,
) -> FastAPI:
    """The application over fakes; what stands in `settings` differs from the defaults."""
    made: Settings = load_settings(**settings)
    return build(fakes(store, plans=plans, outlet=outlet, now=now, **(parts or {})), made)


def client(app: FastAPI, role: Role | None = None, *, host: str = "127.0.0.1", **options: Any) -> TestClient:
    """A client on this machine that shows the token of a role; faults of ours come as answers, not as exceptions."""
    headers = {} if role is None else {"Authorization": f"Bearer {TOKENS[role]}"}
    return TestClient(
        app,
        base_url=options.pop("base_url", "http://localhost:8080"),
        headers=headers,
        client=(host, 50_000),
        raise_server_exceptions=False,
        follow_redirects=False,
        **options,
    )
