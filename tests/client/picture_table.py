"""Pictures of every ordinary and odd kind, by name: what `make_cuts` is held against sharp with."""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import product
from typing import Any, Literal

from PIL import Image, ImageChops, ImageCms
from tests.cases import case
from tests.client.pictures import ORIENTATION, corners, encoded

SIZE = (160, 100)
PIXELS_CLEAR = 40  # the leftmost columns of pictures with transparency
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'  # noqa: E501


@cache
def scene() -> Image.Image:
    """Returns a picture in soft colours that shows which way up it is."""
    return corners((4, 4)).resize(SIZE, Image.Resampling.BICUBIC)


@cache
def grey() -> Image.Image:
    """Returns it in grey, its left quarter black: a key of transparency that is nowhere else."""
    image = scene().convert("L").point(lambda level: max(24, level))
    image.paste(0, (0, 0, PIXELS_CLEAR, SIZE[1]))
    return image


@cache
def keyed() -> Image.Image:
    """Returns it in colour with a left quarter of one colour that is nowhere else."""
    image = scene().copy()
    image.paste((1, 2, 3), (0, 0, PIXELS_CLEAR, SIZE[1]))
    return image


@cache
def clear() -> Image.Image:
    """Returns it with a left quarter that is transparent, and half transparency at its bottom."""
    image = scene().convert("RGBA")
    alpha = Image.new("L", SIZE, 255)
    alpha.paste(128, (0, 80, *SIZE))
    alpha.paste(0, (0, 0, PIXELS_CLEAR, SIZE[1]))
    image.putalpha(alpha)
    return image


def oriented(orientation: int) -> Image.Exif:
    """Returns EXIF with that orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def turned(kind: str, orientation: int) -> bytes:
    """Returns a picture with that orientation. Pillow takes it out of what it is given for an AVIF."""
    return encoded(scene(), kind, quality=95, exif=oriented(orientation))


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    """Returns a chunk of a PNG."""
    check = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def png(
    image: Image.Image, depth: int, *, key: Sequence[int] | None = None, before: bytes = b"", after: bytes = b""
) -> bytes:
    """Returns an L, LA, RGB or RGBA picture as a PNG of that depth; `key`: its transparent colour.

    `before` and `after` the pixels: other chunks.
    """
    channels = len(image.getbands())
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    plain = image.tobytes()
    row_bytes = image.width * channels
    rows = b"".join(
        b"\0" + _packed(plain[start : start + row_bytes], depth) for start in range(0, len(plain), row_bytes)
    )
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *image.size, depth, color_type, 0, 0, 0))
    clear_color = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key is not None else b""
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + clear_color + before + pixels + after + chunk(b"IEND", b"")


def _packed(samples: bytes, depth: int) -> bytes:
    if depth == 16:
        return b"".join(bytes((sample, sample)) for sample in samples)
    if depth == 8:
        return samples
    number = 0
    levels = [sample >> (8 - depth) for sample in samples]
    for level in levels:
        number = (number << depth) | level
    bits = len(levels) * depth
    return (number << (-bits % 8)).to_bytes((bits + 7) // 8)


def tiff(
    samples: bytes,
    *,
    bits: Sequence[int],
    photometric: int,
    big: bool = False,
    more: Sequence[tuple[int, int, int]] = (),
) -> bytes:
    """Returns an uncompressed TIFF of SIZE. `more`: further tags as (tag, type, value)."""
    order = ">" if big else "<"
    entries: list[tuple[int, int, int, int]] = [
        (256, 3, 1, SIZE[0]), (257, 3, 1, SIZE[1]), (259, 3, 1, 1), (262, 3, 1, photometric),
        (277, 3, 1, len(bits)), (278, 3, 1, SIZE[1]), (279, 4, 1, len(samples)),
        *((tag, kind, 1, value) for tag, kind, value in more),
    ]  # fmt: skip
    at = 8 + 2 + 12 * (len(entries) + 2) + 4
    extra = struct.pack(f"{order}{len(bits)}H", *bits)
    inline = len(bits) <= 2
    place = int.from_bytes(extra.ljust(4, b"\0"), "little" if order == "<" else "big") if inline else at
    at += 0 if inline else len(extra)
    rows = [*entries, (258, 3, len(bits), -1), (273, 4, 1, at)]
    table = b""
    for tag, kind, count, value in sorted(rows):
        if tag == 258:
            table += struct.pack(f"{order}HHII", tag, kind, count, place)
        elif kind == 3:
            table += struct.pack(f"{order}HHIHH", tag, kind, count, value, 0)
        else:
            table += struct.pack(f"{order}HHII", tag, kind, count, value)
    head = struct.pack(f"{order}2sHI", b"MM" if big else b"II", 42, 8) + struct.pack(f"{order}H", len(rows))
    return head + table + bytes(4) + (b"" if inline else extra) + samples


def twelve(image: Image.Image, *, inverted: bool) -> bytes:
    """Returns a grey picture of even width in samples of 12 bits."""
    levels = [(255 - level if inverted else level) * 4095 // 255 for level in image.tobytes()]
    pairs = zip(levels[::2], levels[1::2], strict=True)
    return b"".join((first << 12 | second).to_bytes(3) for first, second in pairs)


def wide(data: bytes, order: Literal["little", "big"] = "little") -> bytes:
    """Returns samples of 8 bits as those of 16."""
    return b"".join((sample * 257).to_bytes(2, order) for sample in data)


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    """Returns a JPEG with these segments (marker, body) behind its start."""
    data = encoded(scene(), "JPEG", quality=95)
    packed = (struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return data[:2] + b"".join(packed) + data[2:]


def exif_entry(orientation: int, count: int = 1) -> bytes:
    """Returns the directory entry of an orientation, with so many values of which two are there."""
    return struct.pack("<HHIHH", ORIENTATION, 3, count, orientation, orientation)


def exif_body(entry: bytes) -> bytes:
    """Returns EXIF of one directory entry, as a JPEG has it."""
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4)


def gif(frame_at: tuple[int, int], screen: tuple[int, int], frames: int = 1, disposal: int = 0) -> bytes:
    """Returns a GIF whose frames of SIZE lie there on a screen of that size."""
    data = bytearray(encoded(scene().quantize(64), "GIF"))
    struct.pack_into("<HH", data, 6, *screen)
    at = 13 + (3 << ((data[10] & 7) + 1))
    while data[at] == 0x21:
        at += 2
        while size := data[at]:
            at += 1 + size
        at += 1
    struct.pack_into("<HH", data, at + 1, *frame_at)
    control = bytes((0x21, 0xF9, 4, disposal << 2, 10, 0, 0, 0))
    frame = bytes(data[at:-1])
    return bytes(data[:at]) + (control + frame) * frames + b";"


def moving(kind: str, **options: Any) -> bytes:
    """Returns an animation that begins with the scene and goes on in black."""
    frames = [scene(), Image.new("RGB", SIZE)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)


@cache
def profile() -> bytes:
    """Returns a profile that swaps nothing and fits RGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def compressed(kind: bytes, size: int) -> bytes:
    """Returns a chunk of compressed text or profile that is so many bytes long when it is inflated."""
    return chunk(kind, b"name\0\0" + zlib.compress(bytes(size)))


