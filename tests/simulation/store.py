"""An object store in memory: what S3 promises of presigned requests, over connections that fail.

Bodies are labels with a size, so that a multipart object of many megabytes costs nothing. Signatures are not made: a
request that was presigned is an object that nobody can change. That signing is right is proved elsewhere.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from detangle import SimLoop
from tests.simulation.network import FAULT, Faults, Link, Lost, Observer

from assetlane_server.model.errors import StoreUnavailable
from assetlane_server.model.listing import ListedObject, ObjectPage
from assetlane_server.model.parts import OpenMultipart, OpenMultipartPage, PartPage, PartPromise, StoredPart, part_bytes
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.upload import VariantPromise, whole_second
from assetlane_server.objects.s3.deletion import MAX_DELETED_KEYS

T = TypeVar("T")
_SECOND = timedelta(seconds=1)
_SKEW = timedelta(minutes=15)  # how far ahead of its own clock S3 accepts a signature
_PAGE = 2  # entries of a listing
_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent: a label in the place of the bytes."""

    label: str
    size_bytes: int
    start: bytes = b""

    @property
    def sha256(self) -> bytes:
        """The checksum of the bytes that it stands for."""
        return hashlib.sha256(self.label.encode()).digest()


@dataclass(frozen=True, slots=True)
class SimObject:
    """One stored object."""

    body: Body
    content_type: str
    etag: str
    modify_time: datetime
    sha256: bytes = b""
    foreign_headers: tuple[str, ...] = ()

    @property
    def report(self) -> StoredObject:
        """What a HEAD says about it."""
        return StoredObject(
            self.body.size_bytes,
            self.content_type,
            self.etag,
            sha256=self.sha256,
            foreign_headers=self.foreign_headers,
        )


@dataclass(slots=True)
class _Open:
    promise: VariantPromise
    open_time: datetime
    parts: dict[int, StoredPart] = field(default_factory=dict)


class Auditor(Observer):
    """Looks at every object that is deleted."""

    def object_deleted(self, key: str) -> None:
        """Is called before an object is deleted."""
        raise NotImplementedError

    def multipart_aborted(self, multipart_id: str) -> None:
        """Is called before a multipart upload is aborted."""
        raise NotImplementedError

    def parts_put_together(self, key: str) -> None:
        """Is called before the parts of an object are put together."""
        raise NotImplementedError


