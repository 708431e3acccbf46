"""Makes the still of a video, and the cuts of that still. Needs the extra `video` (PyAV).

The file is read where it is needed, never as a whole: its header, and from the keyframe before the instant to
the instant. Only plain containers are tried, and only the file itself is read: a playlist that names other
files or addresses is not a video here. PyAV is imported when it is first needed.

Arguments and results can be pickled, VideoRefused too: `make_preview` can be called in another process.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from PIL import Image

from assetlane.cuts import (
    MAX_EDGE_PX,
    STANDARD_CUTS,
    STANDARD_OPTIONS,
    Cut,
    CutOptions,
    CutSize,
    encoded,
    make_cuts_of_image,
)
from assetlane.errors import VideoRefused
from assetlane.formats import essence
from assetlane.hdr import Transfer, primaries_of, scaled, tone_mapped, transfer_of
from assetlane.version import install_command

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.sidedata.sidedata import SideDataContainer
    from av.video.stream import VideoStream

NAME = "preview"
VIDEO_HINT = f"videos get a preview with an extra: {install_command('video')}"
DEFAULT_INSTANT = timedelta(seconds=1)  # the first frames are often black
DEFAULT_SHARE = 10  # of a short video: the tenth part of it
MAX_FRAMES = 1_000  # decoded at most: a video may have one keyframe, at its start, and be hours long
MAX_PACKETS = 50_000  # read at most: damaged ones give no frame
PROBED_PIXELS = 150_000_000  # more than any video has: the size of such a one reads as none, so it is broken
LEAD_SECONDS = 10  # more than a picture is decoded before it is shown
MAX_STRETCH = 4  # of pixels that are not square: more is damage

# FFmpeg's names. No playlists (hls, dash, concat): those make it open other files and addresses.
_CONTAINERS = "mov,mp4,3gp,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg"
_UNSPECIFIED = 2  # ISO/IEC 23091-4, matrix coefficients
_HIGH_DEFINITION_PX = 720  # from this height on, a video that does not say its colours means those of BT.709
_TWELVE_BITS = 4095
_MATRIX_BYTES = 36  # nine 32-bit numbers, ISO/IEC 14496-12 8.2.2.3
_TURNS = {
    # (a, b, c, d) of the display matrix, by sign: x' = ax + cy, y' = bx + dy
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


@dataclass(frozen=True, slots=True)
class Preview:
    """What a video is, and its still.

    Its size as shown (turned, with square pixels); `duration` None when the file does not say; `at`: the
    instant of the still; `color`: the still's average; `still`: as large as the video, named `preview`;
    `cuts`: of the still, as of any picture.
    """

    width_px: int
    height_px: int
    duration: timedelta | None
    at: timedelta
    color: str
    still: Cut
    cuts: tuple[Cut, ...]


def has_video() -> bool:
    """Returns whether the extra `video` is installed."""
    return find_spec("av") is not None


def is_video(content_type: str) -> bool:
    """Returns whether this is the media type of a video."""
    return essence(content_type).startswith("video/")


def make_preview(
    source: Path | bytes,
    sizes: Sequence[CutSize] = STANDARD_CUTS,
    *,
    at: timedelta | None = None,
    options: CutOptions = STANDARD_OPTIONS,
) -> Preview:
    """Returns the still of a video at an instant, and the still's cuts.

    `at`: None is one second, or a tenth of a video shorter than ten; beyond the end it is the last frame.
    Raises VideoRefused for what has no still: no video in it, damaged, or more than `options.max_pixels`;
    OSError when the file cannot be opened; ValueError for an instant before the start.
    """
    if at is not None and at < timedelta():
        raise ValueError(f"the instant of a preview is not before the start: {at.total_seconds():g} s")
    if not has_video():
        raise VideoRefused("VIDEO_EXTRA_MISSING", VIDEO_HINT)
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        if not file.read(1):
            raise VideoRefused("VIDEO_EMPTY", "the video is empty")
        file.seek(0)
        with _translated("VIDEO_UNRECOGNIZED", "not a video, or its header is damaged"):
            container = _container(file, options)
        with container, _translated("VIDEO_BROKEN", "the video is truncated or damaged"):
            stream = _track(container)
            _check_pixels(stream.codec_context.width, stream.codec_context.height, options)
            duration = _duration(container, stream)
            frame, instant = _frame(container, stream, _instant(at, duration), options)
            image = _shown(frame, stream)
            _check_pixels(*image.size, options)
    picture = make_cuts_of_image(image, sizes, options)
    return Preview(
        *image.size,
        duration=duration,
        at=instant,
        color=picture.color,
        still=encoded(NAME, image, "image/jpeg", None, options),
        cuts=picture.cuts,
    )


@contextmanager
def _translated(reason: str, message: str) -> Iterator[None]:
    """Turns what FFmpeg, and PyAV on what it finds, raise into VideoRefused."""
    import av

    try:
        yield
    except (av.FFmpegError, ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, ValueError) as error:
        raise VideoRefused(reason, message) from error


def _container(file: IO[bytes], options: CutOptions) -> "InputContainer":
    import av

    # An open file, not its name: FFmpeg takes some names for addresses.
    settings = {"format_whitelist": _CONTAINERS, "max_pixels": _most_pixels(options)}
    # Titles need not be UTF-8; from 19 on PyAV knows that by itself and has no such argument.
    older: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
    container: InputContainer = av.open(file, "r", options=settings, **older)
    return container


def _most_pixels(options: CutOptions) -> str:
    """Returns FFmpeg's own limit: wider than ours, as it counts padding and forgets the size of what is over it."""
    return str(max(2 * options.max_pixels, PROBED_PIXELS))


