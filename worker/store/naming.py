"""Whether a record is about one person: by its key, or by who it says it is about; of what is no event too."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from worker.events.spellings import USER_FIELDS

#: An event lies in one of these where it is wrapped.
_WRAPPERS: Final = ("data", "payload", "metadata")


def needles(user_id: str) -> tuple[bytes, bytes]:
    """The bytes one of which stands in every record that names the user: as it is, and as JSON in ASCII writes it."""
    return user_id.encode(), json.dumps(user_id)[1:-1].encode()


def names_person(user_id: str, key: bytes | None, value: bytes | None) -> bool:
    """Whether the record's key is the user's id, or its value says that it is about the user.

    What is no whole JSON is searched for a field that names the user. That the id stands elsewhere says nothing: other
    people's records may mention it, and short ids are in every text.
    """
    if key == user_id.encode():
        return True
    if not value or not any(needle in value for needle in needles(user_id)):
        return False
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return _says(user_id, value)
    if not isinstance(found, dict):
        return False
    inner = [found.get(name) for name in _WRAPPERS]
    return any(_is_about(user_id, one) for one in (found, *inner) if isinstance(one, dict))


def _is_about(user_id: str, fields: dict[str, Any]) -> bool:
    said = (fields.get(name) for name in USER_FIELDS)
    return any(str(one) == user_id for one in said if isinstance(one, (str, int)) and not isinstance(one, bool))


def _says(user_id: str, value: bytes) -> bool:
    forms = b"|".join(
        [
            *(b'"' + re.escape(needle) + b'"' for needle in needles(user_id)),
            *([re.escape(user_id.encode()) + rb"(?![\w.])"] if re.fullmatch(r"-?\d+", user_id) else []),
        ]
    )
    fields = b"|".join(name.encode() for name in USER_FIELDS)
    return re.search(rb'"(?:' + fields + rb')"\s*:\s*(?:' + forms + rb")", value) is not None
