"""What cannot be cut goes in without: a notice says why; where cuts are required nothing is stored."""

import io
import logging
import re
import struct
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import av
import pytest
from PIL import Image
from tests.cases import case
from tests.client.clips import clip, frames, sound
from tests.client.lane_server import LaneServer
from tests.client.object_store import ObjectStore
from tests.client.pictures import corners, encoded
from tests.commands import ran
from tests.refusals import numbers_in, raises

from assetlane import (
    Client,
    CutOptions,
    CutSize,
    CutsRefused,
    ImageRefused,
    MediaRefused,
    UploadFailed,
    VideoRefused,
)
from assetlane.v1.upload_pb2 import CutMaker

INTERNALS = re.compile(
    r"errno|pil|pillow\.|ffmpeg|av\.|decoder error|traceback|0x|max_text|invalid data", re.IGNORECASE
)


def unknown_codec() -> bytes:
    """Returns a video in a codec that there is no decoder for."""
    data = clip(frames(3), container="matroska")
    assert b"V_MPEG4/ISO/ASP" in data
    return data.replace(b"V_MPEG4/ISO/ASP", b"V_MPEG4/ISO/ZZZ")


def song_with_a_cover() -> bytes:
    """Returns a song in a video container, with a picture attached."""
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
    return file.getvalue()


def bad_pixels() -> bytes:
    """Returns a PNG whose pixels do not inflate."""
    data = encoded(corners((64, 64)))
    at = data.index(b"IDAT")
    length = int.from_bytes(data[at - 4 : at])
    body = b"\xff" * length
    return data[: at + 4] + body + struct.pack(">I", zlib.crc32(b"IDAT" + body)) + data[at + 8 + length :]


