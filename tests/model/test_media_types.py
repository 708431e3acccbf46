"""Media types as browsers, recorders and people write them, against the standard library's own reader of headers."""

from email.policy import HTTP
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.refusals import check, raises

from assetlane_server.model.media_types import (
    MediaType,
    MediaTypePart,
    NotAMediaType,
    canonical,
    is_same_type,
    parse_media_type,
)

TOKEN = "!#$%&'*+.^_`|~-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # noqa: S105 - a token of the grammar

GOOD = [
    ("image/jpeg", "image/jpeg"),
    ("IMAGE/JPEG", "image/jpeg"),
    (" text/plain\t", "text/plain"),
    ("text/plain; charset=UTF-8", "text/plain; charset=UTF-8"),
    ("text/plain ;\t charset=utf-8 ; ", "text/plain; charset=utf-8"),
    ("text/plain;", "text/plain"),
    ("text/plain;;;Charset=utf-8;;", "text/plain; charset=utf-8"),
    ('text/plain;charset="utf-8"', "text/plain; charset=utf-8"),
    ('text/plain;charset=""', 'text/plain; charset=""'),
    ("video/webm;codecs=vp8,opus", 'video/webm; codecs="vp8,opus"'),
    ("video/webm;codecs=vp8, opus", 'video/webm; codecs="vp8, opus"'),
    ("video/webm;codecs=vp8,  opus", 'video/webm; codecs="vp8, opus"'),
    ('video/webm; codecs="vp8, opus"', 'video/webm; codecs="vp8, opus"'),
    ('video/mp4;codecs="avc1.42E01E,mp4a.40.2"', 'video/mp4; codecs="avc1.42E01E,mp4a.40.2"'),
    ("video/x-matroska;codecs=avc1,opus", 'video/x-matroska; codecs="avc1,opus"'),
    ("audio/webm;codecs=opus", "audio/webm; codecs=opus"),
    (r'text/plain;name="a \"b\" \\ ;c, d"', r'text/plain; name="a \"b\" \\ ;c, d"'),
    (r'text/plain;name="\a\b"', "text/plain; name=ab"),
    ("multipart/mixed; boundary=----=_Part_1", 'multipart/mixed; boundary="----=_Part_1"'),
    ("multipart/related; type=text/xml", 'multipart/related; type="text/xml"'),
    ("text/plain;charset=utf-8;charset=utf-8", "text/plain; charset=utf-8"),
    ("application/vnd.api+json", "application/vnd.api+json"),
    ("text/" + "x" * 250, "text/" + "x" * 250),
]


@pytest.mark.parametrize(("text", "kept"), GOOD)
def test_a_media_type_has_one_form(text: str, kept: str) -> None:
    """And that form is its own."""
    assert str(parse_media_type(text)) == kept
    assert str(parse_media_type(kept)) == kept


TYPE, SUBTYPE, NAME, VALUE = MediaTypePart
# A text; why it is refused; in which part, or in which parameter's; the character or the size that is to blame.
BAD: list[tuple[str, str, MediaTypePart | None, str, str | int]] = [
    ("", "EMPTY", None, "", ""),
    ("  ", "EMPTY", None, "", ""),
    ("image", "NO_SLASH", None, "", ""),
    (";charset=utf-8", "NO_SLASH", None, "", ""),
    ("/jpeg", "MISSING", TYPE, "", ""),
    ("image/", "MISSING", SUBTYPE, "", ""),
    ("image/ jpeg", "CHARACTER_NOT_ALLOWED", SUBTYPE, "", " "),
    ("image/jpeg, image/png", "CHARACTER_NOT_ALLOWED", SUBTYPE, "", ","),
    ("image/a/b", "CHARACTER_NOT_ALLOWED", SUBTYPE, "", "/"),
    ("im[age/a", "CHARACTER_NOT_ALLOWED", TYPE, "", "["),
    ("*/*", "WILDCARD", None, "", ""),
    ("image/*", "WILDCARD", None, "", ""),
    ("*/png", "WILDCARD", None, "", ""),
    ("image/*+xml", "WILDCARD", None, "", ""),
    ("text/plain;charset", "EQUALS_SIGN_MISSING", None, "charset", ""),
    ("text/plain;charset;a=b", "EQUALS_SIGN_MISSING", None, "charset", ""),
    ("text/plain;charset=", "MISSING", VALUE, "charset", ""),
    ("text/plain;charset= utf-8", "CHARACTER_NOT_ALLOWED", VALUE, "charset", " "),
    ("text/plain;charset =utf-8", "BLANK_AFTER_NAME", None, "charset", " "),
    ("text/plain;=utf-8", "MISSING", NAME, "", ""),
    ("text/plain;char[set=utf-8", "CHARACTER_NOT_ALLOWED", NAME, "", "["),
    ('text/plain;a="b', "QUOTE_NOT_CLOSED", VALUE, "a", ""),
    ('text/plain;a="b\\', "QUOTE_NOT_CLOSED", VALUE, "a", ""),
    ('text/plain;a="b"c', "TEXT_AFTER_QUOTE", None, "a", "c"),
    ("text/plain;a=b c", "CHARACTER_NOT_ALLOWED", VALUE, "a", " "),
    ("text/plain;a=<script>", "CHARACTER_NOT_ALLOWED", VALUE, "a", "<"),
    ('text/plain;a="b  c"', "BLANKS_IN_A_ROW", VALUE, "a", ""),
    ('text/plain;a="b \\ c"', "BLANKS_IN_A_ROW", VALUE, "a", ""),
    ('text/plain;a="b\tc"', "TAB_IN_VALUE", VALUE, "a", "\t"),
    ("text/plain;a=1;A=2", "PARAMETER_TWICE", None, "a", ""),
    ("image/jpeg\r\nx-evil: 1", "CHARACTER_NOT_ALLOWED", None, "", "\r"),
    ("image/bild-größe", "CHARACTER_NOT_ALLOWED", None, "", "ö"),
    ("text/plain;a=\0", "CHARACTER_NOT_ALLOWED", None, "", "\0"),
    ("text/" + "x" * 251, "TOO_LONG", None, "", 256),
    ("text/" + "é" * 126, "TOO_LONG", None, "", 257),
    ("text/plain;a=" + "," * 242, "TOO_LONG", None, "", 258),  # with its quotes
]


