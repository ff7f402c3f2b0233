"""Changes operators, plan and evaluation at sampled places, one at a time, and says how often the tests notice.

python -m tests.acceptance.mutation [--mutants 200] [--seed 1] [--minutes 40]

A sample: the score is an estimate, and another seed draws other mutants. One seed draws the same ones as long as their
functions stay as they are: survivors whose reasons are written do not make way for others. All of it runs in a copy of
the sources in the system's folder for temporary files, called after their contents: what was broken off goes on where
it was, and changed sources begin anew. Survivors are looked up in `tests/mutation_survivors.md`, where each has its
reason.

The tests are those that run inside one process, the quick ones first, then the properties, which stop at the first
example that fails. The published cases run the commands as processes of their own, which mutmut cannot follow, so they
count for nothing here. Each mutant is tried in a process that has computed nothing before, or what it changes might not
be asked for again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SURVIVORS = ROOT / "tests" / "mutation_survivors.md"
FOLDERS = ("worker", "tests", "schemas", "sql")
LEAST_SCORE = 90
#: Exit codes of pytest, and of what ended it, that mean a mutant was noticed: a failure, a crash, no end. Not those
#: that mean that its tests could not be run.
NOTICED = frozenset({1, 3, 24, 36, 37, 152, -9, -11, -24})
#: Those of them that may also mean that the machine was busy.
NO_END = frozenset({24, 36, 152, -24})
#: Those that mean nothing was learnt yet: not tried, or broken off.
OPEN = frozenset({None, 2})
#: How long mutmut may take to stop once it is asked to, in seconds.
PATIENCE = 20
SETTINGS = """
[tool.mutmut]
source_paths = ["worker"]
only_mutate = ["worker/rules/operators/*", "worker/rules/plan/*", "worker/rules/evaluate.py"]
also_copy = ["schemas", "sql"]
pytest_add_cli_args_test_selection = [
  "tests/unit/test_bests.py",
  "tests/unit/test_blockers.py",
  "tests/unit/test_build.py",
  "tests/unit/test_calendar.py",
  "tests/unit/test_catalog_edits.py",
  "tests/unit/test_catalog_load.py",
  "tests/unit/test_catch_up.py",
  "tests/unit/test_compare.py",
  "tests/unit/test_condition_operator.py",
  "tests/unit/test_coverage.py",
  "tests/unit/test_dry_run.py",
  "tests/unit/test_evaluate.py",
  "tests/unit/test_faults.py",
  "tests/unit/test_guide.py",
  "tests/unit/test_operators_conditions.py",
  "tests/unit/test_operators_normalize.py",
  "tests/unit/test_operators_pattern.py",
  "tests/unit/test_operators_succession.py",
  "tests/unit/test_operators_within.py",
  "tests/unit/test_parse.py",
  "tests/unit/test_parse_cases.py",
  "tests/unit/test_plan.py",
  "tests/unit/test_preview.py",
  "tests/unit/test_problems.py",
  "tests/unit/test_progress.py",
  "tests/unit/test_ranges.py",
  "tests/unit/test_rehearse.py",
  "tests/unit/test_sentences.py",
  "tests/unit/test_standing.py",
  "tests/unit/test_timing.py",
  "tests/unit/test_translate.py",
  "tests/unit/test_trends.py",
  "tests/unit/test_values.py",
  "tests/unit/test_zones.py",
  "tests/properties/test_anniversaries.py",
  "tests/properties/test_arrival.py",
  "tests/properties/test_catalog_cost.py",
  "tests/properties/test_catch_up.py",
  "tests/properties/test_checkpoint.py",
  "tests/properties/test_condition.py",
  "tests/properties/test_engine.py",
  "tests/properties/test_kinds.py",
  "tests/properties/test_operators.py",
  "tests/properties/test_plan_builds.py",
  "tests/properties/test_plan_cost.py",
  "tests/properties/test_plan_dispatch.py",
  "tests/properties/test_preview.py",
  "tests/properties/test_stairs.py",
  "tests/properties/test_zones.py",
]
pytest_add_cli_args = ["-p", "no:cacheprovider", "--hypothesis-seed=1", "--timeout=600"]
process_isolation = "forkserver"
timeout_multiplier = 2.0
timeout_constant = 30.0
track_dependencies = false
use_git_change_detection = false
"""


def scratch() -> Path:
    """The copy of these sources, made if it is not there."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.is_file()):
        if "__pycache__" not in file.parts and file != SURVIVORS:
            digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    tree = Path(tempfile.gettempdir()) / f"badgestream-mutation-{digest.hexdigest()[:16]}"
    if not (tree / "pyproject.toml").exists():
        for folder in FOLDERS:
            shutil.copytree(
                ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
            )
        # Last: where it stands, the copy is whole.
        (tree / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + SETTINGS)
    return tree


