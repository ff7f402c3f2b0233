"""Files people hand in: catalogs as text, events as lines; whatever is wrong with them is said in one sentence."""

from __future__ import annotations

import gzip
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from worker.errors import OperatorError
from worker.rules.catalog.document import Source

SUFFIXES = (".yaml", ".yml", ".json")
#: A line longer than this is cut here; no event may be as long, so what is left is refused as too large.
MOST_LINE_BYTES = 1024 * 1024
_MOST_CATALOG_BYTES = 64 * 1024 * 1024
_MOST_CATALOG_FILES = 10_000
_BOM = b"\xef\xbb\xbf"


def read_sources(path: str | Path) -> list[Source]:
    """The text of a catalog file, or of every `.yaml`, `.yml` and `.json` file below a folder, sorted by path.

    Hidden files and folders are left out. Raises OperatorError: missing, unreadable, empty folder, not UTF-8, more
    than 64 MiB together, changed while it was read: what comes back is what stood there at one moment.
    """
    top = Path(path)
    names, before = _catalog_files(top)
    if not names:
        raise OperatorError(f"{path} holds no {', '.join(SUFFIXES)} file.", help="name a catalog file or its folder")
    read: list[tuple[Path, bytes]] = []
    left = _MOST_CATALOG_BYTES
    for name in names:
        with _said(name), name.open("rb") as file:
            data = file.read(left + 1)
        left -= len(data)
        if left < 0:
            raise OperatorError(f"The catalog {path} is larger than 64 MiB.", help="check that this is a catalog")
        read.append((name, data))
    if _catalog_files(top) != (names, before):
        raise OperatorError(f"{path} was changed while it was read.", help="run it again once the change is complete")
    return [Source(str(name), _text(name, data)) for name, data in read]


def open_lines(path: str | Path) -> Iterator[bytes]:
    """The lines of a file without their ends, empty ones too, so that they can be counted; `-` is standard input.

    A name that ends in `.gz` is unpacked as it is read. A line longer than `MOST_LINE_BYTES` is cut there. Raises
    OperatorError: at once where the file cannot be opened, later where it cannot be read on.
    """
    name = Path(path)
    if str(path) == "-":
        return _lines(Path("standard input"), sys.stdin.buffer)
    with _said(name):
        if stat.S_ISDIR(name.stat().st_mode):
            raise OperatorError(f"{path} is a folder.", help="name a file of events, one JSON object a line")
        file = cast("BinaryIO", gzip.GzipFile(name) if name.suffix == ".gz" else name.open("rb"))
    return _lines(name, file)


def _catalog_files(top: Path) -> tuple[list[Path], list[tuple[int, ...]]]:
    """The files of a catalog, and what would differ if one of them were written or replaced; nothing for a pipe."""
    with _said(top):
        names = _files_below(top) if top.is_dir() else [top]
    marks: list[tuple[int, ...]] = []
    for name in names:
        with _said(name):
            found = name.stat()
        regular = stat.S_ISREG(found.st_mode)
        marks.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) if regular else ())
    return names, marks


def _files_below(top: Path) -> list[Path]:
    found: list[Path] = []
    folders = [top]
    while folders:
        for entry in sorted(folders.pop().iterdir()):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if not entry.is_symlink():
                    folders.append(entry)
            elif entry.suffix.lower() in SUFFIXES:
                found.append(entry)
        if len(found) > _MOST_CATALOG_FILES:
            raise OperatorError(f"{top} holds more than 10,000 files.", help="name the catalog's own folder")
    return sorted(found)


def _text(name: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise OperatorError(f"{name} is not UTF-8 text (line {line}).", help="save it as UTF-8") from None


def _lines(name: Path, file: BinaryIO) -> Iterator[bytes]:
    first = True
    with _said(name), file:
        while line := file.readline(MOST_LINE_BYTES + 1):
            if len(line) > MOST_LINE_BYTES and not line.endswith(b"\n"):
                _skip_line(file)
            if first:
                line, first = line.removeprefix(_BOM), False
            yield line.removesuffix(b"\n").removesuffix(b"\r")[:MOST_LINE_BYTES]


def _skip_line(file: BinaryIO) -> None:
    while (rest := file.readline(MOST_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass


@contextmanager
def _said(name: Path) -> Iterator[None]:
    """Turn what the system says about a file into one sentence with a remedy."""
    try:
        yield
    except FileNotFoundError:
        raise OperatorError(f"There is no file {name}.", help="check the path") from None
    except PermissionError:
        raise OperatorError(f"{name} may not be read by this user.", help="change its permissions") from None
    except (gzip.BadGzipFile, zlib.error):
        raise OperatorError(
            f"{name} is not gzip data, or damaged.", help="drop .gz from the name, or copy it again"
        ) from None
    except EOFError:
        raise OperatorError(f"{name} ends too early.", help="copy it again") from None
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OperatorError(f"{name} cannot be read: {said}.", help="check the path and the disk") from None
