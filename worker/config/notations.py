"""How settings are written: topics, durations, sizes, limits, addresses, each with its reader."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_DURATION = re.compile(r"([0-9]{1,12})\s*(ms|s|min|h|d|w)")
_DURATION_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_LONGEST = timedelta(days=36525)
_SIZE = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB)?")
#: The roles of tokens and people (decisions 35).
ROLES = ("reader", "producer", "support", "author", "admin")
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics to read: a list of names, or a pattern (a regular expression that starts with `^`)."""

    names: tuple[str, ...] = ()
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterLimit:
    """Stop when more than `share` (0 to 1) of at least `least` records within `seconds` were dead letters."""

    share: float
    seconds: float
    least: int = 1000


def parse_duration(text: object) -> timedelta:
    """`24h`, `10 min`, `500ms` as a timedelta; raises ValueError. `m` is refused: it may mean minute or month."""
    if isinstance(text, timedelta):
        return text
    found = _DURATION.fullmatch(str(text).strip())
    if found is None:
        raise ValueError("write a whole number and a unit of ms, s, min, h, d, w, such as 24h")
    unit = _DURATION_UNITS[found[2]]
    if int(found[1]) > _LONGEST // unit:
        raise ValueError("write a duration of at most 100 years")
    return int(found[1]) * unit


def parse_size(text: object) -> int:
    """`64MiB`, `512 KiB`, `1048576` in bytes; raises ValueError."""
    found = _SIZE.fullmatch(str(text).strip())
    if found is None:
        raise ValueError("write a whole number of bytes, or one with a unit of KiB, MiB, GiB, such as 64MiB")
    return int(found[1]) * _SIZE_UNITS[found[2]]


def parse_topics(text: object) -> Topics:
    """`a,b` or `^pattern` as Topics; raises ValueError."""
    if isinstance(text, Topics):
        return text
    given = str(text).strip()
    if given.startswith("^"):
        try:
            re.compile(given)
        except re.error as error:
            raise ValueError(f"the pattern is no regular expression ({error.msg})") from None
        return Topics(pattern=given)
    return Topics(names=tuple(dict.fromkeys(parse_topic(name) for name in given.split(","))))


def parse_topic(text: object) -> str:
    """One topic's name, by Kafka's rule; raises ValueError."""
    name = str(text).strip()
    if not _TOPIC.fullmatch(name) or name in {".", ".."}:
        raise ValueError("a topic's name is 1 to 249 of the characters A-Z a-z 0-9 . _ -")
    return name


def parse_servers(text: object) -> str:
    """`host:port,host:port` without blanks; raises ValueError."""
    servers = [server.strip() for server in str(text).split(",")]
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError("write host:port, several parted by commas, such as kafka-1:9092,kafka-2:9092")
    return ",".join(servers)


def parse_dead_letter_limit(text: object) -> DeadLetterLimit | None:
    """`50%/60s` as a limit, `off` as None; raises ValueError."""
    if text is None or isinstance(text, DeadLetterLimit):
        return text
    if str(text).strip() == "off":
        return None
    share, slash, window = str(text).partition("/")
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%", share.strip())
    if not slash or found is None or not 0 < float(found[1]) <= 100:
        raise ValueError("write a share and a window, such as 50%/60s, or off")
    return DeadLetterLimit(share=float(found[1]) / 100, seconds=parse_duration(window).total_seconds())


def parse_allowances(text: object) -> frozenset[str]:
    """`fsync,plaintext` as a set; raises ValueError."""
    words = text if isinstance(text, (set, frozenset)) else {word.strip() for word in str(text).split(",")} - {""}
    if not words <= {"fsync", "plaintext"}:
        raise ValueError("write fsync, plaintext, or both parted by a comma")
    return frozenset(words)


def parse_rate(text: object) -> str:
    """`100/s` or `off`, as written; raises ValueError."""
    rate = str(text).strip()
    if rate != "off" and not re.fullmatch(r"[1-9][0-9]{0,8}/(s|min|h)", rate):
        raise ValueError("write a number and a unit of s, min, h, such as 100/s, or off")
    return rate


def parse_roles(text: object) -> tuple[tuple[str, str], ...]:
    """`admins=admin,helpdesk=support` as pairs; raises ValueError."""
    if isinstance(text, tuple):
        return text
    pairs = [part.rpartition("=") for part in str(text).split(",") if part.strip()]
    if any(not name.strip() or role.strip() not in ROLES for name, _, role in pairs):
        raise ValueError(f"write what the issuer says and a role of {', '.join(ROLES)}, such as badges-admins=admin")
    return tuple((name.strip(), role.strip()) for name, _, role in pairs)


def parse_dsn(text: object) -> str:
    """An address of PostgreSQL, as written; raises ValueError, which never repeats it: it may hold a password."""
    dsn = str(text).strip()
    if not re.match(r"postgres(ql)?://", dsn):
        raise ValueError("write postgresql://user@host:5432/database?sslmode=verify-full")
    try:
        query = urlsplit(dsn).query
        if query:
            parse_qs(query, strict_parsing=True)
    except ValueError:
        raise ValueError("this is no address; characters like @ / ? # in a password are written as %40 …") from None
    return dsn
