"""`badges catalog smoke`: a catalog tried on real users, refused where it changes too much for too many."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.community import CATALOG, DEMO, community_events
from tests.people import settle_users
from tests.rig.postgres import PostgresService, in_thread
from worker import cli

Capture = pytest.CaptureFixture[str]
Smoke = Callable[..., dict[str, Any]]
#: Of the community's users those whose id begins so: some twenty.
SOME = "u9"


@pytest.fixture(scope="module")
def settled(postgres: PostgresService) -> Iterator[tuple[str, int]]:
    """A database with some users of the community, and how many they are."""
    with postgres.database() as dsn:
        events = [event for event in community_events() if event.user_id.startswith(SOME)]
        in_thread(lambda: settle_users(dsn, DEMO / "catalog.yaml", events))
        yield dsn, len({event.user_id for event in events})


@pytest.fixture
def smoke(settled: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Smoke:
    """Tries the demo's catalog with a text replaced; its answer as JSON, with `status` and `said`."""
    monkeypatch.setenv("BADGES_DATABASE_URL", settled[0])
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")

    def run(old: str, new: str, *options: str, sample: int = 1_000) -> dict[str, Any]:
        assert old in CATALOG
        (tmp_path / "catalog.yaml").write_text(CATALOG.replace(old, new))
        path = str(tmp_path / "catalog.yaml")
        status = cli.main(["catalog", "smoke", path, "--sample", str(sample), "--format", "json", *options])
        shown = capsys.readouterr()
        return {**json.loads(shown.out), "status": status, "said": shown.err}

    return run


def test_a_catalog_that_changes_nothing_passes(smoke: Smoke, settled: tuple[str, int]) -> None:
    """Another label changes no award: every user is tried, nobody gains or loses."""
    found = smoke("label: Busy week", "label: A busy week")
    assert (found["status"], found["users"], found["population"]) == (0, settled[1], settled[1])
    assert (found["gaining"], found["losing"], found["badges"]) == (0, 0, [])


def test_a_catalog_that_gives_too_much_is_refused(smoke: Smoke) -> None:
    """A selector that suddenly matches everybody is refused, with the share, and passes where so much is allowed."""
    found = smoke("periodCount: {$gte: 5}", "periodCount: {$gte: 1}")
    assert found["status"] == 1
    assert "would be given an award; at most 5 % is allowed." in found["said"]
    (badge,) = found["badges"]
    assert (badge["key"], badge["would_lose"]) == ("five_comment_days", 0)
    assert badge["would_gain"] == len(badge["gainers"]) == round(found["gaining"] * found["users"])
    assert smoke("periodCount: {$gte: 5}", "periodCount: {$gte: 1}", "--max-change", "100%")["status"] == 0


def test_a_catalog_that_drops_too_much_is_refused(smoke: Smoke) -> None:
    """A selector that matches nobody any more is refused, though nobody loses what they hold."""
    german = "{score: {$gte: %d}}}\n    translations:\n      de: {label: Schüler"
    found = smoke(german % 1, german % 999, "--max-change", "0")
    assert found["status"] == 1
    assert "would no more earn an award they earn now; at most 0 % is allowed." in found["said"]
    assert [badge["key"] for badge in found["badges"]] == ["student"]


def test_the_same_seed_takes_the_same_users(smoke: Smoke) -> None:
    """A sample is what its seed says; other seeds take others."""
    options = ("flow: {event: post.edited}", "flow: {event: user.registered}", "--max-change", "100")
    gainers = [
        [badge["gainers"] for badge in smoke(*options, "--seed", str(seed), sample=5)["badges"]] for seed in (1, 1, 2)
    ]
    assert gainers[0] == gainers[1] != gainers[2]


def test_a_share_that_is_none_is_wrong_usage(smoke: Smoke, tmp_path: Path, capsys: Capture) -> None:
    """What is no share of a whole is said as such."""
    smoke("label: Busy week", "label: A busy week")
    assert cli.main(["catalog", "smoke", str(tmp_path / "catalog.yaml"), "--max-change", "101%"]) == 2
    assert "101% is no share from 0% to 100%." in capsys.readouterr().err
