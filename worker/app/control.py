"""Sends events to the control topic, for commands, panel and scheduler alike."""

from __future__ import annotations

from collections.abc import Sequence

from worker.config import Settings
from worker.control import ControlEvent
from worker.errors import OperatorError, PoisonBatch, TransientError
from worker.exchange import Message
from worker.stream.producer import open_publisher


async def send_control(settings: Settings, events: Sequence[ControlEvent]) -> None:
    """Publish events on the control topic, in order, and wait until all in-sync replicas have each.

    Raises OperatorError, in one sentence, where Kafka cannot be reached, refuses one or is too slow: then some may be
    stored. Sending the same events again is safe, as their ids say that they are the same.
    """
    if not events:
        return
    topic = settings.control_topic
    publisher = await open_publisher(settings)
    try:
        await publisher.publish([(topic, Message(key=event.key, value=event.value)) for event in events])
    except (TransientError, PoisonBatch) as error:
        raise OperatorError(
            f"Not everything was stored in {topic}: {error.message.rstrip('.')}.",
            help="run it again; what is stored already is taken once",
        ) from None
    finally:
        await publisher.close()
