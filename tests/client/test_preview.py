"""What becomes of videos."""

import io
import os
import struct
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from datetime import timedelta
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image
from tests.client.clips import RATE, clip, frames, sound
from tests.client.pictures import corners, decoded, encoded, psnr, real
from tests.everyday import film
from tests.refusals import raises

from assetlane.cuts import CutOptions, CutSize
from assetlane.errors import VideoRefused
from assetlane.preview import Preview, has_video, is_video, make_preview


def number_of(preview: Preview) -> int:
    """Returns the number of the frame that a preview shows."""
    pixel = decoded(preview.still).getpixel((preview.width_px // 2, preview.height_px - 10))
    assert isinstance(pixel, tuple)
    return round(pixel[0] / 8)


def refusal(data: bytes, **options: Any) -> str:
    """Returns the reason for which a video is refused."""
    with pytest.raises(VideoRefused) as refused:
        make_preview(data, **options)
    return refused.value.reason


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "mpeg4"), ("mp4", "libx264"), ("mov", "libx264"), ("matroska", "libx264"), ("webm", "libvpx"),
     ("webm", "libvpx-vp9"), ("avi", "mpeg4"), ("mpegts", "mpeg4"), ("mp4", "libx265")],
)  # fmt: skip
def test_a_video_has_a_still_its_cuts_and_its_measures(container: str, codec: str) -> None:
    """Whatever it is packed in: size, duration, the frame of the instant, cuts of that, an average colour."""
    data = clip(frames(30, (640, 360)), container=container, codec=codec)
    preview = make_preview(data, at=timedelta(seconds=2))
    assert (preview.width_px, preview.height_px) == (640, 360)
    assert preview.duration is not None
    assert abs(preview.duration - timedelta(seconds=3)) < timedelta(seconds=0.2)
    assert abs(preview.at - timedelta(seconds=2)) <= timedelta(seconds=1 / RATE)
    assert abs(number_of(preview) - 20) <= 1
    assert (preview.still.name, preview.still.content_type, preview.still.width_px) == ("preview", "image/jpeg", 640)
    assert [(cut.name, cut.width_px, cut.height_px) for cut in preview.cuts] == [
        ("small", 300, 169),
        ("medium", 600, 338),
        ("large", 640, 360),
    ]
    still = decoded(preview.still)
    for cut in preview.cuts:
        assert psnr(decoded(cut), still.resize((cut.width_px, cut.height_px), Image.Resampling.LANCZOS)) > 33
    red = int(preview.color[1:3], 16)
    assert abs(red - 160) < 24


@pytest.mark.parametrize(
    ("at", "number"),
    [(0.0, 0), (0.1, 1), (1.5, 15), (1.59, 15), (2.9, 29), (3.0, 29), (60.0, 29), (None, 3)],
)
@pytest.mark.parametrize("gop", [1, 12, 100])
def test_the_instant_is_met_wherever_the_keyframes_are(at: float | None, number: int, gop: int) -> None:
    """The frame that is shown then, not the keyframe before it; beyond the end the last; None: a tenth."""
    data = clip(frames(30), codec="libx264", gop=gop)
    preview = make_preview(data, at=None if at is None else timedelta(seconds=at))
    assert number_of(preview) == number
    assert abs(preview.at - timedelta(seconds=number / RATE)) < timedelta(milliseconds=1)


def test_a_long_video_is_shown_at_its_first_second() -> None:
    """Without an instant it is one second, when a tenth would be later."""
    assert make_preview(clip(frames(110, (64, 64)))).at == timedelta(seconds=1)


def test_an_instant_before_the_start_is_refused() -> None:
    """A negative instant is a mistake of the caller's."""
    with raises(ValueError, names=["-1"]):
        make_preview(clip(frames(3)), at=timedelta(seconds=-1))


@pytest.mark.parametrize(
    ("turn", "shown"),
    [
        ((0,), None),
        ((90,), Image.Transpose.ROTATE_90),
        ((180,), Image.Transpose.ROTATE_180),
        ((270,), Image.Transpose.ROTATE_270),
        ((0, True), Image.Transpose.FLIP_LEFT_RIGHT),
        ((0, False, True), Image.Transpose.FLIP_TOP_BOTTOM),
        ((90, True), Image.Transpose.TRANSVERSE),
        ((90, False, True), Image.Transpose.TRANSPOSE),
    ],
)
def test_a_turned_video_stands_upright(turn: tuple[Any, ...], shown: Image.Transpose | None) -> None:
    """The display matrix is applied, mirrored ones too: phones store what the sensor saw."""
    image = corners((320, 180))
    preview = make_preview(clip([image] * 5, turn=turn))
    upright = image if shown is None else image.transpose(shown)
    assert (preview.width_px, preview.height_px) == upright.size
    assert psnr(decoded(preview.still), upright) > 22


