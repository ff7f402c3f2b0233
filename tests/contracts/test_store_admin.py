"""Tokens, the log of changes and requests that come again, in both PostgreSQLs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from worker.exchange import AuditLine
from worker.store.postgres import PostgresStore


async def test_tokens(database: PostgresStore) -> None:
    """A live name is taken once, also by several at a time; a revoked one is free again, and stays listed."""
    assert not await database.any_token()
    made = await asyncio.gather(
        *(database.create_token("shop", "producer", bytes([number]), actor="me") for number in range(3)),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in made) == ["OperatorError", "OperatorError", "int"]
    (live,) = await database.live_tokens()
    assert (live.name, live.role) == ("shop", "producer")
    await database.touch_tokens([live.id])
    assert (await database.tokens())[0].used_us is not None
    assert await database.revoke_token(str(live.id), actor="me")
    assert await database.revoke_token("shop", actor="me") is None
    assert await database.live_tokens() == []
    assert await database.any_token()
    await database.create_token("shop", "reader", b"x", actor="me")
    assert [(row.role, row.revoked_us is None) for row in await database.tokens()] == [
        ("reader", True),
        ("producer", False),
    ]


async def test_one_token_ends(database: PostgresStore) -> None:
    """A number ends the token of that number alone, though another is named so; as a text it may be a name too."""
    first = await database.create_token("shop", "producer", b"1", actor="me")
    await database.create_token(str(first), "reader", b"2", actor="me")
    for _ in range(2):
        ended = await database.revoke_token(first, actor="me")
        assert [live.name for live in await database.live_tokens()] == [str(first)]
    assert ended is None
    assert await database.revoke_token(str(first), actor="me")
    assert await database.live_tokens() == []


async def test_changes(database: PostgresStore) -> None:
    """The log of changes is read newest first, by actor, action or subject; each change of a token is in it once."""
    number = await database.create_token("shop", "producer", b"1", actor="anna")
    await database.audit(AuditLine("ben", "award.released", "badge first", after={"awards": 3}, note="checked"))
    await database.revoke_token("shop", actor="ben")
    found = await database.changes()
    assert [(change.actor, change.action) for change in found] == [
        ("ben", "token.revoked"),
        ("ben", "award.released"),
        ("anna", "token.created"),
    ]
    assert found[1].after == '{"awards": 3}'
    assert [change.id for change in await database.changes(before=found[0].id)] == [found[1].id, found[2].id]
    assert [change.actor for change in await database.changes(subject=f"token {number}", actor="anna")] == ["anna"]
    assert await database.changes(action="nothing.done") == []


async def test_what_was_sent_after_all(database: PostgresStore) -> None:
    """That an act was sent is said where the last word of the same act is that it was not, and nowhere else."""
    line = AuditLine("ben", "grant.added", "user u1", after={"badge_key": "first"}, note="was there")
    await database.audit(line)
    await database.audit_sent(line)
    for other in (replace(line, actor="anna"), replace(line, after={"badge_key": "second"}), line):
        await database.audit(replace(other, action="grant.added.unsent", note="Kafka is away."))
    await database.audit_sent(replace(line, subject="user u2"))
    for _ in range(2):
        await database.audit_sent(line)
    newest, unsent, *_, first = await database.changes()
    assert [(change.actor, change.action) for change in (newest, unsent)] == [
        ("ben", "grant.added.sent"),
        ("ben", "grant.added.unsent"),
    ]
    assert (newest.subject, newest.after, newest.note) == (first.subject, first.after, first.note)
    assert len(await database.changes()) == 5


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
async def test_changes_are_never_rewritten(database: PostgresStore, statement: str) -> None:
    """Rows of the audit log are neither changed nor removed."""
    await database.audit(AuditLine("ben", "award.released", "badge first"))
    async with database.pool.acquire() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement.format("audit_log"))


async def test_requests_that_come_again(database: PostgresStore) -> None:
    """Of requests of one name the first one's body and instant hold, also when they come at a time."""
    answers = await asyncio.gather(*(database.first_request(b"n", bytes([i]), i * 1_000_000) for i in range(5)))
    assert len(set(answers)) == 1
    assert await database.first_request(b"other", b"b", 7) == (b"b", 7)
    assert await database.forget_requests() == 0


async def test_ended_sessions(database: PostgresStore) -> None:
    """Sessions that were ended are listed, the newest first and so many; twice is once; old ones are forgotten."""
    for hashed in (b"a", b"b", b"a", b"c"):
        await database.end_session(hashed)
    assert await database.ended_sessions(60.0, 10) == [b"c", b"b", b"a"]
    assert await database.ended_sessions(60.0, 2) == [b"c", b"b"]
    assert await database.forget_sessions(60.0) == 0
    assert await database.forget_sessions(-1.0) == 3
    assert await database.ended_sessions(60.0, 10) == []
