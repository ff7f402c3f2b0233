"""Files handed in: every right one is read, every wrong one is named."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import OperatorError
from worker.files import MOST_LINE_BYTES, open_lines, read_sources


def test_one_file(tmp_path: Path) -> None:
    """A catalog file is read whole, whatever its suffix, without a byte-order mark."""
    file = tmp_path / "catalog.txt"
    file.write_bytes(b"\xef\xbb\xbfversion: 1\n")
    (source,) = read_sources(file)
    assert (source.name, source.text) == (str(file), "version: 1\n")


def test_folder(tmp_path: Path) -> None:
    """A folder gives its YAML and JSON files, those of folders within too, by path; hidden ones are left out."""
    for name in ("b.yml", "a/z.yaml", "a/c.JSON", "readme.md", ".hidden.yaml", "..data/a.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "linked.yaml").symlink_to(tmp_path / "..data/a.yaml")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert [source.text for source in read_sources(tmp_path)] == ["a/c.JSON", "a/z.yaml", "b.yml", "..data/a.yaml"]


def test_wrong_catalogs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog that is missing, empty, no text or too large is refused by its name."""
    with pytest.raises(OperatorError, match=r"There is no file .*none\.yaml"):
        read_sources(tmp_path / "none.yaml")
    with pytest.raises(OperatorError, match=r"holds no \.yaml"):
        read_sources(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"version: 1\nlabel: \xff\n")
    with pytest.raises(OperatorError, match=r"a\.yaml is not UTF-8 text \(line 2\)"):
        read_sources(tmp_path)
    monkeypatch.setattr("worker.files._MOST_CATALOG_BYTES", 10)
    with pytest.raises(OperatorError, match="larger than 64 MiB"):
        read_sources(tmp_path)
    monkeypatch.setattr("worker.files._MOST_CATALOG_FILES", 0)
    with pytest.raises(OperatorError, match="more than 10,000 files"):
        read_sources(tmp_path)
    with pytest.raises(OperatorError, match="cannot be read: Not a directory"):
        read_sources(tmp_path / "a.yaml" / "b")
    with pytest.raises(OperatorError, match=r"cannot be read: .*null"):
        read_sources("a\0b")


LINES = [b'{"a": 1}', b"", b"\xff\x00 not text", b"last"]


@pytest.mark.parametrize("act", ["edit", "replace", "add", "take away"])
def test_a_catalog_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    """A file edited or replaced, or a folder that gains or loses a file, is refused; then it is read."""
    first, second, other = tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "c.yaml"
    first.write_text("version: 1\n")
    second.write_text("badges: []\n")
    acts = {
        "edit": lambda: first.write_text("version: 1 \n"),
        "replace": lambda: (tmp_path / ".new").write_text("version: 1\n") and (tmp_path / ".new").rename(first),
        "add": lambda: other.write_text("metrics: {}\n"),
        "take away": second.unlink,
    }
    opened = Path.open

    def opening(path: Path, *arguments: Any, **options: Any) -> Any:
        file = opened(path, *arguments, **options)
        if path == (first if act == "take away" else second) and act in acts:
            acts.pop(act)()
        return file

    monkeypatch.setattr(Path, "open", opening)
    with pytest.raises(OperatorError, match=r"changed while it was read|no file"):
        read_sources(tmp_path)
    assert "version: 1" in read_sources(tmp_path)[0].text


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines(tmp_path: Path, end: bytes) -> None:
    """Lines come as bytes without their ends, empty ones too; the last one needs no end."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + end.join(LINES))
    assert list(open_lines(file)) == LINES
    file.write_bytes(end.join(LINES) + end)
    assert list(open_lines(file)) == LINES
    file.write_bytes(b"one\n\xef\xbb\xbftwo\n")
    assert list(open_lines(file)) == [b"one", b"\xef\xbb\xbftwo"]


def test_gzip_by_name(tmp_path: Path) -> None:
    """A name that ends in .gz is unpacked."""
    file = tmp_path / "events.jsonl.gz"
    file.write_bytes(gzip.compress(b"\n".join(LINES)))
    assert list(open_lines(file)) == LINES


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo")))
    assert list(open_lines("-")) == [b"one", b"two"]


@pytest.mark.parametrize("extra", [-1, 0, 1, MOST_LINE_BYTES, 2 * MOST_LINE_BYTES + 3])
def test_long_lines_are_cut(tmp_path: Path, extra: int) -> None:
    """A line of any length takes bounded memory, and the line after it is whole."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"x" * (MOST_LINE_BYTES + extra) + b"\nnext\n")
    first, second = open_lines(file)
    assert len(first) == MOST_LINE_BYTES + min(extra, 0)
    assert second == b"next"


def test_wrong_event_files(tmp_path: Path) -> None:
    """A file of events that is missing, a folder, no gzip data, damaged or cut is refused by its name."""
    with pytest.raises(OperatorError, match=r"There is no file .*none"):
        open_lines(tmp_path / "none")
    with pytest.raises(OperatorError, match="is a folder"):
        open_lines(tmp_path)
    file = tmp_path / "events.jsonl.gz"
    file.write_bytes(b"{}\n")
    with pytest.raises(OperatorError, match=r"events\.jsonl\.gz is not gzip data"):
        list(open_lines(file))
    packed = gzip.compress(bytes(range(256)) * 50)
    file.write_bytes(packed[:-20])
    with pytest.raises(OperatorError, match=r"events\.jsonl\.gz ends too early"):
        list(open_lines(file))
    file.write_bytes(packed[:20] + b"\xff\xff\xff" + packed[23:])
    with pytest.raises(OperatorError, match=r"events\.jsonl\.gz is not gzip data, or damaged"):
        list(open_lines(file))


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))))
def test_lines_are_read_back(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    """Whatever bytes a file holds, its lines come out as they were written."""
    file = tmp_path_factory.mktemp("lines") / "events.jsonl"
    file.write_bytes(b"".join(b"-" + line + b"\n" for line in lines))
    assert list(open_lines(file)) == [b"-" + line for line in lines]
