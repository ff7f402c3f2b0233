"""The API held to its own description: requests made from the OpenAPI, good and bad, on the whole application."""

from __future__ import annotations

import os
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import CHECKS

from tests.rig.required import DEEP
from tests.unit.serving import TOKENS, served
from tests.unit.serving_catalog import FakeAwards, FakeCatalogs, FakeProfiles, award, logged
from worker.admin.examples import FORMS, PLACES
from worker.admin.openapi import described
from worker.admin.roles import Role

#: So many requests are made up for each operation; in CI there are more, of every bound that the description names.
EXAMPLES = int(os.environ.get("BADGES_TEST_API_EXAMPLES", "50" if DEEP else "5"))
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
#: The token is sent whatever the generator thinks of it, and a parameter that no route knows is passed over.
API.config.generation.update(with_security_parameters=False, allow_extra_parameters=False)
#: A body that breaks a bound of its form is at times refused for its size first.
API.config.checks.negative_data_rejection.expected_statuses.append("413")
API.config.phases.coverage.enabled = DEEP


def answers() -> list[tuple[str, str, dict[str, Any]]]:
    """Each answer with a body that the description knows: whose, of which type, and what it says of it."""
    return [
        (f"{method} {path} {status}", kind, content)
        for path, operations in described(APP)["paths"].items()
        for method, operation in operations.items()
        for status, answer in operation["responses"].items()
        for kind, content in (answer.get("content") or {}).items()
    ]


def test_every_answer_has_an_example() -> None:
    """Each answer, good or bad, is shown by an example of its schema, which leaves no key of it out."""
    parts = described(APP)["components"]
    seen = set()
    for where, kind, content in answers():
        assert "example" in content, (where, kind)
        shown = content["example"]
        jsonschema_rs.validator_for({**(content.get("schema") or {}), "components": parts}).validate(shown)
        seen.add(where.rpartition(" ")[2])
        schema = content.get("schema") or {}
        form = parts["schemas"].get(str((schema.get("items") or schema).get("$ref", "")).rpartition("/")[2], {})
        one = shown[0] if isinstance(shown, list) else shown
        assert set(form.get("properties", ())) <= set(one), where
    assert seen == {"200", "201", "202", "400", "401", "403", "404", "409", "413", "415", "422", "429", "503"}
    assert {place for place in PLACES if (place[0], place[1]) not in _operations()} == set()
    assert set(FORMS) <= set(parts["schemas"])


def _operations() -> set[tuple[str, str]]:
    return {(method, path) for path, operations in described(APP)["paths"].items() for method in operations}


@pytest.mark.filterwarnings("ignore:Skipped test cases with unsupported payload media types")
@API.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_operation_answers_as_it_is_described(case: Case) -> None:
    """No request makes a fault of ours, and every answer has a status, a type and a form that the description names."""
    unsaid = [check for check in CHECKS.get_all() if check.__name__ in UNSAID]
    case.call_and_validate(headers=HEADERS, excluded_checks=unsaid)
