"""The spellings an event may come in: native, those of the older systems, CloudEvents structured and binary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from worker.events import json_text
from worker.events.instants import parse_instant
from worker.events.json_text import JsonFault

#: Stands where a field was not given.
ABSENT: Final = msgspec.UNSET

_NATIVE = {
    "type": ("type", "event_type"),
    "user_id": ("user_id",),
    "occurred_at": ("occurred_at", "timestamp"),
    "id": ("id",),
    "source": ("source",),
    "payload": ("payload", "data", "metadata"),
}
_CLOUD_EVENT = {
    "type": "type",
    "user_id": "subject",
    "occurred_at": "time",
    "id": "id",
    "source": "source",
    "payload": "data",
}

#: The fields that say whom an event is about, in all spellings.
USER_FIELDS: Final = (*_NATIVE["user_id"], _CLOUD_EVENT["user_id"])


class Draft(msgspec.Struct):
    """What an envelope says, field by field, unchecked but for being JSON; fields not given are ABSENT.

    `paths` has the JSON pointer of each field.
    """

    type: Any
    user_id: Any
    occurred_at: Any
    id: Any
    source: Any
    payload: Any
    paths: Mapping[str, str]

    def path(self, name: str) -> str:
        """Where the field stands, or would have to stand."""
        return self.paths[name]


def is_cloud_event(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Whether any header speaks of CloudEvents."""
    return any(
        name[:3].lower() == "ce_" or (content and b"cloudevents" in content.lower()) for name, content in headers
    )


def read_slowly(value: bytes, headers: Sequence[tuple[str, bytes | None]]) -> Draft:
    """The fields of an envelope in any spelling. Raises JsonFault."""
    json_text.check_size(value)
    names = {name.lower(): content for name, content in headers}
    mime = (names.get("content-type") or b"").split(b";")[0].strip().lower()
    structured = mime == b"application/cloudevents+json"
    if mime.startswith(b"application/cloudevents") and not structured:
        raise JsonFault("invalid_field", "of CloudEvents, single ones in JSON (application/cloudevents+json) are taken")
    if not structured and ("ce_specversion" in names or "ce_type" in names):
        return _binary(value, names)
    body = json_text.loads(value)
    if type(body) is not dict:
        raise JsonFault("invalid_field", "the value must be a JSON object")
    return _structured(body) if structured or "specversion" in body else _native(body)


def _native(body: Mapping[str, Any]) -> Draft:
    fields: dict[str, Any] = {}
    paths: dict[str, str] = {}
    for name, spellings in _NATIVE.items():
        given = [spelling for spelling in spellings if spelling in body]
        fields[name] = body[given[0]] if given else ABSENT
        paths[name] = "/" + (given or spellings)[0]
        for other in given[1:]:
            if not _same(name, body[given[0]], body[other]):
                message = f"{given[0]} and {other} are two spellings of one field and differ; send one of them"
                raise JsonFault("invalid_field", message, "/" + other)
    return Draft(**fields, paths=paths)


def _same(name: str, a: Any, b: Any) -> bool:
    if json_text.equal(a, b):
        return True
    if name != "occurred_at" or not isinstance(a, str) or not isinstance(b, str):
        return False
    try:
        return parse_instant(a) == parse_instant(b)
    except ValueError:
        return False


def _structured(body: Mapping[str, Any]) -> Draft:
    if "specversion" not in body:
        raise JsonFault("missing_field", "a CloudEvent needs specversion", "/specversion")
    _check_version(body["specversion"], "/specversion")
    if "data_base64" in body:
        raise JsonFault("invalid_field", "send data as a JSON object, not as data_base64", "/data_base64")
    fields = {name: body.get(attribute, ABSENT) for name, attribute in _CLOUD_EVENT.items()}
    return Draft(**fields, paths={name: "/" + attribute for name, attribute in _CLOUD_EVENT.items()})


def _binary(value: bytes, headers: Mapping[str, bytes | None]) -> Draft:
    _check_version(_header(headers, "specversion"), "")
    fields = {name: _header(headers, attribute) for name, attribute in _CLOUD_EVENT.items() if name != "payload"}
    payload = json_text.loads(value) if value else {}
    return Draft(**fields, payload=payload, paths=dict.fromkeys(_CLOUD_EVENT, ""))


def _check_version(version: Any, path: str) -> None:
    if version != "1.0":
        raise JsonFault("invalid_field", 'CloudEvents of specversion "1.0" are taken', path)


def _header(headers: Mapping[str, bytes | None], attribute: str) -> Any:
    name = "ce_" + attribute
    if name not in headers:
        return ABSENT
    try:
        text = (headers[name] or b"").decode("utf-8")
    except UnicodeDecodeError:
        raise JsonFault("invalid_field", f"the header {name} is not UTF-8 text") from None
    if "\0" in text:
        raise JsonFault("invalid_field", f"the header {name} holds a NUL character")
    return text
