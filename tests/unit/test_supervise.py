"""Several processes as one: when a child is started again, what parent and child say, how figures are added up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from glob import glob
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, values

from tests.rig.waiting import alive, until
from worker.cli.worker import worker as worker_command
from worker.errors import AuthorError, Fault, OperatorError
from worker.metrics import LABEL_VALUES, OTHER, Metrics
from worker.supervise import Supervisor, channel, parent, policy
from worker.supervise.channel import Report, Tether, decode, encode
from worker.supervise.figures import SharedFiles, forget_gauges, share_files
from worker.supervise.policy import Ended, Looks, Restarts, Watch, unready

CRASH = Ended(refused=False)
REFUSED = Ended(refused=True)

# ---------------------------------------------------------------- decisions


def test_pauses_grow_and_are_bounded() -> None:
    """Each end in a row doubles the pause before the next start, up to half a minute."""
    restarts = Restarts()
    pauses = [restarts.pause_after(CRASH, worked=False) for _ in range(50)]
    assert pauses[:8] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert pauses[-1] == 30.0


@pytest.mark.parametrize(("ready_seconds", "pause"), [(None, 4.0), (59.9, 4.0), (60.0, 0.5)])
def test_a_child_that_ran_well_begins_anew(ready_seconds: float | None, pause: float) -> None:
    """A minute of being ready makes the next end the first of a new row; less does not."""
    restarts = Restarts()
    for _ in range(3):
        restarts.pause_after(CRASH, worked=True)
    assert restarts.pause_after(Ended(refused=False, ready_seconds=ready_seconds), worked=True) == pause


def test_a_refusal_at_the_start_is_final() -> None:
    """Before any child was ready, what a person must mend is not tried again."""
    assert Restarts().pause_after(REFUSED, worked=False) is None


def test_the_brake_is_final() -> None:
    """A child that was ready and then says that a person must act is not started again."""
    assert Restarts().pause_after(Ended(refused=True, ready_seconds=0.0), worked=True) is None


def test_later_refusals_are_tried_a_while() -> None:
    """Once the worker has worked a start may be refused ten times in a row (a database away); then it is final."""
    restarts = Restarts()
    pauses = [restarts.pause_after(REFUSED, worked=True) for _ in range(10)]
    assert None not in pauses[:9]
    assert pauses[9] is None
    again = Restarts()
    for _ in range(9):
        again.pause_after(REFUSED, worked=True)
    again.pause_after(CRASH, worked=True)
    assert again.pause_after(REFUSED, worked=True) is not None


def test_silence_is_a_hang() -> None:
    """30 s of silence is a hang; before the first word, which needs imports, 120 s."""
    watch = Watch()
    assert watch.hangs(1e9) is None
    watch.begun(100.0)
    assert (watch.hangs(220.0), watch.hangs(220.5)) == (None, 120.5)
    watch.heard(200.0, "starting")
    assert (watch.hangs(230.0), watch.hangs(230.5)) == (None, 30.5)
    watch.ended(231.0, refused=False)
    assert watch.hangs(1e9) is None


def test_a_parent_that_was_away_forgives() -> None:
    """After a gap in which the parent itself stood still nobody counts as silent; a child that stays silent does."""
    watch = Watch()
    watch.begun(0.0)
    watch.heard(0.0, None)
    looks = Looks([watch])
    assert looks.hanging(0.0) == []
    assert looks.hanging(500.0) == []
    now = 500.0
    while not looks.hanging(now):
        now += 1.0
    assert now == 531.0


def test_ready_when_all_are() -> None:
    """The first child that is not ready says why; an end takes readiness away, and a start does not give it back."""
    watches = [Watch(), Watch()]
    for watch in watches:
        watch.begun(0.0)
        watch.heard(1.0, None)
    assert unready(watches) is None
    ended = watches[1].ended(5.0, refused=False)
    assert ended == Ended(refused=False, ready_seconds=4.0)
    assert unready(watches) == "process 2 of 2: ended, to be started again"
    assert watches[1].ended(5.5, refused=False).ready_seconds is None, "a start that failed was never ready"
    watches[1].begun(6.0)
    assert unready(watches) == "process 2 of 2: starting"
    assert watches[1].ended(7.0, refused=False).ready_seconds is None


# ---------------------------------------------------------------- what they say


def test_lines_there_and_back() -> None:
    """Reports and refusals come out of their line as they went in."""
    assert decode(encode(Report(None))) == Report(None)
    assert decode(encode(Report("starting"))) == Report("starting")
    refusal = decode(encode(OperatorError("No catalog.", help="apply one")))
    assert isinstance(refusal, OperatorError)
    assert (refusal.message, refusal.help) == ("No catalog.", "apply one")
    fault = Fault("bad_levels", "/ladders/0", "Levels must rise.", help="sort them", file="a.yaml", line=3, column=5)
    faulty = decode(encode(AuthorError([fault])))
    assert isinstance(faulty, AuthorError)
    assert faulty.faults == (fault,)


def test_lines_are_bounded() -> None:
    """However many faults and however long their words, a line fits into what the parent reads."""
    fault = Fault("bad", "/" + "p" * 100_000, "m" * 100_000, help="\x00" * 100_000)
    line = encode(AuthorError([fault] * 10_000))
    assert len(line) < channel.MOST_BYTES
    assert len(encode(OperatorError("x" * 10_000_000))) < channel.MOST_BYTES


@pytest.mark.parametrize("line", [b"", b"nothing", b"[]", b'{"unready": 7}', b'{"message": "m"}', b"\xff\n"])
def test_nonsense_is_refused(line: bytes) -> None:
    """What no child says is a ValueError."""
    with pytest.raises(ValueError):
        decode(line)


async def test_a_child_never_waits_and_notices_the_parents_end() -> None:
    """Reports to a parent that does not read are dropped whole, and the parent's end is noticed."""
    ours, theirs = socket.socketpair()
    tether = Tether(f"3:{os.dup(theirs.fileno())}")
    theirs.close()
    for _ in range(20_000):
        tether.report("x" * 1000)
    lines = b""
    while chunk := _receive(ours):
        lines += chunk
    assert len(lines) > 1000
    assert {decode(line) for line in lines.splitlines()[:-1]} == {Report("x" * 1000)}
    tether.report(None)
    lost: list[bool] = []
    tether.watch(lambda: lost.append(True))
    assert not lost
    ours.close()
    await until(lambda: lost == [True], "noticing")
    assert tether.lost
    tether.close()


