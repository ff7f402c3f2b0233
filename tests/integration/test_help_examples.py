"""Every example of every `--help`, run as it is printed against one small world on real services."""

from __future__ import annotations

import gzip
import inspect
import json
import os
import shlex
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import click
import pytest
from aiokafka import AIOKafkaProducer

from tests import readme
from tests.community import DEMO
from tests.integration import test_processes, test_readme
from tests.rig.kafka import KafkaService
from tests.rig.kafka_broker import free_port
from tests.rig.postgres import PostgresService, execute, in_thread
from tests.rig.required import missing
from tests.rig.waiting import serve_until_ready
from worker import cli
from worker.bench import sizes
from worker.demo import run as demo_run
from worker.events import parse_instant
from worker.stream.connection import stop_quietly

ROOT = Path(__file__).parents[2]
#: The partition and the offsets that the examples name: of a record that is no event, and up to where there are some.
PARTITION, BROKEN_AT, RECORDS = 3, 1_207, 1_300
#: What the examples name: of the services of whoever runs them, so that only here it is called otherwise.
EVENTS, READ_ROLE = "badges.events", "grafana"
#: Run as they are printed by tests that look closer.
ELSEWHERE = ("badges admin", "badges worker --processes 2")
#: What must have been done before an example can do what it says: another command, and rows.
BEFORE = {"badges tokens revoke shop": "badges tokens create --name shop --role producer"}
HELD = """
INSERT INTO badges.withheld_awards (user_id, badge_key, context, state, awarded_at, source, origin, catalog_version,
                                    trigger_id, trigger_type, metadata)
SELECT user_id, 'nice_answer', '7', 'held', now(), 'auto', 'live', 1, 'e', 'answer.scored', '{}'
FROM (VALUES ('u9299'), ('u2')) AS of_users (user_id)
ON CONFLICT DO NOTHING
"""
GIVEN = """
INSERT INTO badges.user_badges (user_id, badge_key, context, awarded_at, source, origin, award_id, sequence,
                                catalog_version, trigger_id, trigger_type, metadata)
VALUES ('u9299', 'early_bird', '', now(), 'manual', 'manual', gen_random_uuid(), 999, 1, 'g', 'grant.added', '{}')
ON CONFLICT DO NOTHING
"""
#: What only reads does so on a server that may lose what it commits, too, without being allowed to.
READS = (
    *(f"badges catalog {name}" for name in ("coverage", "diff", "lint", "show", "smoke", "versions")),
    *("badges backfill", "badges recompute", "badges dlq", "badges quarantine list", "badges tokens list"),
    *("badges users show", "badges db status"),
)
ROWS = {"badges quarantine": HELD, "badges grants revoke": GIVEN}
EXTRA = """
version: 1
events:
  beta.joined: {description: Somebody used the beta.}
badges:
  - {key: early_bird, label: Early bird, description: NOTE, flow: {event: beta.joined}}
"""
RULE = {"conditions": [{"field": "score", "operator": "gt", "expected_value": "90"}]}
#: The demonstration with a part of its events; the bench with as little in it as can be measured.
PLAYED = 1_000
LEAST = replace(
    sizes.QUICK,
    events=1_000,
    naive_events=0,
    latency_seconds=0,
    repeat_events=0,
    handover_events=0,
    catalog=(),
    history=(),
    users=(),
)


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and those below it, with the words that call each."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from commands(found, f"{name} {below}")


def examples(command: click.Command) -> list[str]:
    """The examples that a command's help prints."""
    context = click.Context(command, info_name="badges", max_content_width=1_000, terminal_width=1_000)
    _, heading, rest = command.get_help(context).partition("Example")
    lines = [line.strip() for line in rest.splitlines()[1:]] if heading else []
    return [line for line in lines if line.startswith("badges ")]


TREE = [(name, command) for name, command in commands(cli.badges, "badges") if name != "badges"]
#: Who is erased is missed by what comes after it.
EXAMPLES = sorted({line for _, command in TREE for line in examples(command)}, key=lambda line: ("erase" in line, line))


@pytest.mark.parametrize(("name", "command"), TREE, ids=[name for name, _ in TREE])
def test_every_command_has_an_example_of_its_own(name: str, command: click.Command) -> None:
    """The help of each command, and of each group, shows how it is called."""
    assert [line for line in examples(command) if line.startswith(f"{name} ") or line == name]


@dataclass(frozen=True)
class World:
    """Services with a catalog in its third version, users with a past, a dead letter; and the files that are named."""

    folder: Path
    environ: dict[str, str]
    names: dict[str, str]

    def line(self, example: str) -> list[str]:
        """The words of an example, with the names of this world."""
        for name, own in self.names.items():
            example = example.replace(name, own)
        return shlex.split(example)

    def sql(self, statement: str) -> None:
        """Run one statement."""
        in_thread(lambda: execute(self.environ["BADGES_DATABASE_URL"], statement))


