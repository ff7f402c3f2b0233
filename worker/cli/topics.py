"""`badges topics`: create the topics in Kafka."""

from __future__ import annotations

import asyncio

import click

from worker.cli.output import Column, Format, emit, format_option


@click.group()
def topics() -> None:
    """Create the topics in Kafka.

    \b
    Example:
      badges topics create
    """


@topics.command()
@click.option("--partitions", type=click.IntRange(1, 10_000), default=12, show_default=True, help="For new topics.")
@format_option()
def create(partitions: int, format: Format) -> None:
    """Create the topics that are missing; those that are there stay as they are.

    Each has three replicas where there are so many brokers, then two must be in sync. Topics to read that are given by
    a pattern belong to others and are not created.

    \b
    Example:
      badges topics create --partitions 24
    """
    from worker import stream
    from worker.cli.connections import quiet_clients
    from worker.config import load_settings

    settings = load_settings()
    with quiet_clients():
        made = asyncio.run(stream.create_topics(settings, partitions=partitions))
    rows = [
        {
            "topic": item.facts.name,
            "state": "created" if item.new else "there",
            "partitions": item.facts.partitions,
            "replicas": item.facts.replicas,
        }
        for item in made
    ]
    emit(rows, [Column("topic", whole=True), "state", "partitions", "replicas"], format)
    if format == "table":
        new = sum(item.new for item in made)
        click.echo(f"{new} created, {len(made) - new} there already. Next: badges doctor")
