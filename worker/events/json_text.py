"""JSON text, read strictly: numbers exact, nothing PostgreSQL could not store, every bound checked; and written back.

Text goes through a fast reader first. What that one refuses, or what could hold something it does not look for, is
read again slowly, to say precisely what is wrong and where.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import msgspec

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_DIGITS = 38
MAX_EXPONENT = 308

#: Integers lie below this, and above its negative.
TOP = 10**MAX_DIGITS
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)


class JsonFault(ValueError):
    """The text cannot be taken. `code` is a dead-letter code, `path` a JSON pointer to the place or ""."""

    def __init__(self, code: str, message: str, path: str = "") -> None:
        self.code = code
        self.message = message
        self.path = path
        super().__init__(message)


class _Unfit:
    """Stands where a number was that is too long or too far from one, until its path is known."""


def _decimal(text: str) -> Decimal:
    number = Decimal(text)
    if abs(number.adjusted()) > MAX_EXPONENT or len(number.as_tuple().digits) > MAX_DIGITS:
        raise ValueError(text)
    return number


#: Reads one JSON value: ints and Decimals, the last of two equal keys. See `fits` for what it does not look for.
read_fast: Callable[[bytes | str | msgspec.Raw], Any] = msgspec.json.Decoder(float_hook=_decimal).decode
#: The same for an object.
read_object: Callable[[bytes | str | msgspec.Raw], dict[str, Any]] = msgspec.json.Decoder(
    dict[str, Any], float_hook=_decimal
).decode
_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
#: The same for an object of texts, booleans, nulls and integers of 64 bits, which therefore `fits`. ValidationError for
#: all others.
read_flat: Callable[[bytes | str | msgspec.Raw], dict[str, Any]] = msgspec.json.Decoder(
    dict[str, str | _INT64 | bool | None]
).decode
#: What `read_fast` and the decoders built on msgspec raise; UnicodeDecodeError and ValidationError are ValueErrors.
FAST_ERRORS = (ValueError, RecursionError, InvalidOperation, msgspec.MsgspecError)


def fits(value: Any, depth: int) -> bool:
    """Whether a value read by `read_fast` has short integers only and at most `depth` levels of nesting."""
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not list:
        return kind is not int or -TOP < value < TOP
    if depth <= 0:
        return False
    text, number, top, least = str, int, TOP, -TOP
    for child in value:
        kind = type(child)
        if kind is text or (kind is number and least < child < top):
            continue
        if not fits(child, depth - 1):
            return False
    return True


def loads(data: bytes | str) -> Any:
    """One JSON value: ints, Decimals (at most 38 digits, |exponent| at most 308), str, bool, None, list, dict.

    Raises JsonFault: `too_large` above 256 KiB, `too_deep` above 32 levels, `not_json`, `invalid_field` for numbers
    beyond the bounds, NUL characters and lone surrogates. Of two equal keys the last one counts.
    """
    text = _text(data)
    if "\\" not in text or "\\u" not in text:
        try:
            value = read_fast(text)
        except FAST_ERRORS:
            pass
        else:
            if fits(value, MAX_DEPTH):
                return value
    return _loads_slowly(text)


def check_size(data: bytes | str) -> None:
    """Raises JsonFault `too_large` above 256 KiB of UTF-8."""
    size = len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise JsonFault("too_large", f"the value has {size:,} bytes, {MAX_BYTES:,} are allowed")


def _text(data: bytes | str) -> str:
    check_size(data)
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonFault("not_json", f"the value is not UTF-8 text: {error.reason} at byte {error.start}") from None


def _loads_slowly(text: str) -> Any:
    if too_deep(text):
        raise JsonFault("too_deep", f"the value is nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(text, parse_float=_number, parse_int=_number, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise JsonFault("not_json", "the value is empty") from None
        raise JsonFault("not_json", f"the value is not JSON: {error.msg}, character {error.pos}") from None
    _inspect(value, "")
    return value


def too_deep(text: str) -> bool:
    """Whether brackets outside of strings nest deeper than MAX_DEPTH."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for mark in re.findall(r"[\[{\]}]", _STRING.sub("", text)):
        depth += 1 if mark in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _number(text: str) -> int | Decimal | _Unfit:
    try:
        if text.lstrip("-").isdigit():
            return int(text) if len(text) <= MAX_DIGITS + text.startswith("-") else _Unfit()
        return _decimal(text)
    except (ValueError, InvalidOperation):
        return _Unfit()


def _refuse(word: str) -> Any:
    raise JsonFault("not_json", f"the value is not JSON: {word} is not a JSON number")


def _inspect(value: Any, path: str) -> None:
    """Raise for the first number, string or key that cannot be kept; recursion is bounded by MAX_DEPTH."""
    match value:
        case _Unfit():
            bounds = f"numbers have at most {MAX_DIGITS} digits and an exponent of at most {MAX_EXPONENT}"
            raise JsonFault("invalid_field", f"a number at {path or '/'} is out of bounds; {bounds}", path)
        case str():
            _inspect_string(value, path)
        case list():
            for index, child in enumerate(value):
                _inspect(child, f"{path}/{index}")
        case dict():
            for key, child in value.items():
                _inspect_string(key, path)
                _inspect(child, f"{path}/{escape(key)}")


def _inspect_string(text: str, path: str) -> None:
    if "\0" in text:
        raise JsonFault("invalid_field", f"a string at {path or '/'} holds a NUL character", path)
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise JsonFault("invalid_field", f"a string at {path or '/'} holds half of a surrogate pair", path)


def escape(key: str) -> str:
    """A key as one step of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


_encode = msgspec.json.Encoder(decimal_format="number").encode


def dumps(value: Any) -> str:
    """Compact JSON text, keys in their order, finite Decimals as exact JSON numbers.

    Raises ValueError for lone surrogates, TypeError for what has no JSON form.
    """
    return _encode(value).decode()


def equal(a: Any, b: Any) -> bool:
    """JSON equality: numbers by value (1 = 1.0), true is not 1, key order is nothing."""
    match a, b:
        case (bool(), _) | (_, bool()):
            return a is b
        case dict(), dict():
            return a.keys() == b.keys() and all(equal(child, b[key]) for key, child in a.items())
        case list() | tuple(), list() | tuple():
            return len(a) == len(b) and all(map(equal, a, b))
        case _:
            return bool(a == b)
