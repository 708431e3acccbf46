"""Which media type a file is declared as, by its name and by its bytes."""

import gzip
import mimetypes
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.everyday import Everyday, everyday
from tests.refusals import raises

from assetlane import media_types
from assetlane.media_types import NEUTRAL, declared_content_type, guessed_content_type, guessed_ending
from assetlane.sources import start_of

# What people have, and what every usual language's source ends with: none of it is unknown.
KNOWN = """
    7z 3g2 3gp aac adoc aif aiff amr apk arw asm avi avif azw3 bash bat bib bmp bz2 c cc cfg clj cmake conf cpp cr2 cr3
    cs css csv cu cxx dart deb diff djvu dmg dng doc docm docx dot dwg dxf eml eps epub erl ex exe f90 fb2 flac flv
    fs geojson gif glb gltf go gpx gradle graphql groovy gz h h5 heic heif hpp hrl hs htm html ico ics ini ipynb iso jar
    java jfif jl jp2 jpeg jpg js json jsonl jsx jxl key kml kmz kt log lua m m2ts m4a m4v md mid mjs mkv ml mobi mov mp3
    mp4 mpeg mpg mpp msg mts ndjson nef nim numbers odg odp ods odt oga ogg ogv opus otf pages parquet patch pdf php pl
    png po pptm pptx properties proto ps ps1 psd pub py r rar raf rb rpm rs rst rtf rw2 sass scala scss sh sol sql
    sqlite srt step stl svelte svg svgz swift tar tbz2 tex tf tgz tif tiff toml torrent ts tsv tsx ttf txt txz usdz
    vb vcf vob vsd vsdx vtt vue wasm wav webm webmanifest webp wma wmv woff woff2 xls xlsb xlsm xlsx xml xps xz
    yaml yml zig zip zst
""".split()  # noqa: SIM905


@pytest.mark.parametrize("ending", KNOWN)
def test_what_people_have_is_known_by_name(ending: str) -> None:
    """The ending decides in any case of letters, and behind a name with dots and blanks."""
    known = guessed_content_type(f"a.{ending}")
    assert known != NEUTRAL
    assert guessed_content_type(f"folder/My file (v1.2).{ending.upper()}") == known


@pytest.mark.parametrize("name", ["a", "a.", ".hidden", "a.unknown", "folder.jpg/a", "a.bin", "", "a.jpg ~"])
def test_what_is_unknown_is_neutral(name: str) -> None:
    """A name without a known ending is application/octet-stream."""
    assert guessed_content_type(name) == NEUTRAL


@pytest.mark.parametrize(
    ("name", "outer"),
    [
        ("data.csv.gz", "application/gzip"),
        ("page.html.gz", "application/gzip"),
        ("photo.jpg.gz", "application/gzip"),
        ("all.tar.gz", "application/gzip"),
        ("all.tgz", "application/gzip"),
        ("drawing.svgz", "application/gzip"),
        ("all.tar.zst", "application/zstd"),
        ("log.json.zst", "application/zstd"),
        ("all.tar.xz", "application/x-xz"),
        ("all.txz", "application/x-xz"),
        ("all.tar.bz2", "application/x-bzip2"),
        ("page.html.br", "application/x-brotli"),
        ("all.tar.Z", "application/x-compress"),
    ],
)
def test_a_compressed_file_is_what_it_is_compressed_as(name: str, outer: str) -> None:
    """`data.csv.gz` is a gzip file, and has never the type of what is inside."""
    assert guessed_content_type(name) == outer


def test_the_machines_own_tables_do_not_matter(tmp_path: Path) -> None:
    """A machine that takes `.jpg` for something else changes nothing."""
    table = tmp_path / "mime.types"
    table.write_text("application/x-nonsense jpg md docx\n")
    try:
        mimetypes.init([str(table)])
        assert mimetypes.guess_type("a.jpg")[0] == "application/x-nonsense"
        media_types._table.cache_clear()
        assert guessed_content_type("a.jpg") == "image/jpeg"
        assert guessed_content_type("a.md") == "text/markdown"
    finally:
        mimetypes.init()