def _pngs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    for depth in (1, 2, 4, 8, 16):
        yield f"grey {depth}.png", partial(png, grey(), depth)
        yield f"grey {depth} key.png", partial(png, grey(), depth, key=[0])
    # A level that is neither the least nor the largest: what a scaled sample has to be compared with.
    yield "grey 4 middle key.png", lambda: png(grey().point(lambda level: 5 << 4 if level == 0 else 200), 4, key=[5])
    yield "grey 2 middle key.png", lambda: png(grey().point(lambda level: 1 << 6 if level == 0 else 200), 2, key=[1])
    yield (
        "grey 16 middle key.png",
        lambda: png(grey().point(lambda level: 90 if level == 0 else 200), 16, key=[90 * 257]),
    )
    for depth in (8, 16):
        factor = 257 if depth == 16 else 1
        yield f"rgb {depth}.png", partial(png, scene(), depth)
        yield f"rgb {depth} key.png", partial(png, keyed(), depth, key=[1 * factor, 2 * factor, 3 * factor])
        yield f"rgba {depth}.png", partial(png, clear(), depth)
        yield f"grey alpha {depth}.png", partial(png, clear().convert("LA"), depth)
    for colors in (2, 4, 16, 256):
        yield f"palette {colors}.png", partial(encoded, scene().quantize(colors), bits=8)
    yield "palette clear.png", lambda: encoded(clear().quantize(64))
    yield "palette key.png", lambda: encoded(keyed().quantize(64), transparency=0)
    yield "apng.png", lambda: moving("PNG")
    yield "exif 6.png", lambda: encoded(scene(), exif=oriented(6))
    yield "exif 6 behind.png", lambda: png(scene(), 8, after=chunk(b"eXIf", oriented(6).tobytes()[6:]))
    yield "broken exif.png", lambda: png(scene(), 8, before=chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"))
    yield "bad crc exif.png", lambda: png(scene(), 8, before=chunk(b"eXIf", oriented(6).tobytes()[6:], crc=1))
    yield "xmp 6.png", lambda: png(scene(), 8, before=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP))
    yield "large zTXt.png", lambda: png(scene(), 8, before=compressed(b"zTXt", 3 * 1024**2))
    yield "many zTXt.png", lambda: png(scene(), 8, before=compressed(b"zTXt", 1024**2 - 9) * 80)
    yield "broken zTXt.png", lambda: png(scene(), 8, before=chunk(b"zTXt", b"a\0\0not deflated"))
    yield "bad crc tEXt.png", lambda: png(scene(), 8, before=chunk(b"tEXt", b"a\0b", crc=0))
    yield "bad crc tEXt behind.png", lambda: png(scene(), 8, after=chunk(b"tEXt", b"a\0b", crc=0))
    yield "broken iTXt.png", lambda: png(scene(), 8, before=chunk(b"iTXt", b"\xff\xfe\0\1\7\0"))
    yield "broken iCCP.png", lambda: png(scene(), 8, before=chunk(b"iCCP", b"a\0\0not deflated"))
    yield "large iCCP.png", lambda: png(scene(), 8, before=compressed(b"iCCP", 6 * 1024**2))
    yield (
        "short cHRM.png",
        lambda: png(scene(), 8, before=chunk(b"cHRM", b"a") + chunk(b"pHYs", b"") + chunk(b"gAMA", b"")),
    )
    yield "broken acTL.png", lambda: png(scene(), 8, before=chunk(b"acTL", bytes(8)))
    yield "private chunk.png", lambda: png(scene(), 8, before=chunk(b"vpAg", bytes(3)))


