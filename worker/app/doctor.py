"""Checks every setting and connection and says what to do: what `badges doctor` and the panel show."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from worker.app.catalog import working_plan
from worker.app.conditions import refuse_unasked
from worker.app.coverage import SILENT, logged_coverage
from worker.app.programs import OtherMemories
from worker.conditions import Door
from worker.config import Settings, shown_address, transport_refusals, unknown_names
from worker.errors import AuthorError, BadgesError
from worker.rules.plan import Plan
from worker.store.migrate import newest_known_version, schema_version
from worker.store.pool import Pool, check_server, close_pool, create_pool
from worker.store.postgres import PostgresStore
from worker.stream.topics import Cluster, look, needed_topics, subscription_pattern

#: How long one connection may take before it counts as not answering, seconds.
SECONDS: Final = 8.0
#: So many silent event types are named.
SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `verdict`: ok, warn, FAIL or skip; `grave` warnings stand for protection that is lifted."""

    verdict: str
    check: str
    message: str
    help: str | None = None
    grave: bool = False


@dataclass(slots=True)
class Doctor:
    """Runs the checks in order; what a failed one makes pointless is skipped.

    `quiet` keeps off what the clients say by themselves, where each failure is told as a sentence.
    """

    settings: Settings
    quiet: Callable[[], AbstractContextManager[None]] = nullcontext
    failed: set[str] = field(default_factory=set)
    plan: Plan | None = None

    async def examine(self) -> AsyncIterator[Finding]:
        """All findings, as they come."""
        for check in (self._database(), self._kafka(), self._conditions()):
            async for finding in check:
                if finding.verdict == "FAIL":
                    self.failed.add(finding.check)
                yield finding

    async def _database(self) -> AsyncIterator[Finding]:
        try:
            pool = await create_pool(self.settings.dsn, application_name="badges doctor", max_size=2)
        except BadgesError as error:
            place = f"{shown_address(self.settings.dsn)}, " if self.settings.database_url is not None else ""
            yield Finding("FAIL", "database", f"{place}{error.message}", error.help or "check BADGES_DATABASE_URL")
            yield Finding("skip", "catalog", "needs the database")
            return
        try:
            async for finding in self._inside_database(pool):
                yield finding
        finally:
            await close_pool(pool)

    async def _inside_database(self, pool: Pool) -> AsyncIterator[Finding]:
        try:
            began = monotonic()
            server = await pool.fetchval("SELECT current_setting('server_version')")
            took = (monotonic() - began) * 1000
            lifted = await check_server(pool, allow_insecure=self.settings.allow_insecure)
            have, want = await schema_version(pool), newest_known_version()
        except BadgesError as error:
            yield Finding("FAIL", "database", error.message, error.help)
            yield Finding("skip", "catalog", "needs the database")
            return
        place = f"PostgreSQL {server.partition(' ')[0]}, {shown_address(self.settings.dsn)}, {took:.0f} ms"
        for sentence in lifted:
            yield Finding("warn", "database", sentence, "only for tests and demos", grave=True)
        if have < want:
            yield Finding("FAIL", "database", f"{place}, schema {have} of {want}", "badges db migrate")
            yield Finding("skip", "catalog", "needs the schema")
            return
        yield Finding("ok", "database", f"{place}, schema {have} of {want}")
        store = PostgresStore(pool, group_id=self.settings.group_id)
        yield await self._catalog(store)
        if "catalog" not in self.failed:
            async for finding in self._triggers(store):
                yield finding

    async def _triggers(self, store: PostgresStore) -> AsyncIterator[Finding]:
        """Event types that badges wait for and that do not come, as far as arrivals are counted."""
        try:
            found, known = ([], False) if self.plan is None else await logged_coverage(store, self.plan.catalog)
        except BadgesError as error:
            yield Finding("warn", "triggers", error.message, error.help)
            return
        silent = [one for one in found if one.state in SILENT]
        for one in silent[:SHOWN]:
            yield Finding("warn", "triggers", one.sentence, "look at the app that sends it")
        if len(silent) > SHOWN:
            yield Finding("warn", "triggers", f"{len(silent) - SHOWN:,} more", "badges catalog coverage")
        elif known and not silent:
            yield Finding("ok", "triggers", "every event type that badges listen to comes")

    async def _catalog(self, store: PostgresStore) -> Finding:
        try:
            plan = self.plan = await working_plan(store, note=False)
            if plan is not None:
                refuse_unasked(plan.catalog, self.settings)
        except AuthorError as error:
            return Finding("FAIL", "catalog", error.message, "badges catalog lint FILE, then badges catalog apply FILE")
        except OtherMemories as other:
            self.plan = other.plan
            return Finding("warn" if other.begins else "FAIL", "catalog", other.message, other.help)
        except BadgesError as error:
            return Finding("FAIL", "catalog", error.message, error.help)
        if plan is not None:
            return Finding("ok", "catalog", f"version {plan.version}, {len(plan.badges):,} badges, no fault")
        given = self.settings.catalog
        if given is not None:
            return Finding("ok", "catalog", f"the database holds none yet; a worker will apply {given}")
        remedy = "badges catalog apply FILE, or start a worker with --catalog FILE"
        return Finding("warn", "catalog", "the database holds none yet", remedy)

    async def _conditions(self) -> AsyncIterator[Finding]:
        if self.settings.js == "off":
            return
        try:
            async with Door() as door:
                await door.check(["() => true"])
        except BadgesError as error:
            yield Finding("FAIL", "js", error.message, error.help)
        else:
            yield Finding("ok", "js", "JavaScript runs, in a process of its own")

    async def _kafka(self) -> AsyncIterator[Finding]:
        began = monotonic()
        try:
            with self.quiet():
                cluster = await look(self.settings, needed_topics(self.settings), seconds=SECONDS)
        except BadgesError as error:
            yield Finding("FAIL", "kafka", error.message, error.help or "check BADGES_KAFKA_BOOTSTRAP_SERVERS")
            yield Finding("skip", "topics", "needs kafka")
            return
        took = (monotonic() - began) * 1000
        servers, protocol = self.settings.kafka_bootstrap_servers, self.settings.kafka_security_protocol
        count = f"{cluster.brokers} broker" + ("s" if cluster.brokers != 1 else "")
        yield Finding("ok", "kafka", f"{servers}, {count}, {protocol}, {took:.0f} ms")
        for finding in judge_topics(self.settings, cluster):
            yield finding


