"""Metadata does not decide whether a picture is cut: it is out of the file before a decoder sees it."""

import io
import logging
import os
import random
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image, ImageCms
from tests.cases import case
from tests.client.picture_table import (
    ALONE,
    SIZE,
    TABLE,
    chunk,
    clear,
    compressed,
    jpeg_with,
    keyed,
    oriented,
    png,
    scene,
    tiff,
    twelve,
)
from tests.client.pictures import MAKE, decoded, difference, encoded, refusal

from assetlane.cuts import CutOptions, CutSize, make_cuts
from assetlane.errors import ImageRefused
from assetlane.metadata import essentials, orientation_of

WHOLE = [CutSize("whole", 10_000)]
PNG_CUTS = CutOptions(format="png")
KINDS = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".gif": "GIF", ".webp": "WEBP", ".avif": "AVIF"}


def whole(data: bytes) -> Image.Image:
    """Returns the picture as its cut shows it, in its own size."""
    return decoded(make_cuts(data, WHOLE, options=PNG_CUTS).cuts[0])


@pytest.mark.parametrize("name", TABLE)
def test_every_picture_of_the_table_is_cut_without_a_warning(name: str, recwarn: pytest.WarningsRecorder) -> None:
    """Each kind of picture is cut in silence, also where sharp is not installed to compare with."""
    assert make_cuts(TABLE[name]()).cuts
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("name", [name for name in TABLE if Path(name).suffix in (".png", ".jpg", ".tif")])
def test_what_is_left_of_a_file_can_be_read_in_any_pieces(name: str) -> None:
    """The file without its metadata is one file: read at once, in pieces, or from anywhere."""
    source = io.BytesIO(TABLE[name]())
    stream = essentials(source, KINDS[Path(name).suffix]).stream
    data = stream.read()
    assert stream.seek(0, io.SEEK_END) == len(data)
    dice = random.Random(name)
    for _ in range(50):
        start, length = dice.randrange(len(data) + 10), dice.randrange(200)
        stream.seek(start)
        assert stream.read(length) == data[start : start + length]
    stream.seek(0)
    assert b"".join(iter(lambda: stream.read(dice.randrange(1, 999)), b"")) == data


def test_no_metadata_is_left() -> None:
    """Text, XMP, EXIF and profiles are in no byte that a decoder sees."""
    marks = (b"SpyCam", b"Exif\0\0", b"adobe:ns:meta", b"tEXt", b"iCCP", b"eXIf", b"Photoshop")
    text = chunk(b"tEXt", b"a\0SpyCam") + chunk(b"eXIf", b"SpyCam") + compressed(b"iCCP", 9)
    segments = [(0xE1, b"Exif\0\0SpyCam"), (0xE1, b"adobe:ns:meta"), (0xED, b"Photoshop"), (0xFE, b"SpyCam")]
    for kind, data in {"PNG": png(scene(), 8, before=text), "JPEG": jpeg_with(*segments)}.items():
        left = essentials(io.BytesIO(data), kind).stream.read()
        assert [mark for mark in marks if mark in left] == []


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_damaged_exif_in_boxes_does_not_matter(kind: str) -> None:
    """What the item of EXIF holds is not looked at: the picture's own properties turn it."""
    exif = oriented(6)
    exif[MAKE] = "SpyCam"
    if kind == "AVIF":
        data = encoded(scene(), "AVIF", quality=95, exif=exif)
    else:
        file = io.BytesIO()
        pillow_heif.from_pillow(scene()).save(file, quality=95, exif=exif.tobytes())
        data = file.getvalue()
    name = data.index(b"SpyCam")
    at = max(data.rfind(start, 0, name) for start in (b"II*\0", b"MM\0*"))
    assert name - at < 100
    damaged = data[:at] + b"\xff" * 8 + data[at + 8 :]
    assert make_cuts(damaged).width_px == make_cuts(data).width_px
    assert difference(whole(damaged), whole(data)) == 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "AVIF", "HEIF"])
def test_of_a_damaged_file_the_rest_is_left_to_the_decoder(kind: str) -> None:
    """Noise behind each format's first bytes: a stream comes out, at its start."""
    starts = {
        "PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8", "GIF": b"GIF89a",
        "AVIF": b"\0\0\0\x18ftypavif", "HEIF": b"\0\0\0\x18ftypheic",
    }  # fmt: skip
    for length in (0, 1, 2, 5, 9, 13, 20, 300, 3000):
        for _ in range(10):
            data = starts[kind] + os.urandom(length)
            found = essentials(io.BytesIO(data), kind)
            assert found.stream.tell() == 0
            assert 1 <= found.orientation <= 8


