"""Records as people name them, `[TOPIC:]PARTITION:OFFSET`, and instants."""

from __future__ import annotations

import click


def place(record: str) -> tuple[str, int, int]:
    """Topic, partition and offset; without a topic, the only one that is consumed."""
    parts = record.rsplit(":", 2)
    try:
        partition, offset = int(parts[-2]), int(parts[-1])
    except (ValueError, IndexError):
        raise click.BadParameter(f"{record!r} is not [TOPIC:]PARTITION:OFFSET, as badges.events:3:1207") from None
    if not (0 <= partition < 2**31 and 0 <= offset < 2**63):
        raise click.BadParameter(f"{record!r} names no record: partition or offset is out of bounds")
    return (parts[0] if len(parts) == 3 else _only_topic()), partition, offset


def _only_topic() -> str:
    from worker.config import load_settings

    topics = load_settings().event_topics
    if len(topics.names) != 1 or topics.pattern is not None:
        raise click.BadParameter("several topics are consumed: write TOPIC:PARTITION:OFFSET")
    return topics.names[0]


def instant(text: str) -> int:
    """An RFC 3339 instant as microseconds."""
    from worker.events import parse_instant

    try:
        return parse_instant(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write it as 2026-03-01T12:00:00Z") from None


def instant_option(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """For `callback`: an option that is an instant."""
    return None if value is None else instant(value)
