"""The growth laws of the store at full size: rows read and written per event, as PostgreSQL counts them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.test_growth_rows import cost

pytestmark = [pytest.mark.growth, pytest.mark.timeout(900)]


async def test_long_histories_cost_nothing(postgres: Any) -> None:
    """A user with 100,000 events costs as many rows as one with 10."""
    with postgres.database() as one, postgres.database() as other:
        assert await cost(one, events=10) == await cost(other, events=100_000)


async def test_a_million_users_cost_nothing(postgres: Any) -> None:
    """Among 10^6 users an event costs as many rows as among 10^3."""
    with postgres.database() as one, postgres.database() as other:
        assert await cost(one, users=1_000) == await cost(other, users=1_000_000)


async def test_a_hundred_thousand_badges_cost_nothing(postgres: Any) -> None:
    """With 100,000 badges that do not match an event costs as many rows as with 10."""
    with postgres.database() as one, postgres.database() as other:
        assert await cost(one, badges=10) == await cost(other, badges=100_000)
