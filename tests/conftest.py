"""What every test has at hand: the services of the rig, and how many examples a property is tried with."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.rig.kafka", "tests.rig.postgres"]

_CALM = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("dev", max_examples=100, deadline=None, suppress_health_check=_CALM)
settings.register_profile("ci", max_examples=200, deadline=None, suppress_health_check=_CALM, print_blob=True)
_MANY = int(os.environ.get("BADGES_TEST_EXAMPLES", "2000"))
settings.register_profile("acceptance", max_examples=_MANY, deadline=None, suppress_health_check=_CALM, print_blob=True)
settings.load_profile(os.environ.get("BADGES_TEST_PROFILE", "dev"))
