"""The house: licence, lock files, layers between rooms, what a wheel holds."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-image.lock")


def locked(name: str) -> dict[str, str]:
    """Distribution to version of a lock file."""
    text = (ROOT / name).read_text()
    return {
        canonicalize_name(found[1]): found[2] for found in re.finditer(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)
    }


def test_licence_is_whole() -> None:
    """LICENSE is the text of the Apache License 2.0, and the metadata says so."""
    text = (ROOT / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert PROJECT["license"] == "Apache-2.0"


@pytest.mark.parametrize("name", LOCKS)
def test_locks_are_hashed_and_name_no_place(name: str) -> None:
    """Every locked version has a hash, and no lock names a registry or a path: any mirror may serve it."""
    text = (ROOT / name).read_text()
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[\w.-]+==\S+", block), block
        assert "--hash=sha256:" in block, block
    assert not re.search(r"https?:|file:|://|\s-(i|f|e)\s|--(index|find-links|extra-index|trusted)", text)


def test_locks_hold_what_the_project_asks_for() -> None:
    """The core's lock satisfies the dependencies, the tests' every extra, the image's those it serves; they agree."""
    core, whole, image = map(locked, LOCKS)
    assert core.items() <= image.items() <= whole.items()
    extras = PROJECT["optional-dependencies"]
    every = [text for texts in extras.values() for text in texts]
    served = [*extras["admin"], *extras["js"]]
    for more, lock in (([], core), (every, whole), (served, image)):
        wanted = PROJECT["dependencies"] + more
        for requirement in map(Requirement, wanted):
            version = lock.get(canonicalize_name(requirement.name))
            assert version is not None, requirement.name
            assert requirement.specifier.contains(version), requirement


def test_extras() -> None:
    """The extras users may ask for are there, and the core install needs none of them."""
    assert {"admin", "demo", "js", "otel"} <= set(PROJECT["optional-dependencies"])


def test_rooms_look_down() -> None:
    """Imports between rooms go down only, and the rules stay pure: the contracts of import-linter hold."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_wheel_holds_the_data_files(tmp_path: Path) -> None:
    """A wheel carries migrations, queries, schemas and the demo's data, and no tests."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=100,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("sql", "schemas"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file():
                assert f"worker/{file.relative_to(ROOT)}" in names
    for file in (ROOT / "worker" / "demo").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert str(file.relative_to(ROOT)) in names
    assert not [name for name in names if not name.startswith(("worker/", "badgestream-"))]


def test_modules_say_what_they_hold() -> None:
    """Every module says what it holds, and none is longer than 400 lines."""
    for file in (ROOT / "worker").rglob("*.py"):
        text = file.read_text()
        assert not text.strip() or ast.get_docstring(ast.parse(text)), file
        assert text.count("\n") <= 400, file


#: What the docstring of every operator says, in this form.
REMEMBERED = re.compile(
    r"Remembered per user: [^;]+; at most [^;]+; "
    r"read from the event log: nothing as events come, all of the user's after a late one\."
)


def test_operators_say_what_they_remember_and_read() -> None:
    """Every module of an operator says what is remembered of a user, its bound, and what is read from the log."""
    files = (ROOT / "worker" / "rules" / "operators").glob("*.py")
    operators = [file for file in files if " = Operator(" in file.read_text() or file.name == "event.py"]
    assert len(operators) > 10
    for file in operators:
        said = ast.get_docstring(ast.parse(file.read_text())) or ""
        assert len(REMEMBERED.findall(" ".join(said.split()))) == 1, file
