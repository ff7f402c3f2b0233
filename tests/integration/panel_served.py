"""A worker and the admin process on real services, in a thread of their own, for a test that drives a browser."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from tests.rig.kafka import KafkaService
from tests.rig.waiting import until
from worker.app import Worker
from worker.app.admin import Admin
from worker.config import Settings, load_settings
from worker.store.pool import open_connection
from worker.stream.connection import stop_quietly

CATALOG = """
version: 1
events:
  answer.scored:
    description: The score of an answer changed.
    noun: {one: answer, other: answers}
    schema: {type: object, required: [post_id, score], properties: {post_id: {type: integer}, score: {type: integer}}}
  comment.posted: {description: A comment was posted., noun: {one: comment, other: comments}}
  edit.approved: {description: An edit was approved., noun: {one: edit, other: edits}}
metrics:
  comments: {count: comment.posted}
badges:
  - key: nice_answer
    label: Nice answer
    description: An answer with a score of 10 or more
    icon: star
    color: "#c9a227"
    flow: {event: answer.scored, criteria: {score: {$gte: 10}}}
    per: post_id
    animation: {kind: confetti}
    translations: {de: {label: Gute Antwort}}
  - key: editor
    label: Editor
    description: An approved edit
    animation: {kind: webm, url: "https://films.example/editor.webm"}
    flow: {event: edit.approved}
    breaker: {limit: 1}
ladders:
  - {key: commentator, metric: comments, levels: [2, 5], label: Commentator, description: "{level} comments"}
"""


class Served:
    """What runs in the thread, and what a test asks of it from outside."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self.settings = settings
        self.topic = topic
        self.address = ""
        self._loop = asyncio.new_event_loop()
        self._started: Future[str] = Future()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)

    def start(self) -> None:
        """Return once worker and panel answer."""
        self._thread.start()
        self.address = self._started.result(timeout=60)

    def stop(self) -> None:
        """End both."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(timeout=60)
        self._loop.close()

    def produce(self, *events: dict[str, Any]) -> None:
        """Put events on the topic and wait until the broker has them."""
        self._do(self._produce(events))

    def rows(self, query: str) -> list[Any]:
        """Rows of a query in the schema `badges`."""
        found: list[Any] = self._do(self.ask(query))
        return found

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    async def _run(self) -> None:
        worker, admin = Worker(self.settings), Admin(self.settings)
        working = asyncio.create_task(worker.run())
        try:
            await until(lambda: working.done() or (worker.member and worker.member.offsets()), "owning a partition")
            serving = asyncio.create_task(admin.run())
            await until(lambda: serving.done() or admin.serving, "serving")
            if serving.done():
                serving.result()
            self._started.set_result(f"http://127.0.0.1:{admin.port}/panel")
            await self._ended.wait()
            admin.stop()
            await serving
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            raise
        finally:
            worker.stop()
            await working

    async def _produce(self, events: tuple[dict[str, Any], ...]) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka_bootstrap_servers, acks="all")
        await producer.start()
        try:
            for event in events:
                key = event["user_id"].encode()
                await producer.send_and_wait(self.topic, json.dumps(event).encode(), key=key, partition=0)
        finally:
            await stop_quietly(producer)

    async def ask(self, query: str) -> list[Any]:
        """The same for who has a loop."""
        connection = await open_connection(self.settings.dsn, {"search_path": "badges"}, command_seconds=10)
        try:
            found: list[Any] = await connection.fetch(query)
        finally:
            await connection.close()
        return found


@contextmanager
def served(
    kafka: KafkaService, dsn: str, folder: Path, names: dict[str, str], *, before: Sequence[str] = ()
) -> Iterator[Served]:
    """Worker and panel on a database and topics of their own; what they find there is made `before` they start."""
    (folder / "catalog.yaml").write_text(CATALOG)
    for name in names.values():
        asyncio.run(kafka.create_topic(name, 1))
    settings = load_settings(
        database_url=dsn,
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        event_topics=names["events"],
        award_topic=names["awards"],
        dead_letter_topic=names["dead"],
        control_topic=names["control"],
        group_id=names["events"],
        session_timeout_ms=6000,
        catalog=folder / "catalog.yaml",
        metrics_port=0,
        admin_port=0,
        admin_metrics_port=0,
        allow_insecure="fsync",
    )
    running = Served(settings, names["events"])
    for statement in before:
        asyncio.run(running.ask(statement))
    running.start()
    try:
        yield running
    finally:
        running.stop()