async def test_an_orphan_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that lost its parent and does not end by itself is ended."""
    ended: list[int] = []
    monkeypatch.setattr(channel, "ORPHAN_SECONDS", 0.01)
    monkeypatch.setattr(channel.os, "_exit", ended.append)
    ours, theirs = socket.socketpair()
    tether = Tether(f"1:{theirs.detach()}")
    tether.watch(lambda: None)
    ours.close()
    await until(lambda: ended == [1], "the end")
    tether.close()


def test_a_line_that_was_cut_is_finished_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system takes half a line, its rest goes out before the next one."""
    ours, theirs = socket.socketpair()
    tether = Tether(f"1:{theirs.detach()}")
    took: list[bytes] = []

    class Half:
        def send(self, data: bytes, _: int) -> int:
            took.append(data[:7])
            return 7

        def close(self) -> None:
            ours.close()

    tether._socket.close()
    monkeypatch.setattr(tether, "_socket", Half())
    for _ in range(7):
        tether.report(None)
    assert b"".join(took)[:36] == 2 * encode(Report(None))
    tether.close()


def _receive(one: socket.socket) -> bytes:
    with suppress(BlockingIOError):
        return one.recv(65536, socket.MSG_DONTWAIT)
    return b""


@pytest.mark.parametrize("place", ["", "7", "a:b", "-1:3", "1:"])
def test_only_a_parent_makes_children(place: str) -> None:
    """A place that no parent wrote is refused in words."""
    with pytest.raises(OperatorError, match="no place of a child"):
        Tether(place)


@pytest.mark.parametrize("number", ["0", "65", "-1", "many"])
def test_numbers_of_processes(number: str) -> None:
    """Fewer than 1 and more than 64 processes are wrong usage."""
    ran = CliRunner().invoke(worker_command, ["--processes", number])
    assert ran.exit_code == 2
    assert "--processes" in ran.output


