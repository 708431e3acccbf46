"""What becomes of pictures."""

import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from tests.client.pictures import (
    GPS,
    MAKE,
    ORIENTATION,
    corners,
    decoded,
    difference,
    encoded,
    names,
    psnr,
    real,
    refusal,
)
from tests.refusals import raises

from assetlane.cut_sizes import MAX_EDGE_PX
from assetlane.cuts import STANDARD_CUTS, CutOptions, CutSize, Format, make_cuts, readable
from assetlane.errors import ImageRefused

FORMATS: tuple[Format, ...] = ("jpeg", "webp", "png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_applied(orientation: int, kind: str) -> None:
    """Each of the eight EXIF orientations gives the picture as Pillow itself would turn it."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(corners(), kind, exif=exif)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    picture = make_cuts(data)
    assert (picture.width_px, picture.height_px) == shown.size
    for cut in picture.cuts:
        image = decoded(cut)
        assert difference(image, shown.resize(image.size, Image.Resampling.LANCZOS)) < 2.5
        assert image.getexif().get(ORIENTATION, 1) == 1


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((2000, 1000), [("small", 300, 150), ("medium", 600, 300), ("large", 900, 450)]),
        ((901, 10), [("small", 300, 3), ("medium", 600, 7), ("large", 900, 10)]),
        ((900, 900), [("small", 300, 300), ("medium", 600, 600), ("large", 900, 900)]),
        ((400, 500), [("small", 240, 300), ("medium", 400, 500)]),
        ((300, 200), [("small", 300, 200)]),
        ((10, 10), [("small", 10, 10)]),
        ((1, 1), [("small", 1, 1)]),
        ((5000, 1), [("small", 300, 1), ("medium", 600, 1), ("large", 900, 1)]),
        ((1, 3000), [("small", 1, 300), ("medium", 1, 600), ("large", 1, 900)]),
    ],
)
def test_cuts_are_never_enlarged_nor_made_twice(size: tuple[int, int], expected: list[tuple[str, int, int]]) -> None:
    """Every smaller size is cut, then the picture's own size once, under the next name."""
    assert names(make_cuts(encoded(Image.new("RGB", size)))) == expected
    assert names(make_cuts(encoded(Image.new("RGB", size), "JPEG"))) == expected


def test_other_sizes_can_be_asked_for() -> None:
    """Custom sizes come from small to large, in whatever order they were given."""
    sizes = [CutSize("wide", 700), CutSize("icon", 32)]
    assert names(make_cuts(encoded(corners()), sizes)) == [("icon", 32, 21), ("wide", 700, 467)]
    assert make_cuts(encoded(corners()), []).cuts == ()


def test_a_path_is_read_like_bytes(tmp_path: Path) -> None:
    """A file gives the same cuts as its bytes; a missing file is a missing file."""
    (tmp_path / "a.png").write_bytes(encoded(corners()))
    assert make_cuts(tmp_path / "a.png") == make_cuts(encoded(corners()))
    with pytest.raises(FileNotFoundError):
        make_cuts(tmp_path / "b.png")


def test_metadata_is_dropped_and_the_profile_kept() -> None:
    """GPS, camera, XMP and comments of the original are in no cut; its ICC profile is in each."""
    exif = Image.Exif()
    exif[MAKE] = "SpyCam"
    exif.get_ifd(GPS)[2] = (48.0, 51.0, 29.0)
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    jpeg = encoded(corners(), "JPEG", exif=exif, icc_profile=icc, xmp=b"<x>SpyCam</x>", comment=b"SpyCam was here")
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "SpyCam")
    clear = corners().convert("RGBA")
    clear.putalpha(128)
    png = encoded(clear, exif=exif, icc_profile=icc, pnginfo=text)
    webp = encoded(clear, "WEBP", exif=exif, icc_profile=icc, xmp=b"<x>SpyCam</x>")
    for data in (jpeg, png, webp):
        assert b"SpyCam" in data
        for cut in make_cuts(data).cuts:
            image = decoded(cut)
            assert b"SpyCam" not in cut.data
            assert dict(image.getexif()) == {}
            assert image.info["icc_profile"] == icc


