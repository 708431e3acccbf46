"""Media types by the grammar of RFC 9110 (8.3.1), read as browsers and recorders write them. Pure.

More is read than the grammar allows: `video/webm;codecs=vp8,opus` with its bare comma, blanks around `;`, empty
parameters, any case. What is kept has one form: lower case, one blank after `;`, a parameter's value in
quotes exactly when it is no token. That form passes an HTTP header and a SigV4 signature unchanged.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

MAX_CONTENT_TYPE_BYTES = 255

_TOKEN_CHARACTERS = r"!#$%&'*+.^_`|~0-9A-Za-z-"  # noqa: S105 - RFC 9110, 5.6.2
_TOKEN = re.compile(f"[{_TOKEN_CHARACTERS}]+")
# What stands in values without the quotes that it should have: lists of codecs, MIME boundaries, types, URLs.
_BARE_VALUE = re.compile(f"[{_TOKEN_CHARACTERS},/:=?@]+(?:(?<=,) [{_TOKEN_CHARACTERS},/:=?@]+)*")
_BLANKS = " \t"
_QUOTED_OR_SEPARATOR = re.compile(r'"(?:[^"\\]|\\.)*"|[ \t]*;[ \t]*')


class NotAMediaType(ValueError):  # noqa: N818 - it says what happened
    """A text is not a media type; the message says which part or character is wrong, or which limit is exceeded."""


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
        raise _fault(f"it is {size_bytes:,} bytes long, the limit is {MAX_CONTENT_TYPE_BYTES}")
    for position, character in enumerate(text, 1):
        if not " " <= character <= "~" and character != "\t":
            raise _fault(
                f"character {position} is {_named(character)}, only visible ASCII characters and blanks are allowed"
            )
    if not text.strip(_BLANKS):
        raise _fault("it is empty; send one such as image/jpeg, or application/octet-stream if the type is unknown")
    head, _, rest = text.partition(";")
    kind, slash, subtype = head.strip(_BLANKS).partition("/")
    if not slash:
        raise _fault(f"{head.strip(_BLANKS)!r} has no '/'; it must look like image/jpeg")
    if "*" in kind or "*" in subtype:
        raise _fault(f"'{kind}/{subtype}' is a wildcard; name the one type that the bytes have")
    _check_token("the type before '/'", kind)
    _check_token("the subtype after '/'", subtype)
    parameters: dict[str, str] = {}
    for name, value in _parameters(rest):
        if parameters.setdefault(name, value) != value:
            raise _fault(f"the parameter {name!r} is there twice, with different values")
    media_type = MediaType(kind.lower(), subtype.lower(), tuple(parameters.items()))
    size_bytes = len(str(media_type))
    if size_bytes > MAX_CONTENT_TYPE_BYTES:
        raise _fault(f"with its quotes it is {size_bytes:,} bytes long, the limit is {MAX_CONTENT_TYPE_BYTES}")
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
            raise _fault(f"the parameter {name!r} has no '=' and no value")
        if text[at] in _BLANKS:
            raise _fault(f"there is a blank after {name!r}; a parameter is written name=value")
        if text[at] != "=" or not name:
            _check_token("the name of a parameter", f"{name}{text[at]}" if text[at] != "=" else "")
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
            raise _fault(f"the parameter {name!r} has no value")
        value = re.sub(r",[ \t]+", ", ", bare)
        if not (match := _BARE_VALUE.match(value)) or match.end() != len(value):
            wrong = value[match.end() if match else 0]
            raise _fault(f"the value of {name!r} has {_named(wrong)}; write the value in double quotes")
    if "  " in value:
        # SigV4 folds them before it signs, and the store would keep what was sent.
        raise _fault(f"the value of {name!r} has two blanks in a row, and a signature keeps only one; send one")
    return value, at


def _quoted_value(name: str, text: str, at: int) -> tuple[str, int]:
    value: list[str] = []
    while at < len(text) and text[at] != '"':
        if text[at] == "\\":
            at += 1
            if at == len(text):
                break
        if text[at] == "\t":
            raise _fault(f"the value of {name!r} has a tab (U+0009), and a signature makes it a blank; send a blank")
        value.append(text[at])
        at += 1
    if at == len(text):
        raise _fault(f"the value of {name!r} has no closing double quote")
    at += 1
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    if at < len(text) and text[at] != ";":
        raise _fault(f"after the closing quote of {name!r} there is {_named(text[at])}, it must be ';' or the end")
    return "".join(value), at


def _check_token(part: str, text: str) -> None:
    match = _TOKEN.match(text)
    if match is None and not text:
        raise _fault(f"{part} is missing")
    end = match.end() if match else 0
    if end < len(text):
        raise _fault(f"{part} has {_named(text[end])}; letters, digits and !#$%&'*+.^_`|~- are allowed")


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


def _fault(reason: str) -> NotAMediaType:
    return NotAMediaType(f"is not a media type: {reason}")
