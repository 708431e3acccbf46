"""Whether bytes are what they are called, over the whole table in both directions."""

import re
import struct

import pytest
from tests.everyday import Everyday, everyday, film, heic, picture, song
from tests.refusals import shows

from assetlane.detection import _ALIASES, _CONTAINERS, SIGNED, detected
from assetlane.formats import CONTENT_TYPES
from assetlane.media_types import declared_content_type, guessed_content_type
from assetlane_server.model.sniffing import SNIFFED_BYTES, is_sniffed, mislabelled
from assetlane_server.model.upload import VariantPromise


def box(major: bytes, *compatible: bytes) -> bytes:
    """Returns the start of an ISO base media file with these brands."""
    brands = b"".join(compatible)
    return struct.pack(">I4s4sI", 16 + len(brands), b"ftyp", major, 0) + brands + b"\0\0\0\x08free" + bytes(40)


HTML = b"<!DOCTYPE html><html><body><script>alert(1)</script>"
FOREIGN = {
    "HTML": HTML,
    "HTML after blanks": b"\r\n \t" + HTML,
    "HTML after a mark": b"\xef\xbb\xbf" + HTML,
    "HTML in UTF-16": b"\xff\xfe" + HTML.decode().encode("utf-16-le"),
    "HTML after a comment": b"<!-- GIF89a --><script>alert(1)</script>",
    "XHTML": b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>',
    "a tag": b"<img src=x onerror=alert(1)>",
    "a script": b"#!/bin/sh\nrm -rf /",
    "PHP": b"<?php system($_GET[0]);",
    "MZ": b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff" + bytes(60) + b"PE\0\0",
    "MZ and text": b"MZ<script>alert(1)</script>",
    "MZ and %PDF": b"MZ%PDF-1.7",
    "ELF": b"\x7fELF\x02\x01\x01" + bytes(60),
    "Mach-O": b"\xcf\xfa\xed\xfe" + bytes(60),
    "a Java class": b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(60),
    "ZIP": b"PK\x03\x04\x14\0" + bytes(60),
    "ZIP with a PDF": b"PK\x03\x04\x14\0" + bytes(60) + b"%PDF-1.7",
    "gzip": b"\x1f\x8b\x08" + bytes(60),
    "7z": b"7z\xbc\xaf\x27\x1c\0\x04" + bytes(60),
    "SQLite": b"SQLite format 3\0" + bytes(60),
    "WebAssembly": b"\0asm\x01\0\0\0" + bytes(60),
    "a shortcut": b"\x4c\0\0\0\x01\x14\x02\0" + bytes(60),
    "an old office file": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(60),
}
# What each canonical type begins with. Where one container carries several types, each of them.
FITTING = {
    "image/jpeg": [picture("JPEG")],
    "image/png": [picture("PNG")],
    "image/gif": [picture("GIF")],
    "image/webp": [picture("WEBP"), picture("WEBP", lossless=True)],
    "image/bmp": [picture("BMP")],
    "image/tiff": [picture("TIFF"), picture("TIFF", big_tiff=True), b"MM\0\x2a" + bytes(60), b"MM\0\x2b" + bytes(60)],
    "image/avif": [picture("AVIF"), box(b"mif1", b"avif"), box(b"msf1", b"avis", b"mif1"), box(b"isom", b"avif")],
    "image/heif": [
        heic(),
        *(box(brand) for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1")),
        box(b"msf1", b"hevc", b"iso8"),
        box(b"mp42", b"heic"),
        box(b"abcd", b"mif1", b"heix"),
    ],
    "image/jp2": [picture("JPEG2000"), picture("JPEG2000", no_jp2=True)],
    "image/jxl": [b"\xff\x0a" + bytes(60), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60)],
    "image/vnd.adobe.photoshop": [b"8BPS\0\x01" + bytes(60)],
    "image/vnd.microsoft.icon": [picture("ICO", (32, 32)), picture("ICO", (32, 32), bitmap_format="bmp")],
    "application/pdf": [
        picture("PDF"),
        b"\xef\xbb\xbf%PDF-1.7\n",
        b"\r\n\r\n%PDF-1.7\n",
        b"\x1b%-12345X@PJL\r\n%PDF-1.4\n",
        bytes(1000) + b"%PDF-1.7\n",
        b"words\n" * 100 + b"%PDF-1.7\n",
    ],
    "video/mp4": [film("mp4", "mpeg4"), box(b"isom"), box(b"M4A "), b"\0\0\0\x18styp" + bytes(60), box(b"dash")],
    "video/quicktime": [
        film("mov", "mpeg4"),
        box(b"qt  "),
        b"\0\0\x10\0moov" + bytes(60),
        b"\0\0\0\x08wide\0\0\0\0mdat",
    ],
    "video/3gpp": [film("3gp", "h263"), box(b"3gp4"), box(b"3gr6")],
    "video/3gpp2": [box(b"3g2a")],
    "audio/3gpp": [box(b"3gp5")],
    "audio/3gpp2": [box(b"3g2b")],
    "audio/mp4": [song("ipod", "aac"), box(b"M4A "), box(b"M4B "), box(b"isom")],
    "video/x-f4v": [box(b"f4v ")],
    "video/webm": [film("webm", "libvpx")],
    "audio/webm": [song("webm", "libopus", rate=48_000)],
    "video/x-matroska": [film("matroska", "mpeg4"), song("matroska", "flac")],
    "audio/ogg": [song("ogg", "libopus", rate=48_000), song("oga", "flac")],
    "video/ogg": [film("ogv", "libvpx")],
    "video/x-ms-asf": [film("asf", "wmv2")],
    "video/x-ms-wmv": [film("asf", "wmv2")],
    "audio/x-ms-wma": [song("asf", "wmav2")],
    "audio/aac": [song("adts", "aac"), b"ID3\x03" + bytes(60), box(b"M4A ")],
    "audio/amr": [b"#!AMR\n" + bytes(60), b"#!AMR-WB\n" + bytes(60), box(b"3gp4")],
    "audio/basic": [song("au", "pcm_s16be")],
    "audio/flac": [song("flac", "flac")],
    "audio/midi": [b"MThd\0\0\0\x06" + bytes(60), b"RIFF\x24\0\0\0RMID" + bytes(60)],
    "audio/mpeg": [
        song("mp3", "libmp3lame"),
        b"ID3\x04" + bytes(60),
        *(b"\xff" + head + bytes(413) + b"\xff" + head + bytes(413) for head in (b"\xfb\x90\0", b"\xfa\x90\0")),
    ],
    "audio/wav": [song("wav", "pcm_s16le"), b"RF64\xff\xff\xff\xffWAVE" + bytes(60)],
    "audio/x-aiff": [song("aiff", "pcm_s16be"), b"FORM\0\0\0\x20AIFC" + bytes(60)],
    "application/vnd.rn-realmedia": [b".RMF\0\0\0\x12" + bytes(60), b".ra\xfd\0\x04" + bytes(60)],
    "video/mp2t": [
        film("mpegts", "mpeg2video"),
        film("mpegts", "mpeg2video", mpegts_m2ts_mode="1"),
        film("mpegts", "mpeg2video")[100:],  # recorded from the middle of a packet on
    ],
    "video/mpeg": [film("mpeg", "mpeg1video"), film("vob", "mpeg2video"), film("mpeg1video", "mpeg1video")],
    "video/x-flv": [film("flv", "flv")],
    "video/x-msvideo": [film("avi", "mpeg4")],
}


