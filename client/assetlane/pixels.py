"""What happens to pixels on the way to a cut: turned upright, brought to 8 bits and plain colours, averaged."""

import io

from PIL import Image, ImageChops

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIXTEEN_BITS = 65_535


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Returns the picture upright."""
    transposition = _TRANSPOSITIONS.get(orientation)
    return image if transposition is None else image.transpose(transposition)


def plain(
    image: Image.Image, icc: bytes | None, *, white: int = 65_535, inverted: bool = False
) -> tuple[Image.Image, bytes | None]:
    """Returns the picture as L, RGB or RGBA with the profile that still fits it.

    Of grey of more than 8 bits: `white` is the largest value of a sample, `inverted` that it means black.
    """
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image, white, inverted)
    elif image.mode in ("CMYK", "LAB"):
        return _printed(image, icc), None
    elif image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return image, icc if fits(icc, image) else None


def cleared_outside(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Returns the picture as RGBA, transparent outside of the box (left, top, right, bottom)."""
    cleared = image.convert("RGBA")
    shown = Image.new("L", image.size, 0)
    shown.paste(255, box)
    cleared.putalpha(ImageChops.darker(cleared.getchannel("A"), shown))
    return cleared


def in_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    """Returns an L, RGB or RGBA picture with its colours brought to sRGB; as it is when the profile is damaged."""
    from PIL import ImageCms

    mode = "RGB" if image.mode == "L" else image.mode
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
        shown = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError):
        return image
    return image if shown is None else shown


def fits(icc: bytes | None, image: Image.Image) -> bool:
    """Returns whether a profile is one for such a picture: readers show a wrong one wrongly, or refuse it."""
    return icc is not None and icc[16:20] == (b"GRAY" if image.mode == "L" else b"RGB ")


def average_color(image: Image.Image) -> str:
    """Returns the mean of all pixels as `#rrggbb`, each counted by its opacity."""
    dot = image.resize((1, 1), Image.Resampling.BOX, reducing_gap=2.0)
    pixel = dot.convert("RGBA").getpixel((0, 0))
    return "#{:02x}{:02x}{:02x}".format(*pixel[:3]) if isinstance(pixel, tuple) else ""


def _eight_bits(image: Image.Image, most: int, inverted: bool) -> Image.Image:
    """Returns grey of 12 to 32 bits as L, or as RGBA when one of its levels is transparent.

    Pillow's own conversion cuts everything above 255 off. White is `most`, of floats 1; when there is more, that.
    """
    if image.mode not in ("I", "I;16", "F"):
        image = image.convert("I")
    top = image.getextrema()[1]
    least = 1.0 if image.mode == "F" else float(most)
    white = float(top) if isinstance(top, int | float) and top > least else least
    factor, start = (-255.0 / white, 255.5) if inverted else (255.0 / white, 0.5)  # Pillow cuts fractions off
    grey = image.point(lambda value: value * factor + start).convert("L")
    key = image.info.get("transparency")
    if image.mode == "F" or not isinstance(key, int) or not 0 <= key <= _SIXTEEN_BITS:
        return grey
    opaque = image.convert("I").point([0 if level == key else 255 for level in range(65_536)], "L")
    return Image.merge("LA", (grey, opaque)).convert("RGBA")


def _printed(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Returns a CMYK or Lab picture as RGB: by its profile when that is readable, else by the plain formula."""
    from PIL import ImageCms  # most pictures do without, and it takes its time to load

    try:
        if image.mode == "LAB":
            profile = ImageCms.createProfile("LAB")
        elif icc is not None:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
        else:
            return image.convert("RGB")
        shown = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        shown = None  # a damaged profile: the plain formula is better than no picture
    return image.convert("RGB") if shown is None else shown
