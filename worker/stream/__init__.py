"""The door to Kafka: the only room that speaks its protocol. It knows bytes and offsets, not badges."""

from worker.stream.consumer import Consumer
from worker.stream.producer import Publisher, open_publisher
from worker.stream.reader import Reader, partitions_of
from worker.stream.topics import check_topics, create_topics

__all__ = ["Consumer", "Publisher", "Reader", "check_topics", "create_topics", "open_publisher", "partitions_of"]
