"""A generated, photograph-like picture with all that a camera adds: orientation, a place, a colour profile."""

import io
import random

from PIL import ExifTags, Image, ImageChops, ImageCms, ImageDraw, ImageFilter

ORIENTATION_ROTATED = 6  # the camera was held upright: show it turned a quarter to the right


def photograph(width_px: int = 1600, height_px: int = 1200, seed: int = 7) -> bytes:
    """Returns a JPEG of a lake at dusk, upright: `height_px` wide and `width_px` high once oriented.

    Carries EXIF orientation 6, a GPS position and an sRGB profile. The same arguments give the same picture.
    """
    chance = random.Random(seed)  # noqa: S311 - scenery
    upright = (height_px, width_px)
    picture = _sky(upright)
    _sun(picture)
    for layer in range(4):
        _ridge(picture, chance, layer)
    _lake(picture)
    grain = Image.effect_noise(upright, 22).convert("RGB")
    picture = ImageChops.soft_light(picture.filter(ImageFilter.GaussianBlur(1.2)), grain)

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = ORIENTATION_ROTATED
    exif[ExifTags.Base.Make] = "Assetlane"
    exif[ExifTags.Base.DateTime] = "2026:08:01 20:14:00"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {
            ExifTags.GPS.GPSLatitudeRef: "N",
            ExifTags.GPS.GPSLatitude: (46.0, 30.0, 12.0),
            ExifTags.GPS.GPSLongitudeRef: "E",
            ExifTags.GPS.GPSLongitude: (8.0, 18.0, 40.0),
        }
    )
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    out = io.BytesIO()
    # Stored lying on its side, as a sensor reads it.
    picture.transpose(Image.Transpose.ROTATE_90).save(
        out, "JPEG", quality=90, exif=exif, icc_profile=profile, optimize=False
    )
    return out.getvalue()


def _sky(size: tuple[int, int]) -> Image.Image:
    mask = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, (250, 176, 120)), Image.new("RGB", size, (38, 62, 120)), mask)


def _sun(picture: Image.Image) -> None:
    width, height = picture.size
    glow = ImageChops.invert(Image.radial_gradient("L").resize((width, width)))
    edge = int(glow.getpixel((width // 2, 0)))  # type: ignore[arg-type]  # one band, one number
    light = Image.new("RGB", (width, width), (255, 232, 180))
    picture.paste(light, (width // 8, height // 2 - width // 2), glow.point(lambda v: max(0, v - edge)))


def _ridge(picture: Image.Image, chance: random.Random, layer: int) -> None:
    width, height = picture.size
    base = height * (0.52 + 0.06 * layer)
    points = [(0.0, height * 1.0)]
    level = base
    for x in range(0, width + 9, 8):
        level += chance.uniform(-1, 1) * height / 120 + (base - level) * 0.03
        points.append((float(x), level))
    points.append((float(width), height * 1.0))
    shade = 90 - 22 * layer
    ImageDraw.Draw(picture).polygon(points, fill=(shade // 2 + 10, shade // 2 + 18, shade + 10))


def _lake(picture: Image.Image) -> None:
    width, height = picture.size
    shore = int(height * 0.78)
    mirrored = picture.crop((0, 2 * shore - height, width, shore)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    veil = Image.new("RGB", mirrored.size, (40, 60, 90))
    picture.paste(Image.blend(mirrored.filter(ImageFilter.GaussianBlur(3)), veil, 0.35), (0, shore))
