"""Small files of the types that people have, made by the libraries that write them, and the type that is right."""

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import struct
import tarfile
import wave
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, cast

import av
import pillow_heif
from av.video.stream import VideoStream
from PIL import Image, ImageDraw

PICTURE_PX = (640, 480)
STILL = ("preview", "small", "medium")
CUTS = ("small", "medium", "large")
CASES = Path(__file__).parent / "data" / "cases"


@dataclass(frozen=True, slots=True)
class Everyday:
    """A file, the media type that it is stored as, and the variants that a client makes beside it.

    `has_notice`: it is stored without cuts or preview, and the asset says why.
    """

    name: str
    data: bytes
    right: str
    beside: tuple[str, ...] = ()
    has_notice: bool = False

    @property
    def is_picture(self) -> bool:
        """Whether the server can make cuts of it."""
        return bool(self.beside) and "preview" not in self.beside


@cache
def everyday() -> tuple[Everyday, ...]:
    """Returns all of them, each under a name of its own."""
    return (
        *_cases(),
        *_texts(),
        *_documents(),
        *_archives(),
        *_data(),
        *_pictures(),
        *_sounds(),
        *_films(),
        *_misnamed(),
    )


def picture(form: str, size: tuple[int, int] = PICTURE_PX, **options: Any) -> bytes:
    """Returns a picture as Pillow writes it."""
    image = Image.new("RGB", size, (200, 120, 40))
    ImageDraw.Draw(image).ellipse((0, 0, size[0] // 2, size[1] // 2), fill=(20, 60, 180))
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def heic() -> bytes:
    """Returns a picture as phones write it."""
    out = io.BytesIO()
    image = Image.new("RGB", PICTURE_PX, (40, 160, 90))
    pillow_heif.from_pillow(image).save(out, quality=50)
    return out.getvalue()


def film(container: str, codec: str, **settings: Any) -> bytes:
    """Returns a second of video."""
    out = io.BytesIO()
    with av.open(out, "w", format=container, options=settings) as file:
        stream = cast("VideoStream", file.add_stream(codec, rate=25))
        stream.width, stream.height, stream.pix_fmt = 352, 288, "yuv420p"
        for number in range(25):
            frame = av.VideoFrame.from_image(Image.new("RGB", (352, 288), (10 * number, 90, 60)))  # type: ignore[no-untyped-call]
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return out.getvalue()


def song(container: str, codec: str, *, rate: int = 44_100, layout: str = "stereo") -> bytes:
    """Returns half a second of silence."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = cast("Any", file.add_stream(codec, rate=rate, layout=layout))
        stream.bit_rate = 12_200 if "amr" in codec else 128_000
        resampler = av.AudioResampler(stream.format, layout, rate)
        size = stream.codec_context.frame_size or 1024
        for start in range(0, rate // 2, size):
            frame = av.AudioFrame(format="s16", layout=layout, samples=size)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            for piece in resampler.resample(frame):
                file.mux(stream.encode(piece))
        file.mux(stream.encode())
    return out.getvalue()


def archive(**parts: bytes) -> bytes:
    """Returns a ZIP; `__` in a name stands for a slash."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in parts.items():
            file.writestr(name.replace("__", "/"), data)
    return out.getvalue()


def _office(part: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("[Content_Types].xml", "_rels/.rels", f"{part}.xml"):
            file.writestr(name, '<?xml version="1.0"?><x/>')
    return out.getvalue()


def _open_document(media_type: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("mimetype", media_type)  # first and not compressed, as the standards want it
        file.writestr("content.xml", '<?xml version="1.0"?><x/>', zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _cases() -> list[Everyday]:
    """What is right for the files that failed once: `data/cases/README.md`."""
    right: dict[str, tuple[str, tuple[str, ...], bool]] = {
        "msf1.heic": ("image/heic", ("small", "medium"), False),
        "mif1_major.avif": ("image/avif", ("small", "medium"), False),
        "bom.pdf": ("application/pdf", (), False),
        "data.csv.gz": ("application/gzip", (), False),
        "page.html.gz": ("application/gzip", (), False),
        "photo.jpg.gz": ("application/gzip", (), False),
        "phone.3gp": ("video/3gpp", ("preview", "small"), False),
        "audio_only.webm": ("video/webm", (), True),
        "audio_only.mp4": ("video/mp4", (), True),
        "big_iccp.png": ("image/png", ("small", "medium"), False),
        "trunc_2bytes.jpg": ("image/jpeg", (), True),
        "gray16_trns_bg.png": ("image/png", ("small",), False),
        "gray16_miniswhite.tif": ("image/tiff", ("small", "medium"), False),
        "hdr_hlg.mp4": ("video/mp4", ("preview", "small"), False),
        "xmp_only_orient6.jpg": ("image/jpeg", ("small", "medium"), False),
        "orient6_two.jpg": ("image/jpeg", ("small", "medium"), False),
        "frame_smaller2.gif": ("image/gif", ("small",), False),
    }
    return [
        Everyday(name, (CASES / name).read_bytes(), content_type, beside, has_notice)
        for name, (content_type, beside, has_notice) in right.items()
    ]


def _texts() -> list[Everyday]:
    plain = {
        "notes.txt": ("text/plain", "Notes\nof today"),
        "umlaut é 日本 😀.txt": ("text/plain", "äöü"),
        "README": ("text/plain", "What it is"),
        ".gitignore": ("text/plain", "*.pyc\n"),
        "readme.md": ("text/markdown", "# Title\n\n<p>text</p>"),
        "server.log": ("text/plain", "2026-01-01 INFO started"),
        "config.yaml": ("application/yaml", "a: 1"),
        "pyproject.toml": ("application/toml", "[a]\nb = 1"),
        "settings.ini": ("text/plain", "[a]\nb=1"),
        "table.csv": ("text/csv", "a,b\n1,2\n"),
        "table.tsv": ("text/tab-separated-values", "a\tb\n"),
        "data.json": ("application/json", "{}"),
        "lines.jsonl": ("application/jsonl", "{}\n{}\n"),
        "notebook.ipynb": ("application/x-ipynb+json", '{"cells": []}'),
        "page.html": ("text/html", "<!doctype html><title>a</title>"),
        "style.css": ("text/css", "a { color: red }"),
        "feed.xml": ("application/xml", '<?xml version="1.0"?><feed/>'),
        "app.js": ("text/javascript", "alert(1)"),
        "app.ts": ("text/x-typescript", "export const a: number = 1"),
        "main.py": ("text/x-python", "#!/usr/bin/env python3\nprint(1)"),
        "main.go": ("text/x-go", "package main"),
        "lib.rs": ("text/x-rust", "fn main() {}"),
        "Main.java": ("text/x-java-source", "class Main {}"),
        "main.c": ("text/x-c", "int main(void) { return 0; }"),
        "run.sh": ("application/x-sh", "#!/bin/sh\necho"),
        "query.sql": ("application/sql", "select 1"),
        "film.srt": ("application/x-subrip", "1\n00:00:01,000 --> 00:00:02,000\nHello\n"),
        "film.vtt": ("text/vtt", "WEBVTT\n"),
        "mail.eml": ("message/rfc822", "From: a@example.org\n\nHello"),
        "dates.ics": ("text/calendar", "BEGIN:VCALENDAR\nEND:VCALENDAR\n"),
        "ann.vcf": ("text/vcard", "BEGIN:VCARD\nEND:VCARD\n"),
        "walk.gpx": ("application/gpx+xml", '<?xml version="1.0"?><gpx/>'),
        "fix.diff": ("text/plain", "--- a\n+++ b\n"),
    }
    return [Everyday(name, text.encode(), right) for name, (right, text) in plain.items()] + [
        Everyday("windows.txt", "\ufeffNotes".encode("utf-16-le"), "text/plain"),
    ]


def _documents() -> list[Everyday]:
    office = "application/vnd.openxmlformats-officedocument"
    document = "application/vnd.oasis.opendocument"
    compound = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000)
    return [
        Everyday("letter.docx", _office("word/document"), f"{office}.wordprocessingml.document"),
        Everyday("sheet.xlsx", _office("xl/workbook"), f"{office}.spreadsheetml.sheet"),
        Everyday("talk.pptx", _office("ppt/presentation"), f"{office}.presentationml.presentation"),
        Everyday("letter.doc", compound, "application/msword"),
        Everyday("sheet.xls", compound, "application/vnd.ms-excel"),
        Everyday("talk.ppt", compound, "application/vnd.ms-powerpoint"),
        Everyday("mail.msg", compound, "application/vnd.ms-outlook"),
        Everyday("letter.odt", _open_document(f"{document}.text"), f"{document}.text"),
        Everyday("sheet.ods", _open_document(f"{document}.spreadsheet"), f"{document}.spreadsheet"),
        Everyday("talk.odp", _open_document(f"{document}.presentation"), f"{document}.presentation"),
        Everyday("book.epub", _open_document("application/epub+zip"), "application/epub+zip"),
        Everyday("letter.rtf", rb"{\rtf1\ansi Hello}", "application/rtf"),
        Everyday("paper.pdf", picture("PDF"), "application/pdf"),
        Everyday("paper.tex", b"\\documentclass{article}", "text/x-tex"),
        Everyday("drawing.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n", "application/postscript"),
    ]


def _archives() -> list[Everyday]:
    tape = io.BytesIO()
    with tarfile.open(fileobj=tape, mode="w") as file:
        member = tarfile.TarInfo("a.txt")
        member.size = 5
        file.addfile(member, io.BytesIO(b"hello"))
    tar = tape.getvalue()
    return [
        Everyday("all.zip", archive(a=b"a"), "application/zip"),
        Everyday("all.tar", tar, "application/x-tar"),
        Everyday("all.tar.gz", gzip.compress(tar), "application/gzip"),
        Everyday("all.tgz", gzip.compress(tar), "application/gzip"),
        Everyday("drawing.svgz", gzip.compress(b"<svg/>"), "application/gzip"),
        Everyday("all.tar.bz2", bz2.compress(tar), "application/x-bzip2"),
        Everyday("all.tar.xz", lzma.compress(tar), "application/x-xz"),
        Everyday("log.zst", bytes.fromhex("28b52ffd2005290000") + b"hello", "application/zstd"),
        Everyday("all.7z", b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24), "application/x-7z-compressed"),
        Everyday("all.rar", b"Rar!\x1a\x07\x01\x00" + bytes(24), "application/vnd.rar"),
        Everyday("app.apk", archive(AndroidManifest=b"a"), "application/vnd.android.package-archive"),
        Everyday("app.jar", archive(**{"META-INF__MANIFEST.MF": b"a"}), "application/java-archive"),
    ]


def _data() -> list[Everyday]:
    with sqlite3.connect(":memory:") as database:
        database.execute("create table a (b)")
        rows = database.serialize()
    database.close()
    scene = json.dumps({"asset": {"version": "2.0"}}).encode().ljust(32)
    glb = struct.pack("<4sII", b"glTF", 2, 20 + len(scene)) + struct.pack("<I4s", len(scene), b"JSON") + scene
    return [
        Everyday("data.sqlite", rows, "application/vnd.sqlite3"),
        Everyday("data.parquet", b"PAR1\x15\x00" + bytes(20) + b"PAR1", "application/vnd.apache.parquet"),
        Everyday("data.bin", bytes(range(256)), "application/octet-stream"),
        Everyday("data.unknown", bytes(range(1, 200)), "application/octet-stream"),
        Everyday("code.wasm", b"\0asm\x01\0\0\0", "application/wasm"),
        Everyday("cube.stl", b"solid".ljust(80) + struct.pack("<I", 0), "model/stl"),
        Everyday("cube.obj", b"v 0 0 0\n", "model/obj"),
        Everyday("cube.gltf", scene, "model/gltf+json"),
        Everyday("cube.glb", glb, "model/gltf-binary"),
        Everyday("letters.woff2", b"wOF2\0\x01\0\0" + bytes(40), "font/woff2"),
        Everyday("letters.ttf", b"\0\x01\0\0\0\x04" + bytes(40), "font/ttf"),
        Everyday("disk.iso", bytes(32769) + b"CD001" + bytes(100), "application/x-iso9660-image"),
        Everyday("setup.exe", b"MZ\x90\0\x03" + bytes(100), "application/vnd.microsoft.portable-executable"),
        Everyday("empty.txt", b"", "text/plain"),
        Everyday("empty", b"", "application/octet-stream"),
    ]


def _pictures() -> list[Everyday]:
    layers = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 1, 1, 8, 3) + bytes(12) + b"\0\0" + bytes(3)
    return [
        Everyday("photo.jpg", picture("JPEG"), "image/jpeg", CUTS),
        Everyday("PHOTO.JPEG", picture("JPEG"), "image/jpeg", CUTS),
        Everyday("shot.png", picture("PNG"), "image/png", CUTS),
        Everyday("small.gif", picture("GIF", (40, 40)), "image/gif", ("small",)),
        Everyday("photo.webp", picture("WEBP"), "image/webp", CUTS),
        Everyday("photo.avif", picture("AVIF"), "image/avif", CUTS),
        Everyday("photo.heic", heic(), "image/heic", CUTS),
        Everyday("scan.tif", picture("TIFF"), "image/tiff", CUTS),
        Everyday("large.tiff", picture("TIFF", big_tiff=True), "image/tiff", CUTS),
        Everyday("old.bmp", picture("BMP"), "image/bmp", CUTS),
        Everyday("favicon.ico", picture("ICO", (32, 32), bitmap_format="bmp"), "image/vnd.microsoft.icon"),
        Everyday("scan.jp2", picture("JPEG2000"), "image/jp2"),
        Everyday("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
        Everyday("layers.psd", layers, "image/vnd.adobe.photoshop"),
        Everyday("photo.jxl", b"\xff\x0a" + bytes(30), "image/jxl"),
    ]


def _sounds() -> list[Everyday]:
    wav = io.BytesIO()
    with wave.open(wav, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1000))
    notes = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + struct.pack(">I", 4) + b"\0\xff\x2f\0"
    return [
        Everyday("song.mp3", song("mp3", "libmp3lame"), "audio/mpeg"),
        Everyday("song.m4a", song("ipod", "aac"), "audio/mp4"),
        Everyday("song.aac", song("adts", "aac"), "audio/aac"),
        Everyday("song.wav", wav.getvalue(), "audio/wav"),
        Everyday("song.flac", song("flac", "flac"), "audio/flac"),
        Everyday("song.ogg", song("ogg", "libopus", rate=48_000), "audio/ogg"),
        Everyday("song.oga", song("oga", "flac"), "audio/ogg"),
        Everyday("song.opus", song("opus", "libopus", rate=48_000), "audio/ogg"),
        Everyday("song.wma", song("asf", "wmav2"), "audio/x-ms-wma"),
        Everyday("song.aiff", song("aiff", "pcm_s16be"), "audio/x-aiff"),
        Everyday("song.au", song("au", "pcm_s16be"), "audio/basic"),
        Everyday("song.mka", song("matroska", "libopus", rate=48_000), "audio/x-matroska"),
        Everyday("song.mid", notes, "audio/midi"),
        Everyday("memo.amr", song("amr", "libopencore_amrnb", rate=8000, layout="mono"), "audio/amr"),
    ]


def _films() -> list[Everyday]:
    return [
        Everyday("film.mp4", film("mp4", "mpeg4"), "video/mp4", STILL),
        Everyday("film.m4v", film("mp4", "libx264"), "video/mp4", STILL),
        Everyday("film.mov", film("mov", "mpeg4"), "video/quicktime", STILL),
        Everyday("film.webm", film("webm", "libvpx"), "video/webm", STILL),
        Everyday("film.mkv", film("matroska", "mpeg4"), "video/x-matroska", STILL),
        Everyday("film.avi", film("avi", "mpeg4"), "video/x-msvideo", STILL),
        Everyday("film.wmv", film("asf", "wmv2"), "video/x-ms-wmv", STILL),
        Everyday("film.flv", film("flv", "flv"), "video/x-flv", STILL),
        Everyday("film.mts", film("mpegts", "libx264", mpegts_m2ts_mode="1"), "video/mp2t", STILL),
        Everyday("film.m2ts", film("mpegts", "libx264", mpegts_m2ts_mode="1"), "video/mp2t", STILL),
        Everyday("film.3gp", film("3gp", "h263"), "video/3gpp", STILL),
        Everyday("film.mpg", film("mpeg", "mpeg1video"), "video/mpeg", STILL),
        Everyday("film.vob", film("vob", "mpeg2video"), "video/mpeg", STILL),
        Everyday("film.ogv", film("ogv", "libvpx"), "video/ogg", STILL),
    ]


def _misnamed() -> list[Everyday]:
    return [
        Everyday("shot-saved-as.jpg", picture("PNG"), "image/png", CUTS),
        Everyday("from-a-browser.png", picture("WEBP"), "image/webp", CUTS),
        Everyday("IMG_0001.JPG", heic(), "image/heic", CUTS),
        Everyday("IMG_0002.HEIC", picture("JPEG"), "image/jpeg", CUTS),
        Everyday("not-found.jpg", b"<html><title>404</title></html>", "text/html", has_notice=True),
        Everyday("words.jpg", b"these are words", "text/plain", has_notice=True),
        Everyday("noise.jpg", bytes(range(1, 250)), "application/octet-stream", has_notice=True),
        Everyday("empty.jpg", b"", "image/jpeg", has_notice=True),
        Everyday("plain.doc", b"only words", "text/plain"),
        Everyday("export.xls", b"<html><table><tr><td>1</table></html>", "text/html"),
        Everyday("rich.doc", rb"{\rtf1 Hello}", "application/rtf"),
        Everyday("newer.doc", _office("word/document"), f"{'application/vnd.openxmlformats-officedocument'}"
                 ".wordprocessingml.document"),
        Everyday("broadcast.ts", film("mpegts", "mpeg2video"), "video/mp2t", STILL),
        Everyday("module.mts", b"export const a = 1", "text/x-typescript"),
        Everyday("animation.gif", film("mp4", "mpeg4"), "video/mp4", STILL),
        Everyday("archive.txt", archive(a=b"a"), "application/zip"),
        Everyday("no-ending", picture("PNG"), "image/png", CUTS),
        Everyday("paper", b"%PDF-1.7\n", "application/pdf"),
        Everyday("brackets [1] (2) & more.jpg", picture("JPEG"), "image/jpeg", CUTS),
    ]  # fmt: skip
