"""The demonstration's Kafka: there while it is needed, gone afterwards."""

from __future__ import annotations

import socket

import pytest

from worker.demo.kafka import mock_kafka


@pytest.mark.parametrize("brokers", [1, 3])
def test_brokers_listen_on_loopback_until_the_context_ends(brokers: int):
    """Each address takes connections inside the context and none after it."""
    with mock_kafka(brokers) as bootstrap:
        addresses = [address.rpartition(":") for address in bootstrap.split(",")]
        assert len(addresses) == brokers
        for host, _, port in addresses:
            assert host == "127.0.0.1"
            socket.create_connection((host, int(port)), timeout=5).close()
    for host, _, port in addresses:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((host, int(port)), timeout=5).close()
