"""The demonstration's panel: served beside what was played, on this machine alone, its address printed."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from worker.cli import demo
from worker.demo.kafka import mock_kafka
from worker.demo.run import Demo, demo_settings

if TYPE_CHECKING:
    from collections.abc import Iterator


async def test_the_panel_is_served_beside_the_worker(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The panel answers on a port of this machine, knows the demo's catalog and its worker, and ends with the demo."""
    monkeypatch.setenv("BADGES_ALLOW_INSECURE", "fsync")
    with mock_kafka() as servers:
        running = Demo(demo_settings(postgres_dsn, servers, port=0), said=lambda _: None)
        await running.start()
        try:
            address = await running.serve()
            assert address.startswith("http://127.0.0.1:")
            home, catalog = await asyncio.gather(*(asyncio.to_thread(read, address + path) for path in ("", "catalog")))
            assert "1 worker on" in home
            assert "Commentator" in catalog
        finally:
            await running.stop()
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(read, address)


def read(address: str) -> str:
    """A page as text."""
    with urlopen(address, timeout=20) as answer:
        return str(answer.read().decode())


async def test_its_address_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal the demo stays up on port 8080 and prints the panel's address, once it is served."""
    told: list[Any] = []

    @contextmanager
    def service(**_: Any) -> Iterator[Any]:
        yield SimpleNamespace(version="PostgreSQL", port=1, dsn="postgresql://x")

    class Shown:
        port = 9464

        def __init__(self, settings: Any, *, said: Any) -> None:
            told.append((settings, said))

        async def start(self) -> None:
            told.append("start")

        async def play(self) -> Any:
            counts = {"awards": {}, "expected": set(), "events": 0, "seconds": 1.0, "right": int, "delay_ms": int}
            return SimpleNamespace(exact=True, **counts)

        async def serve(self) -> str:
            return f"http://127.0.0.1:{told[0][0]}/panel/"

        async def served(self) -> None:
            told.append("served")

        async def stop(self) -> None:
            told.append("stop")

    monkeypatch.setattr("worker.demo.kafka.mock_kafka", service)
    monkeypatch.setattr("worker.demo.postgres.PostgresServer", service)
    monkeypatch.setattr("worker.demo.run.Demo", Shown)
    monkeypatch.setattr("worker.demo.run.demo_settings", lambda *_, port: port)
    (port,) = [option.default for option in demo.demo.params if option.name == "port"]
    await demo._play(port, stay=True)
    assert "Panel: http://127.0.0.1:8080/panel/" in capsys.readouterr().err
    assert told[1:] == ["start", "served", "stop"]