@pytest.mark.parametrize(("text", "reason", "part", "parameter", "culprit"), BAD)
def test_the_error_says_what_is_wrong(
    text: str, reason: str, part: MediaTypePart | None, parameter: str, culprit: str | int
) -> None:
    """Which part, parameter, character or limit; people read in the message what programs find in the attributes."""
    with pytest.raises(NotAMediaType) as refused:
        parse_media_type(text)
    error = refused.value
    assert (error.reason, error.part, error.parameter, error.size_bytes or error.character) == (
        reason,
        part,
        parameter,
        culprit,
    )
    shown = [repr(parameter)] if parameter else []
    if isinstance(culprit, str) and culprit and culprit != " ":
        shown.append(f"U+{ord(culprit):04X}")
    check(error, names=shown, limits=[culprit, 255] if isinstance(culprit, int) else [])
    assert canonical(text) == text


@pytest.mark.parametrize(("text", "position"), [("image/jpeg\r\n", 11), ("image/bild-größe", 14), ("a/b;c=\0", 7)])
def test_a_character_that_may_stand_nowhere_is_named_with_its_place(text: str, position: int) -> None:
    """Nobody sees it in the text: people count to it, from 1."""
    with raises(NotAMediaType, reason="CHARACTER_NOT_ALLOWED", limits=[position]):
        parse_media_type(text)


def read_by_the_library(text: str) -> MediaType:
    """What `email` reads, by RFC 2045: the grammar is the same, but for what mail alone has."""
    header: Any = HTTP.header_factory("content-type", text)
    assert not header.defects
    return MediaType(header.maintype, header.subtype, tuple(header.params.items()))


# `name*` is RFC 2231's in mail, and in no media type of HTTP.
names = st.text(TOKEN.replace("*", "").replace("'", "").replace("%", ""), min_size=1, max_size=8).map(str.lower)
values = st.text([chr(code) for code in range(32, 127)], max_size=30).filter(lambda text: "  " not in text)
types = st.builds(
    lambda kind, subtype, parameters: MediaType(kind, subtype, tuple(parameters.items())), names, names,
    st.dictionaries(names, values, max_size=3),
)  # fmt: skip


@given(types)
def test_what_is_formatted_is_read_again(media_type: MediaType) -> None:
    """By us, and the same by an independent reader."""
    text = str(media_type)
    if len(text) > 255:
        return
    assert parse_media_type(text) == media_type
    assert "  " not in text
    # In mail `*`, `'` and `%` are RFC 2231's, and `=?` begins an encoded word.
    if not any(set(value) & set("*'%") or "=?" in value for _, value in media_type.parameters):
        assert read_by_the_library(text) == media_type


@given(types, st.data())
def test_blanks_case_and_empty_parameters_change_nothing(media_type: MediaType, data: st.DataObject) -> None:
    """The form stays the same, and the oracle reads the same from what was written as from what is kept."""
    blanks = st.sampled_from(["", " ", "\t", "  ", " \t "])
    text = media_type.essence.upper()
    for name, value in media_type.parameters:
        escaped = "".join(f"\\{one}" if one in '"\\' else one for one in value)
        written = f"{data.draw(blanks)};{data.draw(st.sampled_from(['', ';', ' ; ']))}{data.draw(blanks)}"
        text += f'{written}{name.upper()}="{escaped}"'
    text += data.draw(st.sampled_from(["", ";", " ; ;"]))
    if max(len(text), len(str(media_type))) > 255:
        return
    assert parse_media_type(text) == media_type


@given(st.text(max_size=40) | st.text(TOKEN + '/;=,"\\ \t', max_size=40).map("a/b;".__add__))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else is raised, and what is kept is one line of ASCII without runs of blanks."""
    try:
        kept = str(parse_media_type(text))
    except NotAMediaType:
        return
    assert kept.isascii()
    assert kept.isprintable()
    assert "  " not in kept
    assert len(kept) <= 255
    assert canonical(kept) == kept


@pytest.mark.parametrize(
    ("promised", "stored", "same"),
    [
        ("image/jpeg", "image/jpeg", True),
        ("image/jpeg", "Image/JPEG", True),
        ("text/plain;charset=utf-8", "text/plain; charset=UTF-8", True),
        ("text/plain; charset=utf-8", "text/plain;charset=utf-8", True),
        ('video/webm;codecs="vp8, opus"', 'video/webm ; codecs="vp8, opus"', True),
        ('a/b;c="d; e"', 'a/b;c="d;e"', False),
        ("text/plain", "text/plain;charset=utf-8", False),
        ("text/plain;charset=utf-8", "text/plain", False),
        ("application/octet-stream", "text/html", False),
        ("image/jpeg", "", False),
        ("image/jpeg", "image/jpeg;", False),
        ("text/plain;a=b", "text/plain;a=c", False),
    ],
)
def test_a_store_may_change_case_and_blanks_only(promised: str, stored: str, same: bool) -> None:
    """A parameter that was added is another type."""
    assert is_same_type(promised, stored) is same
