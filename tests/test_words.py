"""The words of pages, contract, docstrings, comments and messages are those that a reader expects."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What is not written, and what is written instead.
INSTEAD = {
    r"tell(?:s|ing)?|told": "return, report, say, show, list",
    r"wish(?:es|ed|ing)?": "want, ask for, need",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"anew": "again, new",
    r"who(?:m)?ever": "anybody who, the caller, they",
    r"he|him|his|himself|she|her|hers|herself": "they, their, the caller",
    r"who is nobody|what there is of it": "a plain description",
    r"heart|desk|chronicle|parcel|leash": "the name of the thing in the field's terms",
}
REFUSED = re.compile(rf"\b(?:{'|'.join(INSTEAD)})\b", re.IGNORECASE)

PAGES = sorted(
    page
    for pattern in (
        "*.md",
        "docs/*.md",
        "protos/*.md",
        "web/*/README.md",
        "examples/**/README.md",
        "tests/*/README.md",
        "Makefile",
        "deploy/**/*.*",
        "deploy/Containerfile",
        "web/client/src/*.ts",
        "web/uppy/src/*.ts",
    )
    for page in ROOT.glob(pattern)
    if "node_modules" not in page.parts and page.suffix != ".pb"
)
PROTOS = sorted(ROOT.glob("protos/assetlane/**/*.proto"))
SOURCES = sorted(
    source
    for folder in ("client", "server", "examples", "protos")
    for source in ROOT.glob(f"{folder}/**/*.py")
    if not source.name.endswith(("_pb2.py", "_pb2_grpc.py")) and "node_modules" not in source.parts
)


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yields the texts of a Python file with their lines: docstrings, messages, comments; no names of things."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def faults(texts: Iterator[tuple[int, str]]) -> list[str]:
    """Returns each refused word with its line and what to write instead."""
    found = []
    for line, text in texts:
        for match in REFUSED.finditer(text):
            number = line + text[: match.start()].count("\n")
            (instead,) = (words for refused, words in INSTEAD.items() if re.fullmatch(refused, match[0], re.IGNORECASE))
            found.append(f"line {number}: {match[0]!r}: write {instead}")
    return sorted(found)


def numbered(text: str) -> Iterator[tuple[int, str]]:
    """Yields the lines of a file with their numbers."""
    return enumerate(text.splitlines(), 1)


@pytest.mark.parametrize("path", [*PAGES, *PROTOS], ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_and_contract_are_in_plain_words(path: Path) -> None:
    """Each line of them, code included."""
    assert faults(numbered(path.read_text())) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_messages_and_comments_are_in_plain_words(path: Path) -> None:
    """Of the client, the server, the examples and the generators of the contract."""
    assert faults(prose(path.read_text())) == []


@pytest.mark.parametrize(
    "text",
    [
        '"""Tells the caller."""', "raise ValueError('whoever calls')", "x = 1  # made anew", "f'{x} is told'",
        '"""First line.\n\nHe may do it."""',
    ],
)  # fmt: skip
def test_the_check_itself_finds_what_is_refused(text: str) -> None:
    """In a docstring, a message, a comment, a formatted text, and a later line of a docstring."""
    assert len(faults(prose(text))) == 1


def test_the_check_leaves_names_and_ordinary_words_alone() -> None:
    """A name is no text, and a word within another is another word."""
    assert faults(prose("def told(tell: str) -> None:\n    '''Returns the header of a hotel.'''\n")) == []