@pytest.fixture(scope="module")
def world(kafka: KafkaService, postgres: PostgresService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world of all examples, made with the same commands."""
    if not kafka.real:
        missing("kafka", "the examples need a real one")
    folder, mark = tmp_path_factory.mktemp("examples"), uuid.uuid4().hex[:8]
    topics = {name: f"{name}.examples.{mark}" for name in ("events", "awards", "dead", "control")}
    with postgres.database() as dsn, pytest.MonkeyPatch.context() as patch:
        environ = {
            "BADGES_DATABASE_URL": dsn,
            "BADGES_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "BADGES_EVENT_TOPICS": topics["events"],
            "BADGES_AWARD_TOPIC": topics["awards"],
            "BADGES_DEAD_LETTER_TOPIC": topics["dead"],
            "BADGES_CONTROL_TOPIC": topics["control"],
            "BADGES_GROUP_ID": topics["events"],
            "BADGES_ALLOW_INSECURE": "fsync,plaintext",
        }
        made = World(folder, environ, {EVENTS: topics["events"], READ_ROLE: f"reads_{mark}"})
        surroundings(made, patch)
        assert cli.main(["topics", "create", "--partitions", "4"]) == 0
        in_thread(lambda: fill(made, history()))
        for version in ("one", "two", "three"):
            files(folder, version)
            assert cli.main(["catalog", "apply", "catalog/"]) == 0
        assert cli.main(["replay", "--from-offset", "0"]) == 0
        files(folder, "the next")
        yield made
    postgres.execute(f"DROP ROLE IF EXISTS reads_{mark}")


def files(folder: Path, version: str) -> None:
    """What the examples name in the folder where they are run."""
    catalog = folder / "catalog"
    catalog.mkdir(exist_ok=True)
    text = (DEMO / "catalog.yaml").read_text().replace("levels: [10, 50, 100]", "levels: [10, 25, 50, 100]")
    (catalog / "community.yaml").write_text(text)
    (catalog / "extra.yaml").write_text(EXTRA.replace("NOTE", version))
    (folder / "rule.json").write_text(json.dumps(RULE))
    shutil.copy(DEMO / "events.jsonl.gz", folder)


def history() -> list[bytes]:
    """The first events of the community, all of u9299's, and a record that is none."""
    with gzip.open(DEMO / "events.jsonl.gz", "rb") as lines:
        events = [line.strip() for line in lines if line.strip()]
    first = events[:RECORDS]
    chosen = first + [line for line in events[len(first) :] if b'"u9299"' in line]
    chosen.insert(BROKEN_AT, b"{")
    return chosen


async def fill(world: World, records: list[bytes]) -> None:
    """Put records on the partition that the examples name."""
    producer = AIOKafkaProducer(
        bootstrap_servers=world.environ["BADGES_KAFKA_BOOTSTRAP_SERVERS"], linger_ms=20, acks="all"
    )
    await producer.start()
    try:
        for record in records:
            await producer.send(world.names[EVENTS], record, partition=PARTITION)
        await producer.flush()
    finally:
        await stop_quietly(producer)


def surroundings(world: World, patch: pytest.MonkeyPatch) -> None:
    """Be where the examples are run: its folder, its settings and no other, a terminal at which one says yes."""
    for name in [name for name in os.environ if name.startswith("BADGES_")]:
        patch.delenv(name)
    for name, value in world.environ.items():
        patch.setenv(name, value)
    patch.chdir(world.folder)
    answers = StringIO("y\n")
    patch.setattr(answers, "isatty", lambda: True)
    patch.setattr(sys, "stdin", answers)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("example", [line for line in EXAMPLES if line not in ELSEWHERE])
def test_example(
    example: str, world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The example ends with status 0; what serves becomes ready, and ends so when it is told to."""
    surroundings(world, monkeypatch)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for start, statement in ROWS.items():
        if example.startswith(start):
            world.sql(statement)
    if (earlier := BEFORE.get(example)) is not None:
        cli.main(world.line(earlier)[1:])
    words = world.line(example)
    if words[1] == "worker":
        serve(words, world)
        return
    if example.startswith(READS):
        monkeypatch.setenv("BADGES_ALLOW_INSECURE", "plaintext")
    if words[1] == "topics":
        monkeypatch.setenv("BADGES_EVENT_TOPICS", f"events.examples.{uuid.uuid4().hex[:8]}")
    monkeypatch.setattr(sizes, "QUICK", LEAST)
    if words[1] == "demo":
        shorten_the_demo(monkeypatch)
    capfd.readouterr()
    assert run(words) == 0, capfd.readouterr()


def test_what_is_run_elsewhere_is() -> None:
    """The tests that are said to run an example do."""
    assert set(ELSEWHERE) <= set(EXAMPLES)
    assert "badges admin" in readme.commands()
    assert callable(test_readme.test_commands_for_services)
    started = inspect.getsource(test_processes.Parent.start)
    assert '"worker", "--processes", "2"]' in started
    assert callable(test_processes.test_two_processes_are_one_worker)


def shorten_the_demo(patch: pytest.MonkeyPatch) -> None:
    """Let it play the first events, as fast as it can, and expect what these earn."""
    events = demo_run.events()
    upto = parse_instant(json.loads(events[PLAYED - 1][2])["occurred_at"])
    assert upto < parse_instant(json.loads(events[PLAYED][2])["occurred_at"])
    expected = {award for award in demo_run.expected_awards() if parse_instant(award[3]) <= upto}
    assert expected
    patch.setattr(demo_run, "events", lambda: events[:PLAYED])
    patch.setattr(demo_run, "expected_awards", lambda: expected)
    patch.setattr(demo_run, "EVENTS_PER_SECOND", 1_000_000)


def run(words: list[str]) -> int:
    """The status of a command; `> FILE` at its end is done as a shell does it."""
    if ">" not in words:
        return cli.main(words[1:])
    at = words.index(">")
    with Path(words[at + 1]).open("w") as file, redirect_stdout(file):
        return cli.main(words[1:at])


def serve(words: list[str], world: World) -> None:
    """Start a worker, wait until it says that it is ready, stop it as an orchestrator would."""
    port = str(free_port())
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BADGES_")}
    environ |= {**world.environ, "BADGES_METRICS_PORT": port, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "worker", *words[1:]]
    serve_until_ready(command, world.folder, environ, f"http://127.0.0.1:{port}/readyz")
