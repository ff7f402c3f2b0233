"""What every test has at hand: the services of the rig, and how many examples a property is tried with."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, is_hypothesis_test, settings

pytest_plugins = ["tests.rig.kafka", "tests.rig.postgres"]

_CALM = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("dev", max_examples=100, deadline=None, suppress_health_check=_CALM)
#: The same examples for the same test: what a change must pass says something about the change. Others are looked for
#: by `make test` and `make acceptance-properties`.
settings.register_profile(
    "ci", max_examples=200, deadline=None, suppress_health_check=_CALM, print_blob=True, derandomize=True
)
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


#: Folders of tests that wait for brokers and databases most of their time.
_WAITING = ("contracts", "integration")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where the first failure ends the run, what is quick runs before the properties; testers side by side share well.

    Testers take file after file in the order that is made here: were all that compute first, the processors would be
    short then, and idle in the end, when all wait.
    """
    if _PROFILE == "mutation":
        items.sort(key=lambda item: is_hypothesis_test(getattr(item, "obj", None)))
    elif hasattr(config, "workerinput"):
        places = _places(items, float(config.getini("timeout")))
        items.sort(key=lambda item: places[item.path])


def _places(items: Iterable[pytest.Item], usual: float) -> dict[Path, tuple[float, bool]]:
    """Of each file its place in the run: those that wait evenly among those that compute, the longest first."""
    longest: dict[Path, float] = {}
    for item in items:
        limit = item.get_closest_marker("timeout")
        longest[item.path] = max(longest.get(item.path, 0.0), limit.args[0] if limit else usual)
    places = {}
    for waiting in (True, False):
        files = [path for path in longest if (path.parent.name in _WAITING) == waiting]
        files.sort(key=lambda path: -longest[path])
        places |= {path: (number / len(files), not waiting) for number, path in enumerate(files)}
    return places