# ---------------------------------------------------------------- figures


@pytest.fixture
def metrics_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], Metrics]:
    """Makes the metrics of a child, by its number, in files under tmp_path."""
    monkeypatch.setenv(channel.METRICS_FOLDER, str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)

    def made(number: int) -> Metrics:
        share_files(number)
        return Metrics(shared=True)

    return made


def gathered(folder: Path) -> CollectorRegistry:
    """A registry that adds up what is in the folder."""
    registry = CollectorRegistry()
    registry.register(SharedFiles(str(folder)))
    return registry


def test_counters_and_histograms_are_sums(metrics_of: Callable[[int], Metrics], tmp_path: Path) -> None:
    """Counters and histograms of two children are added up; a successor goes on where the dead one was."""
    registry = gathered(tmp_path)
    for number in (1, 2, 2):
        metrics = metrics_of(number)
        metrics.awards.labels("nice", "live").inc(number)
        metrics.batch_seconds.observe(0.003)
        forget_gauges(number, str(tmp_path))
    assert registry.get_sample_value("badges_awards_total", {"badge": "nice", "origin": "live"}) == 5
    assert registry.get_sample_value("badges_batch_seconds_count") == 3
    assert registry.get_sample_value("badges_batch_seconds_bucket", {"le": "0.005"}) == 3
    assert registry.get_sample_value("badges_batch_seconds_bucket", {"le": "0.0025"}) == 0
    assert len(list(tmp_path.glob("counter_*.db"))) == 2


def test_gauges_follow_their_modes(metrics_of: Callable[[int], Metrics], tmp_path: Path) -> None:
    """Connections and halted partitions are sums, the catalog's version is the lowest, the outbox the newest answer."""
    registry = gathered(tmp_path)
    for number, version in ((1, 7), (2, 6)):
        metrics = metrics_of(number)
        metrics.db_pool_in_use.set(3)
        metrics.partitions_halted.set(1)
        metrics.catalog_version.set(version)
        metrics.outbox_pending.set(10 * number)
    assert registry.get_sample_value("badges_db_pool_in_use") == 6
    assert registry.get_sample_value("badges_partitions_halted") == 2
    assert registry.get_sample_value("badges_catalog_version") == 6
    assert registry.get_sample_value("badges_outbox_pending") == 20
    forget_gauges(2, str(tmp_path))
    assert registry.get_sample_value("badges_db_pool_in_use") == 3
    assert registry.get_sample_value("badges_catalog_version") == 7
    assert registry.get_sample_value("badges_outbox_pending") == 10


def test_lag_of_a_partition_that_moved(metrics_of: Callable[[int], Metrics], tmp_path: Path) -> None:
    """A partition's lag is its newest owner's; where it left for another machine there is none."""
    registry = gathered(tmp_path)
    one, other = metrics_of(1), metrics_of(2)
    place = {"topic": "t", "partition": "0"}
    one.consumer_lag.labels("t", "0").set(5)
    one.forget(one.consumer_lag, "t", "0")
    assert registry.get_sample_value("badges_consumer_lag", place) is None
    other.consumer_lag.labels("t", "0").set(9)
    assert registry.get_sample_value("badges_consumer_lag", place) == 9


def test_labels_stay_bounded_over_children(metrics_of: Callable[[int], Metrics], tmp_path: Path) -> None:
    """Children that bound their own labels to different values make no more than 1,000 and `other` together."""
    registry = gathered(tmp_path)
    for number in (1, 2):
        metrics = metrics_of(number)
        for badge in range(LABEL_VALUES):
            metrics.awards.labels(metrics.badge(f"badge_{number}_{badge}"), "live").inc()
    for _ in range(2):
        (family,) = [family for family in registry.collect() if family.name == "badges_awards"]
        seen = {sample.labels["badge"]: sample.value for sample in family.samples}
        assert len(seen) == LABEL_VALUES + 1
        assert seen[OTHER] == LABEL_VALUES
        assert sum(seen.values()) == 2 * LABEL_VALUES


# ---------------------------------------------------------------- the parent, with children of a few lines

