"""How an S3 store that reports their checksums is asked for parts, as Amazon's does; the embedded one does not."""

import base64
import hashlib
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web
from tests.objects.servers import http_server
from tests.objects.settings import SETTINGS

from assetlane_server.model.errors import StoreRefused, StoreUnavailable
from assetlane_server.model.parts import MIN_PART_BYTES, StoredPart
from assetlane_server.model.upload import VariantPromise
from assetlane_server.objects.s3.store import S3ObjectStore

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

    reports: bool = True
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
                checksum = f"<ChecksumSHA256>{self.trials[-1]}</ChecksumSHA256>" if self.reports else ""
                parts = part(1, checksum=checksum)
            return xml(f"<ListPartsResult><IsTruncated>false</IsTruncated>{parts}</ListPartsResult>")
        if request.method == "POST":
            self.completed = body
            return xml("<CompleteMultipartUploadResult><ETag>e-2</ETag></CompleteMultipartUploadResult>")
        return web.Response(status=204)


def xml(text: str, status: int = 200) -> web.Response:
    """An answer."""
    return web.Response(status=status, text=text, content_type="application/xml")


def part(number: int, *, second: int = 0, etag: str = "e", checksum: str = "") -> str:
    """A part in a listing."""
    return (
        f"<Part><PartNumber>{number}</PartNumber><LastModified>2026-11-21T12:00:{second:02}Z</LastModified>"
        f'<ETag>"{etag}"</ETag><Size>{MIN_PART_BYTES}</Size>{checksum}</Part>'
    )


@pytest.mark.parametrize("amazon", [Amazon(), Amazon(reports=False), Amazon(refuses=400), Amazon(refuses=501)])
async def test_checksums_are_announced_to_a_store_that_reports_them_again(amazon: Amazon) -> None:
    """It is tried once; a store that hides or refuses them gets parts without an algorithm."""
    async with (
        http_server(amazon.answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        for _ in range(2):
            assert await store.multiparts.open(FILM) == "m-1"
        assert await store.multiparts.open(replace(FILM, promises_parts=False)) == "m-1"
    wanted = "SHA256" if amazon.reports and not amazon.refuses else ""
    assert amazon.algorithms == ["SHA256", wanted, wanted, ""]


async def test_reported_checksums_go_back_when_the_object_is_put_together() -> None:
    """S3 refuses to complete without them."""
    amazon = Amazon(listed=part(1, checksum=f"<ChecksumSHA256>{encoded(SUM)}</ChecksumSHA256>"))
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


@pytest.mark.parametrize("code", ["NoSuchUpload", "NoSuchKey"])
async def test_a_multipart_upload_that_is_not_open_is_none_whatever_the_store_calls_it(code: str) -> None:
    """NoSuchKey: radosgw of one that it completed, Swift when one is aborted that it completed."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return xml(f"<Error><Code>{code}</Code></Error>", 404)

    async with (
        http_server(answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        assert await store.multiparts.list_parts("a/film", "m-1", after=0, limit=1000) is None
        assert await store.multiparts.complete(FILM, "m-1", [StoredPart(1, MIN_PART_BYTES, "e")]) == ""
        await store.multiparts.abort("a/film", "m-1")


async def test_a_bucket_that_is_not_there_is_no_closed_multipart_upload() -> None:
    """It is trouble, of the same status."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return xml("<Error><Code>NoSuchBucket</Code></Error>", 404)

    async with (
        http_server(answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        with pytest.raises(StoreRefused):
            await store.multiparts.list_parts("a/film", "m-1", after=0, limit=1000)


async def test_a_precondition_that_failed_within_a_200_is_reported_as_such() -> None:
    """The status of CompleteMultipartUpload goes out before the store has put the parts together."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return xml("<Error><Code>PreconditionFailed</Code></Error>")

    async with (
        http_server(answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        assert await store.multiparts.complete(FILM, "m-1", [StoredPart(1, MIN_PART_BYTES, "e")]) == ""


@dataclass
class OpenUploads:
    """Lists open multipart uploads by prefix as Amazon does, or as MinIO: of an exact key, or all."""

    keys: set[str]
    by_folder: bool
    page: int = 2
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        await request.read()
        key = request.path.removeprefix(f"/{SETTINGS.bucket}/")
        if request.method == "POST":
            self.keys.add(key)
            return xml(f"<InitiateMultipartUploadResult><UploadId>{key}</UploadId></InitiateMultipartUploadResult>")
        if request.method == "DELETE":
            self.keys.discard(key)
            return web.Response(status=204)
        prefix = request.query["prefix"]
        self.asked.append(prefix)
        found = sorted(one for one in self.keys if one.startswith(prefix) and (self.by_folder or prefix in ("", one)))
        found = [one for one in found if one > request.query.get("key-marker", "")]
        listed = "".join(
            f"<Upload><Key>{one}</Key><UploadId>{one}</UploadId><Initiated>2026-11-21T12:00:00Z</Initiated></Upload>"
            for one in found[: self.page]
        )
        more = len(found) > self.page
        marks = f"<NextKeyMarker>{found[self.page - 1]}</NextKeyMarker>" if more else ""
        return xml(
            f"<ListMultipartUploadsResult><IsTruncated>{str(more).lower()}</IsTruncated>{marks}{listed}"
            "</ListMultipartUploadsResult>"
        )


@pytest.mark.parametrize("by_folder", [True, False], ids=["Amazon", "MinIO"])
async def test_open_uploads_of_a_folder_are_found_on_every_store(by_folder: bool) -> None:
    """Page by page, without those of other folders; a store that lists by folder is not asked for all."""
    ours = {f"app/private/{number}" for number in range(5)}
    uploads = OpenUploads(ours | {"other/a", "zoo/b"}, by_folder)
    async with (
        http_server(uploads.answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        for _ in range(2):
            found, after = [], ""
            while True:
                page = await store.multiparts.list_open("app/", after)
                found += [one.key for one in page.open]
                after = page.after
                if not after:
                    break
            assert sorted(found) == sorted(ours)
        assert (await store.multiparts.list_open("nothing/", "")).open == ()
        exact = await store.multiparts.list_open("app/private/3", "")
        assert [one.key for one in exact.open] == ["app/private/3"]
        assert (await store.multiparts.list_open("app/private/9", "")).open == ()
    assert ("" in uploads.asked) is not by_folder
    assert uploads.keys == ours | {"other/a", "zoo/b"}, "what was opened to find out is gone"


async def test_a_checksum_that_is_none_is_trouble_of_the_store() -> None:
    """It is not taken for an empty one."""
    amazon = Amazon(listed=part(1, checksum="<ChecksumSHA256>?</ChecksumSHA256>"))
    async with (
        http_server(amazon.answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        with pytest.raises(StoreUnavailable):
            await store.multiparts.list_parts("a/film", "m-1", after=0, limit=1000)
