"""The few places where aiokafka's private state is read, since it has no public way; aiokafka is pinned to 0.14."""
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ProducerClosed


def generation(client: AIOKafkaConsumer) -> int:
    """The group's generation as this member knows it, -1 where it knows none."""
    return int(getattr(client._coordinator, "generation", -1))


def position(client: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
    """The next offset that will be read, None while it is not known. (`position` waits until it is.)"""
    state = _state(client, partition)
    return cast("int", state.position) if state is not None and state.has_valid_position else None


def highwater(client: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
    """The end as of the last fetch. (`highwater` fails by `assert` where the partition is not assigned.)"""
    state = _state(client, partition)
    return cast("int | None", state.highwater) if state is not None else None


def _state(client: AIOKafkaConsumer, partition: TopicPartition):  # type: ignore[no-untyped-def]
    subscription = client._subscription.subscription
    if subscription is None or subscription.assignment is None:
        return None
    return subscription.assignment.state_value(partition)


async def abandon(client: Any) -> None:
    """End what a client that did not stop by itself leaves behind: its tasks and its connections."""
    coordinator, sender = getattr(client, "_coordinator", None), getattr(client, "_sender", None)
    fetcher = getattr(client, "_fetcher", None)
    tasks = [
        getattr(coordinator, "_heartbeat_task", None),
        getattr(coordinator, "_commit_refresh_task", None),
        getattr(coordinator, "_coordination_task", None),
        getattr(fetcher, "_fetch_task", None),
        getattr(sender, "_sender_task", None),
        *getattr(fetcher, "_pending_tasks", ()),
    ]
    left = [task for task in tasks if task is not None and not task.done()]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=1.0)
    accumulator = getattr(client, "_message_accumulator", None)
    if accumulator is not None:
        queued = [batch for queue in accumulator._batches.values() for batch in queue]
        batches = [*accumulator._pending_batches, *queued]
        accumulator.fail_all(ProducerClosed())
        for batch in batches:
            batch._drain_waiter.exception()  # looked at, so that it is not reported as never retrieved
    inner = getattr(client, "_client", None) or getattr(client, "client", None)
    if inner is not None:
        with suppress(Exception):
            await asyncio.wait_for(inner.close(), 1.0)
