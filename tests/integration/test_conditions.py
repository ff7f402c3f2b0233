"""Conditions in JavaScript through the whole worker: the award once, a child killed, a type parked, none where off."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from typing import Any

import pytest

from tests.integration.test_worker import Rig, line, rig
from tests.rig.waiting import until
from worker import cli
from worker.app import Worker, apply_catalog, open_store
from worker.conditions.parking import LEAST_CALLS
from worker.errors import OperatorError

__all__ = ["rig"]

CATALOG = """
version: 1
events: {order.paid: {schema: {type: object, properties: {total: {type: number}, lines: {type: array}}}}}
condition_types:
  - name: big_order
    source: "(event, params) => event.payload.total > params.min"
    params: {type: object, required: [min], properties: {min: {type: number}}}
  - {name: broken, source: "(event) => event.payload.nothing.at.all"}
badges:
  - {key: big, flow: {event: order.paid, criteria: {$condition: {type: big_order, params: {min: 100}}}}}
  - {key: never, flow: {event: order.paid, criteria: {$condition: {type: broken}}}}
"""


def order(number: int, total: int, user: str = "u1") -> bytes:
    """An order of a user."""
    when = f"2026-03-01T10:00:{number:02}Z"
    body: dict[str, Any] = {"id": f"o{number}", "type": "order.paid", "user_id": user, "occurred_at": when}
    return line({**body, "payload": {"total": total}})


async def test_an_award_by_a_condition(rig: Rig) -> None:
    """A yes gives the award, once; the answers stand with the events; a killed child is replaced; a type is parked."""
    (rig.folder / "catalog.yaml").write_text(CATALOG)
    rig.settings = rig.settings.model_copy(update={"js": "on"})
    async with rig.working() as worker:
        await rig.produce(order(1, 50), order(2, 500), order(2, 500), order(3, 600))
        await rig.until_rows("SELECT 1 FROM user_badges", lambda rows: len(rows) == 1, "the award")
        door = worker._door
        assert door is not None
        assert door.pid is not None
        os.kill(door.pid, signal.SIGKILL)
        await rig.produce(*(order(number, number, f"u{number}") for number in range(4, 24)))
        found = await rig.until_rows(
            "SELECT id, verdicts FROM events ORDER BY occurred_at", lambda rows: len(rows) == 23, "all events"
        )
        await until(lambda: worker.metrics.registry.get_sample_value("badges_conditions_parked") == 1, "parking")
        value = worker.metrics.registry.get_sample_value
        assert value("badges_condition_faults_total", {"condition": "broken"}) == LEAST_CALLS
        # once more where what was asked of the parked type was not waited for
        assert value("badges_condition_starts_total") in (2, 3)
        # the repeat is asked about again where it came in a batch of its own
        again = value("badges_condition_verdicts_total", {"verdict": "yes"}) - 2
        assert again in (0, 1)
        assert door.parked == ["broken"]
    said = [_answers(row["verdicts"]) for row in found]
    assert [sorted({"yes", "no"} & {*each}) for each in said] == [["no"], ["yes"], ["yes"], *[["no"]] * 20]
    # which of the users' events came last is not certain
    silent = Counter(one for each in said for one in each if one not in ("yes", "no"))
    assert silent == {"error": LEAST_CALLS - again, "parked": 3 + again}
    (award,) = await rig.rows("SELECT badge_key, trigger_id, metadata FROM user_badges")
    assert (award["badge_key"], award["trigger_id"]) == ("big", "o2")
    assert '"condition_event_id": "o2"' in award["metadata"]


def _answers(verdicts: str) -> list[str]:
    return list(json.loads(verdicts).values())


async def test_conditions_are_asked_again_where_that_is_asked(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a script has changed, what was logged is judged by it only by `recompute --conditions`: quietly, once."""
    (rig.folder / "catalog.yaml").write_text(CATALOG)
    rig.settings = rig.settings.model_copy(update={"js": "on"})
    easier = rig.folder / "easier.yaml"
    easier.write_text(CATALOG.replace("event.payload.total > params.min", "event.payload.total * 10 > params.min"))
    async with rig.working(), open_store(rig.settings, name="test") as store:
        await rig.produce(order(1, 5), order(2, 50), order(3, 60))
        await rig.until_rows("SELECT 1 FROM events", lambda rows: len(rows) == 3, "the events")
        version, _ = await apply_catalog(store, easier, applied_by="test")
        built = f"SELECT 1 FROM users WHERE built_version = {version}"
        await rig.until_rows(built, lambda rows: len(rows) == 1, "the build")
    assert await rig.rows("SELECT 1 FROM user_badges") == []
    monkeypatch.setenv("BADGES_DATABASE_URL", rig.settings.dsn)
    monkeypatch.setenv("BADGES_AWARD_TOPIC", rig.settings.award_topic)
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")

    async def ran(*arguments: str) -> tuple[int, str, str]:
        status = await asyncio.to_thread(cli.main, ["recompute", *arguments])
        return status, *capsys.readouterr()

    assert (await ran("--badge", "big"))[0] == 0
    assert await rig.rows("SELECT 1 FROM user_badges") == []
    assert "BADGES_JS is off" in (await ran("--badge", "big", "--conditions"))[2]
    monkeypatch.setenv("BADGES_JS", "on")
    status, out, _ = await ran("--badge", "big", "--conditions")
    assert (status, "  1 award was never given: granted" in out) == (0, True)
    (award,) = await rig.rows("SELECT trigger_id, origin, awarded_at FROM user_badges")
    assert (award["trigger_id"], award["origin"]) == ("o2", "backfill")
    status, out, _ = await ran("--badge", "big", "--conditions")
    assert (status, "granted" in out) == (0, False)
    verdicts = await rig.rows("SELECT verdicts FROM events ORDER BY id")
    (key,) = {name for row in verdicts for name, said in json.loads(row["verdicts"]).items() if said == "yes"}
    assert [json.loads(row["verdicts"])[key] for row in verdicts] == ["no", "yes", "yes"]
    ((message,),) = await rig.rows("SELECT count(*) FROM outbox WHERE published_at IS NULL")
    assert message == 1


