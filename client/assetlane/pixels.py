"""What happens to pixels on the way to a cut: turned upright, brought to 8 bits and plain colours, averaged."""

import io

from PIL import Image

from assetlane.formats import BROKEN

_ORIENTATION_TAG = 0x0112
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE = 65_535.0  # of 16 bits


def orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8. Damaged EXIF does not spoil a picture: 1."""
    try:
        found = image.getexif().get(_ORIENTATION_TAG, 1)
    except BROKEN:
        return 1
    return found if found in _TRANSPOSITIONS else 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Returns the picture upright."""
    transposition = _TRANSPOSITIONS.get(orientation)
    return image if transposition is None else image.transpose(transposition)


def plain(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Returns the picture as L, RGB or RGBA with the profile that still fits it."""
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    elif image.mode in ("CMYK", "LAB"):
        return _printed(image, icc), None
    elif image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return image, icc if fits(icc, image) else None


def fits(icc: bytes | None, image: Image.Image) -> bool:
    """Returns whether a profile is one for such a picture: readers show a wrong one wrongly, or refuse it."""
    return icc is not None and icc[16:20] == (b"GRAY" if image.mode == "L" else b"RGB ")


def average_color(image: Image.Image) -> str:
    """Returns the mean of all pixels as `#rrggbb`, each counted by its opacity."""
    dot = image.resize((1, 1), Image.Resampling.BOX, reducing_gap=2.0)
    pixel = dot.convert("RGBA").getpixel((0, 0))
    return "#{:02x}{:02x}{:02x}".format(*pixel[:3]) if isinstance(pixel, tuple) else ""


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns grey of 16 or 32 bits as L; Pillow's own conversion cuts everything above 255 off."""
    if image.mode not in ("I", "I;16", "F"):
        image = image.convert("I")
    top = image.getextrema()[1]
    white = float(top) if isinstance(top, int | float) else _WHITE
    if image.mode != "F" and white <= _WHITE:
        white = _WHITE
    factor = 255.0 / white if white > 0 else 1.0
    return image.point(lambda value: value * factor + 0).convert("L")


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