def _jpegs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    for orientation in range(1, 9):
        yield f"exif {orientation}.jpg", partial(turned, "JPEG", orientation)
    yield "progressive.jpg", lambda: encoded(scene(), "JPEG", quality=95, progressive=True)
    yield "444.jpg", lambda: encoded(scene(), "JPEG", quality=95, subsampling=0)
    yield "grey.jpg", lambda: encoded(scene().convert("L"), "JPEG", quality=95)
    yield "rgb.jpg", lambda: encoded(scene(), "JPEG", quality=95, keep_rgb=True)
    yield "mpo.jpg", lambda: encoded(scene(), "MPO", save_all=True, append_images=[Image.new("RGB", SIZE)])
    yield "profile.jpg", lambda: encoded(scene(), "JPEG", quality=95, icc_profile=profile())
    yield "broken profile.jpg", lambda: jpeg_with((0xE2, b"ICC_PROFILE\0\x01\x02only the first of two"))
    yield "broken MPF.jpg", lambda: jpeg_with((0xE2, b"MPF\0II*\0\xff\xff\xff\xff"))
    yield "xmp 6.jpg", lambda: jpeg_with((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP))
    yield "much xmp.jpg", lambda: jpeg_with(*[(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000))] * 70)
    yield "photoshop.jpg", lambda: jpeg_with((0xED, b"Photoshop 3.0\x008BIM\xff\xff\xff\xff\xff\xff"))
    yield "comment.jpg", lambda: jpeg_with((0xFE, b"\xff\xfe\0"))
    yield "cut off exif.jpg", lambda: jpeg_with((0xE1, b"Exif\0\0II*\0\x08\0\0\0\x09\0\x12"))
    yield "exif of noise.jpg", lambda: jpeg_with((0xE1, b"Exif\0\0" + bytes(range(256)) * 8))
    yield "exif far away.jpg", lambda: jpeg_with((0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xf0"))
    yield "exif two 6.jpg", lambda: jpeg_with((0xE1, exif_body(exif_entry(6, count=2))))
    yield "exif 9.jpg", lambda: jpeg_with((0xE1, exif_body(exif_entry(9))))
    yield "filler.jpg", lambda: encoded(scene(), "JPEG", quality=95).replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1)
    yield "tail.jpg", lambda: encoded(scene(), "JPEG", quality=95) + bytes(5000)


def _tiffs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    for photometric, big in product((0, 1), (False, True)):
        ending = f"{'white' if photometric == 0 else 'black'} zero{' MM' if big else ''}.tif"
        order: Literal["little", "big"] = "big" if big else "little"
        samples = (ImageChops.invert(grey()) if photometric == 0 else grey()).tobytes()
        yield f"8 bit {ending}", partial(tiff, samples, bits=[8], photometric=photometric, big=big)
        yield (
            f"16 bit {ending}",
            partial(tiff, wide(samples, order), bits=[16], photometric=photometric, big=big),
        )
    yield "12 bit white zero.tif", lambda: tiff(twelve(grey(), inverted=True), bits=[12], photometric=0)
    yield "12 bit black zero.tif", lambda: tiff(twelve(grey(), inverted=False), bits=[12], photometric=1)
    yield "16 bit rgb.tif", lambda: tiff(wide(scene().tobytes()), bits=[16] * 3, photometric=2)
    yield "16 bit rgba.tif", lambda: tiff(wide(clear().tobytes()), bits=[16] * 4, photometric=2, more=[(338, 3, 2)])
    yield "rgba.tif", lambda: encoded(clear(), "TIFF")
    yield "alpha.tif", lambda: encoded(clear().convert("LA"), "TIFF")
    yield "cmyk.tif", lambda: encoded(scene().convert("CMYK"), "TIFF")
    yield "one bit.tif", lambda: encoded(grey().convert("1"), "TIFF")
    yield "group 4.tif", lambda: encoded(grey().convert("1"), "TIFF", compression="group4")
    yield "lzw.tif", lambda: encoded(scene(), "TIFF", compression="tiff_lzw")
    yield "deflate.tif", lambda: encoded(scene(), "TIFF", compression="tiff_adobe_deflate")
    yield "jpeg.tif", lambda: encoded(scene(), "TIFF", compression="jpeg", quality=95)
    yield "palette.tif", lambda: encoded(scene().quantize(64), "TIFF")
    yield "big.tif", lambda: encoded(scene(), "TIFF", big_tiff=True)
    yield "exif 6.tif", lambda: encoded(scene(), "TIFF", exif=oriented(6))
    yield "lzw exif 8.tif", lambda: encoded(scene(), "TIFF", compression="tiff_lzw", exif=oriented(8))
    yield "xmp 6.tif", lambda: encoded(scene(), "TIFF", tiffinfo={700: XMP})
    yield (
        "broken sub-IFD.tif",
        lambda: tiff(scene().tobytes(), bits=[8] * 3, photometric=2, more=[(34665, 4, 2**31), (34853, 4, 9)]),
    )
    yield "pages.tif", lambda: moving("TIFF")


def _others() -> Iterator[tuple[str, Callable[[], bytes]]]:
    yield "plain.gif", lambda: encoded(scene().quantize(64), "GIF")
    yield "moving.gif", lambda: moving("GIF")
    yield "clear.gif", lambda: encoded(clear(), "GIF")
    yield "frame inside.gif", lambda: gif((20, 30), (200, 170))
    yield "moving frame inside.gif", lambda: gif((20, 30), (200, 170), frames=2, disposal=2)
    yield "interlaced.gif", lambda: encoded(scene().quantize(64), "GIF", interlace=1)
    yield "lossy.webp", lambda: encoded(scene(), "WEBP", quality=95)
    yield "clear.webp", lambda: encoded(clear(), "WEBP", lossless=True)
    yield "moving.webp", lambda: moving("WEBP", lossless=True)
    yield "exif 6.webp", lambda: encoded(scene(), "WEBP", lossless=True, exif=oriented(6))
    yield "broken exif.webp", lambda: encoded(scene(), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    yield "xmp 6.webp", lambda: encoded(scene(), "WEBP", lossless=True, xmp=XMP)
    yield "plain.avif", lambda: encoded(scene(), "AVIF", quality=95)
    yield "clear.avif", lambda: encoded(clear(), "AVIF", quality=95)
    for orientation in (3, 5, 6, 8):
        yield f"turned {orientation}.avif", partial(turned, "AVIF", orientation)
    yield "xmp 6.avif", lambda: encoded(scene(), "AVIF", quality=95, xmp=XMP)
    yield "moving.avif", lambda: moving("AVIF", quality=95)
    for name in (
        "big_iccp.png",
        "gray16_trns_bg.png",
        "gray16_miniswhite.tif",
        "frame_smaller2.gif",
        "mif1_major.avif",
        "orient6_two.jpg",
        "xmp_only_orient6.jpg",
    ):
        yield f"case {name}", case(name).read_bytes


TABLE: dict[str, Callable[[], bytes]] = {
    name: make for part in (_pngs, _jpegs, _tiffs, _others) for name, make in part()
}

# What sharp is no measure for, and why
ALONE = {
    "exif 6 behind.png": "libvips looks for EXIF before the pixels only",
    "bad crc exif.png": "libvips does not check it; browsers drop the chunk",
    "cmyk.tif": "libvips takes inks without a profile for those of an American web press",
    "frame inside.gif": "libvips takes what no frame covers for black, browsers for transparent",
    "moving frame inside.gif": "likewise",
    "case frame_smaller2.gif": "likewise",
    "12 bit white zero.tif": "libvips reads no 12 bits",
    "12 bit black zero.tif": "likewise",
    "moving.avif": "libheif of sharp reads no sequences",
}