async def test_off_is_said_at_the_start(rig: Rig) -> None:
    """Without BADGES_JS=on a worker refuses to start with a catalog whose badges ask conditions."""
    (rig.folder / "catalog.yaml").write_text(CATALOG)
    with pytest.raises(OperatorError, match=r"big_order, broken.*BADGES_JS is off"):
        await Worker(rig.settings).run()
    assert await rig.rows("SELECT 1 FROM catalog_versions") == []


async def test_a_running_worker_waits_where_off(rig: Rig) -> None:
    """A version that asks conditions stops a worker that may not run them, until another version rules."""
    plain, asking = rig.folder / "catalog.yaml", rig.folder / "asking.yaml"
    plain.write_text("version: 1\nevents: {order.paid: {}}\nbadges: [{key: paid, flow: {event: order.paid}}]\n")
    asking.write_text(CATALOG)
    async with rig.working() as worker, open_store(rig.settings, name="test") as store:
        await apply_catalog(store, asking, applied_by="test")
        await rig.produce(order(1, 500))
        await until(lambda: "BADGES_JS is off" in (worker._ready() or ""), "the refusal")
        assert await rig.rows("SELECT 1 FROM events") == []
        await apply_catalog(store, plain, applied_by="test")
        await rig.until_rows("SELECT 1 FROM user_badges", lambda rows: len(rows) == 1, "the award")
        assert worker._ready() is None


def test_apply_is_refused_in_words(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`catalog apply` refuses where conditions may not run, and where a source is no JavaScript; else it applies."""
    file = rig.folder / "catalog.yaml"
    file.write_text(CATALOG)
    monkeypatch.setenv("BADGES_DATABASE_URL", rig.settings.dsn)
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")
    assert cli.main(["catalog", "apply", str(file)]) == 1
    assert "BADGES_JS is off" in capsys.readouterr().err
    monkeypatch.setenv("BADGES_JS", "on")
    file.write_text(CATALOG.replace("nothing.at.all", "nothing."))
    assert cli.main(["catalog", "apply", str(file)]) == 1
    assert "bad_operand /condition_types/1/source" in capsys.readouterr().err
    file.write_text(CATALOG)
    assert cli.main(["catalog", "apply", str(file)]) == 0
    assert cli.main(["doctor"]) in (0, 1)
    said = capsys.readouterr().out
    assert "ok    catalog   version 1, 2 badges, no fault" in said
    assert "ok    js        JavaScript runs, in a process of its own" in said
    monkeypatch.delenv("BADGES_JS")
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "FAIL  catalog" in said
    assert "BADGES_JS is off" in said
