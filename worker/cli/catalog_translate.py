"""`badges catalog translate`: rules of the older engine as flows, shown to their author."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from worker.cli.output import as_json
from worker.errors import AuthorError, Fault, OperatorError

#: A file of rules is read whole.
_MOST_BYTES = 16 * 1024 * 1024


@click.command("translate")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--event", metavar="TYPE", help="The event type, where the rules know it by a number only.")
def translate(path: Path, event: str | None) -> None:
    """Print the flow that means the same as a rule of conditions (eq, gt, contains, … joined by and/or).

    The file holds one rule, or a list of rules, as JSON: the flow, or a list of flows, is printed as JSON.

    \b
    Example:
      badges catalog translate rule.json --event quiz.done
    """
    from worker.rules.translate import translate as translated

    rules = _read(path)
    several = rules if isinstance(rules, list) else [rules]
    flows: list[Any] = []
    faults: list[Fault] = []
    for index, rule in enumerate(several):
        found = translated(rule, event=event)
        flows.append(found.flow)
        before = f"/{index}" if isinstance(rules, list) else ""
        faults += [replace(fault, path=before + fault.path) for fault in found.faults]
    if faults:
        raise AuthorError(faults)
    click.echo(as_json(flows if isinstance(rules, list) else flows[0]))


def _read(path: Path) -> Any:
    from worker.events.json_text import FAST_ERRORS, read_fast

    try:
        data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else None
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}.", help="name a file with a rule") from None
    if data is None:
        raise OperatorError(f"{path} is larger than 16 MiB.", help="split it")
    try:
        return read_fast(data)
    except FAST_ERRORS as error:
        raise OperatorError(f"{path} is no JSON: {error}.", help="write one rule, or a list of rules") from None
