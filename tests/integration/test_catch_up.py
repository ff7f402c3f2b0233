"""Catch-up at a login, with worker, broker and database: what a catalog adds reaches who comes back."""

from __future__ import annotations

import pytest

from tests.integration.test_by_hand import messages
from tests.integration.test_worker import Rig, event, line, rig
from worker.app import apply_catalog, open_store
from worker.pipeline.build import Build

__all__ = ["rig"]

CATALOG = """
version: 1
catch_up_on_login: {option}
events: {{UserLoggedIn: {{}}, WinLogged: {{}}}}
metrics: {{wins: {{count: WinLogged}}, logins: {{count: UserLoggedIn}}}}
ladders:
  - {{key: regular, metric: logins, levels: [1, 9], label: Regular, description: "{{level}} logins"}}
"""
ADDED = """
badges:
  - {key: winner, label: Winner, description: Two wins, flow: {snapshot: {wins: {$gte: 2}}}}
milestones:
  - {code: lucky, title: Lucky, description: Two wins., icon: star, trigger_event: UserLoggedIn, rule_type: count,
     rule_data: {field: wins, threshold: 2}, is_active: true}
"""
HELD = "SELECT badge_key, origin FROM user_badges WHERE user_id = '{}' ORDER BY badge_key"


def came(number: int, kind: str, user: str = "u1") -> bytes:
    """A win or a login of a user."""
    return line(event(number, type=kind, user_id=user, id=f"{user} {number}", payload={}))


async def until_held(rig: Rig, user: str, held: dict[str, str]) -> None:
    """Wait until a user holds just these badges, each with its origin."""
    query = HELD.format(user)
    await rig.until_rows(query, lambda rows: {row["badge_key"]: row["origin"] for row in rows} == held, f"of {user}")


async def add(rig: Rig, option: str) -> None:
    """Put the catalog with the badge and the milestone in force."""
    path = rig.folder / "added.yaml"
    path.write_text(CATALOG.format(option=option) + ADDED)
    async with open_store(rig.settings, name="test") as store:
        await apply_catalog(store, path, applied_by="test")


@pytest.fixture
def first(rig: Rig) -> Rig:
    """The catalog as it begins."""
    assert rig.settings.catalog is not None
    rig.settings.catalog.write_text(CATALOG.format(option="true"))
    return rig


async def test_a_login_gives_what_a_catalog_added_before_the_build_comes(
    first: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the build of a new version waits, a login gives its user all of it: the milestone of logins as news, and
    what was earned long ago quietly, at its own instant. Who does not come has to wait for the build.
    """

    async def never(_: Build) -> None:
        return None

    monkeypatch.setattr(Build, "slice", never)
    async with first.working():
        wins = [came(number, "WinLogged", user) for user in ("u1", "u2") for number in (1, 2)]
        await first.produce(came(0, "UserLoggedIn"), *wins)
        await until_held(first, "u1", {"regular_1": "live"})
        await first.until_rows("SELECT 1 FROM events", lambda rows: len(rows) == 5, "all events")
        await add(first, "true")
        await first.produce(came(3, "UserLoggedIn"))
        await until_held(first, "u1", {"lucky": "live", "regular_1": "live", "winner": "backfill"})
        await until_held(first, "u2", {})
        await first.until_rows("SELECT 1 FROM outbox WHERE published_at IS NULL", lambda rows: not rows, "publishing")
    said = {body["badge_key"]: (body["notify"], body["awarded_at"][11:19]) for body in await messages(first.settings)}
    assert said == {
        "regular_1": (True, "10:00:00"),
        "lucky": (True, "10:00:03"),
        "winner": (False, "10:00:02"),
    }


@pytest.mark.parametrize("option", ["true", "false"])
async def test_a_login_after_the_build_gives_what_logins_trigger(first: Rig, option: str) -> None:
    """The build gives what past events triggered, and no milestone of a login that did not come yet; the next login
    does. With `catch_up_on_login` it also gives a level that the user came past and does not have.
    """
    async with first.working():
        await first.produce(came(0, "UserLoggedIn"), came(1, "WinLogged"), came(2, "WinLogged"))
        await until_held(first, "u1", {"regular_1": "live"})
        await add(first, option)
        await until_held(first, "u1", {"regular_1": "live", "winner": "backfill"})
    await first.rows("DELETE FROM user_badges WHERE badge_key = 'regular_1'")
    async with first.working():
        await first.produce(came(3, "UserLoggedIn"))
        level = {"regular_1": "live"} if option == "true" else {}
        await until_held(first, "u1", {"lucky": "live", "winner": "backfill"} | level)
