"""What becomes of pictures of every odd kind: generated ones, real ones, and broken ones."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any, cast, get_args

import pillow_heif
import pytest
from PIL import Image, ImageCms, ImageOps
from pillow_heif.as_plugin import HeifImageFile
from tests.client.pictures import GPS, MAKE, ORIENTATION, decoded, encoded, names, psnr, real
from tests.refusals import raises

from assetlane.cuts import CutOptions, CutSize, Format, make_cuts
from assetlane.errors import ImageRefused

WHOLE = 10_000  # larger than any picture here: its own size, untouched


@cache
def srgb() -> bytes:
    """Returns a colour profile, always the same: it holds the time when it was made."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@cache
def photo(size: tuple[int, int] | None = None) -> Image.Image:
    """Returns a real photograph, as it is or at that size."""
    with Image.open(real("astronaut.png")) as image:
        whole = image.convert("RGB")
    whole.info = {}  # its profile would go along with every file made of it
    return whole if size is None else whole.resize(size, Image.Resampling.LANCZOS)


def sixteen_bits() -> Image.Image:
    """Returns the photograph in grey of 16 bits."""
    grey = photo().convert("L")
    return Image.frombytes("I;16", grey.size, b"".join(struct.pack("<H", level * 257) for level in grey.tobytes()))


