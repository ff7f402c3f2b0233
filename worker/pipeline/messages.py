"""The award as other services read it: its stable id and its JSON message, and the dead letter as a message."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha1
from typing import Any, Final
from uuid import NAMESPACE_DNS, uuid5

import msgspec

from worker.events import json_text
from worker.exchange import DeadLetter, Message
from worker.rules.catalog.definitions import Badge
from worker.rules.phrases import short_instant
from worker.rules.state import Award, Withdrawal

#: Name space of award ids (decisions 14).
NAMESPACE: Final = uuid5(NAMESPACE_DNS, "badgestream")
_SPACE: Final = NAMESPACE.bytes
#: The digit that says how a UUID is laid out: its two high bits are 1 and 0.
_VARIANTS: Final = {f"{digit:x}": f"{digit & 3 | 8:x}" for digit in range(16)}
#: How much of a dead letter's key goes out: with all of a giant one the message would be too large for its topic.
KEY_LIMIT = 64 * 1024


#: What neither JSON nor a space needs to escape or to look at: of such texts JSON is what stands between two quotes.
_PLAIN: Final = re.compile(r"[A-Za-z0-9 _.:@/+=-]*", re.ASCII).fullmatch


def award_id(user_id: str, badge_key: str, context: str, *, earlier_grants: int = 0, kind: str = "awarded") -> str:
    """The id that live path, replay, recompute and backfill all give to the same award (decisions 14), as text.

    A name-based UUID of version 5 (RFC 9562, 5.5), written out here because `uuid` takes most of its time to wrap it.
    """
    if _PLAIN(user_id) and _PLAIN(badge_key) and _PLAIN(context):
        name = f'["{user_id}","{badge_key}","{context}",{earlier_grants},"{kind}"]'
    else:
        parts = [user_id, badge_key, context, earlier_grants, kind]
        name = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    digest = sha1(_SPACE + name.encode(), usedforsecurity=False).hexdigest()
    variant = _VARIANTS[digest[16]]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


class _Trigger(msgspec.Struct, gc=False):
    id: str
    type: str


class _Body(msgspec.Struct, gc=False):
    """`badge.awarded` as `schemas/award.json` describes it; the keys in this order."""

    id: str
    type: str
    user_id: str
    badge_key: str
    context: str
    awarded_at: str
    origin: str
    notify: bool
    sequence: int
    trigger: _Trigger
    catalog_version: int
    badge: msgspec.Raw
    metadata: msgspec.Raw


class _Revoked(_Body, gc=False):
    """`badge.revoked` likewise: the award, why it is taken back, and its id."""

    reason: str
    award_id: str


_encode: Final = msgspec.json.Encoder().encode


def award_message(
    award: Award,
    badge: Badge,
    *,
    metadata_json: str,
    message_id: str,
    origin: str,
    notify: bool,
    sequence: int,
    catalog_version: int,
) -> bytes:
    """The value on the awards topic, UTF-8 JSON."""
    return _encode(
        _Body(
            message_id,
            "badge.awarded",
            award.user_id,
            award.badge_key,
            award.context,
            short_instant(award.awarded_us),
            origin,
            notify,
            sequence,
            _Trigger(award.trigger_id, award.trigger_type),
            catalog_version,
            _shown(badge),
            msgspec.Raw(metadata_json.encode()),
        )
    )


def revoked_message(
    withdrawal: Withdrawal,
    badge: Badge,
    *,
    awarded_us: int,
    metadata_json: str,
    message_id: str,
    award_id: str,
    origin: str,
    notify: bool,
    sequence: int,
    catalog_version: int,
) -> bytes:
    """The value on the awards topic that takes an award back, UTF-8 JSON; instant and metadata are the award's."""
    return _encode(
        _Revoked(
            message_id,
            "badge.revoked",
            withdrawal.user_id,
            withdrawal.badge_key,
            withdrawal.context,
            short_instant(awarded_us),
            origin,
            notify,
            sequence,
            _Trigger(withdrawal.trigger_id, withdrawal.trigger_type),
            catalog_version,
            _shown(badge),
            msgspec.Raw(metadata_json.encode()),
            withdrawal.reason,
            award_id,
        )
    )


#: The display of badges as JSON, by the badge's identity: every award of a badge shows the same.
_displays: dict[int, tuple[Badge, msgspec.Raw]] = {}
_DISPLAYS_AT_MOST: Final = 10_000


def _shown(badge: Badge) -> msgspec.Raw:
    found = _displays.get(id(badge))
    if found is None or found[0] is not badge:
        if len(_displays) >= _DISPLAYS_AT_MOST:
            _displays.clear()
        found = _displays[id(badge)] = (badge, msgspec.Raw(json_text.dumps(display(badge)).encode()))
    return found[1]


def display(badge: Badge) -> Mapping[str, Any]:
    """What a profile page needs to show the badge."""
    return {
        "label": badge.label,
        "description": badge.description,
        "family": badge.family,
        "tier": badge.tier,
        "icon": badge.icon,
        "color": badge.color,
        "image_url": badge.image_url,
        "animation": badge.animation,
    }


def dead_letter_message(letter: DeadLetter) -> Message:
    """The record (the first 64 KiB of its key and value), with the reason and its coordinates in `badges_*` headers."""
    headers = {
        "badges_reason": letter.reason,
        "badges_detail": letter.detail,
        "badges_path": letter.path,
        "badges_topic": letter.topic,
        "badges_partition": str(letter.partition),
        "badges_offset": str(letter.offset),
        "badges_sha256": letter.sha256.hex(),
        "badges_length": str(letter.length),
    }
    return Message(
        key=None if letter.key is None else letter.key[:KEY_LIMIT],
        value=letter.raw,
        headers=tuple((name, text.encode("utf-8", "replace")) for name, text in headers.items()),
    )