# Every name of every sniffed type, and one that nobody knows of each kind.
DECLARATIONS = [
    *FITTING, *_ALIASES, "image/x-ours", "audio/x-ours", "video/x-ours", "image/svg+xml", "image/x-canon-cr2",
]  # fmt: skip
ENDINGS = [
    "jpg", "png", "gif", "webp", "heic", "avif", "tif", "bmp", "ico", "psd", "pdf", "mp4", "mov", "mkv", "webm", "ogg",
    "mp3", "wav", "flv", "wmv", "mts", "ts", "avi", "svg", "svgz", "doc", "docx", "txt", "zip", "",
]  # fmt: skip


def test_the_table_is_whole() -> None:
    """Every type that the detector has rules for has bytes here, under all its names."""
    assert set(FITTING) == set(SIGNED) | set(_CONTAINERS)
    assert set(_ALIASES.values()) <= {*FITTING, "image/svg+xml"}
    assert not set(_ALIASES) & set(_ALIASES.values())


@pytest.mark.parametrize("declared", DECLARATIONS)
def test_what_is_rightly_called_passes(declared: str) -> None:
    """By any of its names, in any case, with parameters; and so does an empty object."""
    canonical = _ALIASES.get(declared, declared)
    assert is_sniffed(declared)
    assert said(declared, b"") is None
    for start in FITTING.get(canonical, ()):
        assert said(declared, start) is None
        assert said(f"{declared.upper()} ; codecs=x", start) is None


