"""People's right to see what is held about them, and to have it removed; the same for command, API and panel."""

from __future__ import annotations

from collections.abc import AsyncIterator

from worker.app.people import UnknownUser
from worker.config import Settings
from worker.events import json_text
from worker.exchange import AuditLine, Message
from worker.pipeline.messages import award_id
from worker.store.people import Erased, PeopleTable
from worker.store.postgres import PostgresStore


async def erase_user(store: PostgresStore, settings: Settings, user_id: str, *, actor: str, note: str = "") -> Erased:
    """Remove everything held about a user, at once and as a whole, also while batches run; tells the awards topic.

    From then on no event up to that instant is taken, by whatever path it comes; later ones begin a new person. What
    the topics hold stays there until their retention removes it. Raises UnknownUser where nothing is held.
    """
    found = await PeopleTable(store.pool).erase(
        user_id,
        by=actor,
        note=note,
        topic=settings.award_topic,
        message=lambda times: erased_message(user_id, times=times),
    )
    if found is None:
        raise UnknownUser(user_id)
    return found


def erased_message(user_id: str, *, times: int) -> Message:
    """`user.erased` for the awards topic; `times` is how often the user was erased before."""
    body = {
        "id": award_id(user_id, "", "", earlier_grants=times, kind="erased"),
        "type": "user.erased",
        "user_id": user_id,
    }
    return Message(key=user_id.encode(), value=json_text.dumps(body).encode())


async def export_user(store: PostgresStore, user_id: str, *, actor: str) -> AsyncIterator[str]:
    """Everything held about a user as the text of one JSON object, in pieces; before, the log of changes says who asks.

    Raises UnknownUser where nothing is held.
    """
    table = PeopleTable(store.pool)
    if not await table.knows(user_id):
        raise UnknownUser(user_id)
    await store.audit(AuditLine(actor, "user.exported", f"user {user_id}"))
    async for piece in table.export(user_id):
        yield piece
