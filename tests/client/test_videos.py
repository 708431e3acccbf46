"""What the client does with videos, and the command."""

from datetime import timedelta
from pathlib import Path

import pytest
from tests.client.clips import clip, frames, sound
from tests.client.object_store import ObjectStore
from tests.client.server_under_test import ServerUnderTest
from tests.commands import ran

from assetlane import Client, CutSize

SHOWN = ["original", "preview", "small", "medium"]


@pytest.fixture(scope="module")
def video() -> bytes:
    """A video of three seconds that was filmed upright."""
    return clip(frames(30), turn=(90,))


async def test_a_video_arrives_with_its_preview_and_cuts(
    client: Client, server: ServerUnderTest, store: ObjectStore, video: bytes, tmp_path: Path
) -> None:
    """The original has its size as shown, the asset how long it is and its colour; four objects are stored."""
    (tmp_path / "wave.mp4").write_bytes(video)
    asset = await client.upload(tmp_path / "wave.mp4", preview_at=timedelta(seconds=2))
    assert [variant.name for variant in asset.variants] == SHOWN
    original, preview, small, medium = asset.variants
    assert (original.content_type, original.width_px, original.height_px) == ("video/mp4", 180, 320)
    assert (preview.content_type, preview.width_px, preview.height_px) == ("image/jpeg", 180, 320)
    assert (small.height_px, medium.height_px) == (300, 320)
    assert asset.details.duration.ToTimedelta() == timedelta(seconds=3)
    assert abs(int(asset.details.color[1:3], 16) - 160) < 16, "the frame of two seconds is so red"
    assert store.body(asset.asset_id) == video
    assert len(server.called("RequestUpload")[0].variants) == 4


async def test_the_caller_knows_better(client: Client, video: bytes) -> None:
    """A duration and a colour that are given are not measured; other cuts are made as asked."""
    asset = await client.upload(
        video, file_path="a.mov", duration=timedelta(minutes=2), color="#123456", cuts=[CutSize("icon", 32)]
    )
    assert asset.details.duration.ToTimedelta() == timedelta(minutes=2)
    assert asset.details.color == "#123456"
    assert [variant.name for variant in asset.variants] == ["original", "preview", "icon"]


async def test_what_is_beside_a_video_is_a_choice(client: Client, video: bytes) -> None:
    """Without cuts there is nothing beside it; with an instant alone there is the preview alone."""
    bare = await client.upload(video, file_path="a.mp4", cuts=False)
    assert [variant.name for variant in bare.variants] == ["original"]
    assert not bare.details.HasField("duration")
    still = await client.upload(video, file_path="b.mp4", cuts=False, preview_at=timedelta())
    assert [variant.name for variant in still.variants] == ["original", "preview"]


async def test_sound_is_uploaded_as_it_is(client: Client) -> None:
    """Nobody asks a song for a picture."""
    asset = await client.upload(sound("mp4"), file_path="song.m4a")
    assert [(v.name, v.content_type) for v in asset.variants] == [("original", "audio/mp4")]


async def test_the_command_takes_the_instant(server: ServerUnderTest, video: bytes, tmp_path: Path) -> None:
    """`--preview-at` is in the help; the line of a video shows its preview and how long it is."""
    path = tmp_path / "wave.mp4"
    path.write_bytes(video)
    shown = await ran(server.target, "upload", "--help")
    assert "--preview-at" in shown.out
    assert "SECONDS" in shown.out
    result = await ran(server.target, "upload", path, "--preview-at", "2")
    assert (result.code, result.err) == (0, "")
    asset_id, _, parts = result.lines[0].split("\t")
    *variants, length = parts.split(", ")
    assert [part.split()[0] for part in variants] == SHOWN
    assert length == "3.0 s"
    assert abs(int(server.assets[asset_id].details.color[1:3], 16) - 160) < 16
    shown = await ran(server.target, "show", asset_id)
    assert "duration:  3.0 s" in shown.lines


async def test_the_command_chooses_how_cuts_are_encoded(server: ServerUnderTest, video: bytes, tmp_path: Path) -> None:
    """Format and quality are options; others than there are is wrong usage."""
    path = tmp_path / "wave.mp4"
    path.write_bytes(video)
    result = await ran(server.target, "upload", path, "--cut-format", "webp", "--cut-quality", "50")
    assert result.code == 0
    asset = server.assets[result.lines[0].split("\t")[0]]
    assert {variant.content_type for variant in asset.variants[1:]} == {"image/webp"}
    for wrong in (["--cut-format", "gif"], ["--cut-quality", "96"], ["--cut", "poster=16384"]):
        assert (await ran(server.target, "upload", path, *wrong)).code == 2