def mutmut(tree: Path, names: Iterable[str], examples: int, seconds: float) -> str:
    """Run mutmut on these mutants until they are judged or the time is up; what it said."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"BADGES_TEST_PROFILE": "mutation", "BADGES_TEST_EXAMPLES": str(examples)}
    command = [Path(sys.executable).with_name("mutmut"), "run", "--max-children", "2", *names]
    log = tree / "mutmut.log"
    with log.open("w") as said:
        ran = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            for ask, patience in ((None, seconds), (signal.SIGINT, PATIENCE)):
                if ask is not None:
                    os.killpg(ran.pid, ask)
                try:
                    ran.wait(patience)
                    break
                except subprocess.TimeoutExpired:
                    continue
        finally:
            # Also where this program is told to end: what mutmut started is in its group.
            if ran.poll() is None:
                os.killpg(ran.pid, signal.SIGKILL)
                ran.wait()
    return log.read_text(errors="replace")


def verdicts(tree: Path) -> dict[str, int | None]:
    """Each mutant's name with what pytest ended with; None where it was not tried."""
    found: dict[str, int | None] = {}
    for file in sorted((tree / "mutants").rglob("*.py.meta")):
        found.update(json.loads(file.read_text())["exit_code_by_key"])
    return found


def place(name: str) -> str:
    """The function a mutant changes, as it is written."""
    module, _, function = name.partition("__mutmut_")[0].rpartition(".")
    return f"{module}.{'.'.join(function.split('ǁ')[1:]) if 'ǁ' in function else function.removeprefix('x_')}"


def change(tree: Path, name: str) -> str:
    """The lines a mutant puts in place of others, as one."""
    command = [Path(sys.executable).with_name("mutmut"), "show", name]
    said = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout
    new = [line[1:].strip() for line in said.splitlines() if line.startswith("+") and not line.startswith("+++")]
    return " ".join(new)


def reasons() -> dict[tuple[str, str], str]:
    """Why a survivor survives, by function and new text."""
    rows = re.findall(r"^- `([^`]+)`: `(.*)` – (.+)$", SURVIVORS.read_text(), re.MULTILINE)
    return {(function, text): reason for function, text, reason in rows}


def prepared(tree: Path, examples: int, seconds: float) -> Mapping[str, int | None]:
    """All mutants there are; made, and the tests that reach each function found, if that was not done before."""
    if not (tree / "mutants" / "mutmut-stats.json").exists():
        # mutmut has no word for this: it stops where no mutant has the name asked for, with all of it done.
        said = mutmut(tree, ["none has this name"], examples, seconds)
        if not (tree / "mutants" / "mutmut-stats.json").exists():
            raise SystemExit(f"the mutants were not made, or the tests fail without any:\n{said[-6000:]}")
    return verdicts(tree)


def drawn(names: Iterable[str], count: int, seed: int) -> list[str]:
    """So many of the mutants, whichever others there are: those whose digests with the seed are the least."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())[:count]


def told(tree: Path, sample: Sequence[str], found: Mapping[str, int | None]) -> bool:
    """Print score and survivors; whether the score is high enough and every survivor has its reason."""
    survivors = [name for name in sorted(sample) if found[name] not in NOTICED]
    known, unknown = reasons(), 0
    for name in survivors:
        function, text = place(name), change(tree, name)
        reason = known.get((function, text))
        unknown += reason is None
        print(f"- `{function}`: `{text}` – {reason or 'NO REASON IS WRITTEN'}  ({name}, {found[name]})")
    score = 100 * (len(sample) - len(survivors)) / len(sample)
    print(f"score {score:.1f} % of {len(sample)} mutants; {len(survivors)} survived, {unknown} without a reason")
    return score >= LEAST_SCORE and not unknown


def main() -> None:
    """Exit 0 where the score holds, 1 where it does not, 2 where the time was up before every mutant was judged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=200, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=30, help="of each property")
    parser.add_argument("--minutes", type=float, default=40.0, help="then it stops; the next run goes on")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    until = time.monotonic() + 60 * options.minutes
    tree = scratch()
    found = prepared(tree, options.examples, 60 * options.minutes)
    sample = drawn(found, options.mutants, options.seed)
    print(f"{len(found)} mutants, {len(sample)} drawn, in {tree}", flush=True)
    left = [name for name in sample if found[name] in OPEN]
    if left:
        said = mutmut(tree, left, options.examples, max(1.0, until - time.monotonic()))
        found = verdicts(tree)
        before, left = left, [name for name in sample if found[name] in OPEN]
        if len(left) == len(before):
            print(said[-6000:])
        if again := [name for name in before if found[name] in NO_END]:
            mutmut(tree, again, options.examples, max(1.0, until - time.monotonic()))
            found = verdicts(tree)
            left = [name for name in sample if found[name] in OPEN]
    if left:
        print(f"{len(sample) - len(left)} of {len(sample)} mutants judged: run it again, it goes on from here")
        sys.exit(2)
    sys.exit(0 if told(tree, sample, found) else 1)


if __name__ == "__main__":
    main()
