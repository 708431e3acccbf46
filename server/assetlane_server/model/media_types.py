"""Media types by the grammar of RFC 9110 (8.3.1), read as browsers and recorders write them. Pure.

More is read than the grammar allows: `video/webm;codecs=vp8,opus` with its bare comma, blanks around `;`, empty
parameters, any case. What is kept has one form: lower case, one blank after `;`, a parameter's value in
quotes exactly when it is no token. That form passes an HTTP header and a SigV4 signature unchanged.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

MAX_CONTENT_TYPE_BYTES = 255

_TOKEN_CHARACTERS = r"!#$%&'*+.^_`|~0-9A-Za-z-"  # noqa: S105 - RFC 9110, 5.6.2
_TOKEN = re.compile(f"[{_TOKEN_CHARACTERS}]+")
# What stands in values without the quotes that it should have: lists of codecs, MIME boundaries, types, URLs.
_BARE_VALUE = re.compile(f"[{_TOKEN_CHARACTERS},/:=?@]+(?:(?<=,) [{_TOKEN_CHARACTERS},/:=?@]+)*")
_BLANKS = " \t"
_QUOTED_OR_SEPARATOR = re.compile(r'"(?:[^"\\]|\\.)*"|[ \t]*;[ \t]*')


class MediaTypePart(StrEnum):
    """A part of a media type, as a message names it."""

    TYPE = "the type before '/'"
    SUBTYPE = "the subtype after '/'"
    NAME = "the name of a parameter"
    VALUE = "the value of a parameter"


class NotAMediaType(ValueError):  # noqa: N818 - it says what happened
    """A text is not a media type; the message says which part or character is wrong, or which limit is exceeded.

    Reasons: EMPTY, TOO_LONG, NO_SLASH, WILDCARD, MISSING (a part), CHARACTER_NOT_ALLOWED, EQUALS_SIGN_MISSING,
    BLANK_AFTER_NAME, QUOTE_NOT_CLOSED, TEXT_AFTER_QUOTE, BLANKS_IN_A_ROW, TAB_IN_VALUE, PARAMETER_TWICE.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        part: MediaTypePart | None = None,
        parameter: str = "",
        character: str = "",
        size_bytes: int = 0,
    ) -> None:
        self.reason = reason
        self.part = part  # None: the whole text
        self.parameter = parameter  # the name of the one that the fault is in
        self.character = character  # the first one that is not allowed there
        self.size_bytes = size_bytes  # of what is TOO_LONG
        super().__init__(f"is not a media type: {message}")


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type. Its text is the one form that is signed and stored."""

    type: str  # lower case, as all names
    subtype: str
    parameters: tuple[tuple[str, str], ...] = ()  # names and values without quotes, in their order

    @property
    def essence(self) -> str:
        """Type and subtype, without the parameters."""
        return f"{self.type}/{self.subtype}"

    def __str__(self) -> str:
        return self.essence + "".join([f"; {name}={_quoted(value)}" for name, value in self.parameters])


@lru_cache(maxsize=1024)
def parse_media_type(text: str) -> MediaType:
    """Returns the media type that a text names.

    Raises NotAMediaType.
    """
    size_bytes = len(text.encode(errors="replace"))
    if size_bytes > MAX_CONTENT_TYPE_BYTES:
        too_long = f"it is {size_bytes:,} bytes long, the limit is {MAX_CONTENT_TYPE_BYTES}"
        raise NotAMediaType("TOO_LONG", too_long, size_bytes=size_bytes)
    for position, character in enumerate(text, 1):
        if not " " <= character <= "~" and character != "\t":
            raise NotAMediaType(
                "CHARACTER_NOT_ALLOWED",
                f"character {position} is {_named(character)}, only visible ASCII characters and blanks are allowed",
                character=character,
            )
    if not text.strip(_BLANKS):
        empty = "it is empty; send one such as image/jpeg, or application/octet-stream if the type is unknown"
        raise NotAMediaType("EMPTY", empty)
    head, _, rest = text.partition(";")
    kind, slash, subtype = head.strip(_BLANKS).partition("/")
    if not slash:
        raise NotAMediaType("NO_SLASH", f"{head.strip(_BLANKS)!r} has no '/'; it must look like image/jpeg")
    if "*" in kind or "*" in subtype:
        wildcard = f"'{kind}/{subtype}' is a wildcard; name the one type that the bytes have"
        raise NotAMediaType("WILDCARD", wildcard)
    _check_token(MediaTypePart.TYPE, kind)
    _check_token(MediaTypePart.SUBTYPE, subtype)
    parameters: dict[str, str] = {}
    for name, value in _parameters(rest):
        if parameters.setdefault(name, value) != value:
            twice = f"the parameter {name!r} is there twice, with different values"
            raise NotAMediaType("PARAMETER_TWICE", twice, parameter=name)
    media_type = MediaType(kind.lower(), subtype.lower(), tuple(parameters.items()))
    size_bytes = len(str(media_type))
    if size_bytes > MAX_CONTENT_TYPE_BYTES:
        too_long = f"with its quotes it is {size_bytes:,} bytes long, the limit is {MAX_CONTENT_TYPE_BYTES}"
        raise NotAMediaType("TOO_LONG", too_long, size_bytes=size_bytes)
    return media_type


def canonical(content_type: str) -> str:
    """Returns the one form of a media type; a text that names none is returned unchanged."""
    try:
        return str(parse_media_type(content_type))
    except ValueError:
        return content_type


def essence(content_type: str) -> str:
    """Returns a media type without its parameters, in lower case; also of a text that names none."""
    return content_type.partition(";")[0].strip().lower()


def is_same_type(promised: str, stored: str) -> bool:
    """Whether a store kept a media type. Stores may change its case and the blanks around `;`, nothing else."""
    return _folded(promised) == _folded(stored)


def _folded(content_type: str) -> str:
    def tight(match: re.Match[str]) -> str:
        return match[0] if match[0].startswith('"') else ";"

    return _QUOTED_OR_SEPARATOR.sub(tight, content_type.strip(_BLANKS)).lower()


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    """Yields names in lower case and values without their quotes."""
    at = 0
    while at < len(text):
        if text[at] in _BLANKS or text[at] == ";":
            at += 1
            continue
        match = _TOKEN.match(text, at)
        name = match[0] if match else ""
        at += len(name)
        if at == len(text) or text[at] == ";":
            missing = f"the parameter {name!r} has no '=' and no value"
            raise NotAMediaType("EQUALS_SIGN_MISSING", missing, parameter=name)
        if text[at] in _BLANKS:
            blank = f"there is a blank after {name!r}; a parameter is written name=value"
            raise NotAMediaType("BLANK_AFTER_NAME", blank, parameter=name, character=text[at])
        if text[at] != "=" or not name:
            _check_token(MediaTypePart.NAME, f"{name}{text[at]}" if text[at] != "=" else "")
        value, at = _value(name, text, at + 1)
        yield name.lower(), value


def _value(name: str, text: str, at: int) -> tuple[str, int]:
    """Returns the value that begins there, without its quotes, and where it ends."""
    if at < len(text) and text[at] == '"':
        value, at = _quoted_value(name, text, at + 1)
    else:
        end = text.find(";", at)
        end = len(text) if end < 0 else end
        bare, at = text[at:end].rstrip(_BLANKS), end
        if not bare:
            missing = f"the parameter {name!r} has no value"
            raise NotAMediaType("MISSING", missing, part=MediaTypePart.VALUE, parameter=name)
        value = re.sub(r",[ \t]+", ", ", bare)
        if not (match := _BARE_VALUE.match(value)) or match.end() != len(value):
            wrong = value[match.end() if match else 0]
            raise _in_value(
                "CHARACTER_NOT_ALLOWED", name, f"has {_named(wrong)}; write the value in double quotes", wrong
            )
    if "  " in value:
        # SigV4 folds them before it signs, and the store would keep what was sent.
        raise _in_value("BLANKS_IN_A_ROW", name, "has two blanks in a row, and a signature keeps only one; send one")
    return value, at


def _quoted_value(name: str, text: str, at: int) -> tuple[str, int]:
    value: list[str] = []
    while at < len(text) and text[at] != '"':
        if text[at] == "\\":
            at += 1
            if at == len(text):
                break
        if text[at] == "\t":
            tab = "has a tab (U+0009), and a signature makes it a blank; send a blank"
            raise _in_value("TAB_IN_VALUE", name, tab, "\t")
        value.append(text[at])
        at += 1
    if at == len(text):
        raise _in_value("QUOTE_NOT_CLOSED", name, "has no closing double quote")
    at += 1
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    if at < len(text) and text[at] != ";":
        rest = f"after the closing quote of {name!r} there is {_named(text[at])}, it must be ';' or the end"
        raise NotAMediaType("TEXT_AFTER_QUOTE", rest, parameter=name, character=text[at])
    return "".join(value), at


def _check_token(part: MediaTypePart, text: str) -> None:
    match = _TOKEN.match(text)
    if match is None and not text:
        raise NotAMediaType("MISSING", f"{part} is missing", part=part)
    end = match.end() if match else 0
    if end < len(text):
        wrong = f"{part} has {_named(text[end])}; letters, digits and !#$%&'*+.^_`|~- are allowed"
        raise NotAMediaType("CHARACTER_NOT_ALLOWED", wrong, part=part, character=text[end])


def _quoted(value: str) -> str:
    if _TOKEN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _named(character: str) -> str:
    if character == " ":
        return "a blank"
    if character.isprintable():
        return f"{character!r} (U+{ord(character):04X})"
    return f"U+{ord(character):04X}"


def _in_value(reason: str, name: str, fault: str, character: str = "") -> NotAMediaType:
    message = f"the value of {name!r} {fault}"
    return NotAMediaType(reason, message, part=MediaTypePart.VALUE, parameter=name, character=character)
