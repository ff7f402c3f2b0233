"""`badges dry-run --database` answers from the log what it answers from a file, and touches nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.playing import EVENTS, event
from worker import cli
from worker.events import Event
from worker.store.histories import HistoryTable
from worker.store.pool import close_pool, create_pool
from worker.store.postgres import PostgresStore

TOTAL = {"$aggregate": {"type": "sum", "field": "n", "value": {"$gte": 1}}}
CATALOG: dict[str, Any] = {
    "version": 1,
    "events": EVENTS,
    "badges": [{"key": "big", "flow": {"event": "order.paid", "criteria": TOTAL}}],
}
HISTORY = [event("order.paid", day / 24, id=f"{day:05}", n=day) for day in range(2_500)]


async def log(dsn: str, events: Sequence[Event]) -> None:
    """Put events into the log."""
    pool = await create_pool(dsn)
    try:
        async with PostgresStore(pool).transaction() as transaction:
            await transaction.remember(sorted(events, key=lambda one: (one.user_id, one.source, one.id)))
    finally:
        await close_pool(pool)


async def read(dsn: str, user_id: str) -> tuple[list[Event], int]:
    """A user's history, and how many users the database knows."""
    pool = await create_pool(dsn)
    try:
        table = HistoryTable(pool)
        events = await table.history(user_id)
        async with pool.acquire() as connection:
            return events, await connection.fetchval("SELECT count(*) FROM users")
    finally:
        await close_pool(pool)


def test_the_log_is_read_in_order_and_nobody_is_made_known(postgres_dsn: str) -> None:
    """A history of several pages comes whole and in order; reading an unknown user leaves no row behind."""
    asyncio.run(log(postgres_dsn, HISTORY))
    events, users = asyncio.run(read(postgres_dsn, "u"))
    assert [(one.order, one.type, one.payload) for one in events] == [
        (one.order, one.type, one.payload) for one in HISTORY
    ]
    assert users == 0
    assert asyncio.run(read(postgres_dsn, "nobody")) == ([], 0)


def test_a_dry_run_answers_from_the_database(
    postgres_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """User and requests are answered from the log alone; an unknown user is said, unless an event is made up."""
    asyncio.run(log(postgres_dsn, HISTORY[:3]))
    monkeypatch.setenv("BADGES_DATABASE_URL", postgres_dsn)
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(CATALOG), encoding="utf-8")
    paths = ["dry-run", "--catalog", str(tmp_path / "catalog.yaml"), "--database"]
    assert cli.main([*paths, "--user", "u", "--badge", "big"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["passed"], answer["metadata"]["sum_n"]) == (True, 3)
    assert cli.main([*paths, "--user", "nobody", "--badge", "big"]) == 1
    assert "No event of nobody was ever logged." in capsys.readouterr().err
    assert cli.main([*paths, "--user", "nobody", "--event", json.dumps({"type": HISTORY[0].type})]) == 0
    capsys.readouterr()
    requests = [{"user_id": user, "badge_key": "big"} for user in ("u", "nobody", "u")]
    (tmp_path / "requests.jsonl").write_text("\n".join(map(json.dumps, requests)), encoding="utf-8")
    assert cli.main([*paths, "--requests", str(tmp_path / "requests.jsonl")]) == 0
    assert [json.loads(text)["passed"] for text in capsys.readouterr().out.splitlines()] == [True, False, True]


CONDITIONS: dict[str, Any] = {
    "version": 1,
    "events": EVENTS,
    "condition_types": [{"name": "large", "source": "(event) => event.payload.n > 1"}],
    "badges": [
        {"key": "big", "flow": {"event": "order.paid", "criteria": {"$condition": {"type": "large"}}}},
        {"key": "after", "flow": {"$and": [{"badge": "big"}, {"event": "order.paid"}]}},
        {"key": "payer", "flow": {"event": "order.paid"}},
    ],
}


def test_an_event_that_no_condition_could_judge_is_said(
    postgres_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where conditions may not run a warning names which one, and why; what needs none, or only the log, has none."""
    asyncio.run(log(postgres_dsn, HISTORY[:1]))
    monkeypatch.setenv("BADGES_DATABASE_URL", postgres_dsn)
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(CONDITIONS), encoding="utf-8")

    def ask(*options: str) -> tuple[list[Any], str]:
        command = ["dry-run", "--catalog", str(tmp_path / "catalog.yaml"), "--database", "--user", "u"]
        assert cli.main([*command, "--format", "jsonl", *options]) == 0
        out, said = capsys.readouterr()
        return [json.loads(text)["passed"] for text in out.splitlines()], said

    paid = ["--event", json.dumps({"type": "order.paid", "payload": {"n": 5}})]
    warning = "the condition large gave no answer to the order.paid of --event: BADGES_JS is off; set BADGES_JS=on"
    passed, said = ask(*paid)
    assert (passed, said.count("warning:"), warning in said) == ([False, False, True], 1, True)
    assert warning in ask(*paid, "--badge", "after")[1], "also where it is asked for another badge's sake"
    assert ask(*paid, "--badge", "payer") == ([True], "")
    assert ask("--badge", "big") == ([False], "")
    assert ask("--badge", "big", "--event", '{"type": "user.logged_in"}') == ([False], "")
    monkeypatch.setenv("BADGES_JS", "on")
    assert ask(*paid, "--badge", "big") == ([True], "")