@pytest.mark.parametrize("file", everyday(), ids=lambda file: file.name)
def test_an_everyday_file_is_declared_as_what_it_is(file: Everyday) -> None:
    """By name, or by its bytes where they surely are something else."""
    assert declared_content_type(file.name, file.data[:4096]) == file.right


@pytest.mark.parametrize(
    ("name", "start", "right"),
    [
        ("notes.txt", b"GIF89a is a format", "text/plain"),
        ("notes.txt", b"BM25 is a ranking function of words", "text/plain"),
        ("notes.md", b"<html> is a tag\n# Title", "text/markdown"),
        ("notes.txt", b"ID3 tags: what they hold", "text/plain"),
        ("notes.txt", b"The free and the wide moov", "text/plain"),
        ("notes.txt", b"\xff\xfeN\0o\0t\0e\0s\0", "text/plain"),
        ("latin.doc", "Grüße aus Köln, wie geht es dir?".encode("latin-1"), "text/plain"),
        ("page.php", b"<?php echo 1;", "text/x-php"),
        ("Main.vue", b"<template><div/></template>", "text/x-vue"),
        ("id_rsa.pub", b"ssh-rsa AAAA ann@home", "text/plain"),
        ("server.key", b"-----BEGIN PRIVATE KEY-----", "text/plain"),
        ("messages.pot", b'msgid ""\nmsgstr ""', "text/plain"),
        ("graph.dot", b"digraph { a -> b }", "text/plain"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), guessed_content_type("a.docx")),  # with a password
        ("a.exe.zip", b"MZ\x90\0\x03" + bytes(50), "application/zip"),  # unpacks itself
        ("a.bin", b"\x89PNG\r\n\x1a\n" + bytes(50), NEUTRAL),  # neutral by its own name
        ("a.unknown", b"just words", NEUTRAL),
        ("a.dng", b"II\x2a\0" + bytes(50), "image/x-adobe-dng"),
        ("a.cr3", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "image/x-canon-cr3"),
        ("a.mka", b"\x1a\x45\xdf\xa3\xa3\x42\x82\x88matroska" + bytes(50), "audio/x-matroska"),
        ("a.mp4", b"\0\0\0\x18ftypM4A \0\0\0\0M4A isom" + bytes(50), "video/mp4"),
        ("a.ai", b"%PDF-1.5\n", "application/pdf"),
        ("a.jpg", bytes(50), NEUTRAL),
        ("a.csv", gzip.compress(b"a", mtime=0), "application/gzip"),
        ("a.pyc", (bytes(37) + b"G" + bytes(150)) * 6 + bytes(3000), NEUTRAL),  # some sync bytes by chance
        ("a.unknown", (bytes(37) + b"G" + bytes(150)) * 21, "video/mp2t"),  # all of them: from within a packet on
    ],
)
def test_bytes_overrule_a_name_only_when_they_are_sure(name: str, start: bytes, right: str) -> None:
    """A text whose first words look like a signature stays a text."""
    assert declared_content_type(name, start) == right


def test_the_usual_ending_of_a_type_leads_back_to_it() -> None:
    """A fetched variant is called by the ending of its type; a neutral type has none."""
    for content_type in ("image/jpeg", "image/png", "image/webp", "video/mp4", "text/plain", "application/pdf"):
        assert guessed_content_type(f"a{guessed_ending(content_type)}") == content_type
    assert guessed_ending("image/jpeg; q=1") == ".jpg"
    assert guessed_ending("text/plain") == ".txt"
    assert guessed_ending(NEUTRAL) == ""
    assert guessed_ending("image/x-ours") == ""


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
async def test_what_is_no_file_is_not_waited_for(make: Callable[[Path], None], tmp_path: Path) -> None:
    """A folder, a pipe, a socket, a device: an error at once, where opening a pipe would wait for ever."""
    path = tmp_path / "thing"
    make(path)
    with raises(OSError, names=[str(path)]):
        await start_of(path)


async def test_a_socket_and_a_device_are_no_files(tmp_path: Path) -> None:
    """They are refused before they are opened: a device may have no end."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        with raises(OSError, names=[str(tmp_path / "s")]):
            await start_of(tmp_path / "s")
    with raises(OSError, names=["/dev/zero"]):
        await start_of(Path("/dev/zero"))
