"""The API held to its own description: requests made from the OpenAPI, good and bad, on the whole application."""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import CHECKS

from tests.unit.serving import TOKENS, served
from tests.unit.serving_catalog import FakeAwards, FakeCatalogs, FakeProfiles, award, logged
from worker.admin.roles import Role

#: So many requests are made up for each operation; in CI there are more, of every bound that the description names.
EXAMPLES = int(os.environ.get("BADGES_TEST_API_EXAMPLES", "5"))
#: What a description cannot say: flows and rules that a schema lets pass are refused for what they mean, a deleted
#: badge stays, and nobody's token is known to the generator.
UNSAID = ("positive_data_acceptance", "use_after_free", "ensure_resource_availability", "ignored_auth")

APP = served(
    parts={
        "catalog": FakeCatalogs(),
        "profiles": FakeProfiles({"u1": [award("first")], "0": [award("first"), award("regular_5")]}),
        "awards": FakeAwards([logged(1), logged(2)]),
    }
)
HEADERS = {"Authorization": f"Bearer {TOKENS[Role.ADMIN]}"}
API = schemathesis.openapi.from_asgi("/openapi.json", APP, headers=HEADERS)
API.config.phases.coverage.enabled = os.environ.get("BADGES_TEST_PROFILE", "dev") != "dev"


@pytest.mark.filterwarnings("ignore:Skipped test cases with unsupported payload media types")
@API.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_operation_answers_as_it_is_described(case: Case) -> None:
    """No request makes a fault of ours, and every answer has a status, a type and a form that the description names."""
    unsaid = [check for check in CHECKS.get_all() if check.__name__ in UNSAID]
    case.call_and_validate(headers=HEADERS, excluded_checks=unsaid)