def sixteen_bit_colors() -> bytes:
    """Returns the photograph as a PNG of 16 bits a channel, which Pillow cannot write."""
    image = photo()
    row = image.width * 3
    plain = image.tobytes()
    rows = b"".join(
        b"\0" + b"".join(bytes((level, level)) for level in plain[start : start + row])
        for start in range(0, len(plain), row)
    )

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", *image.size, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def transparent() -> Image.Image:
    """Returns the photograph, clear on its right half."""
    image = photo().convert("RGBA")
    image.paste((0, 0, 0, 0), (image.width // 2, 0, *image.size))
    return image


def moving(kind: str) -> bytes:
    """Returns an animation that begins with the photograph and goes on in black."""
    frames = [photo(), Image.new("RGB", photo().size)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, lossless=True)


def lab() -> Image.Image:
    """Returns the photograph in CIE L*a*b*."""
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    turned = ImageCms.profileToProfile(photo(), *profiles, outputMode="LAB")
    assert turned is not None
    return turned


def grey() -> Image.Image:
    """Returns the photograph in grey."""
    return photo().convert("L")


def clear_grey() -> Image.Image:
    """Returns the photograph in grey, clear on its right half."""
    return transparent().convert("LA")


# What it is, how the file is made, what its cuts should show, what they are, and how alike that is in dB
ODD: dict[str, tuple[Callable[[], bytes], Callable[[], Image.Image], str, str, float]] = {
    "baseline": (lambda: encoded(photo(), "JPEG", quality=95), photo, "RGB", "image/jpeg", 33),
    "progressive": (
        lambda: encoded(photo(), "JPEG", quality=95, progressive=True), photo, "RGB", "image/jpeg", 33,
    ),
    "no subsampling": (
        lambda: encoded(photo(), "JPEG", quality=95, subsampling=0), photo, "RGB", "image/jpeg", 33,
    ),
    "grey jpeg": (lambda: encoded(grey(), "JPEG", quality=95), grey, "L", "image/jpeg", 34),
    "cmyk jpeg": (lambda: encoded(photo().convert("CMYK"), "JPEG", quality=95), photo, "RGB", "image/jpeg", 30),
    "cmyk tiff": (lambda: encoded(photo().convert("CMYK"), "TIFF"), photo, "RGB", "image/jpeg", 34),
    "lab tiff": (lambda: encoded(lab(), "TIFF"), photo, "RGB", "image/jpeg", 30),
    "palette": (lambda: encoded(photo().quantize(256), "PNG"), photo, "RGB", "image/jpeg", 28),
    "palette gif": (lambda: encoded(photo().quantize(256), "GIF"), photo, "RGB", "image/jpeg", 28),
    "one bit": (lambda: encoded(grey().convert("1"), "PNG"), grey, "L", "image/jpeg", 4),
    "true colour": (lambda: encoded(photo(), "PNG"), photo, "RGB", "image/jpeg", 34),
    "16 bit grey png": (lambda: encoded(sixteen_bits(), "PNG"), grey, "L", "image/jpeg", 34),
    "16 bit grey tiff": (lambda: encoded(sixteen_bits(), "TIFF"), grey, "L", "image/jpeg", 34),
    "16 bit colour png": (sixteen_bit_colors, photo, "RGB", "image/jpeg", 34),
    "grey with alpha": (lambda: encoded(clear_grey(), "PNG"), clear_grey, "RGBA", "image/png", 40),
    "alpha png": (lambda: encoded(transparent(), "PNG"), transparent, "RGBA", "image/png", 40),
    "alpha palette": (
        lambda: encoded(transparent().quantize(256), "PNG"), transparent, "RGBA", "image/png", 28,
    ),
    "alpha tiff": (lambda: encoded(transparent(), "TIFF"), transparent, "RGBA", "image/png", 40),
    "alpha webp": (lambda: encoded(transparent(), "WEBP", lossless=True), transparent, "RGBA", "image/webp", 30),
    "alpha avif": (lambda: encoded(transparent(), "AVIF", quality=95), transparent, "RGBA", "image/webp", 30),
    "webp": (lambda: encoded(photo(), "WEBP", quality=95), photo, "RGB", "image/jpeg", 32),
    "avif": (lambda: encoded(photo(), "AVIF", quality=95), photo, "RGB", "image/jpeg", 32),
    "bmp": (lambda: encoded(photo(), "BMP"), photo, "RGB", "image/jpeg", 34),
    "lzw tiff": (lambda: encoded(photo(), "TIFF", compression="tiff_lzw"), photo, "RGB", "image/jpeg", 34),
    "moving gif": (lambda: moving("GIF"), photo, "RGB", "image/jpeg", 20),
    "moving webp": (lambda: moving("WEBP"), photo, "RGB", "image/jpeg", 34),
    "moving png": (lambda: moving("PNG"), photo, "RGB", "image/jpeg", 34),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_picture_looks_as_it_should(kind: str) -> None:
    """Each kind has its sizes, mode and type, and shows the photograph in its own colours and clear parts."""
    make, meant, mode, content_type, alike_db = ODD[kind]
    picture = make_cuts(make(), [CutSize("small", 300), CutSize("whole", WHOLE)])
    assert (picture.width_px, picture.height_px) == photo().size
    assert names(picture) == [("small", 300, 300), ("whole", *photo().size)]
    assert [cut.is_full_size for cut in picture.cuts] == [False, True]
    for cut in picture.cuts:
        image = decoded(cut)
        assert (image.mode, cut.content_type) == (mode, content_type)
        expected = on_white(meant()).resize(image.size, Image.Resampling.LANCZOS)
        assert psnr(on_white(image), expected) > alike_db


def on_white(image: Image.Image) -> Image.Image:
    """Returns the picture as it is seen on a white page."""
    layer = image.convert("RGBA")
    page = Image.new("RGB", image.size, "white")
    page.paste(layer, mask=layer.getchannel("A"))
    return page


@pytest.mark.parametrize(
    ("name", "size", "content_type"),
    [
        ("astronaut.png", (512, 512), "image/png"),
        ("chelsea.png", (451, 300), "image/png"),
        ("newtonscradle.gif", (200, 150), "image/gif"),
    ],
)
def test_real_pictures_are_cut(name: str, size: tuple[int, int], content_type: str) -> None:
    """What other people's programs wrote is read: its cuts are opaque stills of the first picture in it."""
    picture = make_cuts(real(name))
    assert (picture.width_px, picture.height_px, picture.content_type) == (*size, content_type)
    with Image.open(real(name)) as original:
        first = original.convert("RGB")
    for cut in picture.cuts:
        image = decoded(cut)
        assert getattr(image, "n_frames", 1) == 1
        assert psnr(image, first.resize(image.size, Image.Resampling.LANCZOS)) > 32


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "HEIF"])
def test_a_whole_cut_is_turned_pixel_by_pixel(orientation: int, kind: str) -> None:
    """Each of the eight orientations of a real photograph is what Pillow itself would show, pixel for pixel."""
    options: dict[str, Any] = {"lossless": True} if kind in ("PNG", "WEBP") else {"quality": 90}
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encode_any(photo((320, 200)), kind, exif=exif, **options)
    with open_any(data, kind) as original:
        shown = ImageOps.exif_transpose(original).convert("RGB")
    (cut,) = make_cuts(data, [CutSize("whole", WHOLE)], options=CutOptions(format="png")).cuts
    assert (cut.width_px, cut.height_px) == shown.size == ((320, 200) if orientation < 5 else (200, 320))
    assert decoded(cut).tobytes() == shown.tobytes()


def encode_any(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Returns the picture as a file, HEIF too."""
    if kind != "HEIF":
        return encoded(image, kind, **options)
    file = io.BytesIO()
    image = image.copy()
    if "icc_profile" in options:
        image.info["icc_profile"] = options.pop("icc_profile")
    pillow_heif.from_pillow(image).save(file, **{**options, "exif": options["exif"].tobytes()})
    return file.getvalue()


def open_any(data: bytes, kind: str) -> Image.Image:
    """Returns the picture in a file, HEIF too."""
    if kind != "HEIF":
        return Image.open(io.BytesIO(data))
    return cast("Image.Image", HeifImageFile(io.BytesIO(data)))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_no_cut_holds_a_place(kind: str) -> None:
    """The original knows where it was taken and by what; no cut does, and each has the original's profile."""
    exif = Image.Exif()
    exif[MAKE] = "SpyCam"
    exif.get_ifd(GPS)[2] = (48.0, 51.0, 29.0)
    clear = kind in ("PNG", "WEBP")
    image = transparent() if clear else photo()
    data = encode_any(image, kind, exif=exif, icc_profile=srgb())
    assert b"SpyCam" in data
    for target in get_args(Format):
        for cut in make_cuts(data, options=CutOptions(format=target)).cuts:
            made = decoded(cut)
            assert b"SpyCam" not in cut.data
            assert dict(made.getexif()) == {}
            assert made.info["icc_profile"] == srgb()


def ink_profile() -> bytes:
    """Returns a CMYK profile by which cyan ink is seen as red (ICC.1:2010, 10.10: four inks to CIE L*a*b*)."""
    white, red, black = (255, 128, 128), (138, 209, 198), (0, 128, 128)
    grid = [
        black if key else red if cyan else white
        for cyan in (0, 1) for _magenta in (0, 1) for _yellow in (0, 1) for key in (0, 1)
    ]  # fmt: skip
    identity = struct.pack(">9I", *(65536 * (place % 4 == 0) for place in range(9)))
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0\4\3\2\0" + identity + ramp * 4 + b"".join(map(bytes, grid)) + ramp * 3
    text = b"text\0\0\0\0test\0\0\0\0"
    point = b"XYZ \0\0\0\0" + struct.pack(">3I", 63190, 65536, 54061)  # D50
    tags = {b"desc": text, b"cprt": text, b"wtpt": point, b"A2B0": table}
    offset = 128 + 4 + 12 * len(tags)
    index, body = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        index += name + struct.pack(">II", offset + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    header = struct.pack(">I4sI4s4s4s12x4s28x3I", offset + len(body), b"test", 0x02400000, b"prtr", b"CMYK", b"Lab ",
                         b"acsp", 63190, 65536, 54061)  # fmt: skip
    return header.ljust(128, b"\0") + index + body


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_printed_picture_is_shown_by_its_profile(kind: str) -> None:
    """CMYK is brought to sRGB by its profile, without one by the formula; the profile fits no more and goes."""
    cyan = Image.new("CMYK", (300, 300), (255, 0, 0, 0))
    for options, expected in (({}, (0, 255, 255)), ({"icc_profile": ink_profile()}, (254, 0, 0))):
        image = decoded(make_cuts(encoded(cyan, kind, **options)).cuts[0])
        assert (image.mode, image.info.get("icc_profile")) == ("RGB", None)
        shown = image.getpixel((150, 150))
        assert isinstance(shown, tuple)
        assert all(abs(one - other) < 20 for one, other in zip(shown, expected, strict=True))


@pytest.mark.parametrize("size", [(1, 1), (30_000, 2), (2, 30_000), (9_999, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "BMP"])
def test_extreme_shapes_are_cut(size: tuple[int, int], kind: str) -> None:
    """A dot, a thread: every cut has at least one pixel each way and at most what was asked for."""
    picture = make_cuts(encoded(Image.new("RGB", size, (200, 30, 30)), kind))
    assert (picture.width_px, picture.height_px) == size
    assert [max(cut.width_px, cut.height_px) for cut in picture.cuts] == ([1] if size == (1, 1) else [300, 600, 900])
    assert all(min(decoded(cut).size) == 1 for cut in picture.cuts)
    assert abs(int(picture.color[1:3], 16) - 200) < 5


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF"])
def test_a_picture_cut_off_at_any_kilobyte_is_refused(kind: str) -> None:
    """Wherever a file ends too early it is refused with a reason: never half grey, never another error."""
    if kind == "progressive":
        data = encoded(photo(), "JPEG", progressive=True)
    else:
        data = encode_any(photo(), kind, exif=Image.Exif())
    assert make_cuts(data).width_px == 512
    for length in range(1024, len(data) - 16, 1024):
        with pytest.raises(ImageRefused) as refused:
            make_cuts(data[:length])
        assert refused.value.reason in ("IMAGE_BROKEN", "IMAGE_UNRECOGNIZED")


STARTS = [
    b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\1\0\0WEBP", b"BM", b"II*\0",
    b"\0\0\0\x18ftypavif", b"\0\0\0\x18ftypheic",
]  # fmt: skip


@pytest.mark.parametrize("start", STARTS)
def test_noise_is_refused_whatever_it_begins_with(start: bytes) -> None:
    """Random bytes behind the mark of a format are no picture."""
    for _ in range(20):
        with pytest.raises(ImageRefused) as refused:
            make_cuts(start + os.urandom(3000))
        assert refused.value.reason in ("IMAGE_BROKEN", "IMAGE_UNRECOGNIZED", "IMAGE_TOO_LARGE")


def test_a_bomb_is_refused_in_every_format() -> None:
    """A few kilobytes that would be hundreds of megabytes are refused by their header."""
    wide = Image.new("1", (12_000, 12_000))
    for kind in ("PNG", "TIFF"):
        bomb = encoded(wide, kind, **({"compression": "group4"} if kind == "TIFF" else {}))
        assert len(bomb) < 100_000
        with pytest.raises(ImageRefused) as refused:
            make_cuts(bomb)
        assert refused.value.reason == "IMAGE_TOO_LARGE"


@pytest.mark.parametrize(
    ("brands", "reason"),
    [
        (b"mif1\0\0\0\0mif1heic", "IMAGE_BROKEN"),
        (b"isom\0\0\0\0isommp41", "IMAGE_UNRECOGNIZED"),
    ],
)
def test_boxes_are_known_by_all_their_brands(brands: bytes, reason: str) -> None:
    """A video begins like an HEIC picture and is none; mif1 may be either of two formats."""
    with pytest.raises(ImageRefused) as refused:
        make_cuts(b"\0\0\0\x18ftyp" + brands + bytes(100))
    assert refused.value.reason == reason


def test_heic_is_read_with_its_profile_and_transparency() -> None:
    """A phone's format is cut like any other: to JPEG, and to WebP where it is clear."""
    opaque = make_cuts(encode_any(photo(), "HEIF", exif=Image.Exif(), quality=90), content_type="image/heif")
    assert (opaque.content_type, [cut.content_type for cut in opaque.cuts]) == ("image/heic", ["image/jpeg"] * 2)
    assert psnr(decoded(opaque.cuts[-1]), photo()) > 30
    clear = make_cuts(encode_any(transparent(), "HEIF", exif=Image.Exif()))
    assert clear.cuts[0].content_type == "image/webp"
    assert Image.OPEN.get("HEIF") is None, "nothing is registered for the whole process"


def test_cuts_can_be_made_in_another_process() -> None:
    """Bytes or a path go in, cuts or the refusal with its reason come back."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        options = CutOptions(quality=70)
        assert pool.submit(make_cuts, real("chelsea.png"), options=options).result() == make_cuts(
            real("chelsea.png").read_bytes(), options=options
        )
        with pytest.raises(ImageRefused) as refused:
            pool.submit(make_cuts, b"").result()
    with raises(ImageRefused, reason="IMAGE_EMPTY") as here:
        make_cuts(b"")
    assert (refused.value.reason, str(refused.value)) == (here.value.reason, str(here.value))
