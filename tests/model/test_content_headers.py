"""How objects are served: what is shown, under which name it is saved, how long it is kept."""

from dataclasses import replace
from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.uploads.samples import PICTURE, requested

from assetlane_server.model.content_headers import (
    INLINE_TYPES,
    MAX_NAME_BYTES,
    cache_control,
    content_disposition,
    disposition,
    file_name,
    served,
)
from assetlane_server.model.paths import fault_in_path
from assetlane_server.model.upload import VariantPromise


@pytest.mark.parametrize(
    ("path", "variant", "content_type", "name"),
    [
        ("albums/2026/beach.jpg", "original", "image/jpeg", "beach.jpg"),
        ("albums/2026/beach.JPG", "small", "image/jpeg", "beach-small.jpg"),
        ("beach.heic", "small", "image/jpeg", "beach-small.jpg"),
        ("film.mov", "preview", "image/webp", "film-preview.webp"),
        ("noending", "small", "image/png", "noending-small.png"),
        ("p.html", "original", "application/octet-stream", "p.html"),
        ("p.html", "data", "application/octet-stream", "p-data"),
        ("archive.tar.gz", "small", "image/png", "archive.tar-small.png"),
        (".env", "original", "text/plain", ".env"),
        (".env", "small", "image/png", ".env-small.png"),
        ("a/...", "original", "text/plain", "file"),
        ("a/....", "small", "image/jpeg", "file-small.jpg"),
        ("trailing. . ", "original", "text/plain", "trailing"),
        ("a  \u00a0 b.txt", "original", "text/plain", "a b.txt"),
        ("Bildschirmfoto um 10.00.00\u202fAM.png", "original", "image/png", "Bildschirmfoto um 10.00.00\u202fAM.png"),
        ("gepj\u202egpj.exe", "original", "application/octet-stream", "gepj_gpj.exe"),
        ("a\u2066b\u2069\u200bc\ufeff.txt", "original", "text/plain", "a_b__c_.txt"),
        ("  ", "original", "text/plain", "file"),
        ("\u202e", "original", "text/plain", "_"),
        ("a" * 300 + ".jpg", "original", "image/jpeg", "a" * 251 + ".jpg"),
        ("é" * 200 + ".jpg", "small", "image/jpeg", "é" * 122 + "-small.jpg"),
        ("x." + "y" * 300, "original", "text/plain", "x." + "y" * 253),
    ],
)
def test_a_variant_has_the_name_of_its_file(path: str, variant: str, content_type: str, name: str) -> None:
    """Without what could mislead; a cut is called after its file."""
    assert file_name(path, variant, content_type) == name
    assert len(name.encode()) <= MAX_NAME_BYTES


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("beach.jpg", 'attachment; filename="beach.jpg"'),
        ("a b (1), c; d.txt", 'attachment; filename="a b (1), c; d.txt"'),
        ("Grüße.txt", "attachment; filename=\"Gr__e.txt\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.txt"),
        ('say "hi".txt', "attachment; filename=\"say _hi_.txt\"; filename*=UTF-8''say%20%22hi%22.txt"),
        ("back\\slash", "attachment; filename=\"back_slash\"; filename*=UTF-8''back%5Cslash"),
        ("100%41.txt", "attachment; filename=\"100_41.txt\"; filename*=UTF-8''100%2541.txt"),
        ("🏝.png", "attachment; filename=\"_.png\"; filename*=UTF-8''%F0%9F%8F%9D.png"),
        ("it's.txt", 'attachment; filename="it\'s.txt"'),
    ],
)
def test_a_disposition_has_the_name_in_ascii_and_in_full(name: str, text: str) -> None:
    """RFC 6266; the second form only where the first is not the name."""
    assert disposition("attachment", name) == text


@given(st.text(min_size=1, max_size=300))
def test_no_name_breaks_a_header(path: str) -> None:
    """Whatever path is admitted: one line of ASCII without runs of blanks that an independent reader understands."""
    if fault_in_path(path, 1024):
        return
    name = file_name(path)
    text = disposition("inline", name)
    assert text.isascii()
    assert text.isprintable()
    assert "  " not in text
    assert len(text) < 1100  # beside type and caching, below AWS's 2 KB
    assert 0 < len(name.encode()) <= MAX_NAME_BYTES
    assert name.strip(" .") or name.startswith(".")
    assert not set(name) & set("/\\\0\n\u202e\u2066")
    message = Message()
    message["content-disposition"] = text
    assert message.get_content_disposition() == "inline"
    if "filename*=" in text:
        charset, _, quoted = text.partition("filename*=")[2].partition("''")
        assert (charset, unquote(quoted)) == ("UTF-8", name)
    else:
        assert message.get_filename() == name


def test_only_named_types_are_shown() -> None:
    """Each in full: no wildcard, nothing with markup, no script; case and parameters do not matter."""
    assert not [one for one in INLINE_TYPES if "*" in one or "xml" in one or "html" in one or "script" in one]
    kinds = {
        one: content_disposition("a.x", "original", one).partition(";")[0]
        for one in (
            *INLINE_TYPES,
            "Image/PNG",
            "text/plain;charset=utf-8",
            'video/webm;codecs="vp8,opus"',
            "text/html",
            "text/xsl",
            "image/svg+xml",
            "video/x+xml",
            "unknown/unknown",
            "application/unknown",
            "multipart/x-mixed-replace",
            "message/rfc822",
            "text/javascript1.5",
            "application/x-unheard-of",
            "image/x",
        )
    }
    shown = {one for one, kind in kinds.items() if kind == "inline"}
    assert shown == INLINE_TYPES | {"Image/PNG", "text/plain;charset=utf-8", 'video/webm;codecs="vp8,opus"'}
    assert set(kinds.values()) == {"inline", "attachment"}


def test_what_was_forgotten_is_saved_and_kept_by_nobody_else() -> None:
    """A promise that nobody filled in is signed with the safe headers."""
    promise = VariantPromise("original", "image/jpeg", 1)
    assert (promise.content_disposition, promise.cache_control) == ("attachment", "private")


def test_private_and_public_objects_are_kept_differently() -> None:
    """Public ones for a year, since nothing ever changes under their keys."""
    private = requested()
    public = requested(replace(PICTURE, expiration_hours=0))
    assert served(private, private.variants[0]).cache_control == cache_control(is_public=False) == "private"
    assert served(public, public.variants[1]).cache_control == "public, max-age=31536000, immutable"
    assert served(public, public.variants[1]).content_disposition == 'inline; filename="beach-small.jpg"'