@pytest.mark.parametrize("name", [name for name in TABLE if name.endswith(".tif")])
def test_a_damaged_tiff_is_a_picture_or_refused_in_silence(
    name: str, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every byte of its directory, and noise in its pixels: no warning, no line in a log or on the terminal."""
    data = TABLE[name]()
    dice = random.Random(name)
    (start,) = struct.unpack_from("<I" if data[:2] == b"II" else ">I", data, 4)
    places = [*range(start, min(start + 200, len(data))), *(dice.randrange(8, len(data)) for _ in range(50))]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= dice.randrange(1, 256)
        with suppress(ImageRefused):
            make_cuts(bytes(damaged), options=CutOptions(max_pixels=1_000_000))
    for length in range(8, len(data), max(1, len(data) // 40)):
        with suppress(ImageRefused):
            make_cuts(data[:length])
    assert [str(warning.message) for warning in recwarn] == []
    assert [record.message for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(11))
def test_the_orientation_is_read_in_either_order(order: str, value: int) -> None:
    """1 to 8 as they are; all others, and what is cut off anywhere, are 1."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    other = struct.pack(f"{order}HHIHH", 0x010F, 3, 1, 7, 0)
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, value, 0)
    body = start + struct.pack(f"{order}IH", 8, 2) + other + entry
    expected = value if 1 <= value <= 8 else 1
    assert orientation_of(body) == orientation_of(b"Exif\0\0" + body) == expected
    for length in range(len(body) - 2):
        assert orientation_of(body[:length]) == 1
    as_text = struct.pack(f"{order}HHIHH", 0x0112, 2, 1, value, 0)
    assert orientation_of(start + struct.pack(f"{order}IH", 8, 1) + as_text) == 1


def test_only_exif_turns() -> None:
    """An orientation in XMP alone does not; two values in EXIF are one and a surplus."""
    assert make_cuts(case("xmp_only_orient6.jpg")).width_px == 400
    assert make_cuts(case("orient6_two.jpg")).width_px == 300
    for name in ("xmp 6.png", "xmp 6.jpg", "xmp 6.tif", "xmp 6.webp", "xmp 6.avif"):
        assert make_cuts(TABLE[name]()).width_px == SIZE[0], name
    assert make_cuts(TABLE["exif 6 behind.png"]()).width_px == SIZE[1]


@pytest.mark.parametrize("name", [name for name in ALONE if "frame" not in name])
def test_what_sharp_does_not_read_looks_like_the_scene(name: str) -> None:
    """12 bits, ink without a profile, a moving AVIF: as the scene, or its greys."""
    shown = whole(TABLE[name]())
    expected = scene() if shown.size == SIZE else scene().transpose(Image.Transpose.ROTATE_270)
    if name.startswith("12 bit"):
        expected = decoded(make_cuts(TABLE["8 bit black zero.tif"](), WHOLE, options=PNG_CUTS).cuts[0]).convert("RGB")
    assert difference(shown, expected) < 6


@pytest.mark.parametrize("name", ["frame inside.gif", "moving frame inside.gif"])
def test_around_a_small_frame_a_gif_is_transparent(name: str) -> None:
    """What no frame covers is not there; the frame itself is opaque."""
    box = (20, 30, 180, 130)
    shown = whole(TABLE[name]())
    assert (shown.mode, shown.size) == ("RGBA", (200, 170))
    alpha = shown.getchannel("A")
    assert alpha.getbbox() == box
    assert alpha.crop(box).getextrema() == (255, 255)
    assert difference(shown.crop(box), scene()) < 12


def test_a_case_of_a_small_frame_is_transparent_around_it() -> None:
    """Its average colour is that of the frame."""
    picture = make_cuts(case("frame_smaller2.gif"))
    assert (picture.cuts[0].content_type, picture.color) == ("image/png", "#ff0000")


def test_a_gif_that_is_larger_than_any_memory_is_refused_by_its_frame() -> None:
    """A frame may be larger than its screen: Pillow would only warn."""
    data = bytearray(TABLE["plain.gif"]())
    at = data.index(b",", 13 + (3 << ((data[10] & 7) + 1)))
    struct.pack_into("<HH", data, at + 5, 65_000, 1_400)
    assert refusal(bytes(data)) == "IMAGE_TOO_LARGE"


