"""Releases or drops awards that a breaker holds back: one way, for command, panel and API.

Each user is changed under the user's lock, in a transaction of a few users; what was released or dropped meanwhile is
not met again, so both may be run twice, or by two people, and each award is given once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial
from typing import Final, Literal

from msgspec.structs import replace

from worker.errors import OperatorError
from worker.exchange import AuditLine, Withheld
from worker.pipeline.settle import release as give
from worker.pipeline.users import REQUESTED
from worker.rules.plan import Plan
from worker.store.postgres import PostgresStore
from worker.store.transaction import PostgresTransaction

#: So many awards are released or dropped in one transaction.
_PAGE: Final = 200

Verb = Literal["release", "drop"]


async def settle_quarantine(
    store: PostgresStore,
    plan: Plan,
    verb: Verb,
    *,
    badge_key: str,
    topic: str,
    actor: str,
    note: str,
    users: Collection[str] | None = None,
    context: str | None = None,
    places: Collection[tuple[str, str]] | None = None,
) -> AsyncIterator[int]:
    """Release or drop the awards of a badge that are held back: some, or all; how many, part by part.

    Some are those of `users`, of a `context`, or just those at `places`, (user, context) each. A released award is
    held since it was earned and published once, on `topic`; who asks for the badge is looked at again. A dropped one
    is never given by itself. `note` and `actor` stay with the award, and each part leaves a line in the log of
    changes. Raises OperatorError where the catalog no longer has the badge, or has changed since the plan was made.
    """
    if verb == "release" and badge_key not in plan.badges:
        raise OperatorError(
            f"The catalog no longer has the badge {badge_key}.", help="apply a catalog that has it, or drop its awards"
        )
    done = "released" if verb == "release" else "dropped"
    pairs = None if places is None else sorted(set(places))
    named = _named(users, pairs)
    meant = partial(store.quarantined, badge_key=badge_key, users=named, context=context, places=pairs, limit=_PAGE)
    after = ("", "", "")
    while page := await meant(after=after):
        awards = [one.award for one in page]
        after = (awards[-1].badge_key, awards[-1].user_id, awards[-1].context)
        async with store.transaction() as transaction:
            count = await _settle(transaction, plan, verb, awards, topic=topic, reason=f"{done} by {actor}: {note}")
            if count:
                told = {"awards": count, "users": "all" if named is None else named}
                await transaction.audit(
                    AuditLine(actor, f"quarantine.{done}", f"badge {badge_key}", after=told, note=note)
                )
        yield count


def _named(users: Collection[str] | None, pairs: Sequence[tuple[str, str]] | None) -> list[str] | None:
    """Whose awards are meant, in order; None where it is everybody's."""
    if users is None and pairs is not None:
        return sorted({user_id for user_id, _ in pairs})
    return None if users is None else sorted(users)


async def _settle(
    transaction: PostgresTransaction, plan: Plan, verb: Verb, awards: Sequence[Withheld], *, topic: str, reason: str
) -> int:
    if await transaction.catalog_version() != plan.version:
        raise OperatorError("The catalog changed meanwhile.", help="run it again: what is done stays done")
    if verb == "release":
        return await _release(transaction, plan, awards, topic=topic, reason=reason)
    return await _drop(transaction, plan, awards, reason=reason)


async def _release(
    transaction: PostgresTransaction, plan: Plan, awards: Sequence[Withheld], *, topic: str, reason: str
) -> int:
    states = await transaction.lock({award.user_id for award in awards}, version=plan.basis)
    lifted = await transaction.lift(_places(awards), "held")
    if not lifted:
        return 0
    await transaction.read(states, [(user_id, "") for user_id in sorted(states)])
    touched = {user_id: state for user_id, state in states.items() if user_id in {one.user_id for one in lifted}}
    await give(transaction, plan, touched, lifted, topic=topic, reason=reason)
    await transaction.save(list(touched.values()))
    if any(award.badge_key in plan.asked or award.badge_key in plan.falling for award in lifted):
        await transaction.queue(sorted(touched), REQUESTED)
    return len(lifted)


async def _drop(transaction: PostgresTransaction, plan: Plan, awards: Sequence[Withheld], *, reason: str) -> int:
    await transaction.lock({award.user_id for award in awards}, version=plan.basis)
    lifted = await transaction.lift(_places(awards), "held")
    await transaction.withhold([replace(award, state="dropped", reason=reason) for award in lifted])
    return len(lifted)


def _places(awards: Sequence[Withheld]) -> list[tuple[str, str, str]]:
    return [(award.user_id, award.badge_key, award.context) for award in awards]
