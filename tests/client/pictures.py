"""Pictures to test with: generated ones, and real ones from a development package."""

import io
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from assetlane.cuts import Cut, Picture, make_cuts
from assetlane.errors import ImageRefused

ORIENTATION = 0x0112
GPS = 0x8825
MAKE = 0x010F


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Returns the picture as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(cut: Cut) -> Image.Image:
    """Returns the cut as a picture, which is as large as it says."""
    image = Image.open(io.BytesIO(cut.data))
    image.load()
    assert image.size == (cut.width_px, cut.height_px)
    assert Image.MIME[image.format or ""] == cut.content_type
    return image


def corners(size: tuple[int, int] = (1200, 800)) -> Image.Image:
    """Returns a picture with four colours that shows which way up it is."""
    image = Image.new("RGB", (2, 2))
    image.putdata([(220, 30, 30), (30, 220, 30), (30, 30, 220), (220, 220, 30)])
    return image.resize(size, Image.Resampling.NEAREST)


def difference(one: Image.Image, other: Image.Image) -> float:
    """Returns the mean difference of two pictures of one size, 0 to 255."""
    diff = ImageChops.difference(one.convert("RGB"), other.convert("RGB")).convert("L")
    histogram = diff.histogram()
    return sum(level * count for level, count in enumerate(histogram)) / (diff.width * diff.height)


def names(picture: Picture) -> list[tuple[str, int, int]]:
    """Returns name and size of each cut."""
    return [(cut.name, cut.width_px, cut.height_px) for cut in picture.cuts]


def refusal(data: bytes, **options: Any) -> str:
    """Returns the reason for which a picture is refused."""
    with pytest.raises(ImageRefused) as refused:
        make_cuts(data, **options)
    return refused.value.reason


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Returns how alike two pictures are, in dB: from 40 on people see no difference."""
    statistics = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB")))
    error = sum(statistics.sum2) / (3 * one.width * one.height)
    return 10 * math.log10(255**2 / error) if error else math.inf


def real(name: str) -> Path:
    """Returns a real file that imageio's wheel brings along: photographs, an animation, two videos."""
    package = find_spec("imageio")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "resources" / "images" / name
