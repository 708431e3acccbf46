"""Whether bytes are what they are called."""

import io

import pytest
from PIL import Image

from assetlane_server.uploads.sniffing import is_sniffed, mislabelled
from assetlane_server.uploads.upload import VariantPromise


def picture(kind: str) -> bytes:
    """Returns a picture as its library writes it."""
    out = io.BytesIO()
    Image.new("RGB", (20, 20)).save(out, kind)
    return out.getvalue()


def box(brand: bytes) -> bytes:
    """Returns the start of an ISO base media file."""
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0isom" + brand + bytes(40)


HTML = b"<!DOCTYPE html><html><body><script>alert(1)</script>"
STARTS = {
    "JPEG": picture("JPEG"),
    "PNG": picture("PNG"),
    "GIF": picture("GIF"),
    "WEBP": picture("WEBP"),
    "TIFF": picture("TIFF"),
    "BMP": picture("BMP"),
    "AVIF": picture("AVIF"),
    "HEIC": box(b"heic"),
    "PDF": b"%PDF-1.7\n%abc",
    "MP4": box(b"isom"),
    "MOV": box(b"qt  "),
    "M4A": box(b"M4A "),
    "MP3": b"ID3\x03\0\0\0\0" + bytes(30),
    "WAV": b"RIFF\x24\0\0\0WAVEfmt " + bytes(20),
    "OGG": b"OggS\0\2" + bytes(30),
    "FLAC": b"fLaC\0\0\0\x22" + bytes(30),
    "WEBM": b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm",
    "SVG": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "HTML": HTML,
    "ZIP": b"PK\x03\x04" + bytes(40),
    "text": b"hello world",
    "noise": bytes(range(255, 0, -1)),
    "nothing": b"",
}


@pytest.mark.parametrize(
    ("declared", "start"),
    [
        ("image/jpeg", "JPEG"), ("image/jpg", "JPEG"), ("IMAGE/JPEG; q=1", "JPEG"), ("image/png", "PNG"),
        ("image/gif", "GIF"), ("image/webp", "WEBP"), ("image/tiff", "TIFF"), ("image/bmp", "BMP"),
        ("image/avif", "AVIF"), ("image/heic", "HEIC"), ("image/heif", "HEIC"), ("image/svg+xml", "SVG"),
        ("image/svg+xml", "text"), ("image/x-raw-of-ours", "noise"), ("image/x-raw-of-ours", "TIFF"),
        ("application/pdf", "PDF"), ("video/mp4", "MP4"), ("video/quicktime", "MOV"), ("video/mp4", "MOV"),
        ("audio/mp4", "M4A"), ("video/mp4", "M4A"), ("audio/mpeg", "MP3"), ("audio/wav", "WAV"),
        ("audio/ogg", "OGG"), ("video/ogg", "OGG"), ("audio/flac", "FLAC"), ("video/webm", "WEBM"),
        ("audio/webm", "WEBM"), ("video/x-ours", "noise"), ("video/mp4", "nothing"),
    ],
)  # fmt: skip
def test_what_is_rightly_called_passes(declared: str, start: str) -> None:
    """By any of its names; what cannot be told is let through."""
    assert is_sniffed(declared)
    assert mislabelled(VariantPromise("original", declared, 1), STARTS[start]) is None


@pytest.mark.parametrize(
    ("declared", "start"),
    [
        ("image/jpeg", "HTML"), ("image/png", "JPEG"), ("image/jpeg", "PNG"), ("image/gif", "noise"),
        ("image/webp", "ZIP"), ("image/png", "text"), ("image/png", "nothing"), ("image/svg+xml", "HTML"),
        ("image/svg+xml", "PNG"), ("image/heic", "MP4"), ("image/x-raw-of-ours", "HTML"),
        ("application/pdf", "HTML"), ("application/pdf", "ZIP"), ("video/mp4", "HTML"), ("video/mp4", "JPEG"),
        ("audio/mpeg", "PDF"), ("video/webm", "ZIP"),
    ],
)  # fmt: skip
def test_what_is_something_else_is_told(declared: str, start: str) -> None:
    """With the stable reason, and both types in the sentence."""
    failure = mislabelled(VariantPromise("original", declared, 1), STARTS[start])
    assert failure is not None
    assert failure.reason == "CONTENT_TYPE_MISMATCH"
    assert declared.replace("heic", "heif") in failure.message


@pytest.mark.parametrize("declared", ["text/plain", "application/octet-stream", "application/zip", "font/woff2"])
def test_other_types_are_nobodys_business(declared: str) -> None:
    """Not even looked at."""
    assert not is_sniffed(declared)
