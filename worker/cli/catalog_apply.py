"""`badges catalog apply`: makes a catalog file the one that rules."""

from __future__ import annotations

import asyncio
import getpass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from worker.config import Settings


@click.command("apply")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
def apply(path: Path) -> None:
    """Check a catalog and make it the one that rules; running workers take it up between two batches.

    \b
    Example:
      badges catalog apply catalog/
    """
    from worker.config import load_settings

    version, badges, was = asyncio.run(_apply(path, load_settings()))
    if version == was:
        click.echo(f"Unchanged: {path} is version {version}, which rules already.")
    else:
        click.echo(f"Version {version} rules now: {badges:,} badges from {path}.")


async def _apply(path: Path, settings: Settings) -> tuple[int, int, int]:
    from worker.app import apply_catalog, open_store, until_schema

    async with open_store(settings, name="badges catalog") as store:
        await until_schema(store, seconds=0)
        head = await store.catalog_head()
        version, catalog = await apply_catalog(store, path, applied_by=getpass.getuser())
    return version, len(catalog.badges), head.version if head is not None else 0
