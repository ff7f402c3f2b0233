"""The command: quick to start, its words on the right stream, its status telling what happened."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import cli
from worker.cli import output
from worker.cli.output import Column
from worker.errors import AuthorError, Fault, OperatorError

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Puts a command `probe` among the others that does what it is given."""

    def place(action: Callable[[], object]) -> None:
        made = click.Command("probe", callback=action, params=[])
        real = cli.Commands.get_command

        def get(self: cli.Commands, ctx: click.Context, name: str) -> click.Command | None:
            if name != "probe":
                return real(self, ctx, name)
            cli._take_color(made)
            return made

        monkeypatch.setattr(cli.Commands, "get_command", get)

    return place


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    """`badges --help` is there at once: it imports neither a command nor what commands need."""
    probe = (
        "import sys, worker.cli; worker.cli.main(['--help']);"
        "heavy = {'pydantic', 'structlog', 'asyncpg', 'aiokafka', 'asyncio', 'msgspec', 'yaml', 'worker.rules'};"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    best = 10.0
    for _ in range(5):
        # the processor's time, which it is when nothing else runs: a busy machine must not decide this
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False, timeout=30)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert (done.returncode, done.stderr) == (0, "")
    assert best < 0.3


def test_bare_command_lists_by_job(capsys: Capture) -> None:
    """Without arguments the commands are listed by job, each with one sentence, on standard output."""
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(title) for title in cli.JOBS.values()]
    assert places == sorted(places)
    for name, entry in cli.COMMANDS.items():
        assert f"  {name} " in shown
        assert entry.help.endswith(".")
        assert entry.job in cli.JOBS


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_listed_command_is_there(name: str, capsys: Capture) -> None:
    """Every command of the table can be asked for help, and its help holds an example."""
    assert cli.main([name, "--help"]) == 0
    assert f"badges {name}" in capsys.readouterr().out.partition("Usage:")[2].partition("\n")[2]


def test_version(capsys: Capture) -> None:
    """`--version` names the distribution."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("badgestream 0.")


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["--color", "pink"]])
def test_wrong_usage(arguments: list[str], capsys: Capture) -> None:
    """Wrong usage is status 2, in two lines on standard error."""
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "\n  help: badges --help" in said.err


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_clear_failure(command: Callable[..., None], capsys: Capture) -> None:
    """An error of the project's is status 1, its sentence and its remedy on standard error."""
    command(raising(OperatorError("BADGES_X is \x1b[31mwrong.", help="write right")))
    assert cli.main(["probe"]) == 1
    assert capsys.readouterr() == ("", "error: BADGES_X is \\x1b[31mwrong.\n  help: write right\n")


def test_faults_of_an_author(command: Callable[..., None], capsys: Capture) -> None:
    """All faults of a catalog are said, each with its place and its remedy."""
    faults = [
        Fault("unknown_field", "/badges/0/flow", "No field.", help="write score", file="a.yaml", line=9, column=43),
        Fault("bad_levels", "", "Levels must rise.", severity="warning"),
    ]
    command(raising(AuthorError(faults)))
    assert cli.main(["probe"]) == 1
    assert capsys.readouterr().err == (
        "error: a.yaml:9:43 unknown_field /badges/0/flow: No field.\n  help: write score\n"
        "warning: bad_levels /: Levels must rise.\n"
    )


def test_what_the_system_refuses(command: Callable[..., None], capsys: Capture) -> None:
    """A full disk or a forbidden file is one sentence, no trace."""
    command(lambda: Path("/nowhere/at/all").write_text("x"))
    assert cli.main(["probe"]) == 1
    assert capsys.readouterr().err == "error: /nowhere/at/all: No such file or directory.\n"


def test_missing_extra(command: Callable[..., None], capsys: Capture) -> None:
    """A command whose extra is not installed names the extra."""
    command(raising(ModuleNotFoundError("No module named 'confluent_kafka'", name="confluent_kafka.admin")))
    assert cli.main(["probe"]) == 1
    assert "badgestream[demo]" in capsys.readouterr().err