def test_a_tile_larger_than_its_picture_is_refused() -> None:
    """A TIFF with a tile of 12,000 x 12,000 pixels is refused, however small its picture is."""
    tiles = [(322, 4, 12_000), (323, 4, 12_000), (324, 4, 8), (325, 4, 9)]
    assert refusal(tiff(scene().tobytes(), bits=[8] * 3, photometric=2, more=tiles)) == "IMAGE_TOO_LARGE"


def test_a_transparent_level_is_met_exactly() -> None:
    """Of 16 bits only the level itself is clear, not its neighbours that are the same in 8 bits."""
    levels = [0x5A5A, 0x5A5B, 0x5A59, 0xFFFF]
    rows = b"".join(b"\0" + struct.pack(">4H", *levels) for _ in range(4))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"tRNS", struct.pack(">H", 0x5A5A)) + chunk(b"IDAT", zlib.compress(rows))
    shown = whole(data + chunk(b"IEND", b""))
    assert [shown.getpixel((x, 0)) for x in range(4)] == [
        (90, 90, 90, 0), (90, 90, 90, 255), (90, 90, 90, 255), (255, 255, 255, 255),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("top", "level", "expected"), [(1.0, 0.5, 128), (0.5, 0.25, 64), (4.0, 2.0, 128), (255.0, 51.0, 51)]
)
def test_floats_are_from_0_to_1_unless_there_is_more(top: float, level: float, expected: int) -> None:
    """A dark picture stays dark; what goes beyond 1 is brought down to it."""
    image = Image.new("F", (20, 20), level)
    image.putpixel((0, 0), top)
    shown = whole(encoded(image, "TIFF"))
    assert abs(shown.tobytes()[9] - expected) <= 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), -5.0])
def test_floats_that_are_no_light_do_not_keep_a_picture_from_its_cuts(bad: float) -> None:
    """What is not a number is some grey, or the picture is refused: no other error."""
    image = Image.new("F", (20, 20), 0.5)
    image.putpixel((0, 0), bad)
    assert whole(encoded(image, "TIFF")).size == (20, 20)


def test_a_large_profile_is_not_kept_but_counts() -> None:
    """By one of more than 128 KiB the colours become sRGB; a damaged one is left out of account."""
    swapped = swapping_profile()
    for padding, keeps in ((0, True), (200_000, False)):
        icc = padded(swapped, padding)
        data = encoded(scene(), icc_profile=icc)
        (cut,) = make_cuts(data, WHOLE, options=PNG_CUTS).cuts
        image = decoded(cut)
        assert (image.info.get("icc_profile") == icc) is keeps
        red, green, blue = scene().split()
        expected = scene() if keeps else Image.merge("RGB", (green, red, blue))
        assert difference(image, expected) < 6
    for icc in (b"x" * 16 + b"RGB " + b"x" * 200_000, b"x" * 16 + b"RGB " + os.urandom(3 * 1024**2)):
        image = whole(encoded(scene(), "JPEG", quality=95, icc_profile=icc))
        assert image.info.get("icc_profile") is None
        assert difference(image, scene()) < 4


def swapping_profile() -> bytes:
    """Returns a profile of sRGB in which red and green have changed places."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", data, 128)
    places = {bytes(data[132 + 12 * at : 136 + 12 * at]): 132 + 12 * at for at in range(count)}
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    data[red : red + 4], data[green : green + 4] = data[green : green + 4], data[red : red + 4]
    return bytes(data)


def padded(icc: bytes, size: int) -> bytes:
    """Returns the profile with so many more bytes at its end."""
    return struct.pack(">I", len(icc) + size) + icc[4:] + bytes(size)


def test_the_pictures_of_the_table_are_what_they_are_called() -> None:
    """Transparent ones are so, and 12 bits are 12 bits: a table of plain pictures would prove little."""
    for name in TABLE:
        if any(word in name for word in (" key", "clear", "rgba", "alpha")) and "grey 1 key" not in name:
            shown = whole(TABLE[name]())
            assert shown.mode == "RGBA", name
            assert shown.getchannel("A").getextrema()[0] == 0, name
    assert len(twelve(Image.new("L", SIZE), inverted=True)) == SIZE[0] * SIZE[1] * 3 // 2
    assert keyed().getpixel((0, 0)) == (1, 2, 3)
    assert clear().getpixel((0, 0))[3] == 0  # type: ignore[index]
