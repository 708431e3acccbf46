"""How an S3 store is asked for parts that tells their checksums, as Amazon's does; the embedded one does not."""

import base64
import hashlib
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web
from tests.objects.servers import http_server
from tests.objects.settings import SETTINGS

from assetlane_server.objects.s3 import S3ObjectStore
from assetlane_server.uploads.errors import StoreUnavailable
from assetlane_server.uploads.parts import MIN_PART_BYTES, StoredPart
from assetlane_server.uploads.upload import VariantPromise

SUM = hashlib.sha256(b"a part").digest()
FILM = VariantPromise(
    "original", "video/mp4", 2 * MIN_PART_BYTES, promises_parts=True, key="a/film", part_size_bytes=MIN_PART_BYTES
)


def encoded(digest: bytes) -> str:
    """A digest as S3 writes it."""
    return base64.b64encode(digest).decode()


@dataclass
class Amazon:
    """Answers as S3 does, and notes what it was asked."""

    tells: bool = True
    refuses: int = 0  # the status of every CreateMultipartUpload with an algorithm; 0: it takes it
    listed: str = ""  # parts that somebody sent
    algorithms: list[str] = field(default_factory=list)
    completed: str = ""
    trials: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        body = (await request.read()).decode()
        query = request.query
        if request.method == "POST" and "uploads" in query:
            algorithm = request.headers.get("x-amz-checksum-algorithm", "")
            self.algorithms.append(algorithm)
            if algorithm and self.refuses:
                return xml("<Error><Code>InvalidRequest</Code></Error>", self.refuses)
            return xml("<InitiateMultipartUploadResult><UploadId>m-1</UploadId></InitiateMultipartUploadResult>")
        if request.method == "PUT":
            self.trials.append(request.headers["x-amz-checksum-sha256"])
            return web.Response(headers={"ETag": '"e"'})
        if request.method == "GET":
            parts = self.listed
            if not parts:
                told = f"<ChecksumSHA256>{self.trials[-1]}</ChecksumSHA256>" if self.tells else ""
                parts = part(1, told=told)
            return xml(f"<ListPartsResult><IsTruncated>false</IsTruncated>{parts}</ListPartsResult>")
        if request.method == "POST":
            self.completed = body
            return xml("<CompleteMultipartUploadResult><ETag>e-2</ETag></CompleteMultipartUploadResult>")
        return web.Response(status=204)


def xml(text: str, status: int = 200) -> web.Response:
    """An answer."""
    return web.Response(status=status, text=text, content_type="application/xml")


def part(number: int, *, second: int = 0, etag: str = "e", told: str = "") -> str:
    """A part in a listing."""
    return (
        f"<Part><PartNumber>{number}</PartNumber><LastModified>2026-11-21T12:00:{second:02}Z</LastModified>"
        f'<ETag>"{etag}"</ETag><Size>{MIN_PART_BYTES}</Size>{told}</Part>'
    )


@pytest.mark.parametrize("amazon", [Amazon(), Amazon(tells=False), Amazon(refuses=400), Amazon(refuses=501)])
async def test_checksums_are_announced_to_a_store_that_tells_them_again(amazon: Amazon) -> None:
    """It is tried once; a store that hides or refuses them gets parts without an algorithm."""
    async with (
        http_server(amazon.answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        for _ in range(2):
            assert await store.multiparts.open(FILM) == "m-1"
        assert await store.multiparts.open(replace(FILM, promises_parts=False)) == "m-1"
    wanted = "SHA256" if amazon.tells and not amazon.refuses else ""
    assert amazon.algorithms == ["SHA256", wanted, wanted, ""]


async def test_told_checksums_go_back_when_the_object_is_put_together() -> None:
    """S3 refuses to complete without them."""
    amazon = Amazon(listed=part(1, told=f"<ChecksumSHA256>{encoded(SUM)}</ChecksumSHA256>"))
    async with (
        http_server(amazon.answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        page = await store.multiparts.list_parts("a/film", "m-1", after=0, limit=1000)
        assert page is not None
        assert page.parts == (StoredPart(1, MIN_PART_BYTES, "e", SUM),)
        assert await store.multiparts.complete(FILM, "m-1", page.parts) == ""
    (found,) = ET.fromstring(amazon.completed)  # noqa: S314 - what our own client wrote
    assert {item.tag.rpartition("}")[2]: item.text for item in found} == {
        "PartNumber": "1", "ETag": '"e"', "ChecksumSHA256": encoded(SUM),
    }  # fmt: skip


async def test_of_a_part_that_is_listed_twice_the_newest_counts() -> None:
    """And of two different ones of the same second neither: nobody can say which was the last."""
    amazon = Amazon(
        listed=part(2, second=9, etag="new")
        + part(1, etag="one")
        + part(2, second=3, etag="old")
        + part(3, etag="x")
        + part(3, etag="y")
        + part(4, etag="same")
        + part(4, etag="same")
        + part(5, etag="x")
        + part(5, etag="y")
        + part(5, second=1, etag="z")
    )
    async with (
        http_server(amazon.answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        page = await store.multiparts.list_parts("a/film", "m-1", after=0, limit=1000)
    assert page is not None
    assert [(one.part_number, one.etag) for one in page.parts] == [(1, "one"), (2, "new"), (4, "same"), (5, "z")]


async def test_a_checksum_that_is_none_is_trouble_of_the_store() -> None:
    """It is not taken for an empty one."""
    amazon = Amazon(listed=part(1, told="<ChecksumSHA256>?</ChecksumSHA256>"))
    async with (
        http_server(amazon.answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        with pytest.raises(StoreUnavailable):
            await store.multiparts.list_parts("a/film", "m-1", after=0, limit=1000)