def judge_settings(settings: Settings) -> Iterator[Finding]:
    """What can be said of the settings without asking anyone."""
    faults = 0
    for sentence in transport_refusals(settings):
        faults += 1
        yield Finding("FAIL", "settings", sentence)
    for allowance in sorted(settings.allow_insecure):
        faults += 1
        lifted = {"fsync": "a database that may forget what it committed", "plaintext": "connections in the clear"}
        message = f"BADGES_ALLOW_INSECURE={allowance} allows {lifted[allowance]}"
        yield Finding("warn", "settings", message, "leave it out where data matters", grave=True)
    for name, nearest in unknown_names():
        faults += 1
        yield Finding("warn", "settings", f"{name} is no setting", f"write {nearest}" if nearest else "remove it")
    if not faults:
        yield Finding("ok", "settings", "all known, none insecure")


def judge_topics(settings: Settings, cluster: Cluster) -> Iterator[Finding]:
    """What can be said of the topics, from one look at the cluster."""
    needed = needed_topics(settings)
    missing = [name for name in needed if name not in cluster.topics]
    if missing:
        yield Finding("FAIL", "topics", f"missing: {', '.join(missing)}", "badges topics create")
    there = [cluster.topics[name] for name in needed if name in cluster.topics]
    leaderless = [facts.name for facts in there if not facts.led]
    if leaderless:
        yield Finding("FAIL", "topics", f"without a leader: {', '.join(leaderless)}", "look at the brokers' logs")
    kept = [name for name, config in cluster.config.items() if config.get("cleanup.policy", "delete") != "delete"]
    if kept:
        yield Finding(
            "FAIL", "topics", f"compacted: {', '.join(kept)}; records would vanish", "set cleanup.policy=delete"
        )
    single = [facts.name for facts in there if facts.replicas < min(3, cluster.brokers)]
    if single:
        yield Finding("warn", "topics", f"too few replicas: {', '.join(single)}", f"use {min(3, cluster.brokers)}")
    if settings.event_topics.pattern is not None:
        pattern = re.compile(subscription_pattern(settings, settings.event_topics))
        found = [name for name in cluster.topics if pattern.match(name)]
        shown = f"{settings.event_topics.pattern} matches {len(found)} topics"
        yield Finding("ok" if found else "warn", "topics", shown, None if found else "check BADGES_EVENT_TOPICS")
    if not missing and not leaderless and not kept:
        parts = ", ".join(f"{facts.name} {facts.partitions}" for facts in there)
        yield Finding("ok", "topics", f"partitions: {parts}")


async def examine_all(
    settings: Settings, quiet: Callable[[], AbstractContextManager[None]] = nullcontext
) -> AsyncIterator[Finding]:
    """Settings first, then every connection they name."""
    for finding in judge_settings(settings):
        yield finding
    async for finding in Doctor(settings, quiet).examine():
        yield finding


def summary(findings: Sequence[Finding]) -> str:
    """`1 ok, 1 warning, 1 failed, 1 not checked`."""
    counts = {word: sum(finding.verdict == word for finding in findings) for word in ("ok", "warn", "FAIL", "skip")}
    warnings = f"{counts['warn']} warning" + ("s" if counts["warn"] != 1 else "")
    return f"{counts['ok']} ok, {warnings}, {counts['FAIL']} failed, {counts['skip']} not checked"
