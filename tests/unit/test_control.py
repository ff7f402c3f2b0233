"""What commands, panel and scheduler send on the control topic is what the worker reads there."""

from __future__ import annotations

import pytest

from worker.app import control as sending
from worker.app.control import send_control
from worker.config import Settings, load_settings
from worker.control import (
    SOURCE,
    ControlEvent,
    cron_event,
    grant_added,
    grant_revoked,
    recompute_requested,
)
from worker.errors import OperatorError, TransientError
from worker.events import Dictionary, Event, Record, Rejected, decode, parse_instant
from worker.exchange import Message

AT = parse_instant("2026-03-01T12:00:00Z")
GRANT = {"note": "Lost in the move.", "actor": "ada", "id": "r1", "at_us": AT}
SENT = {
    "grant.added": grant_added("u1", "busy", context="35", awarded_us=AT - 1, **GRANT),
    "grant.revoked": grant_revoked("u1", "busy", **GRANT),
    "recompute.requested": recompute_requested("u1", actor="ada", id="r1", at_us=AT, badges=["b", "a"]),
    "cron.anniversary": cron_event("cron.anniversary", "u1", id="r1", at_us=AT),
}


def read(sent: ControlEvent, *, control: bool = True) -> Event | Rejected | None:
    record = Record("badges.control", 0, 0, AT // 1000, sent.key, sent.value)
    return decode(record, Dictionary(), max_future_us=0, control=control)


@pytest.mark.parametrize("name", SENT)
def test_what_is_sent_is_read(name: str) -> None:
    """Each event is one of its type for the worker, with the id, instant and source given, keyed by user."""
    found = read(SENT[name])
    assert isinstance(found, Event), found
    assert (found.type, found.user_id, found.id, found.occurred_us) == (name, "u1", "r1", AT)
    assert (found.source, SENT[name].key) == (SOURCE, b"u1")
    if name.startswith("grant."):
        assert (found.payload["badge_key"], found.payload["note"], found.payload["actor"]) == (
            "busy",
            GRANT["note"],
            "ada",
        )


@pytest.mark.parametrize("name", SENT)
def test_an_app_cannot_send_them(name: str) -> None:
    """On an app's topic the same records are refused."""
    found = read(SENT[name], control=False)
    assert isinstance(found, Rejected)
    assert found.code == "invalid_field"


@pytest.mark.parametrize("changes", [{"note": ""}, {"actor": ""}, {"note": "n" * 2001}, {"context": "c" * 201}])
def test_bounds_are_those_of_the_schema(changes: dict[str, str]) -> None:
    """A grant without a note or an actor, or with too long ones, is no event."""
    found = read(grant_added("u1", "busy", **(GRANT | changes)))  # type: ignore[arg-type]
    assert isinstance(found, Rejected)
    assert found.code == "payload_invalid"


class Broker:
    """A publisher that takes everything, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.taken: list[tuple[str, Message]] = []
        self.closed = False

    async def publish(self, messages: list[tuple[str, Message]]) -> None:
        if self.failure is not None:
            raise self.failure
        self.taken += messages

    async def close(self) -> None:
        self.closed = True


async def test_sending_waits_for_all_or_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events go to the control topic in order; a failure is one sentence, and the producer is closed in any case."""
    broker = Broker()

    async def opened(settings: Settings) -> Broker:
        return broker

    monkeypatch.setattr(sending, "open_publisher", opened)
    await send_control(load_settings(), list(SENT.values()))
    assert [(topic, message.value) for topic, message in broker.taken] == [
        ("badges.control", sent.value) for sent in SENT.values()
    ]
    assert broker.closed
    broker = Broker(TransientError("Kafka did not store 4 messages in 30 s."))
    with pytest.raises(OperatorError, match=r"^Not everything was stored in badges.control: Kafka did not .* 30 s\.$"):
        await send_control(load_settings(), list(SENT.values()))
    assert broker.closed
