"""What it takes to run Apache Kafka 4.3.1 here: its jars, a formatted folder, the classes of a start; each made once.

All of it is kept under `cache_folder()` from one run to the next; processes that want the same wait for the one that
makes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "4.3.1"

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>badgestream</groupId><artifactId>kafka-rig</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-server</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
#: A JVM that starts soon and stays small.
_LIGHT = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class BrokerFailed(Exception):
    """The broker or its jars could not be had; the message says why."""


def available() -> bool:
    """Whether this machine has what a broker of its own takes: Java, and Maven or jars that are cached already."""
    return shutil.which("java") is not None and (shutil.which("mvn") is not None or _has_jars(cache_folder()))


def cache_folder() -> Path:
    """Where everything is kept from one run to the next."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "badgestream" / f"kafka-{VERSION}"


@contextmanager
def _alone(name: str) -> Iterator[Path]:
    """The cache's folder, for the one process that makes this part of it."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def jars() -> Path:
    """The folder with the broker's 46 jars (44 MB), resolved by Maven on first use."""
    if not _has_jars(cache_folder()):
        with _alone(".lock") as folder:
            if not _has_jars(folder):
                _resolve(folder)
    return cache_folder() / "lib"


def _has_jars(folder: Path) -> bool:
    return (folder / "lib" / f"kafka_2.13-{VERSION}.jar").exists()


def _resolve(folder: Path) -> None:
    (folder / "pom.xml").write_text(POM)
    fresh = folder / "lib.fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    command = ["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if ran.returncode or not (fresh / f"kafka_2.13-{VERSION}.jar").exists():
        raise BrokerFailed(f"Maven could not fetch Kafka {VERSION}: {(ran.stdout + ran.stderr)[-1500:]}")
    shutil.rmtree(folder / "lib", ignore_errors=True)
    fresh.rename(folder / "lib")


def java(program: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    """The command that runs a class of Kafka's."""
    return ["java", *_LIGHT, *options, "-cp", f"{jars()}/*", program, *arguments]


def formatted() -> Path:
    """A folder as Kafka's own tool formats it for a broker with one static voter, to be copied: no port stands in it.

    A copy saves the tool's JVM, 1.3 s of CPU for each broker.
    """
    done = cache_folder() / "formatted"
    if not done.exists():
        with _alone(".formatted.lock") as folder:
            if not done.exists():
                _format(folder, done)
    return done


def _format(folder: Path, done: Path) -> None:
    fresh, config = folder / "formatted.fresh", folder / "formatted.properties"
    shutil.rmtree(fresh, ignore_errors=True)
    lines = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": "1@127.0.0.1:9093",
        "listeners": "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
        "controller.listener.names": "CONTROLLER",
        "log.dir": str(fresh),
    }
    config.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    cluster = "YmFkZ2VzdHJlYW0tdGVzdA"  # 16 bytes, as the tool wants them
    command = java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config), options=("-Xmx128M",))
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if ran.returncode:
        raise BrokerFailed(f"Kafka could not format its folder: {(ran.stdout + ran.stderr)[-1500:]}")
    fresh.rename(done)


def shared_classes(record: Callable[[str], None]) -> tuple[str, ...]:
    """The option that gives a JVM the classes of a start ready-made, which is nearly half of a start's CPU.

    `record` runs a broker with the option it is given, which writes them at the broker's end. Empty where this Java
    cannot do that (before 13).
    """
    program = Path(shutil.which("java") or "java").resolve()
    stamp = f"{program} {program.stat().st_mtime_ns} {' '.join(_LIGHT)}" if program.exists() else ""
    archive = cache_folder() / f"classes-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}.jsa"
    if not archive.exists():
        with _alone(".classes.lock"):
            if not archive.exists():
                _record(archive, record)
    return (f"-XX:SharedArchiveFile={archive}",) if archive.stat().st_size else ()


def _record(archive: Path, record: Callable[[str], None]) -> None:
    fresh = archive.with_suffix(".fresh")
    fresh.unlink(missing_ok=True)
    try:
        record(f"-XX:ArchiveClassesAtExit={fresh}")
    except BrokerFailed:
        fresh.unlink(missing_ok=True)
    if not fresh.exists():
        fresh.touch()  # kept, so that it is not tried at every start
    fresh.rename(archive)
