"""Answers as bytes: JSON written by msgspec at once, past the framework's slower way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import Response

from worker.events import format_instant


def _plain(value: object) -> object:
    """What msgspec does not know: read-only mappings as objects, the rest as text."""
    return dict(value) if isinstance(value, Mapping) else str(value)


_encoder: Final = msgspec.json.Encoder(enc_hook=_plain, decimal_format="number")


def as_json(value: Any) -> bytes:
    """JSON of plain data and msgspec structs: Decimals as the numbers they are; `msgspec.Raw` passes as it is."""
    return _encoder.encode(value)


def json_answer(value: Any, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """A response of this JSON."""
    return Response(as_json(value), status, media_type="application/json", headers=headers)


def instant(microseconds: int | None) -> str | None:
    """An instant as RFC 3339 in UTC; None for none."""
    return None if microseconds is None else format_instant(microseconds)
