"""The demo's community as a database holds it: its events logged, its users known, its awards given."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from tests.rig.faults import store_on
from worker.events import Event, decode_line
from worker.files import read_sources
from worker.rules.catalog.load import load_catalog

DEMO = Path(__file__).parents[1] / "worker" / "demo"
CATALOG = (DEMO / "catalog.yaml").read_text()

AWARDS = """
INSERT INTO badges.user_badges
    (user_id, badge_key, context, awarded_at, source, origin, sequence, award_id, catalog_version)
SELECT user_id, badge_key, context, awarded_at, 'auto', 'live',
       row_number() OVER (PARTITION BY user_id ORDER BY awarded_at), gen_random_uuid(), 1
FROM json_to_recordset($1) AS a (user_id text, badge_key text, context text, awarded_at timestamptz)
"""


def community_events() -> list[Event]:
    """The community's 8,391 events, as the log keeps them."""
    dictionary = load_catalog(read_sources(DEMO / "catalog.yaml")).dictionary
    with gzip.open(DEMO / "events.jsonl.gz", "rb") as lines:
        found = [decode_line(line, dictionary, number=number) for number, line in enumerate(lines, 1)]
    return sorted((one for one in found if isinstance(one, Event)), key=lambda one: (one.user_id, one.source, one.id))


async def settle(dsn: str) -> None:
    """Put the community into a migrated database: events, users and the awards that the demo's catalog gives."""
    async with store_on(dsn, connections=2) as store:
        async with store.transaction() as transaction:
            await transaction.remember(community_events())
        expected = [json.loads(line) for line in (DEMO / "expected.jsonl").read_text().splitlines() if line]
        async with store.pool.acquire() as connection:
            await connection.execute("INSERT INTO badges.users (user_id) SELECT DISTINCT user_id FROM badges.events")
            await connection.execute(AWARDS, json.dumps(expected))
