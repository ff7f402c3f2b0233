"""How the door names what goes wrong: who must act, and nothing that stood in a row."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

from worker import store
from worker.errors import BadgesError, OperatorError, PoisonBatch, TimedOut, TransientError
from worker.resources import resource
from worker.store.blobs import chunks, pack_state, unpack_state
from worker.store.failures import translate
from worker.store.queries import QUERIES, parse

SECRET = "value of a row"


def server_error(state: str) -> asyncpg.PostgresError:
    """An error as the server sends it, with a value in its sentence and details."""
    fields = {"C": state, "M": SECRET, "D": SECRET, "H": SECRET, "n": "some_pkey", "S": "ERROR"}
    return asyncpg.PostgresError.new(fields)


@pytest.mark.parametrize(
    ("states", "kind"),
    [
        ("22021 22P05 22P02 22003 22000 23505 23514 23502 54000 54001", PoisonBatch),
        ("57014 25P04", TimedOut),
        ("08006 08P01 40001 40P01 53100 53200 53300 55P03 57P01 57P02 57P03 25006 25P02 25P03 58030 0A000 XX000 F0000",
         TransientError),
        ("28000 28P01 3D000 3F000 42P01 42703 42501 42601", OperatorError),
    ],
)  # fmt: skip
def test_every_state_has_who_must_act(states: str, kind: type[BadgesError]) -> None:
    """Bad data is poison, a wrong set-up is the operator's, everything else passes and is tried again."""
    for state in states.split():
        found = translate(server_error(state), during="grant")
        assert type(found) is kind, state
        assert state in found.message
        assert "grant" in found.message


@pytest.mark.parametrize("state", ["22021", "23505", "40001", "42601", "54000", "XX000"])
def test_sentences_that_could_hold_values_are_left_out(state: str) -> None:
    """State, name and constraint are kept; the server's sentence is not."""
    found = translate(server_error(state), during="grant")
    assert SECRET not in found.message
    assert "some_pkey" in found.message


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InterfaceError("cannot call Transaction.__aexit__()"),
        asyncpg.InternalClientError("cannot switch to state 12"),
        asyncpg.ConnectionDoesNotExistError(SECRET),
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError(),
        OSError(113, "No route to host"),
        EOFError(),
    ],
)
def test_whatever_the_network_does_is_transient(error: Exception) -> None:
    """A connection that fails, in any of its shapes, is tried again."""
    assert isinstance(translate(error, during="BEGIN"), TransientError)


def test_lost_connection_is_what_happened_whatever_is_said() -> None:
    """Once the connection is closed, an error of the client about its use says nothing about the data."""
    error = UnicodeEncodeError("utf-8", "\ud800", 0, 1, SECRET)
    assert isinstance(translate(error, during="BEGIN"), PoisonBatch)
    assert isinstance(translate(error, during="BEGIN", closed=True), TransientError)


def test_a_translated_error_stays() -> None:
    """What is the project's already is not wrapped again."""
    error = PoisonBatch("one")
    assert translate(error, during="BEGIN") is error


def test_every_query_is_described_and_used() -> None:
    """Each statement of sql/queries*.sql has a description, and some room of the store runs it."""
    rooms = "".join(file.read_text("utf-8") for file in Path(store.__file__).parent.glob("*.py"))
    assert set(QUERIES) == set(re.findall(r"^-- name: (\w+)$", _text(), re.MULTILINE))
    assert [name for name in QUERIES if f'"{name}"' not in rooms] == []


def _text() -> str:
    files = (file for file in resource("sql").iterdir() if file.name.startswith("queries"))
    return "\n".join(file.read_text("utf-8") for file in files)


def test_query_without_description_is_refused() -> None:
    """The loader does not take a statement that nobody described, nor a name twice."""
    with pytest.raises(ValueError, match="one"):
        parse("-- name: one\nSELECT 1;\n")
    with pytest.raises(ValueError, match="twice"):
        parse("-- name: one\n-- It is.\nSELECT 1;\n-- name: one\n-- It is.\nSELECT 1;\n")


def test_states_of_big_numbers_are_packed() -> None:
    """Integers beyond 64 bits, wherever they stand, come back."""
    state = {"a": [2**64, {"b": -(2**63) - 1}], "c": True}
    assert unpack_state(pack_state(state)) == state
    assert unpack_state(None) == {}


def test_pieces_are_consecutive_and_bounded() -> None:
    """Pieces hold everything once, in order; only an item that is too large alone exceeds the bound."""
    items = [3, 3, 3, 10, 1, 1]
    assert [list(piece) for piece in chunks(items, int, 6)] == [[3, 3], [3], [10], [1, 1]]
    assert list(chunks([], int, 6)) == []