def test_pixels_that_are_not_square_are_stretched() -> None:
    """A video of 160 x 180 that players show at 320 x 180 is shown so."""
    preview = make_preview(clip(frames(5, (160, 180)), pixel_shape=Fraction(2, 1)))
    assert (preview.width_px, preview.height_px, preview.still.width_px) == (320, 180, 320)


@pytest.mark.parametrize("at", [0.0, 3.0, 8.0, 13.9])
def test_a_real_video_shows_a_whole_picture_at_any_instant(at: float) -> None:
    """This one cannot be decoded from its later keyframes alone: the still is what playing it shows, not a smear."""
    preview = make_preview(real("cockatoo.mp4"), at=timedelta(seconds=at))
    assert (preview.width_px, preview.height_px, preview.duration) == (1280, 720, timedelta(seconds=14))
    assert abs(preview.at.total_seconds() - at) <= 0.05
    red, green, blue = decoded(preview.still).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]
    assert max(red, green, blue) - min(red, green, blue) < 40, "a smear is green"


def test_sound_beside_the_pictures_does_no_harm() -> None:
    """A video with sound is a video."""
    assert number_of(make_preview(clip(frames(20), sound=True), at=timedelta(seconds=1))) == 10


@pytest.mark.parametrize("container", ["mp4", "avi", "matroska"])
def test_a_title_need_not_be_unicode(container: str) -> None:
    """What old programs wrote into a file's title does not matter to its pictures."""
    data = clip(frames(5), container=container, title="caf-title")
    assert b"caf-title" in data
    assert make_preview(data.replace(b"caf-title", b"caf\xe9title")).width_px == 320


@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_sound_alone_is_refused(container: str) -> None:
    """A file without a track of pictures has no still."""
    assert refusal(sound(container)) == "VIDEO_NO_TRACK"


def test_a_songs_cover_is_no_video() -> None:
    """A picture attached to a song is not a track of pictures."""
    file = io.BytesIO()
    with (
        av.open(file, "w", format="mp4") as out,
        av.open(io.BytesIO(sound()), "r") as song,
        av.open(io.BytesIO(encoded(corners(), "JPEG")), "r") as cover,
    ):
        streams = [out.add_stream_from_template(each.streams[0]) for each in (song, cover)]
        streams[1].disposition = av.stream.Disposition.attached_pic
        for stream, each in zip(streams, (song, cover), strict=True):
            for packet in each.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    assert refusal(file.getvalue()) == "VIDEO_NO_TRACK"


def test_what_is_no_video_is_refused() -> None:
    """Nothing, noise, text, pictures: each has its reason."""
    assert refusal(b"") == "VIDEO_EMPTY"
    assert refusal(os.urandom(20_000)) == "VIDEO_UNRECOGNIZED"
    assert refusal(b"hello, " * 1000) == "VIDEO_UNRECOGNIZED"
    assert refusal(encoded(corners(), "JPEG")) == "VIDEO_UNRECOGNIZED"
    assert refusal(encoded(corners(), "GIF")) == "VIDEO_UNRECOGNIZED"


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{}'\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>{}</BaseURL></MPD>",
    ],
)
def test_a_list_of_other_files_is_not_followed(text: str, tmp_path: Path) -> None:
    """A playlist named like a video opens nothing: strangers' uploads must not read the machine's files."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(clip(frames(5)))
    listed = tmp_path / "list.mp4"
    listed.write_text(text.format(secret))
    with pytest.raises(VideoRefused) as refused:
        make_preview(listed)
    assert refused.value.reason == "VIDEO_UNRECOGNIZED"


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi", "mpegts"])
def test_a_video_cut_off_anywhere_has_a_still_or_is_refused(container: str) -> None:
    """Wherever it ends: a picture from what is there, or VideoRefused; never another error."""
    data = clip(frames(20), container=container)
    for length in range(0, len(data), max(1, len(data) // 40)):
        with suppress(VideoRefused):
            preview = make_preview(data[:length])
            assert (preview.width_px, preview.height_px) == (320, 180)


def test_a_video_whose_index_is_cut_off_is_refused() -> None:
    """An MP4 with its index at the end is lost when the end is."""
    data = clip(frames(20))
    assert data.index(b"mdat") < data.index(b"moov")
    assert refusal(data[: data.index(b"moov") - 4]) in ("VIDEO_UNRECOGNIZED", "VIDEO_BROKEN")


def test_damage_is_refused_or_survived_but_nothing_else() -> None:
    """Flipped bytes give a still or VideoRefused, no other error."""
    data = clip(frames(10, (64, 64)))
    for position in range(0, len(data), 37):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        with suppress(VideoRefused):
            make_preview(bytes(damaged), options=CutOptions(max_pixels=1_000_000))


def test_a_video_without_a_single_frame_is_refused() -> None:
    """A track that holds nothing has no still."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        out.start_encoding()
    assert refusal(file.getvalue()) in ("VIDEO_BROKEN", "VIDEO_UNRECOGNIZED")


