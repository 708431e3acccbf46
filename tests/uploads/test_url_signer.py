"""When the URLs of an asset change, and when they do not."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.objects.settings import SETTINGS
from tests.uploads.samples import NOW, PICTURE, QUARTER, requested

from assetlane_server.model.asset import asset_of
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.upload import Asset
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.uploads.url_signer import UrlSigner

DAY = timedelta(days=1)
MORNING = datetime(2026, 11, 22, tzinfo=UTC)


@dataclass
class Clock:
    """Says what it is set to."""

    time: datetime = NOW

    def now(self) -> datetime:
        """The time."""
        return self.time


@pytest.fixture
def clock() -> Clock:
    """The server's clock."""
    return Clock()


@pytest.fixture
async def signer(clock: Clock) -> AsyncIterator[UrlSigner]:
    """Signs for a store that nobody asks."""
    async with S3ObjectStore.open(SETTINGS) as store:
        yield UrlSigner(store, clock.now)


def asset(expiration_hours: float) -> Asset:
    """An asset with two variants, completed at noon."""
    upload = requested(replace(PICTURE, expiration_hours=expiration_hours)).initialized(NOW, QUARTER)
    return asset_of(upload, [StoredObject(one.size_bytes, one.content_type) for one in upload.variants], NOW)


def query_of(url: str) -> dict[str, str]:
    """A URL's query parameters."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


async def test_public_download_urls_change_once_a_day(signer: UrlSigner, clock: Clock) -> None:
    """The same for everybody from the first to the last instant of a UTC day, wherever the server stands."""
    public = asset(0)
    clock.time = MORNING
    first = signer.read_urls(public)
    for later in (MORNING + timedelta(seconds=1), MORNING + DAY - timedelta(microseconds=1)):
        clock.time = later
        assert signer.read_urls(public) == first
        clock.time = later.astimezone(timezone(timedelta(hours=-11)))
        assert signer.read_urls(public) == first
    clock.time = MORNING + DAY
    next_day = signer.read_urls(public)
    assert next_day.urls == first.urls
    assert not set(next_day.download_urls) & set(first.download_urls)


async def test_public_download_urls_live_at_least_six_days(signer: UrlSigner, clock: Clock) -> None:
    """One that is given out in the last instant of its UTC day lives as long."""
    clock.time = MORNING + DAY - timedelta(microseconds=1)
    urls = signer.read_urls(asset(0))
    assert urls.expire_time is None
    for url in urls.download_urls:
        query = query_of(url)
        assert (query["X-Amz-Date"], query["X-Amz-Expires"]) == ("20261122T000000Z", "604800")
        assert MORNING + 7 * DAY - clock.time >= 6 * DAY


async def test_private_urls_stay_until_a_refresh(signer: UrlSigner, clock: Clock) -> None:
    """Whatever the time is; both kinds end with the asset's own instant, and say so to caches."""
    private = asset(24)
    first = signer.read_urls(private)
    clock.time = NOW + timedelta(hours=23)
    assert signer.read_urls(private) == first
    assert first.expire_time == private.expire_time
    for url in (*first.urls, *first.download_urls):
        query = query_of(url)
        assert (query["X-Amz-Date"], query["X-Amz-Expires"]) == ("20261121T120000Z", "86400")
        assert query["response-expires"] == "Sun, 22 Nov 2026 12:00:00 GMT"
    refreshed = signer.read_urls(private.refreshed(NOW + timedelta(seconds=1)))
    assert not {*refreshed.urls, *refreshed.download_urls} & {*first.urls, *first.download_urls}


async def test_a_download_url_names_the_file(signer: UrlSigner) -> None:
    """The download URL of a cut has the name of its file; the URL that shows it has none."""
    for hours in (0, 24):
        urls = signer.read_urls(asset(hours))
        names = [query_of(url)["response-content-disposition"] for url in urls.download_urls]
        assert names == ['attachment; filename="beach.jpg"', 'attachment; filename="beach-small.jpg"']
        assert not any("response-content-disposition" in url for url in urls.urls)
