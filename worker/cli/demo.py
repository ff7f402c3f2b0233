"""`badges demo`: everything on this machine, without a broker or a database of one's own."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from worker.demo.run import Outcome


@click.command()
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port of panel and API.")
@click.option("--once", is_flag=True, help="End with a summary, also on a terminal.")
def demo(port: int, once: bool) -> None:
    """Play a real community's 8,391 events through the real worker.

    \b
    Example:
      badges demo --once
    """
    from worker import logs
    from worker.config import load_settings

    stay = sys.stdout.isatty() and not once
    logs.configure(load_settings(log_level="error"))
    asyncio.run(_play(port if stay else 0, stay=stay))


async def _play(port: int, *, stay: bool) -> None:
    from worker.demo.kafka import mock_kafka
    from worker.demo.postgres import PostgresServer
    from worker.demo.run import Demo, demo_settings
    from worker.errors import OperatorError

    with PostgresServer(prefer="wheel") as database, mock_kafka() as bootstrap_servers:
        click.echo(f"{database.version} on port {database.port}, Kafka protocol on {bootstrap_servers}.", err=True)
        running = Demo(demo_settings(database.dsn, bootstrap_servers, port=port), said=_say)
        await running.start()
        try:
            outcome = await running.play()
            _summarise(outcome)
            if stay:
                click.echo(f"Panel: {await running.serve()}", err=True)
                click.echo(f"Metrics and health: http://127.0.0.1:{running.port}/metrics", err=True)
                click.echo(f'Try: psql "{database.dsn}" -c "TABLE badges.user_badges LIMIT 5"', err=True)
                click.echo("Ctrl-C stops everything.", err=True)
                await running.served()
        finally:
            await running.stop()
    if not outcome.exact:
        raise OperatorError("The awards are not the expected ones.", help="please report this with the lines above")


def _say(body: dict[str, Any]) -> None:
    context = f"  {body['context']}" if body["context"] else ""
    click.echo(f"{body['awarded_at'][:19].replace('T', ' ')}Z  {body['user_id']:<7}  {body['badge']['label']}{context}")


def _summarise(outcome: Outcome) -> None:
    from worker.cli.output import emit

    by_badge: dict[str, list[dict[str, Any]]] = {}
    for body in outcome.awards.values():
        by_badge.setdefault(body["badge"]["label"], []).append(body)
    rows = [
        {
            "badge": label,
            "awards": f"{len(awards):,}",
            "holders": f"{len({body['user_id'] for body in awards}):,}",
            "first": min(body["awarded_at"] for body in awards)[:10],
            "last": max(body["awarded_at"] for body in awards)[:10],
        }
        for label, awards in sorted(by_badge.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    click.echo()
    emit(rows, ("badge", "awards", "holders", "first", "last"), "table")
    users = len({body["user_id"] for body in outcome.awards.values()})
    click.echo(
        f"{outcome.right():,} awards of {len(outcome.expected):,} expected, to {users:,} users, "
        f"from {outcome.events:,} events in {outcome.seconds:.1f} s "
        f"(p99 event to award {outcome.delay_ms(0.99):.0f} ms)"
    )