def test_a_video_of_too_many_pixels_is_refused() -> None:
    """The limit of pictures holds for frames, before one is decoded."""
    data = clip(frames(3))
    assert refusal(data, options=CutOptions(max_pixels=320 * 180 - 1)) == "VIDEO_TOO_LARGE"
    assert make_preview(data, options=CutOptions(max_pixels=320 * 180)).width_px == 320


def test_a_video_too_wide_for_a_picture_is_refused() -> None:
    """No format of cuts is wider than 16,383 pixels; its pixels alone would have been few enough."""
    assert refusal(clip(frames(2, (16_400, 16)), container="matroska", codec="ffv1")) == "VIDEO_TOO_LARGE"


def test_the_pictures_say_their_size_not_the_container() -> None:
    """A container that says 65,000 each way makes nobody make room for that."""
    data = bytearray(clip(frames(3)))
    entry = data.index(struct.pack(">HH", 320, 180), data.index(b"mp4v"))  # ISO/IEC 14496-12, 12.1.3
    data[entry : entry + 4] = struct.pack(">HH", 65_000, 65_000)
    assert make_preview(bytes(data)).height_px == 180


def test_a_file_is_never_read_as_a_whole(tmp_path: Path) -> None:
    """Of a video with 64 MB behind its frames only little is read, whatever the instant."""
    path = tmp_path / "long.mp4"
    path.write_bytes(clip(frames(20)))
    with path.open("ab") as file:
        file.write((64 * 1024**2).to_bytes(4) + b"free")
        file.truncate(file.tell() + 64 * 1024**2 - 8)
    tracemalloc.start()
    try:
        assert number_of(make_preview(path, at=timedelta(hours=1))) == 19
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024**2
    finally:
        tracemalloc.stop()


def test_other_sizes_and_formats_can_be_asked_for() -> None:
    """Cuts of a still are cuts like any other."""
    preview = make_preview(clip(frames(5)), [CutSize("icon", 32)], options=CutOptions(format="webp"))
    assert [(cut.name, cut.width_px, cut.content_type) for cut in preview.cuts] == [("icon", 32, "image/webp")]
    assert preview.still.content_type == "image/webp"
    assert make_preview(clip(frames(5)), []).cuts == ()


def test_previews_can_be_made_in_another_process() -> None:
    """A path goes in, the preview or the refusal with its reason comes back."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(make_preview, real("realshort.mp4")).result() == make_preview(real("realshort.mp4"))
        with pytest.raises(VideoRefused) as refused:
            pool.submit(make_preview, b"").result()
    assert refused.value.reason == "VIDEO_EMPTY"


def test_videos_are_known_by_their_type() -> None:
    """Only `video/…`, and here the extra is installed."""
    assert is_video("Video/MP4; codecs=avc1")
    assert not is_video("audio/mp4")
    assert has_video()


@pytest.mark.parametrize("options", [{}, {"mpegts_m2ts_mode": "1"}])
def test_a_short_recording_of_a_camera_has_a_still(options: dict[str, str]) -> None:
    """H.264 in a transport stream with one keyframe, which is decoded before the instant at which the video starts."""
    for at in (None, timedelta(), timedelta(seconds=0.4), timedelta(seconds=9)):
        assert make_preview(film("mpegts", "libx264", **options), at=at).width_px == 352
