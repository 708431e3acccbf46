"""The words of pages, contract, docstrings, comments and messages are those that a reader expects."""

import ast
import io
import os
import re
import tokenize
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
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

# Made by others or by programs, or what was said at its time.
NOT_OURS = re.compile(
    r"_pb2|_pb\.ts$|/gen/|google/|third_party/|conformance/protos/|package-lock|requirements/.*\.txt$|page/assets/|\.pb$"
)


# What is built or installed, not written.
NOT_WRITTEN = re.compile(r"\.(?!ci$)|(?:node_modules|target|build|__pycache__)$|dist(?:-|$)")


def _files(*endings: str) -> list[Path]:
    found = []
    for folder, inner, files in os.walk(ROOT):
        inner[:] = [name for name in inner if not NOT_WRITTEN.match(name)]
        paths = [Path(folder, name) for name in files if str(Path(folder, name)).endswith(endings)]
        found += [path for path in paths if not NOT_OURS.search(str(path.relative_to(ROOT))) and path != Path(__file__)]
    return sorted(found)


PAGES = _files(
    ".md", ".ts", ".js", ".html", ".css", ".go", ".java", ".proto", ".toml", ".yaml", ".yml", ".sh",
    ".xml", ".conf", ".service", "Makefile", "Containerfile", "tests/conformance/script.json",
)  # fmt: skip
SOURCES = _files(".py")
# In names of classes, functions and variables. `tell` is what files have in Python.
REFUSED_IN_NAMES = re.compile(
    r"(?:^|_)(?:told|untold|telling|wish(?:es)?|mend|anew|whoever|his|hers|him|he|she|heart|desk|chronicle|parcel|leash)"
    r"(?:_|$)"
)
REFUSED_CLASSES = frozenset(
    {"Desk", "Room", "Board", "Story", "Chronicle", "Parcel", "Lines", "Leash", "Word", "Told", "Telling", "Wishes"}
)


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yields the texts of a Python file with their lines: docstrings, messages, comments; no names of things."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def names(source: str) -> Iterator[tuple[int, str]]:
    """Yields the names that a Python file gives, with their lines."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name


def refused_in(name: str) -> bool:
    """Whether a name has a refused word in it, in either way of joining words."""
    return REFUSED_IN_NAMES.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) is not None


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


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_contract_and_programs_are_in_plain_words(path: Path) -> None:
    """Each line of them, code included."""
    assert faults(numbered(path.read_text())) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_and_names_of_python_are_in_plain_words(path: Path) -> None:
    """Docstrings, messages, comments and the names that a file gives; of the tests too."""
    source = path.read_text()
    assert faults(prose(source)) == []
    given = list(names(source))
    assert [(line, name) for line, name in given if refused_in(name)] == []
    assert [(line, name) for line, name in given if name in REFUSED_CLASSES] == []


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


def test_the_check_leaves_ordinary_words_alone() -> None:
    """A word within another is another word."""
    assert faults(prose("def find(path: str) -> None:\n    '''Returns the header of a hotel.'''\n")) == []


def test_the_check_covers_every_part() -> None:
    """A part that is moved away from here must not drop out unseen."""
    covered = {path.relative_to(ROOT).parts[0] for path in [*PAGES, *SOURCES]}
    assert covered >= {"bench", "client", "deploy", "docs", "examples", "protos", "server", "tests", "web", "README.md"}


def matched_texts(source: str) -> list[int]:
    """Returns the lines of a test in which an error or a warning is recognised by its words."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [
        call.lineno
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("raises", "warns", "RaisesGroup", "RaisesExc")
        and any(keyword.arg == "match" for keyword in call.keywords)
    ]


def referring_docstrings(source: str) -> list[int]:
    """Returns the lines of docstrings that only name where to read on: an implementation inherits what it would say."""
    nodes = ast.walk(ast.parse(source))
    return [
        node.body[0].lineno
        for node in nodes
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and REFERENCE.match(ast.get_docstring(node) or "")
    ]


REFERENCE = re.compile(r"See (?:\w+\.)*[A-Z]\w*(?:[.:]|$)")


def test_an_implementation_inherits_the_docstring_of_its_port() -> None:
    """It derives from the port and is marked with `override`; no docstring says "See X" in the place of the promise."""
    parts = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("client", "server")]
    assert {path.relative_to(ROOT).parts[0] for path in parts} == {"client", "server"}
    assert {path: lines for path in parts if (lines := referring_docstrings(path.read_text()))} == {}


@pytest.mark.parametrize(
    ("docstring", "lines"),
    [
        ("See Access.", [2]),
        ("See access.policy.Caller: it has none.", [2]),
        ("See RFC 9110.", []),
        ("Sees Access.", []),
    ],
)
def test_the_check_finds_a_docstring_that_refers(docstring: str, lines: list[int]) -> None:
    """Of a class and of a method alike; a reference to a standard is a source."""
    assert referring_docstrings(f'class Caller:\n    """{docstring}"""\n') == lines
    assert referring_docstrings(f'async def ask(self):\n    """{docstring}"""\n') == lines


