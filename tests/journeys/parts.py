"""Steps of uploads that arrive in parts, on bare stubs and plain HTTP."""

import hashlib
import io
from collections.abc import Sequence

import aiohttp
import yarl
from tests.journeys.conftest import Stubs

from assetlane.v1.upload_pb2 import PresignedRequest, VariantPromise
from assetlane.v1.upload_service_pb2 import PartPromise, RequestUploadRequest, SignedPart, SignPartsRequest

MIB = 1024**2
PART = 5 * MIB
FILM = b"a" * PART + b"b" * PART + b"the end"  # three parts
SMALL_PARTS = {"multipart_threshold_bytes": 1, "multipart_part_bytes": PART}


def part_of(body: bytes, number: int) -> bytes:
    """Returns one part of a body."""
    return body[(number - 1) * PART : number * PART]


def film_request(body: bytes = FILM, *, promises: bool = True, **fields: str) -> RequestUploadRequest:
    """Returns a request that promises this body in parts."""
    promise = VariantPromise(name="original", content_type="text/html", size_bytes=len(body), promises_parts=promises)
    return RequestUploadRequest(**{"file_path": "films/a.html", "uid": "7f3a", "variants": [promise], **fields})  # type: ignore[arg-type]  # a test's


async def signed(
    stubs: Stubs, upload_id: str, numbers: Sequence[int], body: bytes = FILM, *, promises: bool = True
) -> list[SignedPart]:
    """Returns ways in for these parts."""
    parts = [
        PartPromise(part_number=number, sha256=hashlib.sha256(part_of(body, number)).digest() if promises else b"")
        for number in numbers
    ]
    request = SignPartsRequest(upload_id=upload_id, variant="original", parts=parts)
    return list((await stubs.uploads.SignParts(request)).parts)


async def send(web: aiohttp.ClientSession, request: PresignedRequest, body: bytes) -> int:
    """Sends a request as it stands and returns the HTTP status."""
    url = yarl.URL(request.url, encoded=True)
    headers = dict(request.headers)
    async with web.request(
        request.method, url, headers=headers, data=io.BytesIO(body), skip_auto_headers=["content-type"]
    ) as answer:
        await answer.read()
        return answer.status


async def refused(web: aiohttp.ClientSession, request: PresignedRequest, body: bytes) -> bool:
    """Whether the store has no place for it: 404, or a closed connection from one that does not read on (versitygw)."""
    try:
        return await send(web, request, body) == 404
    except aiohttp.ClientOSError:
        return True


async def put_parts(
    stubs: Stubs,
    web: aiohttp.ClientSession,
    upload_id: str,
    numbers: Sequence[int] = (1, 2, 3),
    body: bytes = FILM,
    *,
    promises: bool = True,
) -> None:
    """Signs and PUTs these parts."""
    for part in await signed(stubs, upload_id, numbers, body, promises=promises):
        assert await send(web, part.request, part_of(body, part.part_number)) == 200
