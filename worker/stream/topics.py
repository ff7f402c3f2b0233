"""The topics: which there must be, whether they are there, and making them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from worker.config import Settings, Topics
from worker.errors import OperatorError
from worker.stream.connection import START_SECONDS, admin_client

PARTITIONS = 12
_EXISTS = 36
_NO_LEADER = 5
_REMEDY = "create them: `badges topics create`"


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as the cluster has it."""

    name: str
    partitions: int
    replicas: int
    in_sync: int
    led: bool


@dataclass(frozen=True, slots=True)
class Created:
    """What became of a topic that was asked for: made now, or there already."""

    facts: TopicFacts
    new: bool


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a look at the cluster shows: its brokers, all topics, and the configuration of those that were named."""

    brokers: int
    topics: Mapping[str, TopicFacts]
    config: Mapping[str, Mapping[str, str]]


def own_topics(settings: Settings) -> tuple[str, str, str]:
    """The project's own topics: awards, dead letters, control."""
    return settings.award_topic, settings.dead_letter_topic, settings.control_topic


def needed_topics(settings: Settings) -> tuple[str, ...]:
    """Every topic a worker reads or writes by name; those of a pattern are not known by name."""
    return tuple(dict.fromkeys((*settings.event_topics.names, *own_topics(settings))))


def subscription_pattern(settings: Settings, topics: Topics) -> str:
    """The regular expression for a subscription by pattern: never the own topics, but those that are also named."""
    hidden = "|".join(re.escape(name) for name in own_topics(settings) if name not in topics.names)
    named = "".join(f"|{re.escape(name)}$" for name in topics.names)
    unless = f"(?!(?:{hidden})$)" if hidden else ""
    return f"^{unless}(?:{(topics.pattern or '').removeprefix('^')}{named})"


async def look(settings: Settings, names: Collection[str], *, seconds: float = START_SECONDS) -> Cluster:
    """The cluster as this user sees it, with `cleanup.policy` and `min.insync.replicas` of the topics named."""
    async with admin_client(settings, seconds=seconds) as admin:
        cluster = await admin.describe_cluster()
        topics = await topics_there(admin)
        present = [name for name in names if name in topics]
        config = {} if await _is_mock(admin) else await _config(admin, present)
        return Cluster(len(cluster["brokers"]), topics, config)


async def check_topics(
    settings: Settings, names: Collection[str], *, seconds: float = START_SECONDS
) -> dict[str, TopicFacts]:
    """The topics named, as they are; OperatorError naming the missing. The mock cluster makes them at once."""
    async with admin_client(settings, seconds=seconds) as admin:
        found = await topics_there(admin)
        missing = [name for name in names if name not in found]
        if missing and await _is_mock(admin):
            found |= await _bring_up(admin, missing)
            missing = []
    if missing:
        quoted = ", ".join(f'"{name}"' for name in missing)
        raise OperatorError(
            f"Kafka at {settings.kafka_bootstrap_servers} has no topic {quoted}.",
            help=_REMEDY if len(missing) > 1 else _REMEDY.replace("them", "it"),
        )
    return {name: found[name] for name in names}


async def create_topics(
    settings: Settings, *, partitions: int = PARTITIONS, seconds: float = START_SECONDS
) -> list[Created]:
    """Create the topics that are missing (decisions 32); those that are there stay as they are.

    Replication is 3 where there are so many brokers, then with min.insync.replicas 2; else one for each broker.
    """
    async with admin_client(settings, seconds=seconds) as admin:
        found = await topics_there(admin)
        wanted = needed_topics(settings)
        missing = [name for name in wanted if name not in found]
        if missing and await _is_mock(admin):
            found |= await _bring_up(admin, missing)
        elif missing:
            cluster = await admin.describe_cluster()
            replicas = min(3, len(cluster["brokers"]))
            await _create(admin, missing, partitions=partitions, replicas=replicas)
            found |= await _bring_up(admin, missing)
    return [Created(found[name], new=name in missing) for name in wanted]


def topic_config(replicas: int) -> dict[str, str]:
    """The configuration a topic is created with."""
    config = {"cleanup.policy": "delete"}
    if replicas >= 3:
        config["min.insync.replicas"] = "2"
    return config


async def _create(admin: AIOKafkaAdminClient, names: Sequence[str], *, partitions: int, replicas: int) -> None:
    config = topic_config(replicas)
    answer = await admin.create_topics([NewTopic(name, partitions, replicas, topic_configs=config) for name in names])
    for name, code, message in _errors(answer):
        if code not in (0, _EXISTS):
            raise OperatorError(
                f'Topic "{name}" could not be created: {message or f"Kafka answered with error {code}"}',
                help="ask whoever runs the cluster to create it, or to let this user do so",
            )


def _errors(answer: Any) -> Iterable[tuple[str, int, str | None]]:
    return [(row[0], row[1], row[2] if len(row) > 2 else None) for row in answer.topic_errors]


async def _config(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    wanted = dict.fromkeys(("cleanup.policy", "min.insync.replicas"))
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, configs=wanted) for name in names]
    found: dict[str, dict[str, str]] = {}
    if resources:
        for answer in await admin.describe_configs(resources):
            for code, _, _, name, entries in answer.resources:
                if code == 0:
                    found[name] = {entry[0]: entry[1] for entry in entries}
    return found


async def topics_there(admin: AIOKafkaAdminClient) -> dict[str, TopicFacts]:
    """All topics that this user sees."""
    # All are listed, since asking for one by name creates it on a broker with auto.create.topics.enable.
    return _read(await admin.describe_topics())


async def _bring_up(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, TopicFacts]:
    """Wait until every partition of these topics has a leader."""
    while True:
        found = _read(await admin.describe_topics(list(names)))
        if len(found) == len(names) and all(facts.led for facts in found.values()):
            return found
        await asyncio.sleep(0.1)


def _read(rows: Sequence[Mapping[str, Any]]) -> dict[str, TopicFacts]:
    """The topics that are there; `led`: every partition has a leader now."""
    found = {}
    for row in rows:
        parts = row["partitions"]
        if row["error_code"] in (0, _NO_LEADER) and parts:
            found[row["topic"]] = TopicFacts(
                name=row["topic"],
                partitions=len(parts),
                replicas=min(len(part["replicas"]) for part in parts),
                in_sync=min(len(part["isr"]) for part in parts),
                led=all(part["leader"] >= 0 for part in parts),
            )
    return found


async def _is_mock(admin: AIOKafkaAdminClient) -> bool:
    """Whether this is librdkafka's mock cluster, which cannot create topics but makes any that is asked for."""
    cluster = await admin.describe_cluster()
    return str(cluster["cluster_id"]).startswith("mockCluster")