# What makes an error, or a line of a log, a text of ours.
_ERRORS = frozenset({"error", "refused", "refusal", "failed", "failure", "raised", "outcome"})
_SENTENCE = re.compile(r"[A-Za-z]{2,} [a-z]{2,}")


def is_our_text(node: ast.expr, errors: AbstractSet[str], texts: AbstractSet[str]) -> bool:
    """Whether an expression is the words of an error or of the log, or made of them by methods and slices."""
    match node:
        case ast.Call(func=ast.Name(id="str" | "repr"), args=[ast.Attribute(attr="value" | "__cause__")]):
            return True
        case ast.Call(func=ast.Name(id="str" | "repr"), args=[ast.Name(id=name)]):
            return name in errors
        case ast.Call(func=ast.Attribute(attr="details" | "getMessage"), args=[]):
            return True
        case ast.Attribute(attr="message" | "messages" | "output"):
            return True
        case ast.Attribute(value=ast.Name(id="caplog"), attr="text"):
            return True
        case ast.Name(id=name):
            return name in texts
        case ast.Call(func=ast.Attribute(value=inner)) | ast.Subscript(value=inner):
            return is_our_text(inner, errors, texts)
        case ast.BoolOp(values=inners):
            return any(is_our_text(inner, errors, texts) for inner in inners)
    return False


def is_sentence(node: ast.expr) -> bool:
    """Whether a literal, a formatted one too, has two words in a row."""
    literals = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return any(_SENTENCE.search(literal) for literal in literals)


def asserted_texts(source: str) -> list[int]:
    """Returns the lines of a test that look for something in the words of an error or of the log.

    What must not be there (a secret, a traceback) may be looked for, and what `tests.refusals` compares: names that a
    user has given, and numbers. Equal to a text that the test itself has made may be what is shown; to a sentence of
    ours it may not.
    """
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        nodes = list(ast.walk(function))
        errors = _ERRORS | {one.name for one in nodes if isinstance(one, ast.ExceptHandler) and one.name}
        texts = {
            target.id
            for one in nodes
            if isinstance(one, ast.Assign) and is_our_text(one.value, errors, frozenset())
            for target in one.targets
            if isinstance(target, ast.Name)
        }
        for node in nodes:
            match node:
                case ast.Compare(ops=[ast.In()], comparators=[where]) if is_our_text(where, errors, texts):
                    found.append(node.lineno)
                case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]) if any(
                    is_our_text(one, errors, texts) and is_sentence(other)
                    for one, other in ((left, right), (right, left))
                ):
                    found.append(node.lineno)
                case ast.Call(func=ast.Attribute(value=where, attr="startswith" | "endswith")) if is_our_text(
                    where, errors, texts
                ):
                    found.append(node.lineno)
    return sorted(set(found))


TESTS = [path for path in SOURCES if path.is_relative_to(ROOT / "tests")]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_match_reasons_and_never_texts(path: Path) -> None:
    """Class, reason, field, setting and limit are asserted by `tests.refusals.raises`; the words may change."""
    source = path.read_text()
    assert matched_texts(source) == []
    assert asserted_texts(source) == []


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("assert fault in str(refused.value)", True),
        ("assert 'no such' in refused.value.message.lower()", True),
        ("assert 'gone' in caplog.text", True),
        ("assert call.details() == 'there is none'", True),
        ("assert [one for one in caplog.messages if 'x' in one] == caplog.messages.startswith('x')", True),
        ("text = str(error.value)\n    assert 'gone' in text", True),
        ("text = str(error.value)\n    assert text.splitlines()[0].startswith('x')", True),
        ("assert SECRET not in str(refused.value)", False),
        ("assert str(media_type) == kept", False),
        ("assert str(refused.value) == str(here.value)", False),
        ("check(refused.value, names=['a.txt'], limits=[3])", False),
        ("assert 3 in numbers_in(notice.message)", False),
        ("assert name in text", False),
    ],
)
def test_the_check_finds_an_asserted_text(line: str, is_found: bool) -> None:
    """In whatever is made of it; what must not be there, and what is no text of ours, is left alone."""
    assert bool(asserted_texts(f"def test(caplog):\n    {line}\n")) is is_found


def test_the_check_finds_a_matched_text() -> None:
    """A regular expression that happens to have the name is left alone."""
    source = "with pytest.raises(ValueError, match='no'):\n    re.compile(match='a')\n"
    assert matched_texts(source) == [1]


@pytest.mark.parametrize("name", ["told", "_told_of_uri", "wishes", "on_leash_end", "ReportDesk", "test_it_is_told"])
def test_the_check_finds_names(name: str) -> None:
    """Of a variable, whichever word of it is refused."""
    assert [found for _, found in names(f"{name} = 1") if refused_in(found)] == [name]
