"""What parent and child say to each other: JSON lines on a socket pair, whose end tells each that the other died."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

from worker.errors import AuthorError, Fault, OperatorError

#: What a worker is before it has the catalog; the first child is past it before the others are started.
STARTING = "starting"
#: Where the children keep their metrics; the name is prometheus-client's.
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
#: The longest line the parent reads; a refusal holds so many faults of so many characters at most.
MOST_BYTES = 4 * 1024 * 1024
_MOST_FAULTS = 200
_MOST_CHARACTERS = 2_000
#: A child whose parent is gone has so long to end gracefully (decisions 30), seconds.
ORPHAN_SECONDS = 25.0
#: How long a child tries to hand over why it ends, seconds.
_LAST_WORD_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Report:
    """A child's word that its loop turns: `unready` says why it is not ready, None that it is."""

    unready: str | None


Refusal = OperatorError | AuthorError


def encode(said: Report | Refusal) -> bytes:
    """One line; what is too long for it is cut."""
    match said:
        case Report():
            body: dict[str, object] = {"unready": said.unready and said.unready[:_MOST_CHARACTERS]}
        case AuthorError():
            faults = [asdict(fault) for fault in said.faults[:_MOST_FAULTS]]
            body = {"message": said.message, "help": said.help, "faults": faults}
        case OperatorError():
            body = {"message": said.message, "help": said.help}
    return json.dumps(_cut(body)).encode() + b"\n"


def decode(line: bytes) -> Report | Refusal:
    """What a line says; ValueError where it says nothing."""
    body = json.loads(line)
    match body:
        case {"unready": str() | None as reason}:
            return Report(reason)
        case {"message": str() as message, "help": str() | None as remedy, "faults": list() as faults}:
            return AuthorError([Fault(**fault) for fault in faults], message, help=remedy)
        case {"message": str() as message, "help": str() | None as remedy}:
            return OperatorError(message, help=remedy)
    raise ValueError("a child said what this parent does not understand")


def _cut(value: object) -> object:
    match value:
        case str():
            return value[:_MOST_CHARACTERS]
        case dict():
            return {key: _cut(item) for key, item in value.items()}
        case list():
            return [_cut(item) for item in value]
    return value


class Tether:
    """The child's end: reports, and notices that the parent has died.

    `place` is what the parent wrote on the command line: the child's number and its socket, as `2:7`.
    """

    def __init__(self, place: str) -> None:
        number, _, handle = place.partition(":")
        if not (number.isdecimal() and handle.isdecimal()):
            raise OperatorError(f'"{place[:100]}" is no place of a child.', help="only `--processes` starts children")
        self.number = int(number)
        self.lost = False
        self._socket = socket.socket(fileno=int(handle))
        self._socket.settimeout(None)
        self._unsent = b""
        self._left = Event()

    def report(self, unready: str | None) -> None:
        """Say that the loop turns; never waits. A parent that is frozen misses it, which does not matter."""
        try:
            if not self._unsent:
                self._unsent = encode(Report(unready))
            sent = self._socket.send(self._unsent, socket.MSG_DONTWAIT)
            self._unsent = self._unsent[sent:]
        except OSError:
            return

    def refuse(self, refusal: Refusal) -> None:
        """Hand over why nothing but a person's act helps: the parent says it, once."""
        try:
            self._socket.settimeout(_LAST_WORD_SECONDS)
            self._socket.sendall(self._unsent + encode(refusal))
        except OSError:
            return

    def watch(self, lost: Callable[[], None]) -> None:
        """Call `lost`, from a thread, once the parent has died; 25 s later end at once, whatever still runs."""
        Thread(target=self._wait, args=(lost,), name="tether", daemon=True).start()

    def close(self) -> None:
        """Leave; an orphan also removes the folder of metrics, which nobody else will."""
        self._left.set()
        self._socket.close()
        if self.lost:
            self._sweep()

    def _wait(self, lost: Callable[[], None]) -> None:
        try:
            while self._socket.recv(64):
                pass
        except OSError:
            if self._left.is_set():
                return
        self.lost = True
        lost()
        if not self._left.wait(ORPHAN_SECONDS):
            self._sweep()
            os._exit(1)

    @staticmethod
    def _sweep() -> None:
        folder = Path(os.environ.get(METRICS_FOLDER, ""))
        if folder.name.startswith("badges-metrics-"):
            shutil.rmtree(folder, ignore_errors=True)
