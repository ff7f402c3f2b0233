"""The bench of scheduled jobs, small: its data, its figures, its check, and that nothing is left of it."""

from __future__ import annotations

from worker.bench import jobs
from worker.bench.ground import PREFIX, Ground
from worker.cli.bench_table import jobs_lines
from worker.config import load_settings


async def test_small(postgres_dsn: str) -> None:
    """Both jobs find what was made for them, and no schema of the bench stays."""
    settings = load_settings(database_url=postgres_dsn, allow_insecure="fsync")
    said: list[str] = []
    figures = await jobs.run(settings, jobs.Effort("tiny", 3_660, 20_000, 2), said=said.append)
    assert figures["anniversaries"]["due"] in (10, 20)  # 29 February has its own on the 28th
    assert figures["holders"]["awards"] == 20_000
    assert 50 <= figures["holders"]["awards_per_day"] <= 60
    assert len(said) == 2
    assert len(list(jobs_lines(figures))) == 3
    assert not [row for row in await Ground(settings).ask("SELECT nspname FROM pg_namespace") if PREFIX in row[0]]
