"""An ObjectStore in memory, for unit tests and simulation. It passes `tests/contracts/`.

It lies with the tests and is in no wheel: no service can be run on it by mistake. What it signs can be sent, without
HTTP, with `send`: a small interpreter that keeps what S3 keeps of a signed promise. It checks a signature as S3 does,
by making it again from the request as it came, with our own signer: whether that is right SigV4 is for
`tests/objects/test_sigv4.py` and for the real stores to say.
"""

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote, urlsplit

from assetlane_server.model.errors import StoreUnavailable
from assetlane_server.model.listing import ListedObject, ObjectPage
from assetlane_server.model.parts import (
    MIN_PART_BYTES,
    OpenMultipart,
    OpenMultipartPage,
    PartPage,
    PartPromise,
    StoredPart,
)
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.upload import VariantPromise, whole_second
from assetlane_server.objects.s3.deletion import MAX_DELETED_KEYS
from assetlane_server.objects.s3.headers import foreign_headers
from assetlane_server.objects.s3.multipart import part_headers
from assetlane_server.objects.s3.sigv4 import Credentials, Presigner
from assetlane_server.objects.s3.store import put_headers

ENDPOINT = "http://memory.invalid"
BUCKET = "lane"
_ROOT = f"/{BUCKET}/"
_CREDENTIALS = Credentials("MEMORY", "not a secret")
_CLOCK_SKEW = timedelta(minutes=15)  # how far ahead of its own clock S3 accepts a signature
_NONE: Mapping[str, str] = MappingProxyType({})
_RANGE = re.compile(r"bytes=0-(\d+)")
_KEPT_HEADERS = (
    "content-type",
    "content-disposition",
    "cache-control",
    # Which no signature can forbid.
    "content-encoding",
    "content-language",
    "expires",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a store answered."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class MemoryObject:
    """One stored object."""

    data: bytes
    headers: Mapping[str, str]  # as they come back with a GET
    etag: str
    modify_time: datetime
    sha256: bytes = b""
    parts_sha256: bytes = b""

    @property
    def report(self) -> StoredObject:
        """What a HEAD says about it."""
        return StoredObject(
            len(self.data),
            self.headers.get("content-type", ""),
            self.etag,
            sha256=self.sha256,
            parts_sha256=self.parts_sha256,
            foreign_headers=foreign_headers(self.headers),
        )


@dataclass(slots=True)
class _OpenUpload:
    key: str
    headers: Mapping[str, str]
    open_time: datetime
    parts: dict[int, tuple[StoredPart, bytes]] = field(default_factory=dict)


class MemoryObjectStore:
    """An ObjectStore that is empty at first and ends with its object. `objects` is what it holds, by key."""

    def __init__(
        self,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        open_prefix: str | None = None,
        page_keys: int = 1000,
        reports_sha256: bool = True,
    ) -> None:
        """Everybody may read what lies under `open_prefix`; None: nothing."""
        self.objects: dict[str, MemoryObject] = {}
        self.multiparts = MemoryMultiparts(self)
        self.is_down = False  # while it is, every call and every request is unavailable
        self._now = now
        self._open_prefix = open_prefix
        self._page_keys = page_keys
        self._reports_sha256 = reports_sha256
        self._presigner = Presigner(ENDPOINT, BUCKET, "us-east-1")

    @property
    def reports_sha256(self) -> bool | None:
        """See ObjectStore."""
        return self._reports_sha256

    def seen_from_here(self) -> "MemoryObjectStore":
        """See ObjectStore."""
        return self

    def presign_put(self, promise: VariantPromise, signed_at: datetime, lifetime: timedelta) -> PresignedRequest:
        """See ObjectStore."""
        return self.presign("PUT", promise.key, signed_at, lifetime, put_headers(promise))

    def presign_get(
        self, key: str, signed_at: datetime, lifetime: timedelta, content_disposition: str = ""
    ) -> PresignedRequest:
        """See ObjectStore."""
        end = whole_second(signed_at) + lifetime - lifetime % timedelta(seconds=1)
        query = {"response-expires": format_datetime(end.astimezone(UTC), usegmt=True)}
        if content_disposition:
            query["response-content-disposition"] = content_disposition
        return self.presign("GET", key, signed_at, lifetime, {}, query)

    def public_url(self, key: str) -> str:
        """See ObjectStore."""
        return self._presigner.url(key)

    def presign(
        self,
        method: str,
        key: str,
        signed_at: datetime,
        lifetime: timedelta,
        headers: Mapping[str, str],
        query: Mapping[str, str] = _NONE,
    ) -> PresignedRequest:
        """Signs a request with exactly these headers and these parameters of S3's own."""
        start = whole_second(signed_at)
        lifetime -= lifetime % timedelta(seconds=1)
        url = self._presigner.presign(method, key, _CREDENTIALS, start, lifetime, headers, query)
        return PresignedRequest(method, url, headers, start + lifetime)

    async def head(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        await self.answering()
        found = self.objects.get(key)
        if found is None:
            return None
        return found.report if self._reports_sha256 else replace(found.report, sha256=b"", parts_sha256=b"")

    async def read_start(self, key: str, length_bytes: int) -> bytes:
        """See ObjectStore."""
        await self.answering()
        if key not in self.objects:
            raise StoreUnavailable("The store cannot read the start of an object (NoSuchKey).")
        return self.objects[key].data[:length_bytes]

    async def read_small(self, key: str, limit_bytes: int) -> tuple[StoredObject, bytes] | None:
        """See ObjectStore."""
        stored = await self.head(key)
        return None if stored is None else (stored, self.objects[key].data[:limit_bytes])

    async def delete(self, keys: Sequence[str]) -> None:
        """See ObjectStore."""
        if len(keys) > MAX_DELETED_KEYS:
            raise ValueError(f"at most {MAX_DELETED_KEYS:,} keys are deleted at once, not {len(keys):,}")
        await self.answering()
        for key in keys:
            self.objects.pop(key, None)

    async def list_keys(self, prefix: str, after: str) -> ObjectPage:
        """See ObjectStore. `after` is the last key."""
        await self.answering()
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        page = keys[: self._page_keys]
        listed = tuple(ListedObject(key, len(self.objects[key].data), self.objects[key].modify_time) for key in page)
        return ObjectPage(listed, page[-1] if len(keys) > len(page) else "")

    async def send(self, request: PresignedRequest, body: bytes = b"") -> Answer:
        """Does what a request asks for, as it stands, if its signature and its time are right."""
        await self.answering()
        url = urlsplit(request.url)
        if f"{url.scheme}://{url.netloc}" != ENDPOINT or not url.path.startswith(_ROOT):
            return Answer(404)
        key = unquote(url.path.removeprefix(_ROOT))
        headers = {name.lower(): value for name, value in request.headers.items()}
        pairs = parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
        query = dict(pairs)
        if not query:
            is_open = self._open_prefix is not None and key.startswith(self._open_prefix)
            return self._read(key, {}, headers) if is_open and request.method == "GET" else Answer(403)
        if len(query) != len(pairs) or not self._is_signed(request, key, query, headers):
            return Answer(403)
        match request.method:
            case "GET":
                return self._read(key, query, headers)
            case "PUT":
                return self._write(key, query, headers, body)
        return Answer(405)

    async def answering(self) -> None:
        """Lets other tasks run, as every call to a store does. Raises StoreUnavailable while it is down."""
        await asyncio.sleep(0)
        if self.is_down:
            raise StoreUnavailable("The store cannot be reached (it is down).")

    def store(self, key: str, data: bytes, headers: Mapping[str, str], sha256: bytes = b"") -> None:
        """Stores an object under a key, whatever is there."""
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        self.objects[key] = MemoryObject(data, _kept(headers), etag, self._now(), sha256)

    def put_together(self, key: str, headers: Mapping[str, str], parts: Sequence[tuple[StoredPart, bytes]]) -> None:
        """Stores an object that arrived in parts."""
        data = b"".join(body for _, body in parts)
        etags = b"".join(bytes.fromhex(part.etag) for part, _ in parts)
        etag = f"{hashlib.md5(etags, usedforsecurity=False).hexdigest()}-{len(parts)}"
        sums = [part.sha256 for part, _ in parts]
        parts_sha256 = hashlib.sha256(b"".join(sums)).digest() if all(sums) else b""
        self.objects[key] = MemoryObject(data, _kept(headers), etag, self._now(), parts_sha256=parts_sha256)

    @property
    def now(self) -> datetime:
        """The time of its clock."""
        return self._now()

    def _is_signed(
        self, request: PresignedRequest, key: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> bool:
        try:
            signed_at = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            lifetime = timedelta(seconds=int(query["X-Amz-Expires"]))
            names = [name for name in query["X-Amz-SignedHeaders"].split(";") if name != "host"]
            signed = {name: headers[name] for name in names}
            own = {name: value for name, value in query.items() if not name.startswith("X-Amz-")}
            right = self._presigner.presign(request.method, key, _CREDENTIALS, signed_at, lifetime, signed, own)
        except (KeyError, ValueError):
            return False
        now = self._now()
        is_alive = signed_at - _CLOCK_SKEW <= now < signed_at + lifetime
        are_all_signed = all(name in signed for name in headers if name.startswith("x-amz-"))
        return is_alive and are_all_signed and right == request.url

    def _read(self, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        found = self.objects.get(key)
        if found is None:
            return Answer(404)
        headers = {
            **found.headers,
            "etag": f'"{found.etag}"',
            **{name.removeprefix("response-"): value for name, value in query.items() if name.startswith("response-")},
        }
        if asked := _RANGE.fullmatch(headers.get("range", "")):
            if not found.data:
                return Answer(416)
            return Answer(206, headers, found.data[: int(asked[1]) + 1])
        return Answer(200, headers, found.data)

    def _write(self, key: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> Answer:
        checksum = headers.get("x-amz-checksum-sha256", "")
        digest = base64.b64decode(checksum)
        if headers.get("content-length") != str(len(body)) or (digest and hashlib.sha256(body).digest() != digest):
            return Answer(400)
        if "uploadId" in query:
            return self.multiparts.take_part(key, query["uploadId"], int(query["partNumber"]), body, digest)
        if headers.get("if-none-match") == "*" and key in self.objects:
            return Answer(412)
        self.store(key, body, headers, digest)
        return Answer(200, {"etag": f'"{self.objects[key].etag}"'})


class MemoryMultiparts:
    """A MultipartStore of a MemoryObjectStore."""

    def __init__(self, store: MemoryObjectStore) -> None:
        self._store = store
        self._open: dict[str, _OpenUpload] = {}
        self._ids = _numbers()

    async def open(self, promise: VariantPromise) -> str:
        """See MultipartStore."""
        await self._store.answering()
        multipart_id = next(self._ids)
        self._open[multipart_id] = _OpenUpload(promise.key, put_headers(promise), self._store.now)
        return multipart_id

    def presign_part(
        self,
        promise: VariantPromise,
        multipart_id: str,
        part: PartPromise,
        signed_at: datetime,
        lifetime: timedelta,
    ) -> PresignedRequest:
        """See MultipartStore."""
        headers = part_headers(promise, part)
        query = {"partNumber": str(part.part_number), "uploadId": multipart_id}
        return self._store.presign("PUT", promise.key, signed_at, lifetime, headers, query)

    async def list_parts(self, key: str, multipart_id: str, *, after: int, limit: int) -> PartPage | None:
        """See MultipartStore."""
        await self._store.answering()
        upload = self._of(key, multipart_id)
        if upload is None:
            return None
        parts = [part for number, (part, _) in sorted(upload.parts.items()) if number > after]
        page = parts[:limit]
        return PartPage(tuple(page), page[-1].part_number if len(parts) > limit else 0)

    async def complete(self, promise: VariantPromise, multipart_id: str, parts: Sequence[StoredPart]) -> str:
        """See MultipartStore."""
        await self._store.answering()
        upload = self._of(promise.key, multipart_id)
        if upload is None or promise.key in self._store.objects:
            return ""
        if any(upload.parts.get(part.part_number, (None,))[0] != part for part in parts):
            return "InvalidPart"
        if any(part.size_bytes < MIN_PART_BYTES for part in parts[:-1]):
            return "EntityTooSmall"
        self._store.put_together(promise.key, upload.headers, [upload.parts[part.part_number] for part in parts])
        del self._open[multipart_id]
        return ""

    async def abort(self, key: str, multipart_id: str) -> None:
        """See MultipartStore."""
        await self._store.answering()
        if self._of(key, multipart_id) is not None:
            del self._open[multipart_id]

    async def list_open(self, prefix: str, after: str) -> OpenMultipartPage:
        """See MultipartStore. All on one page."""
        await self._store.answering()
        return OpenMultipartPage(
            tuple(
                OpenMultipart(upload.key, multipart_id, upload.open_time)
                for multipart_id, upload in self._open.items()
                if upload.key.startswith(prefix)
            ),
            "",
        )

    def take_part(self, key: str, multipart_id: str, number: int, body: bytes, sha256: bytes) -> Answer:
        """Stores a part, in the place of one with its number."""
        upload = self._of(key, multipart_id)
        if upload is None:
            return Answer(404)
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        upload.parts[number] = StoredPart(number, len(body), etag, sha256), body
        return Answer(200, {"etag": f'"{etag}"'})

    def _of(self, key: str, multipart_id: str) -> _OpenUpload | None:
        upload = self._open.get(multipart_id)
        return upload if upload is not None and upload.key == key else None


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _KEPT_HEADERS if name in headers}


def _numbers() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"multipart-{number}"