CHILD = """
import os, signal, socket, sys, time
number, handle, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
one = socket.socket(fileno=handle)
say = lambda text: one.sendall(text.encode() + b"\\n")
open(f"{folder}/starts", "a").write(f"{number}\\n")
def leave(*_):
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
"""
WORK = """
say('{"unready": "starting"}')
say('{"unready": null}')
while True:
    time.sleep(0.2)
    say('{"unready": null}')
"""


def supervised(folder: Path, program: str, *, processes: int = 2) -> Supervisor:
    """A parent whose children run `program` after the prelude."""

    def command(number: int, handle: int) -> list[str]:
        return [sys.executable, "-S", "-c", CHILD + program, str(number), str(handle), str(folder)]

    return Supervisor(command, processes=processes, host="127.0.0.1", port=0)


def lines(folder: Path, name: str) -> list[str]:
    """What children wrote into a file."""
    file = folder / name
    return file.read_text().split() if file.exists() else []


def starts(folder: Path) -> list[str]:
    """The numbers of the children in the order of their starts."""
    return lines(folder, "starts")


async def test_a_killed_child_is_replaced(tmp_path: Path) -> None:
    """A child that dies makes the whole unready until its successor is ready; a stop ends all and is clean."""
    supervisor = supervised(tmp_path, WORK)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: supervisor._ready() is None, "being ready")
    process = supervisor.children[1].process
    assert process is not None
    gauges = f"{supervisor._folder}/gauge_livesum_2.db"
    await asyncio.to_thread(Path(gauges).write_bytes, bytes(8))
    process.kill()
    await until(lambda: supervisor._ready() is not None, "being unready")
    assert supervisor._live() is None
    await until(lambda: supervisor._ready() is None, "being ready again")
    assert starts(tmp_path) == ["1", "2", "2"]
    assert gauges not in glob(f"{supervisor._folder}/*")
    text = await asyncio.to_thread(fetch, f"http://127.0.0.1:{supervisor.port}/metrics")
    assert "badges_process_restarts_total 1.0" in text
    await until(lambda: supervisor.metrics.ready._value.get() == 2, "the count of those that are ready")
    supervisor.stop()
    assert await running is True
    assert [child.process.returncode for child in supervisor.children if child.process] == [0, 0]


def fetch(address: str) -> str:
    """What is served there."""
    with urllib.request.urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())


async def test_the_first_child_goes_ahead(tmp_path: Path) -> None:
    """No other child is started before the first one is past its start, where the catalog is applied."""
    supervisor = supervised(
        tmp_path, "import pathlib\nwhile not pathlib.Path(folder, 'go').exists():\n    time.sleep(0.02)\n" + WORK
    )
    running = asyncio.create_task(supervisor.run())
    await until(lambda: starts(tmp_path), "the first start")
    assert supervisor._ready() == "process 1 of 2: starting"
    assert supervisor.children[1].process is None
    (tmp_path / "go").touch()
    await until(lambda: supervisor._ready() is None, "being ready")
    supervisor.stop()
    assert await running is True


async def test_a_refusal_is_raised_once(tmp_path: Path) -> None:
    """What a child says a person must mend is raised by the parent, after one start."""
    supervisor = supervised(tmp_path, """say('{"message": "No catalog.", "help": "apply one"}'); sys.exit(1)""")
    with pytest.raises(OperatorError, match=r"No catalog\.") as caught:
        await supervisor.run()
    assert caught.value.help == "apply one"
    assert starts(tmp_path) == ["1"]


async def test_the_refusal_of_one_that_was_ready_ends_all(tmp_path: Path) -> None:
    """A child that was ready and refuses to go on ends the others too."""
    refuse = """
say('{"unready": null}')
if number == 2:
    say('{"message": "Enough.", "help": null}'); sys.exit(1)
"""
    supervisor = supervised(tmp_path, refuse + WORK, processes=3)
    with pytest.raises(OperatorError, match=r"Enough\."):
        await supervisor.run()
    assert all(child.process is None or child.process.returncode is not None for child in supervisor.children)


async def test_a_child_that_hangs_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that falls silent is killed and started again."""
    monkeypatch.setattr(policy, "HANG_SECONDS", 1.0)
    hang = """
