"""Media types as browsers, recorders and people write them, against the standard library's own reader of headers."""

from email.policy import HTTP
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetlane_server.model.media_types import MediaType, NotAMediaType, canonical, is_same_type, parse_media_type

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


BAD = [
    ("", "it is empty"),
    ("  ", "it is empty"),
    ("image", "'image' has no '/'"),
    (";charset=utf-8", "has no '/'"),
    ("/jpeg", "the type before '/' is missing"),
    ("image/", "the subtype after '/' is missing"),
    ("image/ jpeg", "the subtype after '/' has a blank"),
    ("image/jpeg, image/png", "the subtype after '/' has ','"),
    ("image/a/b", "the subtype after '/' has '/'"),
    ("*/*", "'*/*' is a wildcard"),
    ("image/*", "'image/*' is a wildcard"),
    ("*/png", "'*/png' is a wildcard"),
    ("image/*+xml", "is a wildcard"),
    ("text/plain;charset", "the parameter 'charset' has no '='"),
    ("text/plain;charset;a=b", "the parameter 'charset' has no '='"),
    ("text/plain;charset=", "the parameter 'charset' has no value"),
    ("text/plain;charset= utf-8", "the value of 'charset' has a blank"),
    ("text/plain;charset =utf-8", "there is a blank after 'charset'"),
    ("text/plain;=utf-8", "the name of a parameter is missing"),
    ("text/plain;char[set=utf-8", "the name of a parameter has '[' (U+005B)"),
    ('text/plain;a="b', "no closing double quote"),
    ('text/plain;a="b\\', "no closing double quote"),
    ('text/plain;a="b"c', "after the closing quote of 'a' there is 'c'"),
    ("text/plain;a=b c", "the value of 'a' has a blank"),
    ("text/plain;a=<script>", "the value of 'a' has '<'"),
    ('text/plain;a="b  c"', "two blanks in a row"),
    ('text/plain;a="b \\ c"', "two blanks in a row"),
    ('text/plain;a="b\tc"', "a tab"),
    ("text/plain;a=1;A=2", "the parameter 'a' is there twice"),
    ("image/jpeg\r\nx-evil: 1", "character 11 is U+000D"),
    ("image/bild-größe", "character 14 is 'ö' (U+00F6)"),
    ("text/plain;a=\0", "character 14 is U+0000"),
    ("text/" + "x" * 251, "it is 256 bytes long, the limit is 255"),
    ("text/" + "é" * 126, "it is 257 bytes long, the limit is 255"),
    ("text/plain;a=" + "," * 242, "with its quotes it is 258 bytes long"),
]


@pytest.mark.parametrize(("text", "fault"), BAD, ids=[fault for _, fault in BAD])
def test_the_message_says_what_is_wrong(text: str, fault: str) -> None:
    """Which part, which character, or which limit."""
    with pytest.raises(NotAMediaType) as refused:
        parse_media_type(text)
    assert fault in str(refused.value)
    assert canonical(text) == text


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
