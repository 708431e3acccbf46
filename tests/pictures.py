"""Pictures to test with."""

import io

from PIL import Image


def gradient(size: tuple[int, int]) -> bytes:
    """Returns a JPEG that is dark in the middle: the same bytes each time."""
    encoded = io.BytesIO()
    Image.radial_gradient("L").resize(size).save(encoded, "JPEG")
    return encoded.getvalue()
