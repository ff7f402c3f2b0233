"""What the panel reads of large tables: every page touches a bounded number of rows, whatever it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.postgres import PostgresService, in_thread
from worker.store.panel import COUNTED, COUNTED_OF_TYPE, LAST_US, LOOKED_AT, WAITING_LOOKED_AT
from worker.store.pool import open_connection
from worker.store.queries import QUERIES

#: More rows than any page may look at.
_ROWS = 2 * LOOKED_AT
_SEED = (
    f"""INSERT INTO badge_awards_log (user_id, badge_key, award_id, awarded_at, source, origin, sequence,
                                      catalog_version, logged_at)
        SELECT 'u' || n, 'b' || n % 50, gen_random_uuid(), now(), 'auto', 'live', n, 1, now() - n * interval '1 s'
        FROM generate_series(1, {_ROWS}) n""",
    f"""INSERT INTO dead_letters (topic, partition, "offset", reason, detail, raw, sha256, length)
        SELECT 't', 0, n, 'not_json', '', '', '', 0 FROM generate_series(1, {_ROWS}) n""",
    f"""INSERT INTO withheld_awards (user_id, badge_key, state, awarded_at, source, origin, catalog_version)
        SELECT 'u' || n, 'b', 'held', now(), 'auto', 'live', 1 FROM generate_series(1, {_ROWS}) n""",
    f"INSERT INTO outbox (shard, topic, messages) SELECT n % 16, 't', '' FROM generate_series(1, {_ROWS}) n",
    f"INSERT INTO users (user_id) SELECT 'u' || n FROM generate_series(1, {_ROWS}) n",
    f"INSERT INTO audit_log (actor, action, subject) SELECT 'p', 'a.b', 's' FROM generate_series(1, {_ROWS}) n",
    f"""INSERT INTO job_runs (job, tick, outcome, token)
        SELECT 'j' || n % 5, now() - n * interval '1 min', 'done', gen_random_uuid()
        FROM generate_series(1, {_ROWS}) n""",
    f"""INSERT INTO dead_letters (topic, partition, "offset", reason, detail, raw, sha256, length, said_type)
        SELECT 'u', 0, n, 'not_json', '', '', '', 0, 'often' FROM generate_series(1, {_ROWS}) n""",
    f"""INSERT INTO events (user_id, id, type, occurred_at, payload, received_at)
        SELECT 'u' || n % 99, n, 'often', now(), '{{}}', to_timestamp(n / 500) FROM generate_series(1, {_ROWS}) n""",
    "SELECT brin_summarize_new_values('events_by_arrival')",
    "ANALYZE",
)
#: When the newest of these events arrived, many at once.
_ARRIVED = _ROWS // 500 * 1_000_000 - 1_000_000
_LAST = 2**63 - 1
#: The worst that each statement is asked: what matches nothing, before everything.
WORST: dict[str, tuple[Any, ...]] = {
    "panel_awards": (0, LAST_US, "~", _LAST, 51),
    "panel_awards_of": (0, LAST_US, "~", _LAST, ["no"], "no", "cron", LOOKED_AT, 51),
    "panel_awards_bound": (0, LAST_US, "~", _LAST, LOOKED_AT),
    "panel_count_awards": (0, COUNTED),
    "panel_count_letters": (0, COUNTED),
    "panel_users": ("u", "u2", 51),
    "panel_user_log": ("u7", _LAST, 51),
    "panel_letters": (_LAST, "no", 0, LOOKED_AT, 51),
    "panel_letters_of": (_LAST, None, None, LOOKED_AT, 51, "too_old"),
    "panel_letters_of_type": (_LAST, None, None, LOOKED_AT, 51, None, "no"),
    "panel_waiting_letters": ("not_json", "often", "no", 0, WAITING_LOOKED_AT),
    "panel_letter_types": (["often", "no"], COUNTED_OF_TYPE),
    "panel_sample": ("often", _ARRIVED),
    "panel_letter_counts": (LOOKED_AT,),
    "panel_withheld_counts": (COUNTED,),
    "panel_unpublished": (COUNTED,),
    "list_audit": (_LAST, 51),
    "list_audit_of_actor": ("p", "no", _LAST, 51, LOOKED_AT),
    "list_audit_of_action": ("no", _LAST, 51),
    "list_audit_of_subject": ("s", "no", None, _LAST, 51, LOOKED_AT),
    "job_runs": (LAST_US, 51),
    "newest_runs": (),
}


@pytest.fixture(scope="module")
def large(postgres: PostgresService) -> Iterator[str]:
    """A database with more rows than a page may look at."""
    with postgres.database() as dsn:

        async def seed() -> None:
            connection = await open_connection(dsn, {"search_path": "badges"}, command_seconds=60)
            for statement in _SEED:
                await connection.execute(statement)
            await connection.close()

        in_thread(seed)
        yield dsn


def _touched(plan: dict[str, Any]) -> int:
    """The rows that the plan's lowest steps read, those that a filter removed too."""
    below = plan.get("Plans", [])
    if below:
        return max(_touched(one) for one in below)
    removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    return int((plan["Actual Rows"] + removed) * plan["Actual Loops"])


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_reads_are_bounded(large: str, mode: str) -> None:
    """Planned for its values or for any, no statement of a page reads more than it says."""
    connection = await open_connection(large, {"search_path": "badges", "plan_cache_mode": mode}, command_seconds=60)
    touched = {}
    try:
        for name, values in WORST.items():
            (row,) = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {QUERIES[name]}", *values)
            found = json.loads(row[0])
            touched[name] = _touched(found[0]["Plan"])
        for values in ((None, None), ("not_json", None), ("no", None), (None, "no"), (None, "often")):
            statement = f"EXPLAIN (ANALYZE, FORMAT JSON) {QUERIES['panel_waiting_letters']}"
            (row,) = await connection.fetch(statement, *values, None, None, WAITING_LOOKED_AT)
            touched[f"waiting of {values}"] = _touched(json.loads(row[0])[0]["Plan"])
    finally:
        await connection.close()
    assert {name: rows for name, rows in touched.items() if rows > LOOKED_AT + 51} == {}
