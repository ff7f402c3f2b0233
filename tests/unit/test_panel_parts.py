"""What pages are made of: drawings, figures in words, CSV, vendored files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.desk import catalog_of, document, panel
from tests.unit.serving import client
from worker.admin.panel import drawing, phrasing
from worker.admin.panel.entries import chosen, entries, rows
from worker.admin.panel.frame import FOLDER
from worker.admin.panel.notes import Notes
from worker.admin.panel.tables import as_csv
from worker.admin.roles import Actor, Role

VENDOR = FOLDER / "static" / "vendor"


def test_vendored_files_are_what_was_published() -> None:
    """Every file of others is named with version, licence and hash, and is what the hash says; none is unnamed."""
    listed = json.loads((VENDOR / "vendor.json").read_text())
    for one in listed:
        assert hashlib.sha256((VENDOR / one["file"]).read_bytes()).hexdigest() == one["sha256"], one["file"]
        assert one["licence"] in ("MIT", "ISC", "0BSD", "BSD-3-Clause", "Apache-2.0")
        assert (VENDOR / one["licence_file"]).read_text().strip()
        assert one["version"]
    files = {file.name for file in VENDOR.iterdir()} - {"vendor.json"}
    assert files == {one[key] for one in listed for key in ("file", "licence_file")}


@given(st.integers(0, 0xFFFFFF))
def test_icons_stand_out(colour: int) -> None:
    """On any colour the icon has a contrast of at least 4.58 to 1."""
    fill = f"#{colour:06x}"
    light = drawing.luminance(fill) + 0.05
    contrast = light / 0.05 if drawing.ink_on(fill) == "#000000" else 1.05 / light
    assert contrast >= 4.58


def test_tiles_take_no_colour_they_do_not_know() -> None:
    """A colour that is none, an icon that is none and a picture that is not https are left out."""
    drawn = drawing.tile(32, label="<b>", icon="nope", colour='red" onload="x', image_url="javascript:alert(1)")
    assert drawing.PLAIN in drawn
    assert "onload" not in drawn
    assert "javascript" not in drawn
    assert "&lt;" in drawn
    assert "https://x.example/a.png" in drawing.tile(32, image_url="https://x.example/a.png")


def test_sparkline() -> None:
    """A missing day is a gap, the last point a dot; a line of one point says that there is no trend."""
    drawn = drawing.spark([1, None, 3, 4], "28 days")
    assert drawn.count("<polyline") == 2
    assert drawn.count("<circle") == 1
    assert "no trend yet" in drawing.spark([None, 1], "28 days")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.4 s"), (25, "25 s"), (250, "4 min 10 s"), (9 * 86400, "9 days")]
)
def test_spans(seconds: float, text: str) -> None:
    """Lengths of time are said in the units of the house."""
    assert phrasing.span(seconds) == text


def test_figures() -> None:
    """Counts above what is counted carry a plus; tiers are roman."""
    assert phrasing.many(10_001) == "10,000+"
    assert phrasing.many(9_999) == "9,999"
    assert phrasing.percent(1, 0) == "–"
    assert [drawing.roman(one) for one in (1, 4, 9, 14, 40)] == ["I", "IV", "IX", "XIV", "40"]


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_no_cell_is_a_formula(cells: list[str]) -> None:
    """Whatever text is exported, a spreadsheet reads back the same cells and takes none as a formula."""
    (line,) = list(csv.reader(io.StringIO(as_csv(["x"], [cells]), newline="")))[1:2] or [[]]
    assert len(line) == len(cells)
    for read, cell in zip(line, cells, strict=True):
        assert not read.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        assert read.removeprefix("'") == cell.replace("\0", "").removeprefix("'") or read == cell.replace("\0", "")


def test_csv_golden() -> None:
    """Each prefix that begins a formula is made text, also after a comma and a line's end; numbers stay."""
    text = as_csv(["a", "b"], [["=1+1", 5], ["@x", "-2"], ["+3", "a,\n=b"], ["\tx", "\rx"]])
    assert text == '"a","b"\r\n"\'=1+1","5"\r\n"\'@x","\'-2"\r\n"\'+3","a,\n=b"\r\n"\'\tx","\'\rx"\r\n'


def test_a_ladder_is_one_entry() -> None:
    """The levels of a ladder stand in one row, and what they take is said once."""
    catalog = catalog_of(document())
    found = entries(catalog)
    assert [entry.label for entry in found] == ["Nice question", "Asks", "Commentator I–II"]
    (row,) = rows(chosen(found, text="comment"), catalog, {})
    assert row.takes == "comments at least 10 and 50"
    assert [entry.label for entry in chosen(found, trigger="question.scored")] == ["Nice question"]
    assert next(entry.label for entry in chosen(found, sort="name")) == "Asks"


# ---------------------------------------------------------------- notes


def test_notes_are_our_own() -> None:
    """A page says what a change here said to who made it, for a minute; a link cannot make it say anything."""
    anna, ben = (Actor(name, Role.ADMIN, "session", name) for name in ("anna", "ben"))
    notes = Notes("secret")
    sealed = notes.seal("Version 2 rules.", anna)
    assert notes.read(sealed, anna) == "Version 2 rules."
    others = ("Call 555-0100", sealed + "x", "", "x" * 10_000, "é", Notes("other").seal("Call", anna))
    assert [notes.read(one, anna) for one in others] == [""] * len(others)
    assert notes.read(sealed, ben) == notes.read(sealed, None) == ""
    with patch("worker.admin.panel.notes.SECONDS", -1):
        assert notes.read(sealed, anna) == ""
    went = client(panel(), Role.ADMIN).post("/panel/settings/tokens/1/revoke")
    assert "said=" in went.headers["location"]
    for page in ("/panel/", "/panel/login"):
        assert "555-0100" not in client(panel(), Role.ADMIN).get(f"{page}?said=Call+555-0100").text