def _track(container: "InputContainer") -> "VideoStream":
    """Returns the picture track. The cover of a song is none."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise VideoRefused("VIDEO_BROKEN", "there is no decoder for this video")
            return stream
    raise VideoRefused("VIDEO_NO_TRACK", "there is no picture in this video, only sound or data")


def _check_pixels(width: int, height: int, options: CutOptions) -> None:
    if not width * height:
        raise VideoRefused("VIDEO_BROKEN", "the video does not say its size, or is absurdly large")
    if width * height > options.max_pixels:
        raise VideoRefused(
            "VIDEO_TOO_LARGE",
            f"the video has {width} x {height} pixels, at most {options.max_pixels:,} are allowed",
        )
    if max(width, height) > MAX_EDGE_PX:  # its still is stored as large as it is, and pictures end there
        raise VideoRefused("VIDEO_TOO_LARGE", f"the video is {width} x {height}, at most {MAX_EDGE_PX} each way")


def _duration(container: "InputContainer", stream: "VideoStream") -> timedelta | None:
    """Returns how long it is: the whole file if it says so, otherwise the track."""
    if container.duration and container.duration > 0:
        return timedelta(microseconds=container.duration)
    if stream.time_base and stream.duration:
        return timedelta(seconds=float(stream.duration * stream.time_base))
    return None


def _instant(at: timedelta | None, duration: timedelta | None) -> timedelta:
    wanted = at
    if wanted is None:
        wanted = DEFAULT_INSTANT if duration is None else min(DEFAULT_INSTANT, duration / DEFAULT_SHARE)
    return wanted if duration is None else min(wanted, duration)


def _frame(
    container: "InputContainer", stream: "VideoStream", at: timedelta, options: CutOptions
) -> tuple["VideoFrame", timedelta]:
    """Returns the frame that is shown at this instant, and when it begins; the last there is before it."""
    # A decoder learns the size from its own headers too, and may not believe the container's.
    stream.codec_context.options = {"max_pixels": _most_pixels(options)}
    start = float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0
    begin = start + at.total_seconds()
    found: VideoFrame | None = None
    if at and stream.time_base:
        container.seek(int(begin / stream.time_base), stream=stream)
        found = _last_before(container, stream, begin, sought=True)
        if found is None:
            container.seek(int(start / stream.time_base), stream=stream)
    if found is None:
        found = _last_before(container, stream, begin, sought=False)
    if found is None and at and _sought_before(container, stream, start):
        found = _last_before(container, stream, begin, sought=False)
    if found is None:
        raise VideoRefused("VIDEO_BROKEN", "there is no whole picture in this video")
    _check_pixels(found.width, found.height, options)
    return found, timedelta(seconds=max(0.0, (found.time or 0.0) - start))


def _sought_before(container: "InputContainer", stream: "VideoStream", start: float) -> bool:
    """Goes to before the start, and returns whether the container can.

    A transport stream is sought by when pictures are decoded, and its first one is decoded before the start.
    """
    import av

    if not stream.time_base:
        return False
    try:
        container.seek(int((start - LEAD_SECONDS) / stream.time_base), stream=stream)
    except av.FFmpegError:
        return False
    return True


def _last_before(
    container: "InputContainer", stream: "VideoStream", begin: float, *, sought: bool
) -> "VideoFrame | None":
    """Returns the last whole frame that begins at or before the instant, else the first there is.

    None when there is none. `sought`: also when the first frame is spoilt, as it is where a damaged index
    leads to, or where the decoder lacks what only the start of the file says.
    """
    found: VideoFrame | None = None
    for frame in islice(_frames(container, stream), MAX_FRAMES):
        if frame.is_corrupt:
            if sought and found is None:
                return None
            continue
        if found is not None and (frame.time or 0.0) > begin:  # a frame may not say its time
            break
        found = frame
    return found


def _frames(container: "InputContainer", stream: "VideoStream") -> "Iterator[VideoFrame]":
    """Yields what can be decoded, as a player would, and ends where the file is cut off."""
    import av

    packets = container.demux()  # of all tracks: sound without end between two pictures counts too
    for _ in range(MAX_PACKETS):
        try:
            packet = next(packets)
            if packet.stream.index == stream.index:
                yield from cast("Iterator[VideoFrame]", packet.decode())
        except av.InvalidDataError:
            continue
        except (StopIteration, av.EOFError):
            return


def _shown(frame: "VideoFrame", stream: "VideoStream") -> Image.Image:
    """Returns the frame as a player shows it on an ordinary screen: square pixels, upright, sRGB."""
    transfer = transfer_of(frame.color_trc)
    if transfer is not None:
        image = _tone_mapped(frame, transfer)
    else:
        is_bt709 = frame.colorspace == _UNSPECIFIED and frame.height >= _HIGH_DEFINITION_PX
        image = frame.to_image(src_colorspace="ITU709" if is_bt709 else None)  # type: ignore[no-untyped-call]
    ratio = stream.sample_aspect_ratio
    if ratio is not None and ratio != 1 and 1 / MAX_STRETCH <= ratio <= MAX_STRETCH:
        image = image.resize((max(1, round(image.width * ratio)), image.height), Image.Resampling.LANCZOS)
    turn = _turn(frame)
    return image if turn is None else image.transpose(turn)


def _tone_mapped(frame: "VideoFrame", transfer: Transfer) -> Image.Image:
    """Returns a frame of HDR as sRGB. Pillow has no colours of more than 8 bits: each channel is taken by itself."""
    source = "BT2020" if frame.colorspace == _UNSPECIFIED else None
    planes = frame.reformat(format="gbrp12le", src_colorspace=source).planes
    # A table of all 16 bits is what Pillow takes.
    codes = scaled(transfer, _TWELVE_BITS)
    table = [*codes, *[codes[-1]] * (65_535 - _TWELVE_BITS)]
    green, blue, red = (
        Image.frombytes("I;16", (frame.width, frame.height), bytes(plane), "raw", "I;16", plane.line_size)
        .convert("I")
        .point(table, "L")
        for plane in planes
    )
    return tone_mapped(Image.merge("RGB", (red, green, blue)), transfer, primaries_of(frame.color_primaries))


def _turn(frame: "VideoFrame") -> Image.Transpose | None:
    """Returns the turn that the display matrix says, mirrored ones too; slants are not turned."""
    from av.sidedata.sidedata import Type

    sides = cast("SideDataContainer", frame.side_data)  # its stub has two keys only
    found = bytes(sides[Type.DISPLAYMATRIX]) if Type.DISPLAYMATRIX in sides else b""
    if len(found) != _MATRIX_BYTES:
        return None
    a, b, _, c, d, *_ = memoryview(found).cast("i")  # of this machine's byte order, as FFmpeg keeps it
    return _TURNS.get((_sign(a), _sign(b), _sign(c), _sign(d)))


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
