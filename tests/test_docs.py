"""What the pages say exists: links, headings, commands and their options, settings, targets of make."""

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from typer.main import get_command

from assetlane.cli.commands import app
from assetlane_server.command.cli import cli
from assetlane_server.config.settings import CLIENTS, SECRETS, Settings
from assetlane_server.config.sources import SETTINGS_FILE

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("protos/*.md"),
        *ROOT.glob("tests/*/README.md"),
        *ROOT.glob("web/*/README.md"),
    ]
    + [page for page in ROOT.glob("examples/**/README.md") if "node_modules" not in page.parts]
)
# Typer brings a Click of its own, so their types are nobody's business.
COMMANDS: dict[str, Any] = {"assetlane": get_command(app), "assetlane-server": get_command(cli)}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
SETTINGS = {f"ASSETLANE_{name.upper()}" for name in Settings.model_fields} | CLIENTS | {SETTINGS_FILE}
SETTINGS |= {f"ASSETLANE_{name.upper()}_FILE" for name in SECRETS}

named = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """Returns a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Returns what links may point to within a page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def lines(page: Path) -> Iterator[str]:
    """Yields the shell lines of a page, joined where they are broken."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for block in blocks:
        yield from (line.removeprefix("$ ").strip() for line in block.replace("\\\n", " ").splitlines())


def calls(page: Path) -> Iterator[list[str]]:
    """Yields the calls of our commands and of make, word by word, without what pipes and settings are around them."""
    for line in lines(page):
        for part in re.split(r"&&|\|\||;|\||\$\(|\)$", line):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:  # half a quoted text: no call of ours is cut there
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words and Path(words[0]).name in {*COMMANDS, "make"}:
                yield [Path(words[0]).name, *words[1:]]


def options(command: Any) -> set[str]:
    """Returns the names of a command's options."""
    return {"--help"}.union(*(set(one.opts) | set(one.secondary_opts) for one in command.params))


@named
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of this repository and a heading that is there, or to a page of the web."""
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target}: there is no such file"
        assert found.is_relative_to(ROOT), f"{target}: that is not in this repository"
        assert not anchor or anchor in anchors(found), f"{target}: there is no such heading"


@named
def test_every_command_exists_with_its_options(page: Path) -> None:
    """Of our two commands, and of make."""
    for name, *words in calls(page):
        if name == "make":
            wanted = [word for word in words if "=" not in word and not word.startswith("-")]
            assert set(wanted) <= TARGETS, f"make {wanted}: there is no such target"
            continue
        command = COMMANDS[name]
        known = options(command)
        for word in words:
            if word.startswith("-"):
                assert word.partition("=")[0] in known, f"{name}: there is no option {word}"
            elif word in getattr(command, "commands", {}):
                command = command.commands[word]
                known |= options(command)
        assert not hasattr(command, "commands") or "--version" in words, f"{name} {words}: there is no such command"


@named
def test_every_setting_exists(page: Path) -> None:
    """A name that ends with `_*` stands for several."""
    for name in re.findall(r"\bASSETLANE_[A-Z0-9_]+\*?", page.read_text()):
        if name.endswith("*"):
            assert any(setting.startswith(name[:-1]) for setting in SETTINGS), name
        else:
            assert name in SETTINGS, name


def test_the_map_of_the_code_has_every_folder_of_the_server() -> None:
    """And no folder that is not there."""
    package = ROOT / "server" / "assetlane_server"
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("| folder of the server |")[2]
    rows = re.findall(r"^\| `([a-z_]+)/` \| ", table, flags=re.MULTILINE)
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(rows) == sorted(folders)


def test_the_drawings_are_those_of_their_script() -> None:
    """To the letter."""
    drawn = runpy.run_path(str(ROOT / "docs" / "pictures" / "drawings.py"))["DRAWINGS"]
    for name, draw in drawn.items():
        kept = (ROOT / "docs" / "pictures" / name).read_text()
        assert kept == draw().svg(), f"{name}: run docs/pictures/drawings.py and look at it"


@pytest.mark.parametrize("picture", sorted(ROOT.glob("docs/pictures/*.svg")), ids=lambda picture: picture.name)
def test_every_picture_is_xml_with_a_title_and_is_shown_somewhere(picture: Path) -> None:
    """For readers who cannot see it, and with colours for dark pages."""
    tree = ET.fromstring(picture.read_text())  # noqa: S314 - our own
    title = tree.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text
    assert "prefers-color-scheme: dark" in picture.read_text()
    assert any(f"pictures/{picture.name})" in page.read_text() for page in PAGES)


def test_one_sentence_per_line() -> None:
    """Diffs of prose stay readable."""
    for page in ROOT.glob("docs/*.md"):
        lines = [line for line in prose(page).splitlines() if line and not line.startswith(("|", "#", "-", "**"))]
        sentences = [re.sub(r"^\d\. (?:\*\*.*?\*\*)?", "", line) for line in lines]  # without what begins a list's item
        assert [line for line in sentences if re.search(r"[.!?] [A-Z]", line)] == [], page