@pytest.mark.parametrize("declared", DECLARATIONS)
def test_what_is_foreign_is_refused(declared: str) -> None:
    """Pages, scripts, programs, archives: under every sniffed type, with the stable reason."""
    for name, start in FOREIGN.items():
        message = said(declared, start)
        assert message is not None, f"{name} as {declared}"
        shows(message, "original", declared)


@pytest.mark.parametrize("declared", FITTING)
def test_another_kind_is_refused(declared: str) -> None:
    """A picture is no film, a film is no song of another container, and only a PDF is a PDF."""
    containers = _CONTAINERS.get(declared, frozenset({declared}))
    for canonical, starts in FITTING.items():
        for start in starts:
            found = detected(start[:SNIFFED_BYTES])
            if found in ("", "text/plain") or _ALIASES.get(found, found) in containers:
                continue
            if (declared, found) == ("image/heif", "image/avif"):  # the one is the container of the other
                continue
            assert said(declared, start) is not None, f"{found} as {declared} ({canonical})"


@pytest.mark.parametrize("declared", sorted(SIGNED))
def test_what_always_has_a_signature_needs_it(declared: str) -> None:
    """Noise and words are no pictures."""
    assert said(declared, bytes(range(255, 0, -1))) is not None
    assert said(declared, b"hello world") is not None