JPEG = encoded(corners(), "JPEG")
# Name, content, the media type it is stored under, the reason
WITHOUT: list[tuple[str, Callable[[], bytes], str, str]] = [
    ("trunc_2bytes.jpg", lambda: case("trunc_2bytes.jpg").read_bytes(), "image/jpeg", "IMAGE_BROKEN"),
    ("half.jpg", lambda: JPEG[: len(JPEG) // 2], "image/jpeg", "IMAGE_BROKEN"),
    ("header.jpg", lambda: JPEG[:40], "image/jpeg", "IMAGE_BROKEN"),
    ("half.png", lambda: encoded(Image.effect_noise((99, 99), 9))[:3000], "image/png", "IMAGE_BROKEN"),
    ("pixels.png", bad_pixels, "image/png", "IMAGE_BROKEN"),
    ("half.heic", lambda: case("msf1.heic").read_bytes()[:700], "image/heic", "IMAGE_BROKEN"),
    ("half.avif", lambda: case("mif1_major.avif").read_bytes()[:400], "image/avif", "IMAGE_BROKEN"),
    ("empty.jpg", lambda: b"", "image/jpeg", "IMAGE_EMPTY"),
    ("empty.heic", lambda: b"", "image/heic", "IMAGE_EMPTY"),
    ("text.jpg", lambda: b"Not found\n", "text/plain", "IMAGE_UNRECOGNIZED"),
    ("noise.jpg", lambda: bytes(range(1, 250)), "application/octet-stream", "IMAGE_UNRECOGNIZED"),
    ("half of another.jpg", lambda: encoded(corners())[:99], "image/png", "IMAGE_BROKEN"),
    ("large.png", lambda: encoded(Image.new("1", (20_000, 10_000))), "image/png", "IMAGE_TOO_LARGE"),
    ("audio_only.mp4", lambda: case("audio_only.mp4").read_bytes(), "video/mp4", "VIDEO_NO_TRACK"),
    ("audio_only.webm", lambda: case("audio_only.webm").read_bytes(), "video/webm", "VIDEO_NO_TRACK"),
    ("song.mp4", song_with_a_cover, "video/mp4", "VIDEO_NO_TRACK"),
    ("text.mp4", lambda: b"no video at all" * 99, "text/plain", "VIDEO_UNRECOGNIZED"),
    ("noise.mp4", lambda: bytes(range(256)) * 4, "video/mp4", "VIDEO_UNRECOGNIZED"),
    ("empty.mp4", lambda: b"", "video/mp4", "VIDEO_EMPTY"),
    ("half.mp4", lambda: clip(frames(20))[:2000], "video/mp4", "VIDEO_UNRECOGNIZED"),
    ("odd.mkv", unknown_codec, "video/x-matroska", "VIDEO_BROKEN"),
]


@pytest.mark.parametrize(("name", "content", "content_type", "reason"), WITHOUT, ids=[each[0] for each in WITHOUT])
async def test_a_file_that_cannot_be_cut_is_stored_without(
    lane: Client,
    server: LaneServer,
    store: ObjectStore,
    capfd: pytest.CaptureFixture[str],
    name: str,
    content: Callable[[], bytes],
    content_type: str,
    reason: str,
) -> None:
    """The original alone goes in; the notice has a reason and plain words, and nothing is on the terminal.

    Where cuts are required the same reason is raised before anything is asked of the server, with the way out.
    """
    data = content()
    asset = await lane.upload(data, file_path=name)
    assert [(variant.name, variant.content_type) for variant in asset.variants] == [("original", content_type)]
    assert store.body(asset.asset_id) == data
    (notice,) = asset.notices
    assert notice.reason == reason
    assert notice.message
    assert not INTERNALS.search(notice.message)
    requests = len(server.called("RequestUpload"))
    with raises(MediaRefused, reason=reason, names=["--no-cuts"]) as refused:
        await lane.upload(data, file_path=name, require_cuts=True)
    assert isinstance(refused.value, VideoRefused if reason.startswith("VIDEO") else ImageRefused)
    assert len(server.called("RequestUpload")) == requests
    assert not (await lane.upload(data, file_path=name, cuts=False)).notices
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


async def test_sizes_and_an_instant_do_not_require_cuts(lane: Client) -> None:
    """Asking for sizes or an instant says which cuts to make, not that the upload depends on them."""
    picture = await lane.upload(JPEG[:-999], file_path="a.jpg", cuts=[CutSize("icon", 32)])
    video = await lane.upload(sound("mp4"), file_path="a.mp4", cuts=False, preview_at=timedelta(seconds=1))
    assert [notice.reason for notice in (*picture.notices, *video.notices)] == ["IMAGE_BROKEN", "VIDEO_NO_TRACK"]


async def test_what_has_no_cuts_by_its_kind_needs_no_notice(lane: Client, server: LaneServer) -> None:
    """A text is whole without cuts; where they are required it is refused."""
    assert not (await lane.upload(b"hello", file_path="a.txt")).notices
    assert not (await lane.upload(sound("mp4"), file_path="song.m4a")).notices
    for maker in ("client", "server"):
        with raises(CutsRefused, reason="CUTS_NOT_POSSIBLE", names=["--no-cuts"]):
            await lane.upload(b"hello", file_path="a.txt", cut_maker=maker, require_cuts=True)
    assert len(server.called("RequestUpload")) == 2


async def test_a_picture_over_the_limit_of_pixels_goes_in_without(lane: Client) -> None:
    """The limit is one of cuts, not of files."""
    asset = await lane.upload(JPEG, file_path="a.jpg", cut_options=CutOptions(max_pixels=1000))
    (notice,) = asset.notices
    assert notice.reason == "IMAGE_TOO_LARGE"
    assert 1000 in numbers_in(notice.message)


async def test_a_server_that_cuts_knows_whether_it_must(lane: Client, server: LaneServer) -> None:
    """The plan says so, and decides whether a server that can make none stores the picture; a file that only its name
    calls a picture gets no plan, and a notice.
    """
    stored = await lane.upload(JPEG, file_path="a.jpg", cut_maker="server")
    assert [notice.reason for notice in stored.notices] == ["IMAGE_UNRECOGNIZED"]
    with pytest.raises(UploadFailed) as failed:
        await lane.upload(JPEG, file_path="a.jpg", cut_maker="server", require_cuts=True)
    assert failed.value.reason == "IMAGE_UNRECOGNIZED"
    plans = [request.cut_plan for request in server.called("RequestUpload")]
    assert [(plan.maker, plan.required) for plan in plans] == [
        (CutMaker.CUT_MAKER_SERVER, False), (CutMaker.CUT_MAKER_SERVER, True),
    ]  # fmt: skip
    asset = await lane.upload(b"Not found", file_path="a.jpg", cut_maker="server")
    assert [notice.reason for notice in asset.notices] == ["IMAGE_UNRECOGNIZED"]
    assert not server.called("RequestUpload")[-1].HasField("cut_plan")


async def test_what_cannot_be_meant_is_a_value_error(lane: Client) -> None:
    """Cuts that are required and not wanted, and an instant before the start, are mistakes of the program."""
    with raises(ValueError, names=["require_cuts"]):
        await lane.upload(JPEG, file_path="a.jpg", cuts=False, require_cuts=True)
    with raises(ValueError, names=["preview_at", "-1"], limits=[0]):
        await lane.upload(clip(frames(3)), file_path="a.mp4", preview_at=timedelta(seconds=-1))


async def test_an_error_that_nobody_foresaw_does_not_keep_a_file_out(
    lane: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug of a decoder is one notice more; its trace is in the log of those who look for it."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("assetlane.contents.make_cuts", fail)
    with caplog.at_level(logging.DEBUG, "assetlane"):
        asset = await lane.upload(JPEG, file_path="a.jpg")
    assert [notice.reason for notice in asset.notices] == ["CUTS_FAILED"]
    assert ZeroDivisionError in [record.exc_info[0] for record in caplog.records if record.exc_info]


async def test_a_file_that_is_not_there_is_an_error_as_ever(lane: Client, tmp_path: Path) -> None:
    """A missing file raises FileNotFoundError, and no notice takes its place."""
    for name in ("a.jpg", "a.mp4", "a.txt"):
        with pytest.raises(FileNotFoundError):
            await lane.upload(tmp_path / name)


async def test_the_command_stores_it_and_says_why_it_has_no_cuts(server: LaneServer, tmp_path: Path) -> None:
    """Exit code 0 and one line on stderr; `show` has the notice too; with --require-cuts it is the error."""
    path = tmp_path / "song.mp4"
    path.write_bytes(sound("mp4"))
    result = await ran(server.target, "upload", path)
    assert result.code == 0
    (line,) = result.err.splitlines()
    assert line.startswith(f"assetlane: {path}: Stored without a preview: ")
    assert line.endswith("[VIDEO_NO_TRACK]")
    shown = await ran(server.target, "show", result.lines[0].split("\t")[0])
    (line,) = (line for line in shown.lines if line.startswith("notice: "))
    assert line.endswith("[VIDEO_NO_TRACK]")
    as_json = await ran(server.target, "upload", path, "--json")
    assert '"reason": "VIDEO_NO_TRACK"' in as_json.lines[0]
    stored = len(server.assets)
    required = await ran(server.target, "upload", path, "--require-cuts")
    assert required.code == 1
    (line,) = required.err.splitlines()
    assert "--no-cuts" in line
    assert line.endswith("[VIDEO_NO_TRACK]")
    assert len(server.assets) == stored
    assert (await ran(server.target, "upload", path, "--require-cuts", "--no-cuts")).code == 2


async def test_no_library_writes_on_the_terminal(server: LaneServer, tmp_path: Path) -> None:
    """Odd metadata and damage make Pillow, libtiff and FFmpeg talk: the command's own lines are all there is."""
    paths = []
    for name in ("orient6_two.jpg", "trunc_2bytes.jpg", "frame_smaller2.gif", "hdr_hlg.mp4", "phone.3gp"):
        path = tmp_path / name
        path.write_bytes(case(name).read_bytes())
        paths.append(path)
    for name, data in {
        "damaged.mp4": damaged(clip(frames(30), codec="libx264"), 3000),
        "damaged.tif": damaged(encoded(corners(), "TIFF", compression="tiff_lzw"), 200),
        "damaged.webm": damaged(clip(frames(30), container="webm", codec="libvpx"), 3000),
    }.items():
        (tmp_path / name).write_bytes(data)
        paths.append(tmp_path / name)
    for path in paths:
        result = await ran(server.target, "upload", path)
        assert result.code == 0, result.err
        assert len(result.lines) == 1
        assert [line for line in result.err.splitlines() if not line.startswith(f"assetlane: {path}: Stored ")] == []


def damaged(data: bytes, start: int) -> bytes:
    """Returns data of which every 97th byte from `start` on is another one, but for the last 2,000."""
    changed = bytearray(data)
    for position in range(start, len(data) - 2000, 97):
        changed[position] ^= 0x5A
    return bytes(changed)