def test_a_profile_that_does_not_fit_is_dropped() -> None:
    """A grey picture keeps no colour profile: readers would show it wrongly or refuse it."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = encoded(Image.new("L", (50, 50), 100), "JPEG", icc_profile=icc)
    (cut,) = make_cuts(grey).cuts
    image = decoded(cut)
    assert (image.mode, image.info.get("icc_profile")) == ("L", None)


@pytest.mark.parametrize(
    ("kind", "content_type"), [("PNG", "image/png"), ("WEBP", "image/webp"), ("TIFF", "image/png")]
)
def test_transparency_is_kept(kind: str, content_type: str) -> None:
    """What shines through still does, and the hidden colour does not bleed into the edge."""
    image = Image.new("RGBA", (800, 800), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 400, 800))
    picture = make_cuts(encoded(image, kind))
    for cut in picture.cuts:
        assert cut.content_type == content_type
        kept = decoded(cut).convert("RGBA")
        assert kept.getpixel((cut.width_px - 1, 5))[3] == 0  # type: ignore[index]
        red, _, blue, alpha = kept.getpixel((5, 5))  # type: ignore[misc]
        assert (alpha, red < 8, blue > 247) == (255, True, True)
    assert picture.color.startswith("#0000f")  # lossy WebP is a shade off


def test_an_unused_alpha_channel_makes_a_jpeg() -> None:
    """A screenshot that is opaque throughout is stored as small as a photo."""
    (cut,) = make_cuts(encoded(corners((100, 100)).convert("RGBA"))).cuts
    assert cut.content_type == "image/jpeg"


def test_palettes_are_resolved() -> None:
    """A palette picture becomes true colour, with its transparent entry kept."""
    plain = make_cuts(encoded(corners((200, 200)).quantize(4)))
    assert plain.cuts[0].content_type == "image/jpeg"
    assert difference(decoded(plain.cuts[0]), corners((200, 200))) < 5
    clear = Image.new("P", (50, 50), 0)
    clear.putpalette([0, 0, 0, 255, 255, 255])
    for kind in ("PNG", "GIF"):
        (cut,) = make_cuts(encoded(clear, kind, transparency=0)).cuts
        assert decoded(cut).convert("RGBA").getpixel((9, 9))[3] == 0  # type: ignore[index]


def test_cmyk_becomes_rgb() -> None:
    """A print picture keeps its colours, with and without a readable profile."""
    cmyk = corners().convert("CMYK")
    for data in (encoded(cmyk, "JPEG"), encoded(cmyk, "TIFF"), encoded(cmyk, "JPEG", icc_profile=b"broken")):
        image = decoded(make_cuts(data).cuts[0])
        assert image.mode == "RGB"
        assert difference(image, corners(image.size)) < 4


@pytest.mark.parametrize(
    ("mode", "kind", "value"),
    [
        ("I;16", "PNG", 0x8080),
        ("I;16", "TIFF", 0x8080),
        ("I;16B", "TIFF", 0x8080),
        ("I", "TIFF", 0x8080),
    ],
)
def test_sixteen_bits_are_scaled_not_cut_off(mode: str, kind: str, value: int) -> None:
    """Mid grey of 16 bits is mid grey of 8 bits."""
    image = Image.new(mode, (400, 400), value)
    for cut in make_cuts(encoded(image, kind)).cuts:
        shown = decoded(cut)
        assert shown.mode == "L"
        assert abs(float(shown.getpixel((5, 5))) - 128) <= 1  # type: ignore[arg-type]


def test_black_and_white_and_floats_are_grey() -> None:
    """One bit, and floats from 0 to 1, are shown as they are meant."""
    assert make_cuts(encoded(Image.new("1", (50, 50), 1))).color == "#ffffff"
    ramp = Image.linear_gradient("L").point(lambda value: value / 255 + 0, "F")
    assert make_cuts(encoded(ramp, "TIFF")).color in ("#7f7f7f", "#808080")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_a_still_of_its_first_frame(kind: str) -> None:
    """A moving picture has cuts that stand still."""
    frames = [Image.new("RGB", (400, 400), color) for color in ("#c80000", "#0000c8")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    for cut in make_cuts(data).cuts:
        image = decoded(cut)
        assert getattr(image, "n_frames", 1) == 1
        assert difference(image, frames[0].resize(image.size)) < 3


def test_a_phones_picture_in_parts_is_a_jpeg() -> None:
    """MPO, a JPEG with more pictures behind the first, is what its name says: image/jpeg."""
    data = encoded(corners(), "MPO", save_all=True, append_images=[corners((100, 100))])
    picture = make_cuts(data, content_type="image/jpeg")
    assert picture.content_type == "image/jpeg"
    assert len(picture.cuts) == 3


def test_the_color_is_the_average() -> None:
    """A picture half black, half white is grey."""
    image = Image.new("RGB", (400, 400))
    image.paste((255, 255, 255), (0, 0, 200, 400))
    assert make_cuts(encoded(image)).color in ("#7f7f7f", "#808080")


def test_quality_is_a_choice() -> None:
    """A lower quality makes smaller files, of JPEG and of WebP."""
    data = encoded(Image.effect_noise((600, 600), 50))
    for lossy in FORMATS[:2]:
        good, poor = (
            make_cuts(data, options=CutOptions(format=lossy, quality=quality)).cuts[-1].data for quality in (90, 10)
        )
        assert len(poor) < len(good) / 2


@pytest.mark.parametrize("format", FORMATS)
def test_the_format_is_a_choice(format: Format) -> None:
    """Every cut is of the format asked for; JPEG lays what is clear over white, the others keep it."""
    clear = Image.new("RGBA", (400, 400), (0, 0, 255, 0))
    for image in (clear, corners(), corners().convert("L")):
        for cut in make_cuts(encoded(image), options=CutOptions(format=format)).cuts:
            assert cut.content_type == f"image/{format}"
            shown = decoded(cut).convert("RGBA").getpixel((0, 0))
            if image is clear:
                assert isinstance(shown, tuple)
                assert shown == (255, 255, 255, 255) if format == "jpeg" else shown[3] == 0


def test_a_cut_says_when_it_is_the_whole_picture() -> None:
    """A size that the picture does not reach gives the picture as large as it is, marked so."""
    assert [cut.is_full_size for cut in make_cuts(encoded(corners((400, 500)))).cuts] == [False, True]
    assert [cut.is_full_size for cut in make_cuts(encoded(corners((901, 500)))).cuts] == [False, False, False]
    assert [cut.is_full_size for cut in make_cuts(encoded(corners((900, 500)))).cuts] == [False, False, True]


@pytest.mark.parametrize(
    ("make", "limits", "names"),
    [
        (lambda: CutOptions(quality=0), [1, 95, 0], ["quality"]),
        (lambda: CutOptions(quality=96), [1, 95, 96], ["quality"]),
        (lambda: CutOptions(format="gif"), [], ["format", "'gif'", "jpeg"]),  # type: ignore[arg-type]
        (lambda: CutSize("icon", 0), [1, MAX_EDGE_PX, 0], []),
        (lambda: CutSize("poster", 16_384), [1, MAX_EDGE_PX, 16_384], []),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(
    make: Callable[[], object], limits: list[int], names: list[str]
) -> None:
    """What no encoder can do is a ValueError where it is written, not a broken picture later."""
    with raises(ValueError, limits=limits, names=names):
        make()


@pytest.mark.parametrize("photo", ["astronaut.png", "chelsea.png"])
@pytest.mark.parametrize("shrink", [6.7, 4.0, 3.3])
def test_cuts_are_as_good_as_from_every_pixel(photo: str, shrink: float) -> None:
    """However much of a JPEG's pixels are skipped, the cut is about 40 dB or more from what Lanczos makes of all."""
    with Image.open(real(photo)) as original:
        data = encoded(original.convert("RGB"), "JPEG", quality=95)
    whole = Image.open(io.BytesIO(data))
    largest = round(max(whole.size) / shrink)
    sizes = [CutSize("large", largest), CutSize("medium", largest * 2 // 3), CutSize("small", largest // 3)]
    for cut in make_cuts(data, sizes, options=CutOptions(format="png")).cuts:
        image = decoded(cut)
        assert psnr(image, whole.resize(image.size, Image.Resampling.LANCZOS)) > 39.5


def test_what_is_no_picture_is_refused() -> None:
    """Nothing, noise, text and formats that are not read have each their reason."""
    assert refusal(b"") == "IMAGE_EMPTY"
    assert refusal(os.urandom(5000)) == "IMAGE_UNRECOGNIZED"
    assert refusal(b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>") == "IMAGE_UNRECOGNIZED"
    assert refusal(encoded(Image.new("RGB", (9, 9)), "EPS")) == "IMAGE_UNRECOGNIZED"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_a_truncated_picture_is_refused_wherever_it_ends(kind: str) -> None:
    """A file cut off in its header or its pixels is broken, never a half grey picture."""
    data = encoded(Image.effect_noise((300, 300), 60).convert("RGB"), kind)
    assert make_cuts(data).width_px == 300
    for length in (20, 60, len(data) // 2):
        assert refusal(data[:length]) in ("IMAGE_BROKEN", "IMAGE_UNRECOGNIZED")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_damage_is_refused_or_survived_but_nothing_else(kind: str) -> None:
    """Flipped bytes give a picture or ImageRefused, no other error."""
    data = encoded(Image.effect_noise((64, 64), 60).convert("RGB"), kind)
    for position in range(0, min(len(data), 600), 3):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        with suppress(ImageRefused):
            make_cuts(bytes(damaged), options=CutOptions(max_pixels=1_000_000))


def test_a_picture_must_be_what_it_is_labelled() -> None:
    """The content type is compared by its essence, aliases included."""
    jpeg = encoded(corners(), "JPEG")
    assert refusal(jpeg, content_type="image/png") == "IMAGE_MISLABELLED"
    assert refusal(jpeg, content_type="text/html") == "IMAGE_MISLABELLED"
    assert make_cuts(jpeg, content_type="Image/JPG; q=1").content_type == "image/jpeg"


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    """A small file with too many pixels is refused by its header, without touching Pillow's limits."""
    limit = Image.MAX_IMAGE_PIXELS
    bomb = encoded(Image.new("1", (20_000, 10_000)))
    assert len(bomb) < 100_000
    assert refusal(bomb) == "IMAGE_TOO_LARGE"
    assert refusal(encoded(corners()), options=CutOptions(max_pixels=900_000)) == "IMAGE_TOO_LARGE"
    assert limit == Image.MAX_IMAGE_PIXELS


def test_what_can_be_read_is_known_by_its_type() -> None:
    """Only formats that are tried count as readable; vector pictures do not."""
    assert all(map(readable, ("image/jpeg", "image/jpg", "image/png; a=b", "image/webp", "IMAGE/GIF")))
    assert not any(map(readable, ("image/svg+xml", "image/x-eps", "text/plain", "video/mp4", "")))


def test_the_standard_cuts_are_the_documented_ones() -> None:
    """Small 300, medium 600, large 900."""
    assert [(cut.name, cut.max_edge_px) for cut in STANDARD_CUTS] == [
        ("small", 300),
        ("medium", 600),
        ("large", 900),
    ]