@pytest.mark.parametrize(
    ("declared", "start"),
    [
        ("image/svg+xml", b'<?xml version="1.0"?>\n<!-- drawn by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"/>'),
        ("image/svg+xml", b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "a" [<!ENTITY a "b">]><svg:svg/>'),
        ("image/svg+xml", b"\xef\xbb\xbf<svg>"),
        ("image/svg+xml", b'<?xml version="1.0"?><?xml-stylesheet href="a.css"?><?adobe a?><svg/>'),
        ("image/x-icon", b"\0\0\1\0\1\0\x10\x10\0\xff\1\0\x20\0" + bytes(40)),
        ("image/vnd.dxf", b"0\nSECTION\n"),
        ("image/x-portable-pixmap", b"P3\n1 1\n255\n0 0 0"),
        ("audio/x-mpegurl", b"#EXTM3U\nsong.mp3\n"),
        ("audio/x-scpls", b"[playlist]\n"),
        ("image/x-canon-cr2", b"II\x2a\0\x10\0\0\0CR\x02\0" + bytes(50)),
        ("image/openraster", b"PK\x03\x04" + bytes(26) + b"mimetypeimage/openraster"),
        ("video/x-ours", bytes(range(255, 0, -1))),
        ("video/mp4", bytes(range(255, 0, -1))),
        ("audio/mpeg", bytes(600)),
        ("video/x-ours", film("mp4", "mpeg4")),
        ("image/x-ours", b"II\x2a\0" + bytes(50)),
    ],
)
def test_what_cannot_be_recognized_is_let_through(declared: str, start: bytes) -> None:
    """Drawings and playlists in text, formats of others, sound that begins with silence."""
    assert said(declared, start) is None


@pytest.mark.parametrize("declared", ["text/plain", "application/octet-stream", "application/zip", "font/woff2"])
def test_other_types_are_not_looked_at(declared: str) -> None:
    """Whatever they begin with."""
    assert not is_sniffed(declared)
    for start in (*FOREIGN.values(), picture("PNG")):
        assert said(declared, start) is None


@pytest.mark.parametrize("file", everyday(), ids=lambda file: file.name)
def test_what_a_client_declares_is_accepted(file: Everyday) -> None:
    """Every everyday file, as the client declares it: by name, or by its bytes where they are something else."""
    declared = declared_content_type(file.name, file.data[:SNIFFED_BYTES])
    assert declared == file.right
    assert said(declared, file.data) is None


def test_what_the_client_can_cut_the_server_accepts() -> None:
    """Each format of the client's own list of pictures, under the type that it gives it."""
    made = {"HEIF": heic(), "MPO": picture("MPO"), **{name: picture(name) for name in CONTENT_TYPES if name != "HEIF"}}
    for name, declared in CONTENT_TYPES.items():
        assert said(declared, made[name]) is None


@pytest.mark.parametrize("start", [*FOREIGN.values(), *(start for starts in FITTING.values() for start in starts)])
def test_whatever_the_name_says_the_declared_type_is_accepted(start: bytes) -> None:
    """Any bytes under any name that a sniffed type has: what the client then declares, the server accepts."""
    for (
        ending
    ) in "jpg png gif webp heic avif tif bmp ico psd pdf mp4 mov mkv webm ogg mp3 wav flv wmv mts avi svg".split():  # noqa: SIM905
        declared = declared_content_type(f"file.{ending}", start[:SNIFFED_BYTES])
        assert said(declared, start) is None, f"{ending}: {declared}"


def test_every_start_is_looked_at_without_an_error() -> None:
    """Cut off anywhere, and with each byte of the first hundred changed."""
    starts = [*FOREIGN.values(), *(start for starts in FITTING.values() for start in starts)]
    for start in starts:
        for length in range(min(len(start), 80)):
            assert re.fullmatch(r"(\w+/[\w.+-]+)?", detected(start[:length]))
        for at in range(min(len(start), 80)):
            changed = start[:at] + bytes([start[at] ^ 0x55]) + start[at + 1 : SNIFFED_BYTES]
            assert re.fullmatch(r"(\w+/[\w.+-]+)?", detected(changed))


def test_no_start_takes_long() -> None:
    """Brackets, comments and blanks without an end: looked at once, not over and over."""
    for start in (b"<!DOCTYPE a " + b"[]" * 2042, b"<!--" * 1024, b"<!DOCTYPE a [" + b"<!--" * 1000, b"< " * 2048):
        assert detected(start) in ("text/plain", "text/html")


def test_names_alone_are_guessed_as_sniffed_types_are_called() -> None:
    """The guess of each ending of a sniffed type is a type that the server sniffs."""
    for ending in ("jpg", "heic", "mts", "3gp", "ogv", "opus", "wma", "flv", "aiff", "jxl"):
        assert is_sniffed(guessed_content_type(f"a.{ending}"))


def said(declared: str, start: bytes) -> str | None:
    """Returns the message of the refusal, None when there is none."""
    failure = mislabelled(VariantPromise("original", declared, len(start)), start[:SNIFFED_BYTES])
    if failure is None:
        return None
    assert failure.reason == "CONTENT_TYPE_MISMATCH"
    return failure.message
