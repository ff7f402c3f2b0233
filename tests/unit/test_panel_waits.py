"""Pages of users with long logs: what is at hand comes first, what is worked out follows as a part."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.unit.desk import FakeDesk, panel
from tests.unit.serving import client
from tests.unit.test_panel import check_markup
from worker.admin.panel.working import Working
from worker.admin.problems import Problem
from worker.admin.roles import Role


class LongLog(FakeDesk):
    """A desk that never comes to an end with a user's log."""

    async def overview(self, user_id: str) -> Mapping[str, Any] | None:
        await asyncio.Event().wait()
        return None

    async def why(self, user_id: str, key: str, **given: Any) -> Mapping[str, Any]:
        await asyncio.Event().wait()
        return {}


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/users/u1", 'hx-get="/panel/_/users/u1"'),
        ("/users/u1/why/nice_question?context=7", 'hx-get="?context=7"'),
    ],
)
def test_long_logs_do_not_hold_a_page_up(path: str, part: str) -> None:
    """The page comes with what the tables say and fetches the rest by itself; without script a link waits for it."""
    got = client(panel(LongLog()), Role.SUPPORT).get(f"/panel{path}")
    assert got.status_code == 200
    assert part in got.text
    assert "whole=1" in got.text
    assert "Nice question" in got.text
    check_markup(got.text)


def test_connections_do_not_hold_their_page_up() -> None:
    """What the tables say comes at once; settings and connections are checked beside it, each time anew."""

    class Away(FakeDesk):
        async def checks(self) -> tuple[Sequence[Any], str]:
            if self.slow:
                await asyncio.Event().wait()
            return await super().checks()

    late = client(panel(Away(slow=True)), Role.READER).get("/panel/settings/connections").text
    assert 'hx-get="/panel/_/settings/connections" hx-trigger="load"' in late
    assert "whole=1" in late
    assert "Workers of group badges" in late
    check_markup(late)
    found = client(panel(), Role.READER).get("/panel/settings/connections").text
    assert "hx-get" not in found
    assert "1 ok, 1 warning, 1 failed, 1 not checked" in found
    assert [word in found for word in ("failed</span>", "start the broker", "needs kafka")] == [True] * 3


def test_a_log_that_is_known_to_be_long_is_not_begun() -> None:
    """The page comes at once, and the part that follows it reads the log."""

    class Asked(FakeDesk):
        async def overview(self, user_id: str) -> Mapping[str, Any] | None:
            asked.append(user_id)
            return await super().overview(user_id)

    asked: list[str] = []
    user = client(panel(Asked()), Role.READER)
    assert 'hx-get="/panel/_/users/long"' in user.get("/panel/users/long").text
    assert asked == []
    assert "Nice question" in user.get("/panel/users/long?whole=1").text
    assert asked == ["long"]


async def test_an_answer_is_worked_out_once() -> None:
    """Who asks meanwhile gets the same answer, and too many at once are sent away for a moment."""
    asked, gate, working = [], asyncio.Event(), Working()

    async def work(number: int) -> int:
        asked.append(number)
        await gate.wait()
        return number

    for _ in range(2):
        with pytest.raises(TimeoutError):
            await working.answer("a", work(1), seconds=0)
    for number in range(31):
        with pytest.raises(TimeoutError):
            await working.answer(number, work(2), seconds=0)
    with pytest.raises(Problem, match="Too many"):
        await working.answer("b", work(3), seconds=0)
    gate.set()
    assert await working.answer("a", work(1), seconds=None) == 1
    assert asked.count(1) == 1
