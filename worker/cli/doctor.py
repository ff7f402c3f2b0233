"""`badges doctor`: a check of every setting and connection that says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from worker.cli.output import Format, emit, format_option, verdict
from worker.errors import BadgesError
from worker.printable import printable

if TYPE_CHECKING:
    from worker.app.doctor import Finding


@click.command()
@format_option()
@click.pass_context
def doctor(ctx: click.Context, format: Format) -> None:
    """Check every connection and setting and say what to do; exits 1 where something fails.

    \b
    Example:
      badges doctor
    """
    from worker.app.doctor import summary

    findings = asyncio.run(_run(format))
    if format != "table":
        emit([_row(finding) for finding in findings], ["verdict", "check", "message", "help"], format)
    else:
        click.echo(summary(findings))
    if any(finding.verdict == "FAIL" for finding in findings):
        ctx.exit(1)


async def _run(format: Format) -> list[Finding]:
    from worker.app.doctor import Finding, examine_all
    from worker.cli.connections import quiet_clients
    from worker.config import load_settings

    findings: list[Finding] = []

    def take(finding: Finding) -> None:
        findings.append(finding)
        if format == "table":
            for line in lines(finding):
                click.echo(line)

    try:
        settings = load_settings()
    except BadgesError as error:
        take(Finding("FAIL", "settings", error.message, error.help))
        for check in ("database", "catalog", "kafka", "topics"):
            take(Finding("skip", check, "needs the settings"))
        return findings
    async for finding in examine_all(settings, quiet_clients):
        take(finding)
    return findings


def lines(finding: Finding) -> Iterator[str]:
    """A finding as it is printed."""
    word = click.style(finding.verdict, fg="red", bold=True) if finding.grave else verdict(finding.verdict)
    yield f"{word}{' ' * (6 - len(finding.verdict))}{finding.check:<10}{printable(finding.message)}"
    if finding.help:
        yield f"        help: {printable(finding.help)}"


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "verdict": finding.verdict,
        "check": finding.check,
        "message": finding.message,
        "help": finding.help,
    }
