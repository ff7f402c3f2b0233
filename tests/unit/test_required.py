"""Where a machine must have something, no test that needs it passes by being skipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.rig.required import NAMES, missing

ROOT = Path(__file__).parents[2]
#: Who may end a test as skipped: what is required is a failure there, or is not lacked.
SKIPS = {"tests/rig/required.py", "tests/rig/postgres.py"}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_required_is_never_skipped(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What is missing fails a test where `BADGES_TEST_REQUIRE` names it, and skips it elsewhere."""
    monkeypatch.setenv("BADGES_TEST_REQUIRE", f"other, {name}")
    with pytest.raises(pytest.fail.Exception, match=f"asks for {name}: it is not here"):
        missing(name, "it is not here")
    monkeypatch.setenv("BADGES_TEST_REQUIRE", ",".join(one for one in NAMES if one != name))
    with pytest.raises(pytest.skip.Exception, match="it is not here"):
        missing(name, "it is not here")


def test_ci_requires_everything() -> None:
    """CI asks for all that can be asked for, and takes its time."""
    (line,) = re.findall(r"^export BADGES_TEST_REQUIRE=.*$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    values = dict(word.split("=") for word in line.split()[1:])
    assert set(values["BADGES_TEST_REQUIRE"].split(",")) == set(NAMES)
    assert values["BADGES_TEST_PROFILE"] == "ci"


def test_no_test_has_a_skip_of_its_own() -> None:
    """Tests are skipped by `missing`, or because a run is to be short: no other condition could hide one in CI."""
    skips = re.compile(r"pytest\.(?:skip\(|importorskip|mark\.skip\b)|mark\.skipif\((?!not DEEP,)")
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if path != Path(__file__) and skips.search(path.read_text())
    }
    assert found == SKIPS
