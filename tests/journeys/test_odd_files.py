"""Pictures and videos of every odd kind on the whole way: a real server, real stores, the library and the command."""

import io
import json
from pathlib import Path

import aiohttp
import pytest
from PIL import Image
from tests.cases import CASES, case
from tests.commands import ran
from tests.journeys.steps import get
from tests.refusals import raises

from assetlane import Client, MediaRefused

pytestmark = pytest.mark.timeout(120)

PICTURE = ["original", "small", "medium"]
# What is stored of each case, under which type, and the reason of its notice
RIGHT: dict[str, tuple[list[str], str, str]] = {
    "msf1.heic": (PICTURE, "image/heic", ""),
    "mif1_major.avif": (PICTURE, "image/avif", ""),
    "big_iccp.png": (PICTURE, "image/png", ""),
    "gray16_trns_bg.png": (PICTURE[:2], "image/png", ""),
    "gray16_miniswhite.tif": (PICTURE, "image/tiff", ""),
    "frame_smaller2.gif": (PICTURE[:2], "image/gif", ""),
    "orient6_two.jpg": (PICTURE, "image/jpeg", ""),
    "xmp_only_orient6.jpg": (PICTURE, "image/jpeg", ""),
    "trunc_2bytes.jpg": (["original"], "image/jpeg", "IMAGE_BROKEN"),
    "hdr_hlg.mp4": (["original", "preview", "small"], "video/mp4", ""),
    "phone.3gp": (["original", "preview", "small"], "video/3gpp", ""),
    "audio_only.mp4": (["original"], "video/mp4", "VIDEO_NO_TRACK"),
    "audio_only.webm": (["original"], "video/webm", "VIDEO_NO_TRACK"),
}


def test_every_case_has_its_row() -> None:
    """A case that is a picture or video and is not looked at here proves nothing."""
    endings = {Path(name).suffix for name in RIGHT}
    assert {path.name for path in CASES.iterdir() if path.suffix in endings} == RIGHT.keys()


@pytest.mark.parametrize("name", RIGHT)
async def test_a_case_is_stored_as_it_should_be(
    name: str, target: str, client: Client, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """By the library and by the command: the same variants and notices; cuts can be read and opened."""
    variants, content_type, reason = RIGHT[name]
    asset = await client.upload(case(name))
    assert [variant.name for variant in asset.variants] == variants
    assert asset.variants[0].content_type == content_type
    assert [notice.reason for notice in asset.notices] == ([reason] if reason else [])
    assert (await client.get_asset(asset.asset_id)).notices == asset.notices
    for variant in asset.variants[1:]:
        status, body = await get(web, await client.read_url(asset, variant.name))
        assert status == 200
        with Image.open(io.BytesIO(body)) as cut:
            assert cut.size == (variant.width_px, variant.height_px)

    path = tmp_path / name
    path.write_bytes(case(name).read_bytes())
    result = await ran(target, "upload", path, "--json")
    assert result.code == 0
    printed = json.loads(result.lines[0])
    assert [variant["name"] for variant in printed["variants"]] == variants
    assert [notice["reason"] for notice in printed["notices"]] == ([reason] if reason else [])
    assert [line.endswith(f"[{reason}]") for line in result.err.splitlines()] == ([True] if reason else [])
    shown = await ran(target, "show", printed["asset_id"])
    assert len([line for line in shown.lines if line.startswith("notice:")]) == len(printed["notices"])


async def test_required_cuts_leave_nothing_behind(target: str, client: Client) -> None:
    """The refusal comes before the first call: no upload, no asset."""
    for name, reason in (("trunc_2bytes.jpg", "IMAGE_BROKEN"), ("audio_only.mp4", "VIDEO_NO_TRACK")):
        with raises(MediaRefused, reason=reason, names=["--no-cuts"]):
            await client.upload(case(name), require_cuts=True)
        assert (await ran(target, "upload", case(name), "--require-cuts")).code == 1
    assert [upload async for upload in client.list_uploads(uid="")] == []
