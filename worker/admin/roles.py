"""Who may do what: the roles, which of them includes which, and the person or program that asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])


class Role(StrEnum):
    """What a token or a person may do (decisions 35); see `includes` for which covers which."""

    READER = "reader"
    PRODUCER = "producer"
    SUPPORT = "support"
    AUTHOR = "author"
    ADMIN = "admin"


#: Everybody may read. Sending events, helping users and writing badges are three jobs side by side; an admin has all.
_COVERS: Final[Mapping[Role, frozenset[Role]]] = {
    Role.READER: frozenset({Role.READER}),
    Role.PRODUCER: frozenset({Role.READER, Role.PRODUCER}),
    Role.SUPPORT: frozenset({Role.READER, Role.SUPPORT}),
    Role.AUTHOR: frozenset({Role.READER, Role.AUTHOR}),
    Role.ADMIN: frozenset(Role),
}


def includes(has: Role, wanted: Role) -> bool:
    """Whether who has one role may do what another is asked for."""
    return wanted in _COVERS[has]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: `name` stands in the audit log. `via` is token, session or open (no token was ever made).

    `key` tells actors apart for rate limits; `token_id` is that of a stored token.
    """

    name: str
    role: Role
    via: str
    key: str
    token_id: int | None = None

    def may(self, wanted: Role) -> bool:
        """Whether the actor's role covers `wanted`."""
        return includes(self.role, wanted)


@dataclass(frozen=True, slots=True)
class Admission:
    """What an endpoint asks of who calls it: the least role (None: anybody), and the media types of a body.

    `others` are roles beside the least one that may call it as well.
    """

    role: Role | None
    accepts: tuple[str, ...]
    others: tuple[Role, ...] = ()

    def covers(self, actor: Actor) -> bool:
        """Whether somebody may call it."""
        return self.open_to(actor.role)

    def open_to(self, role: Role) -> bool:
        """Whether who has a role may call it."""
        return self.role is None or any(includes(role, wanted) for wanted in (self.role, *self.others))


JSON: Final = ("application/json",)
FORM: Final = ("application/x-www-form-urlencoded", "multipart/form-data")


def least(role: Role, *others: Role, accepts: tuple[str, ...] = JSON) -> Callable[[Endpoint], Endpoint]:
    """Declare the least role of an endpoint, or several that lie side by side; stands below the router's decorator.

    No route is served without one.
    """
    return _declare(Admission(role, accepts, others))


def anybody(*, accepts: tuple[str, ...] = JSON) -> Callable[[Endpoint], Endpoint]:
    """Declare that an endpoint asks for no token; only health and the way in are such."""
    return _declare(Admission(None, accepts))


def _declare(admission: Admission) -> Callable[[Endpoint], Endpoint]:
    def declare(endpoint: Endpoint) -> Endpoint:
        _declared[endpoint] = admission
        return endpoint

    return declare


_declared: Final[dict[Callable[..., object], Admission]] = {}


def admission_of(endpoint: Callable[..., object]) -> Admission:
    """What an endpoint declared. Raises LookupError where it declared nothing: then it must not be served."""
    try:
        return _declared[endpoint]
    except KeyError:
        raise LookupError(f"{endpoint} declares no role: put @least(Role.…) below its router's decorator") from None
