"""The HTTP application on services in memory, and a client for it: what tests of the API share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from worker.admin.app import build
from worker.admin.credentials import PREFIX, digest
from worker.admin.roles import Role
from worker.admin.services import Services
from worker.config import Settings, load_settings
from worker.errors import BadgesError
from worker.rules.plan import Plan
from worker.store.admin import LiveToken

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

    async def audit(
        self, actor: str, action: str, subject: str, *, before: Any = None, after: Any = None, note: str = ""
    ) -> None:
        self._look()
        self.changes.append((actor, action, subject, before, after, note))


@dataclass
class FakePlans:
    """A plan that is there; `later` is what a look at the head finds."""

    current: Plan | None = None
    later: Plan | None = None

    async def refresh(self) -> Plan | None:
        self.current = self.later or self.current
        return self.current


@dataclass
class Clock:
    """A clock that a test moves; microseconds."""

    at: int = NOON

    def __call__(self) -> int:
        return self.at


def served(
    store: FakeStore | None = None,
    *,
    plans: FakePlans | None = None,
    now: Callable[[], int] | None = None,
    **settings: Any,
) -> FastAPI:
    """The application over fakes; what stands in `settings` differs from the defaults."""
    services = Services(store=store or FakeStore(), plans=plans or FakePlans(), now=now or Clock())
    made: Settings = load_settings(**settings)
    return build(services, made)


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
