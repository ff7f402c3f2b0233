"""Logs, set up once: JSON lines (or a console), no control characters, no payloads, chatty libraries held back."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from worker.printable import printable

#: aiokafka logs passwords, keys and values at DEBUG: these never go below INFO, whatever the settings say.
_FLOORED = ("aiokafka", "asyncpg")
_MOST_CHARACTERS = 2_000
_MOST_TRACE_CHARACTERS = 20_000


class LogSettings(Protocol):
    """What logs ask of the settings."""

    @property
    def log_level(self) -> str:
        """`debug`, `info`, `warning` or `error`."""

    @property
    def log_format(self) -> str | None:
        """`json`, `console`, or None for the one that suits the stream."""


def configure(settings: LogSettings, *, stream: TextIO | None = None) -> None:
    """Send every log line, the libraries' too, to `stream` (standard error), in one format."""
    out = stream if stream is not None else sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    console = (settings.log_format or ("console" if out.isatty() else "json")) == "console"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [lead, structlog.processors.JSONRenderer(default=_as_text)]
    )
    handler = logging.StreamHandler(out)
    handler.addFilter(LibraryLimit())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, trace, clean, *render],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _FLOORED:
        logging.getLogger(name).setLevel(max(level, logging.INFO))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


class LibraryLimit(logging.Filter):
    """Holds the libraries back: nothing below INFO, and at most `most` lines of one message in `seconds`.

    While a broker is down aiokafka writes hundreds of lines a second. The next line that passes says how many did not.
    """

    def __init__(self, *, most: int = 5, seconds: float = 10.0, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._windows: dict[tuple[str, str, int], list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written; called by the handler."""
        if record.name.partition(".")[0] not in _FLOORED:
            return True
        if record.levelno < logging.INFO:
            return False
        now = self._clock()
        window = self._windows.setdefault((record.name, record.pathname, record.lineno), [now, 0, 0])
        if now - window[0] >= self._seconds:
            window[:2] = [now, 0]
        window[1] += 1
        if window[1] > self._most:
            window[2] += 1
            return False
        if window[2]:
            record.msg = f"{record.getMessage()} ({int(window[2])} more like this were left out)"
            record.args = ()
            window[2] = 0
        return True


def trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Turn `exc_info` into text: frames and sentences, never locals, never what PostgreSQL says about values."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    return event


def describe(error: BaseException) -> str:
    """An exception with its causes as text. A driver's error is named by its SQLSTATE and constraint alone."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = "".join(traceback.format_tb(current.__traceback__))
        parts.append(f"{frames}{_named(current)}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\ncaused by:\n".join(parts)[:_MOST_TRACE_CHARACTERS]


def _named(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    if not name.startswith("asyncpg."):
        return f"{name}: {error}"
    facts = (getattr(error, "sqlstate", None), getattr(error, "constraint_name", None))
    return " ".join([name, *(str(fact) for fact in facts if fact)])


def clean(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Cut long texts and escape what a terminal or a log reader would act on (line ends, escapes, bidi marks)."""
    return {key: _cleaned(value, keep="\n" if key == "exception" else "") for key, value in event.items()}


def lead(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put first what a reader looks for first."""
    return {**{key: event[key] for key in ("timestamp", "level", "event") if key in event}, **event}


def _cleaned(value: Any, *, keep: str) -> Any:
    if isinstance(value, (bool, int, float, type(None))):
        return value
    if isinstance(value, dict):
        return {printable(str(key)): _cleaned(item, keep=keep) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item, keep=keep) for item in value]
    text = _as_text(value)
    most = _MOST_TRACE_CHARACTERS if keep else _MOST_CHARACTERS
    return printable(text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)", keep=keep)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else repr(value) if isinstance(value, bytes) else str(value)
