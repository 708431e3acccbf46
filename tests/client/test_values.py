"""What a command line's values become, and that no command loads a library for it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.refusals import numbers_in, shows
from typer.testing import CliRunner

from assetlane.cli.commanding import Command
from assetlane.cli.commands import app
from assetlane.cli.values import _reader
from assetlane_server.command.cli import cli


def _params(command: Any) -> list[Any]:
    return [*command.params, *(param for one in getattr(command, "commands", {}).values() for param in _params(one))]


@pytest.mark.parametrize("parser", [app, cli])
def test_the_type_of_every_option_is_known(parser: typer.Typer) -> None:
    """Of both commands: an option of another type would load pydantic at every start."""
    params = _params(typer.main.get_command(parser))
    descriptors = [(param.name, param.type_descriptor) for param in params]
    assert len(descriptors) > 20
    assert [name for name, one in descriptors if _reader(one.annotation, one.parameter_info) is None] == []


def test_a_command_loads_only_what_it_needs() -> None:
    """Neither help nor a command that calls a server loads a library that takes longer than all else together."""
    code = """
import sys
from assetlane.cli import main
sys.argv = ["assetlane", "--target", "127.0.0.1:1", "--timeout", "0.1", "--tls", "ls", "--limit", "3"]
try:
    main()
except SystemExit as end:
    print(end.code, [name for name in ("pydantic", "rich", "aiohttp", "PIL", "numpy") if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "1 []\n"


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--number", "2.5"], "2.5 1 False a None []"),
        (["--count", "7", "--flag", "--kind", "b"], "1.0 7 True b None []"),
        (["--file", "a b/ü.txt", "--word", "x", "--word", ""], "1.0 1 False a a b/ü.txt ['x', '']"),
    ],
)
def test_values_are_read(words: list[str], value: str) -> None:
    """Numbers, flags, choices, paths and lists."""
    assert CliRunner().invoke(_sample(), words).output.strip() == value


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        (["--number", "nan"], set()),
        (["--number", "inf"], set()),
        (["--number", "0.4"], {0.5}),
        (["--count", "1.5"], set()),
        (["--count", "many"], set()),
        (["--count", "10"], {9}),
        (["--kind", "c"], set()),
    ],
)
def test_what_is_no_value_is_named(words: list[str], limits: set[float]) -> None:
    """The error names the option, and the limit if there is one."""
    result = CliRunner().invoke(_sample(), words)
    assert result.exit_code == 2
    shows(result.output, f"'{words[0]}'")
    raised = CliRunner().invoke(_sample(), words, standalone_mode=False).exception
    assert isinstance(raised, typer.BadParameter)
    assert raised.param is not None
    assert raised.param.opts == [words[0]]
    assert numbers_in(raised.message) == limits


@pytest.mark.parametrize(("text", "code", "flag"), [("1", 0, True), ("no", 0, False), ("", 0, False), ("2", 2, None)])
def test_a_flag_from_the_environment(text: str, code: int, flag: bool | None) -> None:
    """1, no and an empty text are read as people write them in an environment; another number is refused."""
    result = CliRunner().invoke(_sample(), [], env={"SAMPLE_FLAG": text})
    assert result.exit_code == code
    if code == 0:
        assert result.output.split()[2] == str(flag)
    else:
        shows(result.output, "SAMPLE_FLAG")


def _sample() -> typer.Typer:
    from typing import Annotated, Literal

    sample = typer.Typer(rich_markup_mode=None)

    @sample.command(cls=Command)
    def show(
        number: Annotated[float, typer.Option(min=0.5)] = 1.0,
        count: Annotated[int, typer.Option(max=9)] = 1,
        flag: Annotated[bool, typer.Option("--flag", envvar="SAMPLE_FLAG")] = False,
        kind: Literal["a", "b"] = "a",
        file: Path | None = None,
        word: list[str] | None = None,
    ) -> None:
        typer.echo(f"{number} {count} {flag} {kind} {file} {word or []}")

    return sample
