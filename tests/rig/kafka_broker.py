"""A real Apache Kafka 4.3.1 from Maven Central, as one process that can be stopped, killed and started again.

`KafkaBroker` keeps its ports and its data between starts, so a client that knew it before finds it again. Usable from
tests and from scripts alike:

    with KafkaBroker() as broker:
        use(broker.bootstrap_servers)
        broker.kill()       # kill -9
        broker.start()      # same ports, same data
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.rig.kafka_programs import BrokerFailed, formatted, java, shared_classes
from tests.rig.waiting import came

# Below the range the kernel gives to outgoing connections: else a client's socket may sit on the port while the
# broker is down, and the restart finds it taken.
PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A port of this machine that nothing listens on now, outside the range of outgoing connections."""
    for _ in range(200):
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise BrokerFailed("no free port between 20000 and 32000")


class KafkaBroker:
    """One broker and controller in one JVM, listening on 127.0.0.1 without TLS.

    `settings` are further lines of server.properties. The data lies in `folder`, a temporary one where none is given;
    that one is removed by `close`. Call from the main thread: the JVM dies with the thread that started it, so that a
    killed test session leaves no broker behind.
    """

    def __init__(
        self, folder: Path | None = None, *, settings: Mapping[str, str] | None = None, heap: str = "512M"
    ) -> None:
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="badges-kafka-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._controller_port = free_port()
        while self._controller_port == self.port:
            self._controller_port = free_port()
        self._settings = dict(settings or {})
        self._listeners = [("PLAINTEXT", "PLAINTEXT", self.port), ("CONTROLLER", "PLAINTEXT", self._controller_port)]
        self._heap = heap
        self._process: subprocess.Popen[bytes] | None = None

    def add_listener(self, name: str, protocol: str, port: int) -> None:
        """Listen on a further port; before the first start."""
        self._listeners.append((name, protocol, port))

    @property
    def bootstrap_servers(self) -> str:
        """What a client is given: `127.0.0.1:<port>`."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The JVM's process id, None while it is not running."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether the JVM runs (it may not answer yet)."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 60.0) -> None:
        """Start it, or start it again, on the same ports and data; returns once it answers with itself as broker."""
        self.spawn()
        self.wait_until_ready(timeout)

    def spawn(self) -> None:
        """Start the JVM and return at once."""
        if self.running:
            return
        if threading.current_thread() is not threading.main_thread():
            raise BrokerFailed("start the broker from the main thread: it dies with the thread that started it")
        self._spawn(*shared_classes(_record))

    def _spawn(self, *options: str) -> None:
        config = self.folder / "server.properties"
        if not config.exists():
            self._format(config)
        options = (f"-Xms{self._heap}", f"-Xmx{self._heap}", *options)
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_dies_with_us(), *java("kafka.Kafka", str(config), options=options)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return once a metadata request names a broker; callable from any thread."""
        in_time = came(lambda: not self.running or answers("127.0.0.1", self.port), seconds=timeout)
        if not self.running:
            raise BrokerFailed(f"Kafka ended while starting: {self.log_tail()}")
        if not in_time:
            raise BrokerFailed(f"Kafka did not answer within {timeout:.0f} s: {self.log_tail()}")

    def stop(self, timeout: float = 20.0) -> None:
        """Stop it cleanly (SIGTERM), by force if that takes too long."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """kill -9; returns once the process is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def restart(self, timeout: float = 60.0) -> None:
        """kill -9, then start again on the same ports and data."""
        self.kill()
        self.start(timeout)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it and remove the data if the folder is its own."""
        self.kill()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self, size: int = 1500) -> str:
        """The end of what the broker wrote."""
        log = self.folder / "broker.log"
        return log.read_text(errors="replace")[-size:] if log.exists() else "(no log)"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _format(self, config: Path) -> None:
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, _, port in self._listeners),
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol, _ in self._listeners),
            "log.dir": str(self.folder / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "2",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A broker that was killed is let in again only when its old registration has run out (9 s by default).
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "auto.create.topics.enable": "false",
            **self._settings,
        }
        shutil.copytree(formatted(), self.folder / "data")
        config.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))


def _record(option: str) -> None:
    """A broker that is started with this option of the JVM, and stopped once it answers."""
    with contextlib.closing(KafkaBroker()) as broker:
        broker._spawn(option)
        broker.wait_until_ready()
        broker.stop(timeout=60.0)


def _dies_with_us() -> list[str]:
    """The prefix that makes the kernel end the broker with its parent, where the machine has it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def answers(host: str, port: int, timeout: float = 2.0) -> bool:
    """Whether a Kafka broker at this address answers a metadata request with at least one broker in it."""
    request = struct.pack(">hhih", 3, 1, 1, -1) + struct.pack(">i", 0)  # Metadata v1, no client id, no topics
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(struct.pack(">i", len(request)) + request)
            head = _read(connection, 12)
    except OSError:
        return False
    _, _, brokers = struct.unpack(">iii", head)
    return brokers > 0


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise OSError("closed")
        data += chunk
    return data