if number == 2 and open(f"{folder}/starts").read().count("2") == 1:
    say('{"unready": null}')
    time.sleep(1000)
"""
    supervisor = supervised(tmp_path, hang + WORK)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: starts(tmp_path) == ["1", "2", "2"], "the second start")
    await until(lambda: supervisor._ready() is None, "being ready")
    supervisor.stop()
    assert await running is True


async def test_a_child_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ignores the stop is killed after its time, and the end does not count as clean."""
    monkeypatch.setattr(parent, "STOP_SECONDS", 0.5)
    supervisor = supervised(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WORK)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: supervisor._ready() is None, "being ready")
    supervisor.stop()
    assert await running is False
    assert [child.process.returncode for child in supervisor.children if child.process] == [-signal.SIGKILL] * 2


TWICE = """
import asyncio, sys
from worker.cli.processes import on_signals
from worker.supervise import Supervisor

async def serve():
    def command(number, handle):
        return [sys.executable, "-S", "-c", sys.argv[1], str(number), str(handle), sys.argv[2]]
    parent = Supervisor(command, processes=2, host="127.0.0.1", port=0)
    on_signals(parent.stop, parent.kill)
    await parent.run()

asyncio.run(serve())
"""
STUBBORN = """
def note(*_):
    open(f"{folder}/asked", "a").write(f"{os.getpid()}\\n")
signal.signal(signal.SIGTERM, note)
say('{"unready": null}')
open(f"{folder}/up", "a").write(f"{number}\\n")
for _ in range(300):
    time.sleep(0.2)
"""


async def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """A parent that is told twice kills its children and ends with 1, however little they want to stop."""
    program = CHILD + STUBBORN
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TWICE, program, str(tmp_path), stdout=nowhere, stderr=nowhere
    )
    await until(lambda: lines(tmp_path, "up") == ["1", "2"], "both being up")
    process.terminate()
    await until(lambda: len(lines(tmp_path, "asked")) == 2, "both being asked")
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 10) == 1
    await until(lambda: not any(alive(int(pid)) for pid in lines(tmp_path, "asked")), "the children's end")


async def test_a_child_that_fails_to_stop_well_is_told(tmp_path: Path) -> None:
    """A child that ends with a fault after it was asked to stop makes the end unclean."""
    supervisor = supervised(tmp_path, "signal.signal(signal.SIGTERM, lambda *_: os._exit(3))\n" + WORK)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: supervisor._ready() is None, "being ready")
    supervisor.stop()
    assert await running is False


async def test_a_child_that_crashes_is_started_again(tmp_path: Path) -> None:
    """A crash before being ready is no refusal: the child is started again, after growing pauses."""
    crash = """
if open(f"{folder}/starts").read().count("1") < 3:
    sys.stderr.close(); raise SystemExit(1)
"""
    supervisor = supervised(tmp_path, crash + WORK, processes=1)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: supervisor._ready() is None, "being ready")
    assert starts(tmp_path) == ["1", "1", "1"]
    assert supervisor.children[0].restarts.ends == 2
    supervisor.stop()
    assert await running is True


async def test_a_start_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system cannot start a process now, the parent goes on and tries again."""
    supervisor = supervised(tmp_path, WORK, processes=1)
    right = supervisor.command
    monkeypatch.setattr(supervisor, "command", lambda number, handle: [str(tmp_path / "nothing")])
    running = asyncio.create_task(supervisor.run())
    await until(lambda: supervisor.children[0].restarts.ends, "the first failure")
    monkeypatch.setattr(supervisor, "command", right)
    await until(lambda: supervisor._ready() is None, "being ready")
    supervisor.stop()
    assert await running is True


async def test_nonsense_ends_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that says nonsense is ended and started again, and the parent goes on."""
    nonsense = """
if open(f"{folder}/starts").read().count("1") < 2:
    say("nonsense"); time.sleep(1000)
"""
    monkeypatch.setattr(parent, "END_SECONDS", 0.1)
    supervisor = supervised(tmp_path, nonsense + WORK, processes=1)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: supervisor._ready() is None, "being ready")
    supervisor.stop()
    assert await running is True