class SimStore:
    """The bucket: what all servers and clients share. `now` is its clock."""

    def __init__(self, loop: SimLoop, now: Callable[[], datetime], auditor: "Auditor") -> None:
        self.loop = loop
        self.now = now
        self.auditor = auditor
        self.objects: dict[str, SimObject] = {}
        self.open: dict[str, _Open] = {}
        self.on_open: Callable[[], None] | None = None  # is called once, when a multipart upload is opened
        self._count = 0

    def next_number(self) -> int:
        """Returns a number that was not given before."""
        self._count += 1
        return self._count

    def put(self, request: PresignedRequest, body: Body, more_headers: tuple[str, ...] = ()) -> int:
        """Does a presigned PUT; returns the HTTP status."""
        start, life, key, multipart_id, number = _read(request)
        now = self.now()
        if now < start - _SKEW:
            self.auditor.reach("a URL signed by a clock that is ahead was refused")
            return 403
        if now >= start + life:
            self.auditor.reach("a URL was refused after its end")
            return 403
        if str(body.size_bytes) != request.headers["content-length"]:
            return 403
        wanted = request.headers.get("x-amz-checksum-sha256")
        if wanted is not None and wanted != body.sha256.hex():
            return 400
        etag = f"e{self.next_number()}"
        if multipart_id:
            upload = self.open.get(multipart_id)
            if upload is None or upload.promise.key != key:
                return 404
            upload.parts[number] = StoredPart(number, body.size_bytes, etag)
            return 200
        if key in self.objects:
            return 412
        checksum = body.sha256 if wanted is not None else b""
        self.objects[key] = SimObject(body, request.headers["content-type"], etag, now, checksum, more_headers)
        self.auditor.note(f"{key} is stored")
        return 200

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects."""
        for key in keys:
            if key in self.objects:
                self.auditor.object_deleted(key)
                self.auditor.note(f"{key} is deleted")
                del self.objects[key]

    def complete(self, promise: VariantPromise, multipart_id: str, parts: Sequence[StoredPart]) -> str:
        """See MultipartStore."""
        upload = self.open.get(multipart_id)
        if promise.key in self.objects:
            self.auditor.reach("parts were to be put together where an object was")
            return ""
        if upload is None:
            return ""
        if any(upload.parts.get(part.part_number) != part for part in parts):
            self.auditor.reach("a part was sent again while its upload was put together")
            return "InvalidPart"
        self.auditor.parts_put_together(promise.key)
        body = Body(multipart_id, sum(part.size_bytes for part in parts), _PNG)
        self.objects[promise.key] = SimObject(
            body, upload.promise.content_type, f"e{self.next_number()}-{len(parts)}", self.now()
        )
        del self.open[multipart_id]
        return ""


class StoreClient:
    """An ObjectStore and its MultipartStore, over the connection of one server."""

    def __init__(self, store: SimStore, link: Link) -> None:
        self._store = store
        self._link = link
        self.reports_sha256: bool | None = True

    @property
    def multiparts(self) -> "StoreClient":
        """See ObjectStore."""
        return self

    def seen_from_here(self) -> "StoreClient":
        """See ObjectStore."""
        return self

    def presign_put(self, promise: VariantPromise, signed_at: datetime, lifetime: timedelta) -> PresignedRequest:
        """See ObjectStore."""
        headers = {"content-length": str(promise.size_bytes), "content-type": promise.content_type}
        if promise.sha256:
            headers["x-amz-checksum-sha256"] = promise.sha256.hex()
        return _signed("PUT", promise.key, signed_at, lifetime, headers)

    def presign_get(
        self, key: str, signed_at: datetime, lifetime: timedelta, content_disposition: str = ""
    ) -> PresignedRequest:
        """See ObjectStore."""
        return _signed("GET", key, signed_at, lifetime, {})

    def presign_part(
        self,
        promise: VariantPromise,
        multipart_id: str,
        part: PartPromise,
        signed_at: datetime,
        lifetime: timedelta,
    ) -> PresignedRequest:
        """See MultipartStore."""
        headers = {"content-length": str(part_bytes(promise, part.part_number))}
        return _signed("PUT", promise.key, signed_at, lifetime, headers, multipart_id, part.part_number)

    def public_url(self, key: str) -> str:
        """See ObjectStore."""
        return f"sim:{key}"

    async def head(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        found = await self._ask("a HEAD", lambda: self._store.objects.get(key))
        return None if found is None else found.report

    async def read_start(self, key: str, length_bytes: int) -> bytes:
        """See ObjectStore."""
        found = await self._ask("a GET", lambda: self._store.objects.get(key))
        if found is None:
            raise StoreUnavailable("NoSuchKey")
        return found.body.start[:length_bytes]

    async def read_small(self, key: str, limit_bytes: int) -> tuple[StoredObject, bytes] | None:
        """See ObjectStore."""
        found = await self._ask("a GET", lambda: self._store.objects.get(key))
        return None if found is None else (found.report, found.body.start[:limit_bytes])

    async def delete(self, keys: Sequence[str]) -> None:
        """See ObjectStore."""
        if len(keys) > MAX_DELETED_KEYS:
            raise ValueError(f"{len(keys):,} keys, at most {MAX_DELETED_KEYS:,} are deleted at once")
        await self._ask("a deletion of objects", lambda: self._store.delete(keys), is_write=True)

    async def list_keys(self, prefix: str, after: str) -> ObjectPage:
        """See ObjectStore."""
        objects = self._store.objects
        keys = await self._ask("a listing", lambda: sorted(key for key in objects if key.startswith(prefix)))
        left = [key for key in keys if key > after]
        page = left[:_PAGE]
        return ObjectPage(
            tuple(ListedObject(key, objects[key].body.size_bytes, objects[key].modify_time) for key in page),
            page[-1] if len(left) > len(page) else "",
        )

    async def open(self, promise: VariantPromise) -> str:
        """See MultipartStore."""

        def apply() -> str:
            store = self._store
            if any(one.promise.key == promise.key for one in store.open.values()):
                store.auditor.reach("two multipart uploads were open in one place")
            multipart_id = f"m{store.next_number()}"
            store.open[multipart_id] = _Open(promise, store.now())
            on_open, store.on_open = store.on_open, None
            if on_open is not None:
                on_open()
            return multipart_id

        return await self._ask("the opening of a multipart upload", apply, is_write=True)

    async def list_parts(self, key: str, multipart_id: str, *, after: int, limit: int) -> PartPage | None:
        """See MultipartStore."""
        found = await self._ask("a listing", lambda: self._store.open.get(multipart_id))
        if found is None or found.promise.key != key:
            return None
        parts = [part for number, part in sorted(found.parts.items()) if number > after]
        page = parts[: min(limit, _PAGE)]
        return PartPage(tuple(page), page[-1].part_number if len(parts) > len(page) else 0)

    async def complete(self, promise: VariantPromise, multipart_id: str, parts: Sequence[StoredPart]) -> str:
        """See MultipartStore."""
        return await self._ask(
            "the completion of a multipart upload",
            lambda: self._store.complete(promise, multipart_id, parts),
            is_write=True,
        )

    async def abort(self, key: str, multipart_id: str) -> None:
        """See MultipartStore."""

        def apply() -> None:
            found = self._store.open.get(multipart_id)
            if found is not None and found.promise.key == key:
                self._store.auditor.multipart_aborted(multipart_id)
                del self._store.open[multipart_id]

        await self._ask("the abortion of a multipart upload", apply, is_write=True)

    async def list_open(self, prefix: str, after: str) -> OpenMultipartPage:
        """See MultipartStore."""

        def apply() -> list[OpenMultipart]:
            return [
                OpenMultipart(upload.promise.key, multipart_id, upload.open_time)
                for multipart_id, upload in sorted(self._store.open.items())
                if upload.promise.key.startswith(prefix) and multipart_id > after
            ]

        found = await self._ask("a listing", apply)
        page = found[:_PAGE]
        return OpenMultipartPage(tuple(page), page[-1].multipart_id if len(found) > len(page) else "")

    async def _ask(self, what: str, apply: Callable[[], T], *, is_write: bool = False) -> T:
        try:
            return await self._link.request(what, apply, is_write=is_write)
        except Lost as error:
            raise StoreUnavailable(f"{error}: the store did not answer") from error


async def send(
    store: SimStore, faults: Faults, request: PresignedRequest, body: Body, more_headers: tuple[str, ...] = ()
) -> int:
    """Does a client's PUT; returns the HTTP status: 409, 500 and 0 (no answer) are the network's and the store's."""
    loop = store.loop
    if loop.flip(faults.put, FAULT):
        fate = loop.choose(5, FAULT)
        if fate == 0:
            return 500
        if fate == 1:
            return 409
        if fate == 2:
            loop.call_later(3.0, store.put, request, body, more_headers)
            return 0
        status = store.put(request, body, more_headers)
        store.auditor.reach("a PUT was stored and its answer lost")
        return 0 if status == 200 else status
    return store.put(request, body, more_headers)


def png(label: str, size_bytes: int) -> Body:
    """Returns a body that begins as a PNG does."""
    return Body(label, size_bytes, _PNG)


def _signed(
    method: str,
    key: str,
    signed_at: datetime,
    lifetime: timedelta,
    headers: dict[str, str],
    multipart_id: str = "",
    number: int = 0,
) -> PresignedRequest:
    start = whole_second(signed_at)
    lifetime -= lifetime % _SECOND
    url = f"sim:{start.timestamp():.0f} {lifetime // _SECOND} {multipart_id}/{number} {key}"
    return PresignedRequest(method, url, headers, start + lifetime)


def _read(request: PresignedRequest) -> tuple[datetime, timedelta, str, str, int]:
    start, life, multipart, key = request.url.removeprefix("sim:").split(" ", 3)
    multipart_id, _, number = multipart.partition("/")
    start_time = datetime.fromtimestamp(int(start), UTC)
    return start_time, timedelta(seconds=int(life)), key, multipart_id, int(number)
