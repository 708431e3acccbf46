"""HDR pictures and videos look on an ordinary screen as they are meant: white is white, hues stay."""

import colorsys
import io
import math
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
import pytest
from av.video.stream import VideoStream
from PIL import Image
from tests.cases import case
from tests.client.picture_table import chunk, png
from tests.client.pictures import decoded, encoded

from assetlane.cuts import CutOptions, CutSize, make_cuts
from assetlane.hdr import Primaries, Transfer
from assetlane.preview import Preview, make_preview

# Colours of an ordinary screen that are no brighter than the knee: they come back as they were.
COLORS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 60), (60, 190, 190), (190, 60, 190),
          (120, 120, 120), (30, 30, 30), (210, 160, 130), (0, 0, 0)]  # fmt: skip
WHITE = (255, 255, 255)
EDGE_PX = 64
WHITE_NITS = 203.0
# The inverse of what is under test, from BT.2087 and the primaries' own definitions.
TO_BT2020 = ((0.627404, 0.329283, 0.043313), (0.069097, 0.919540, 0.011362), (0.016391, 0.088013, 0.895595))


def light_of(color: tuple[int, int, int], times: float = 1.0) -> tuple[float, ...]:
    """Returns the light of an sRGB colour in cd/m², in the primaries of BT.2020, so many times as bright."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (c / 255 for c in color)]
    return tuple(WHITE_NITS * times * sum(w * part for w, part in zip(row, linear, strict=True)) for row in TO_BT2020)


def pq(nits: tuple[float, ...]) -> list[float]:
    """Returns the codes of light: the inverse EOTF of SMPTE ST 2084."""
    powers = [(part / 10_000) ** 0.1593017578125 for part in nits]
    return [((0.8359375 + 18.8515625 * part) / (1 + 18.6875 * part)) ** 78.84375 for part in powers]


def hlg(nits: tuple[float, ...]) -> list[float]:
    """Returns the codes of light: the inverse OOTF of a screen of 1,000 cd/m², then the OETF (BT.2100)."""
    display = sum(w * part for w, part in zip((0.2627, 0.6780, 0.0593), nits, strict=True)) / 1000
    scene = [part / 1000 * display ** (1 / 1.2 - 1) if display else 0.0 for part in nits]
    return [
        math.sqrt(3 * part) if part <= 1 / 12 else 0.17883277 * math.log(12 * part - 0.28466892) + 0.55991073
        for part in scene
    ]


CODES = {Transfer.PQ: pq, Transfer.HLG: hlg}


def patches(transfer: Transfer | None, colors: list[tuple[int, int, int]], times: float = 1.0) -> bytes:
    """Returns a row of patches as samples of 16 bits, little-endian; None: coded as the colours are."""
    codes = [
        CODES[transfer](light_of(color, times)) if transfer else [part / 255 for part in color] for color in colors
    ]
    row = b"".join(struct.pack("<3H", *(round(65_535 * min(1.0, part)) for part in code)) * EDGE_PX for code in codes)
    return row * EDGE_PX


def film(
    transfer: Transfer | None, colors: list[tuple[int, int, int]], times: float = 1.0, *, codec: str = "libx264"
) -> bytes:
    """Returns a video of 10 bits that shows patches of these colours. `transfer` None: of an ordinary screen."""
    width = EDGE_PX * len(colors)
    row_bytes = width * 6
    frame = av.VideoFrame(width, EDGE_PX, "rgb48le")
    plane, samples = frame.planes[0], patches(transfer, colors, times)
    rows = (samples[start : start + row_bytes] for start in range(0, len(samples), row_bytes))
    plane.update(b"".join(row.ljust(plane.line_size, b"\0") for row in rows))
    matrix, primaries, curve = (9, 9, int(transfer)) if transfer else (1, 1, 1)
    name = "BT2020" if transfer else "ITU709"
    coded = frame.reformat(format="yuv420p10le", dst_colorspace=name, dst_color_range="MPEG")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = cast(
            "VideoStream",
            out.add_stream(
                codec,
                rate=10,
                options={"crf": "1", "x265-params": "log-level=none"} if codec == "libx265" else {"crf": "1"},
            ),
        )
        stream.width, stream.height, stream.pix_fmt = width, EDGE_PX, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = (
            matrix,
            primaries,
            curve,
            1,
        )
        for number in range(5):
            coded.pts, coded.time_base = number, Fraction(1, 10)
            coded.colorspace, coded.color_primaries, coded.color_trc, coded.color_range = matrix, primaries, curve, 1
            out.mux(stream.encode(coded))
        out.mux(stream.encode())
    return file.getvalue()


def shown(image: Image.Image, count: int) -> Iterator[tuple[int, int, int]]:
    """Yields the colour in the middle of each patch."""
    for number in range(count):
        color = image.convert("RGB").getpixel((EDGE_PX * number + EDGE_PX // 2, image.height // 2))
        assert isinstance(color, tuple)
        yield cast("tuple[int, int, int]", color)


def still(preview: Preview) -> Image.Image:
    """Returns the still of a preview."""
    return decoded(preview.still)


PNG = CutOptions(format="png")


@pytest.mark.parametrize("transfer", Transfer)
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_ordinary_colours_come_back_as_they_were(transfer: Transfer, codec: str) -> None:
    """What an ordinary screen can show, on reference white, is what it shows: within 8 of 255."""
    image = still(make_preview(film(transfer, COLORS, codec=codec), options=PNG))
    for expected, color in zip(COLORS, shown(image, len(COLORS)), strict=True):
        assert max(abs(one - other) for one, other in zip(color, expected, strict=True)) <= 8, (expected, color)


@pytest.mark.parametrize("transfer", Transfer)
@pytest.mark.parametrize("times", [1.0, 2.0, 4.9])
def test_white_is_white_and_what_is_brighter_is_whiter(transfer: Transfer, times: float) -> None:
    """Reference white is nearly all there is; highlights fit in above it, and stay neutral."""
    image = still(make_preview(film(transfer, [WHITE], times), options=PNG))
    (color,) = shown(image, 1)
    assert min(color) >= 244
    assert max(color) - min(color) <= 3
    assert sum(color) / 3 <= 255
    if times > 1:
        (reference,) = shown(still(make_preview(film(transfer, [WHITE]), options=PNG)), 1)
        assert sum(color) >= sum(reference)


@pytest.mark.parametrize("transfer", Transfer)
def test_bright_colours_keep_their_hue(transfer: Transfer) -> None:
    """Twice as bright as an ordinary screen: of the same hue within 6 degrees, not a primary colour or white."""
    colors = [(255, 60, 60), (255, 150, 60), (60, 200, 120), (80, 120, 255)]
    image = still(make_preview(film(transfer, colors, 2.0), options=PNG))
    for expected, color in zip(colors, shown(image, len(colors)), strict=True):
        (hue, saturation, _), (meant, _, _) = (
            colorsys.rgb_to_hsv(*(c / 255 for c in one)) for one in (color, expected)
        )
        assert abs((hue - meant + 0.5) % 1 - 0.5) * 360 < 6, (expected, color)
        assert saturation > 0.25, (expected, color)


def test_colours_outside_of_srgb_lose_saturation_not_hue() -> None:
    """The green of BT.2020 itself is a bright green; what it loses goes towards grey."""
    codes = b"".join(struct.pack("<3H", 0, round(65_535 * 0.75), 0) for _ in range(EDGE_PX))
    assert len(codes) == EDGE_PX * 6
    data = coded_png(codes * EDGE_PX, Transfer.HLG, Primaries.BT2020)
    (color,) = shown(decoded(make_cuts(data, [CutSize("whole", 9999)], options=PNG).cuts[0]), 1)
    assert color[1] > 200
    assert color[1] > 1.5 * max(color[0], color[2])


def coded_png(samples: bytes, transfer: Transfer, primaries: Primaries, width: int = EDGE_PX) -> bytes:
    """Returns samples of 16 bits, little-endian, as a PNG that says how they are coded (cICP)."""
    plain = Image.frombytes("RGB", (width, EDGE_PX), samples[1::2])
    return png(plain, 8, before=chunk(b"cICP", bytes((primaries, transfer, 0, 1))))


@pytest.mark.parametrize("transfer", Transfer)
def test_an_hdr_png_is_tone_mapped_too(transfer: Transfer) -> None:
    """A PNG that names its coding; 8 bits are coarse: within 14 of 255."""
    width = EDGE_PX * len(COLORS)
    data = coded_png(patches(transfer, COLORS), transfer, Primaries.BT2020, width)
    (cut,) = make_cuts(data, [CutSize("whole", 9999)], options=PNG).cuts
    for expected, color in zip(COLORS, shown(decoded(cut), len(COLORS)), strict=True):
        assert max(abs(one - other) for one, other in zip(color, expected, strict=True)) <= 14, (expected, color)


def test_an_hdr_avif_is_tone_mapped_too_unless_it_names_two_codings() -> None:
    """A gain map brings a coding of its own: the picture itself is an ordinary one then."""
    grey = encoded(Image.new("RGB", (200, 100), (148, 148, 148)), "AVIF", quality=100)
    at = grey.index(b"colrnclx")
    hdr = bytearray(grey)
    struct.pack_into(">HH", hdr, at + 8, Primaries.BT2020, Transfer.PQ)
    plain, mapped = (make_cuts(bytes(data), options=PNG).cuts[0] for data in (grey, hdr))
    assert next(shown(decoded(plain), 1))[0] in range(145, 152)
    assert next(shown(decoded(mapped), 1))[0] >= 243, "code 148 of PQ is reference white"
    with_gain_map = bytes(hdr) + grey[at : at + 15]
    again = make_cuts(with_gain_map, options=PNG).cuts[0]
    assert next(shown(decoded(again), 1))[0] in range(145, 152)


def test_the_case_of_a_recorder_shows_its_white_and_its_colours() -> None:
    """HLG at 75 % is white; red, green and blue are what their names say; the greys below rise."""
    preview = make_preview(case("hdr_hlg.mp4"))
    image = still(preview)
    top = [cast("tuple[int, int, int]", image.getpixel((x, 20))) for x in (10, 50, 90, 140)]
    for position, color in enumerate(top[:3]):
        assert color[position] > 180
        assert max(part for place, part in enumerate(color) if place != position) < 80
    assert min(top[3]) >= 240
    greys = [cast("tuple[int, int, int]", image.getpixel((x, 100))) for x in range(5, 160, 20)]
    assert [sum(grey) for grey in greys] == sorted(sum(grey) for grey in greys)
    assert all(max(grey) - min(grey) <= 6 for grey in greys)


def test_an_ordinary_video_of_ten_bits_is_left_as_it_is() -> None:
    """Without a transfer of HDR no table is applied."""
    image = still(make_preview(film(None, COLORS), options=PNG))
    for expected, color in zip(COLORS, shown(image, len(COLORS)), strict=True):
        assert max(abs(one - other) for one, other in zip(color, expected, strict=True)) <= 8, (expected, color)
