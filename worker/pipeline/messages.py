"""The award as other services read it: its stable id and its JSON message, and the dead letter as a message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_DNS, UUID, uuid5

from worker.events import json_text
from worker.exchange import DeadLetter, Message
from worker.rules.catalog.definitions import Badge
from worker.rules.phrases import short_instant
from worker.rules.state import Award

#: Name space of award ids (decisions 14).
NAMESPACE = uuid5(NAMESPACE_DNS, "badgestream")
#: How much of a dead letter's key goes out: with all of a giant one the message would be too large for its topic.
KEY_LIMIT = 64 * 1024


def award_id(user_id: str, badge_key: str, context: str, *, earlier_grants: int = 0, kind: str = "awarded") -> UUID:
    """The id that live path, replay, recompute and backfill all give to the same award (decisions 14)."""
    name = json.dumps([user_id, badge_key, context, earlier_grants, kind], ensure_ascii=False, separators=(",", ":"))
    return uuid5(NAMESPACE, name)


def award_message(
    award: Award, badge: Badge, *, message_id: UUID, origin: str, notify: bool, sequence: int, catalog_version: int
) -> bytes:
    """The value on the awards topic: `badge.awarded` as `schemas/award.json` describes it, UTF-8 JSON."""
    body: dict[str, Any] = {
        "id": str(message_id),
        "type": "badge.awarded",
        "user_id": award.user_id,
        "badge_key": award.badge_key,
        "context": award.context,
        "awarded_at": short_instant(award.awarded_us),
        "origin": origin,
        "notify": notify,
        "sequence": sequence,
        "trigger": {"id": award.trigger_id, "type": award.trigger_type},
        "catalog_version": catalog_version,
        "badge": display(badge),
        "metadata": award.metadata,
    }
    return json_text.dumps(body).encode()


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
