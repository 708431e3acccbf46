"""A generated video of two seconds: the camera pans over a lake at dusk."""

import io
from typing import cast

import av
from av.video.stream import VideoStream
from PIL import Image

from examples.picture import photograph

RATE = 12  # frames a second
SECONDS = 2
WIDTH_PX, HEIGHT_PX = 640, 360


def film() -> bytes:
    """Returns an MP4, H.264 where the codec is there, MPEG-4 otherwise."""
    with Image.open(io.BytesIO(photograph(720, 1280))) as lying:
        scene = lying.transpose(Image.Transpose.ROTATE_270).resize((960, 540))
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    file = io.BytesIO()
    frames = RATE * SECONDS
    with av.open(file, "w", format="mp4") as out:
        stream = cast("VideoStream", out.add_stream(codec, rate=RATE))
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        for number in range(frames):
            left = (scene.width - WIDTH_PX) * number // frames
            view = scene.crop((left, 90, left + WIDTH_PX, 90 + HEIGHT_PX))
            out.mux(stream.encode(av.VideoFrame.from_image(view)))  # type: ignore[no-untyped-call]
        out.mux(stream.encode())
    return file.getvalue()
