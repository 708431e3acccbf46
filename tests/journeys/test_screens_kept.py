"""That there is a picture of every command and of every error of a connection, at both widths."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from tests.terminal import WIDTHS

import assetlane
from assetlane.cli.commands import app
from assetlane_server.command.cli import cli

FOLDERS = (Path(__file__).parent / "screens", Path(__file__).parents[1] / "client" / "screens")
PARSERS = {"assetlane": app, "assetlane-server": cli}
HELP = {"-h", "--help"}
# What client and command find wrong with a connection or a token before a server could say so.
SOURCES = ("diagnosis.py", "calls.py", "cli/session.py")
REASON = re.compile(r'(?:reason=|Diagnosis\(\s*)"([A-Z_]+)"')
NOT_ERRORS_OF_A_CONNECTION = {"CLIENT_CLOSED"}


def pictures() -> dict[str, dict[int, str]]:
    """Returns each picture by its name and its width."""
    found: dict[str, dict[int, str]] = {}
    for folder in FOLDERS:
        for file in folder.glob("*.txt"):
            name, width, _ = file.name.rsplit(".", 2)
            found.setdefault(f"{folder.parent.name}/{name}", {})[int(width)] = file.read_text()
    return found


def commands(parser: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yields the words of each command, and whether it has none below it."""
    below = getattr(parser, "commands", {})
    yield path, not below
    for name, one in below.items():
        yield from commands(one, (*path, name))


def called(picture: str) -> tuple[tuple[str, ...], set[str]]:
    """Returns the words of the command that a picture shows, and all words of its line."""
    line = picture.split("\n", 1)[0].removeprefix("$ ").split(" ")
    parser, path = typer.main.get_command(PARSERS[line[0]]), [line[0]]
    for word in line[1:]:
        if word in getattr(parser, "commands", {}):
            parser = parser.commands[word]  # type: ignore[attr-defined]
            path.append(word)
    return tuple(path), set(line)


def test_each_picture_is_kept_at_both_widths() -> None:
    """None at one width alone."""
    assert [name for name, kept in pictures().items() if set(kept) != set(WIDTHS)] == []


def test_each_command_has_a_picture_of_its_help_and_of_its_work() -> None:
    """As the parsers list them, so that a new command has to have both."""
    helped, worked = set(), set()
    for kept in pictures().values():
        path, words = called(kept[WIDTHS[0]])
        ended = re.search(r"\[(\d+)\]\n$", kept[WIDTHS[0]])
        if words & HELP:
            helped.add(path)
        elif ended and ended[1] in ("0", "130"):
            worked.add(path)
    everything = [one for name, parser in PARSERS.items() for one in commands(typer.main.get_command(parser), (name,))]
    assert len(everything) > 25
    assert [path for path, _ in everything if path not in helped] == []
    assert [path for path, is_last in everything if is_last and path not in worked] == []


def test_each_error_of_a_connection_has_a_picture() -> None:
    """By its reason, as the sources name them."""
    root = Path(assetlane.__file__).parent
    reasons = {reason for name in SOURCES for reason in REASON.findall((root / name).read_text())}
    assert len(reasons) > 10
    shown = {reason for kept in pictures().values() for reason in re.findall(r"\[([A-Z_]+)\]", kept[WIDTHS[1]])}
    assert reasons - NOT_ERRORS_OF_A_CONNECTION - shown == set()


def test_no_line_of_an_error_breaks_a_word() -> None:
    """Behind a line that fills the terminal comes an indented one, or the terminal has broken it and not we."""
    broken = [
        (name, width, line)
        for name, kept in pictures().items()
        for width, picture in kept.items()
        if name.split("/")[1].startswith(("error-", "usage-", "settings-"))
        for line, after in pairwise(picture.split("\n")[1:])
        if len(line) == width and after and not after.startswith(("  ", "["))
    ]
    assert broken == []
