"""`badges catalog smoke`: a dry run of a catalog on some real users, which refuses one that changes too much."""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli.connections import catalog_store
from worker.cli.output import Column, Format, as_json, emit, format_option, notice
from worker.errors import OperatorError

if TYPE_CHECKING:
    from worker.app import Difference
    from worker.app.smoke import Smoke
    from worker.config import Settings

_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,4})?)\s*%?")
#: So many users are named for each badge.
_NAMED = 5


def _share(_: click.Context, __: click.Parameter, value: str) -> Fraction:
    """A share in percent: 5%, 2.5 %, 0."""
    found = _SHARE.fullmatch(value.strip())
    if found is None or Fraction(found[1]) > 100:
        raise click.BadParameter(f"{value} is no share from 0% to 100%.")
    return Fraction(found[1]) / 100


@click.command("smoke")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--sample", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many users to try.")
@click.option(
    "--max-change",
    metavar="SHARE",
    default="5%",
    show_default=True,
    callback=_share,
    help="Refuse where more of them would gain, or no more earn, an award.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Other users; the same for one seed."
)
@format_option("table", "json")
def smoke(path: Path, sample: int, max_change: Fraction, seed: int, format: Format) -> None:
    """Try a catalog on some real users, from their logs; exit 1 where it changes more than a share of them.

    Where there are no users it says that nobody was sampled, and exits 0.

    \b
    Example:
      badges catalog smoke catalog/ --sample 50 --max-change 5%
    """
    from worker.config import load_settings

    found, tried = asyncio.run(_tried(path, load_settings(), sample=sample, seed=seed))
    if format == "json":
        click.echo(as_json(_data(found, tried, max_change, seed)))
    else:
        _print(found, tried, max_change, seed)
    if not tried.users:
        notice("Nobody was sampled: the database has no user. Nothing is known of what the catalog changes.")
    worst = max(tried.gaining, tried.losing)
    if worst > max_change:
        what = "would be given an award" if tried.gaining == worst else "would no more earn an award they earn now"
        raise OperatorError(
            f"{percent(worst, max_change)} of the {tried.users:,} users tried {what}; "
            f"at most {percent(max_change)} is allowed.",
            help=f"look at `badges catalog diff {path}`; where it is meant, allow more with --max-change",
        )


async def _tried(path: Path, settings: Settings, *, sample: int, seed: int) -> tuple[Difference, Smoke]:
    from worker.app import difference
    from worker.app.smoke import smoke as try_on
    from worker.cli.progress import Progress

    async with catalog_store(settings, writes=False) as store:
        found = await difference(store, path)
        progress = Progress()
        try:
            tried = await try_on(
                store,
                found,
                sample=sample,
                seed=seed,
                progress=lambda done, total: progress.say(f"  {done:,} of {total:,} users"),
            )
        finally:
            progress.close()
    return found, tried


def percent(share: Fraction, allowed: Fraction | None = None) -> str:
    """A share in percent, never rounded past the one that is allowed."""
    from worker.rules.ir import Check
    from worker.rules.phrases import number

    bounds = [] if allowed is None else [Check("$lte", Decimal(str(float(allowed * 100))))]
    return f"{number(share * 100, bounds)} %"


def _print(found: Difference, tried: Smoke, allowed: Fraction, seed: int) -> None:
    against = "an empty catalog" if found.head is None else f"version {found.head.version}"
    click.echo(
        f"Against {against}: {tried.users:,} of {tried.population:,} users (seed {seed}), {tried.events:,} events. "
        "Nothing is changed."
    )
    rows = [
        {
            "badge": key,
            "would gain": turned.given,
            "would no more earn": turned.lost,
            "users": " ".join(sorted({*turned.gainers, *turned.losers})[:_NAMED]),
        }
        for key, turned in sorted(tried.badges.items())
    ]
    emit(rows, [Column("badge", whole=True), "would gain", "would no more earn", "users"], "table")
    if not tried.users:
        return
    gaining, losing = percent(tried.gaining, allowed), percent(tried.losing, allowed)
    click.echo(
        f"Of these users {gaining} would gain an award, {losing} would no more earn one; "
        f"at most {percent(allowed)} is allowed."
    )


def _data(found: Difference, tried: Smoke, allowed: Fraction, seed: int) -> dict[str, Any]:
    return {
        "against": None if found.head is None else found.head.version,
        "seed": seed,
        "users": tried.users,
        "population": tried.population,
        "events": tried.events,
        "gaining": round(float(tried.gaining), 6),
        "losing": round(float(tried.losing), 6),
        "allowed": round(float(allowed), 6),
        "passed": max(tried.gaining, tried.losing) <= allowed,
        "badges": [
            {
                "key": key,
                "would_gain": turned.given,
                "would_lose": turned.lost,
                "gainers": turned.gainers,
                "losers": turned.losers,
            }
            for key, turned in sorted(tried.badges.items())
        ],
    }
