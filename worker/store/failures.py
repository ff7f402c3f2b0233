"""What goes wrong at the door to PostgreSQL, translated once into errors that say who must act.

Texts hold the SQLSTATE, its name and a constraint's name, never the server's own sentence where that could carry values
of a row (reliability 4.2).
"""

from __future__ import annotations

from typing import Final

import asyncpg

from worker.errors import BadgesError, OperatorError, PoisonBatch, TimedOut, TransientError

#: What asyncpg raises, and what the network under it raises. UnicodeError and OverflowError come from its encoders.
FOREIGN: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    EOFError,
    UnicodeError,
    OverflowError,
)

#: SQLSTATEs by which the connections of the pool are no longer worth keeping: a demoted primary (25006), plans and
#: types from before a migration (0A000).
STALE_POOL: Final = frozenset({"25006", "0A000"})

#: Data the database cannot take, whatever is tried: data exceptions, integrity, program limits.
_POISON_CLASSES: Final = frozenset({"22", "23", "54"})

#: These say something about the server or the role, never about a row: their sentence is passed on.
_PUBLIC_CLASSES: Final = frozenset({"08", "25", "28", "3D", "3F", "53", "55", "57", "58"})

_HELP: Final = {
    "28": "check user, password and pg_hba.conf against BADGES_DATABASE_URL",
    "3D": "create the database, or correct BADGES_DATABASE_URL",
    "3F": "run `badges db migrate`",
    "42": "run `badges db migrate` with this version of badgestream, and check what the role may do",
    "42501": "give the role of BADGES_DATABASE_URL what it lacks",
}


def translate(error: BaseException, *, during: str, closed: bool = False) -> BadgesError:
    """The project's error for a foreign one. `closed`: the connection is gone, so its end is what happened."""
    if isinstance(error, BadgesError):
        return error
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate:
        return _from_state(error, error.sqlstate, during)
    if closed:
        return TransientError(f"PostgreSQL: the connection was lost during {during} ({type(error).__name__})")
    match error:
        case asyncpg.exceptions._base.DataError() | UnicodeError() | OverflowError():  # noqa: SLF001 (not exported)
            return PoisonBatch(f"a value cannot be sent to PostgreSQL during {during} ({type(error).__name__})")
        case TimeoutError():
            return TimedOut(f"PostgreSQL did not answer in time during {during}")
        case OSError():
            return TransientError(f"PostgreSQL cannot be reached during {during}: {error.strerror or error}")
    return TransientError(f"PostgreSQL: the connection failed during {during} ({type(error).__name__})")


def _from_state(error: asyncpg.PostgresError, state: str, during: str) -> BadgesError:
    family = state[:2]
    what = f"{type(error).__name__} {state}"
    constraint = getattr(error, "constraint_name", None)
    if constraint:
        what += f", {constraint}"
    if family in _PUBLIC_CLASSES and error.args:
        what += f": {error.args[0]}"
    sentence = f"PostgreSQL refused {during} ({what})"
    if family in _POISON_CLASSES:
        return PoisonBatch(sentence)
    if state in {"57014", "25P04"}:
        return TimedOut(f"PostgreSQL did not finish {during} in time ({what})")
    if family in _HELP:
        return OperatorError(sentence, help=_HELP.get(state, _HELP[family]))
    return TransientError(sentence)


def state_of(error: BaseException) -> str:
    """The SQLSTATE of a foreign error, or an empty text."""
    return str(getattr(error, "sqlstate", None) or "")