def test_a_fault_of_ours_is_not_dressed_up(command: Callable[..., None]) -> None:
    """What no user can cause keeps its trace."""
    command(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe"])
    command(raising(ModuleNotFoundError("No module named 'worker.nope'", name="worker.nope")))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["probe"])


def test_interrupted(command: Callable[..., None], capsys: Capture) -> None:
    """Ctrl-C is status 130."""
    command(raising(KeyboardInterrupt()))
    assert cli.main(["probe"]) == 130
    assert "Interrupted." in capsys.readouterr().err


def test_status_of_a_command(command: Callable[..., None]) -> None:
    """A command's own status is the process's; what it returns is not."""
    command(lambda: click.get_current_context().exit(1))
    assert cli.main(["probe"]) == 1
    command(lambda: 7)
    assert cli.main(["probe"]) == 0


def test_reader_that_goes_away() -> None:
    """`badges … | head -1` ends quietly, even when much was still to be written."""
    probe = (
        "import sys, click; from worker import cli\n"
        "made = click.Command('probe', callback=lambda: [click.echo('x' * 100) for _ in range(10_000)])\n"
        "cli.Commands.get_command = lambda self, ctx, name: made\n"
        "sys.exit(cli.main(['probe']))"
    )
    with subprocess.Popen([sys.executable, "-c", probe], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141


@pytest.mark.parametrize(
    ("surroundings", "arguments", "colored"),
    [
        ({}, ["probe"], False),
        ({}, ["--color", "always", "probe"], True),
        ({}, ["probe", "--color", "always"], True),
        ({"NO_COLOR": "1"}, ["probe", "--color", "always"], True),
        ({"NO_COLOR": "1"}, ["probe", "--color", "auto"], False),
        ({"TERM": "dumb"}, ["probe"], False),
        ({}, ["--color", "always", "probe", "--color", "never"], False),
    ],
)
def test_color(
    surroundings: dict[str, str],
    arguments: list[str],
    colored: bool,
    command: Callable[..., None],
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Piped output has no colours unless they are asked for, at whatever place; errors follow the same choice."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)

    def action() -> None:
        click.echo(output.verdict("FAIL"))
        raise OperatorError("wrong")

    command(action)
    cli.main(arguments)
    said = capsys.readouterr()
    assert ("\x1b[" in said.out, "\x1b[" in said.err) == (colored, colored)


@pytest.mark.parametrize(
    ("surroundings", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_color_on_a_terminal(surroundings: dict[str, str], colored: bool) -> None:
    """On a terminal there are colours, unless NO_COLOR or TERM=dumb say otherwise."""
    probe = (
        "import sys, click; from worker import cli; from worker.cli import output\n"
        "made = click.Command('probe', callback=lambda: click.echo(output.verdict('ok')))\n"
        "cli.Commands.get_command = lambda self, ctx, name: made\n"
        "sys.stdout.isatty = lambda: True\n"
        "sys.exit(cli.main(['probe']))"
    )
    environ = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, check=True, timeout=30, env=environ | surroundings
    )
    assert done.stdout == (b"\x1b[32mok\x1b[0m\n" if colored else b"ok\n")


ROWS = [
    {"user_id": "u40", "badge_key": "student", "events": 1269, "why": "1 question with score at least 1", "extra": 1},
    {"user_id": "u8", "badge_key": "commentator_10", "events": 7, "why": None, "extra": 2},
]


def test_table() -> None:
    """A table has a head, aligned columns, numbers grouped and on the right, nothing for None."""
    assert output.table(
        ROWS, [Column("user_id", whole=True), "badge_key", Column("events", "n"), "why"], width=None
    ) == [
        "user_id  badge_key           n  why",
        "u40      student         1,269  1 question with score at least 1",
        "u8       commentator_10      7",
    ]
    assert output.table([], ["user_id"], width=None) == []


def test_narrow_table() -> None:
    """On a narrow terminal the last columns are shortened, then left out; keys, ids and times never."""
    columns = [Column("user_id", whole=True), "badge_key", "events", "why"]
    assert output.table(ROWS, columns, width=50)[1] == "u40      student          1,269  1 question with …"
    assert output.table(ROWS, columns, width=40)[1] == "u40      student          1,269"
    assert output.table(ROWS, columns, width=28)[1] == "u40      student"
    assert output.table(ROWS, columns, width=5)[1] == "u40"


def test_exact_fit() -> None:
    """A table that fits to the character is left whole; one character less shortens the last column to the width."""
    rows = [{"id": "u1", "text": "日本語のバッジ and more text", "yes": True}]
    whole = output.table(rows, [Column("id", whole=True), "yes", "text"], width=None)
    width = max(map(output._width, whole))
    assert width == len("u1  yes  ") + 7 * 2 + len(" and more text")
    assert output.table(rows, [Column("id", whole=True), "yes", "text"], width=width) == whole
    shortened = output.table(rows, [Column("id", whole=True), "yes", "text"], width=width - 1)
    assert shortened[1] == "u1  yes  日本語のバッジ and more te…"
    assert max(map(output._width, shortened)) == width - 1


def test_nested_cells() -> None:
    """A list or a mapping in a table is its JSON."""
    assert output.cell({"a": [1, "x\n"]}) == '{"a":[1,"x\\n"]}'


@given(st.lists(st.fixed_dictionaries({"id": st.text(max_size=9), "text": st.text(max_size=60)}), min_size=1))
def test_table_lines(rows: list[dict[str, str]]) -> None:
    """Whatever a row holds, it is one printable line, and no wider than asked unless its keys are."""
    lines = output.table(rows, [Column("id", whole=True), "text"], width=110)
    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() for line in lines)
    assert all(output._width(line) <= 110 for line in lines)


def test_emit(capsys: Capture) -> None:
    """JSON holds every key of a row, exactly; JSON lines are one row each; an empty result is an empty array."""
    at = datetime(2017, 12, 6, 3, 56, 18, 250000, tzinfo=timezone(timedelta(hours=1)))
    rows = [{"a": Decimal("10.50"), "b": 10**20, "at": at.astimezone(UTC), "c": MappingProxyType({"d": ("é", None)})}]
    output.emit(rows, ["a"], "json")
    shown = capsys.readouterr().out
    assert '"a":10.50' in shown
    assert json.loads(shown) == [{"a": 10.5, "b": 10**20, "at": "2017-12-06T02:56:18.250000Z", "c": {"d": ["é", None]}}]
    output.emit(rows * 2, ["a"], "jsonl")
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 2
    output.emit([], ["a"], "json")
    assert json.loads(capsys.readouterr().out) == []
    output.emit([], ["a"], "jsonl")
    assert capsys.readouterr().out == ""
    output.emit(rows, ["a", "at"], "table")
    assert capsys.readouterr().out == "    a  at\n10.50  2017-12-06 02:56:18Z\n"


def test_emit_json_of_several_rows(capsys: Capture) -> None:
    """Several rows make one JSON array."""
    output.emit(({"n": n} for n in range(3)), ["n"], "json")
    assert json.loads(capsys.readouterr().out) == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_whole_columns_are_not_grouped() -> None:
    """An offset is shown as it is written elsewhere."""
    assert output.cell(88123, whole=True) == "88123"
    assert output.cell(88123) == "88,123"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (250, "4 min 10 s"),
        (7500, "2 h 5 min"),
        (7199, "1 h 59 min"),
        (97200, "1 d 3 h"),
        (3600, "1 h"),
        (777600, "9 d"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    """A length of time has at most two units."""
    assert output.span(seconds) == text


def test_format_option(capsys: Capture) -> None:
    """`--format` takes the formats that a command names, the first being the default."""

    @click.command()
    @output.format_option("table", "json", "github")
    def probe(format: str) -> None:
        click.echo(format)

    probe.main(["--format", "github"], standalone_mode=False)
    probe.main([], standalone_mode=False)
    assert capsys.readouterr().out == "github\ntable\n"
    with pytest.raises(click.BadParameter):
        probe.main(["--format", "jsonl"], standalone_mode=False)


def test_notices_go_beside_the_result(capsys: Capture) -> None:
    """A notice is on standard error."""
    output.notice("4 awards")
    assert capsys.readouterr() == ("", "4 awards\n")
