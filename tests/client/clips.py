"""Short videos and sounds to test with, made by PyAV."""

import io
from fractions import Fraction
from typing import Any, cast

import av
from av.video.stream import VideoStream
from PIL import Image

RATE = 10  # frames a second


def frames(count: int, size: tuple[int, int] = (320, 180)) -> list[Image.Image]:
    """Returns frames that each show their number by how red they are, 8 more each time, and up by blue."""
    images = []
    for number in range(count):
        image = Image.new("RGB", size, (min(255, 8 * number), 60, 60))
        image.paste((min(255, 8 * number), 60, 220), (0, 0, size[0], size[1] // 4))
        images.append(image)
    return images


def clip(
    images: list[Image.Image],
    *,
    container: str = "mp4",
    codec: str = "mpeg4",
    turn: tuple[Any, ...] = (),
    pixel_shape: Fraction | None = None,
    sound: bool = False,
    gop: int = 12,
    title: str = "",
) -> bytes:
    """Returns a video of these images. `turn`: degrees counterclockwise, mirrored, upside down."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        out.metadata["title"] = title
        stream = cast("VideoStream", out.add_stream(codec, rate=RATE))
        stream.width, stream.height = images[0].size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        stream.gop_size = gop
        if pixel_shape is not None:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        if turn:
            stream.set_display_rotation(*turn)
        if sound:
            _silence(out, len(images) / RATE)
        for image in images:
            out.mux(stream.encode(av.VideoFrame.from_image(image)))  # type: ignore[no-untyped-call]
        out.mux(stream.encode())
    return file.getvalue()


def sound(container: str = "mp4", seconds: float = 1.0) -> bytes:
    """Returns silence, and nothing to see."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        _silence(out, seconds)
    return file.getvalue()


def _silence(out: Any, seconds: float) -> None:
    stream = out.add_stream("aac" if out.format.name == "mp4" else "libopus", rate=48_000)
    samples = int(seconds * 48_000)
    layout = "fltp" if stream.codec_context.name == "aac" else "s16"
    for start in range(0, samples, 960):
        frame = av.AudioFrame(format=layout, layout="stereo", samples=960)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())
