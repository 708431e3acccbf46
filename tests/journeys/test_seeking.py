"""Videos and sound behind read URLs, asked for as players do: in ranges."""

import asyncio

import aiohttp
import av
import pytest
import yarl
from tests.client.clips import sound
from tests.client.pictures import real

from assetlane import Asset, Client

PUBLIC = {"partition": "public", "expiration_hours": 0}


async def ranged(web: aiohttp.ClientSession, url: str, asked: str) -> tuple[int, str | None, bytes]:
    """Returns status, content-range and body of what a player asks for."""
    async with web.get(yarl.URL(url, encoded=True), headers={"Range": asked}) as response:
        return response.status, response.headers.get("Content-Range"), await response.read()


@pytest.fixture(params=["signed", "public"])
async def film(request: pytest.FixtureRequest, client: Client) -> Asset:
    """A real video, behind a signed and behind a public URL."""
    options = PUBLIC if request.param == "public" else {}
    return await client.upload(real("cockatoo.mp4"), **options)  # type: ignore[arg-type]


async def test_a_video_has_its_preview_in_the_ledger(film: Asset) -> None:
    """Preview and cuts are variants with their own sizes; the original has its size, the asset its duration."""
    assert {variant.name: (variant.width_px, variant.height_px) for variant in film.variants} == {
        "original": (1280, 720),
        "preview": (1280, 720),
        "small": (300, 169),
        "medium": (600, 338),
        "large": (900, 506),
    }
    assert film.details.duration.seconds == 14
    assert film.details.color


async def test_a_player_gets_the_stretch_it_asks_for(client: Client, web: aiohttp.ClientSession, film: Asset) -> None:
    """From an offset, between two, the last bytes: 206 with exactly those; past the end: 416 with the length."""
    body = real("cockatoo.mp4").read_bytes()
    url, size = await client.read_url(film), len(body)
    stretches = {
        "bytes=0-": (0, size),
        "bytes=0-1": (0, 2),  # how Safari asks whether ranges work at all
        f"bytes={size // 2}-": (size // 2, size),
        "bytes=100000-165535": (100_000, 165_536),
        f"bytes={size - 10}-{size + 99}": (size - 10, size),
        "bytes=-4096": (size - 4096, size),
        f"bytes={size - 1}-": (size - 1, size),
    }
    for asked, (start, end) in stretches.items():
        content_range = f"bytes {start}-{end - 1}/{size}"
        assert await ranged(web, url, asked) == (206, content_range, body[start:end]), asked
    status, range_of, _ = await ranged(web, url, f"bytes={size}-")
    assert status == 416
    assert range_of in (f"bytes */{size}", None)


async def test_a_player_knows_that_it_may_seek(client: Client, web: aiohttp.ClientSession, film: Asset) -> None:
    """The whole answer says its type and length and that ranges are served."""
    async with web.get(yarl.URL(await client.read_url(film), encoded=True)) as response:
        assert response.status == 200
        assert response.headers["Accept-Ranges"] == "bytes"
        assert response.headers["Content-Type"] == "video/mp4"
        assert int(response.headers["Content-Length"]) == film.variants[0].size_bytes


async def test_a_real_player_seeks_behind_the_url(client: Client, film: Asset) -> None:
    """FFmpeg's own HTTP client jumps to the end and back through the read URL, and shows the right frames."""
    shown = await asyncio.to_thread(played, await client.read_url(film), (12.0, 3.0, 8.0))
    for asked, got in shown.items():
        assert got <= asked < got + 5, "at the keyframe before"


def played(url: str, instants: tuple[float, ...]) -> dict[float, float]:
    """Returns the time of the frame that a player shows first after each jump."""
    shown: dict[float, float] = {}
    with av.open(url, "r", timeout=20) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        for instant in instants:
            container.seek(int(instant / stream.time_base), stream=stream)
            shown[instant] = next(container.decode(stream)).time
    return shown


async def test_sound_is_served_in_ranges_too(client: Client, web: aiohttp.ClientSession) -> None:
    """A song is an object like any other."""
    song = sound("mp4", seconds=3)
    asset = await client.upload(song, file_path="song.m4a")
    assert asset.variants[0].content_type == "audio/mp4"
    url = await client.read_url(asset)
    half = len(song) // 2
    assert await ranged(web, url, f"bytes={half}-") == (206, f"bytes {half}-{len(song) - 1}/{len(song)}", song[half:])
    assert (await ranged(web, url, "bytes=-1"))[2] == song[-1:]
