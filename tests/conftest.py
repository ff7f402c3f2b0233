"""What every test has at hand: the services of the rig, and how many examples a property is tried with."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, is_hypothesis_test, settings

pytest_plugins = ["tests.rig.kafka", "tests.rig.postgres"]

_CALM = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("dev", max_examples=100, deadline=None, suppress_health_check=_CALM)
settings.register_profile("ci", max_examples=200, deadline=None, suppress_health_check=_CALM, print_blob=True)
_MANY = int(os.environ.get("BADGES_TEST_EXAMPLES", "2000"))
settings.register_profile("acceptance", max_examples=_MANY, deadline=None, suppress_health_check=_CALM, print_blob=True)
#: Where only matters whether a test fails: nothing is made smaller, nothing kept for the next run.
settings.register_profile(
    "mutation",
    max_examples=_MANY,
    deadline=None,
    suppress_health_check=_CALM,
    phases=(Phase.explicit, Phase.generate),
    database=None,
)
_PROFILE = os.environ.get("BADGES_TEST_PROFILE", "dev")
settings.load_profile(_PROFILE)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where the first failure ends the run, what is quick runs before the properties."""
    if _PROFILE == "mutation":
        items.sort(key=lambda item: is_hypothesis_test(getattr(item, "obj", None)))
