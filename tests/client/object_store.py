"""A small object store over real HTTP: enough of S3's behaviour to test how bytes are put and fetched."""

import asyncio
import base64
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Self
from urllib.parse import quote, urlencode

from aiohttp import web
from tests.memory.object_store import MemoryObjectStore

from assetlane.v1.upload_pb2 import PresignedRequest
from assetlane_server.model.presigned import PresignedRequest as SignedRequest

SIGNATURE = "5ec2e7c0ffee"


@dataclass
class Seen:
    """One request as the store saw it."""

    method: str
    raw_path: str
    headers: list[tuple[str, str]]
    size_bytes: int = 0
    sha256: bytes = b""


@dataclass
class ObjectStore:
    """Keeps hashes, not bytes, of what is put; `script` holds what to do with the next requests.

    A step is an HTTP status to answer with, "drop" to hang up after some of the body, or "arrive-drop" to
    store the body and hang up without an answer.
    """

    url: str = ""
    script: deque[int | str] = field(default_factory=deque)
    code: str = "SlowDown"
    seen: list[Seen] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, bytes] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    stall: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    signatures: set[str] = field(default_factory=lambda: {SIGNATURE})
    keeps_bodies: bool = True
    damages: bool = False  # while it does, the server sees that other bytes arrived
    behind: "StoreBehindHttp" = field(init=False)

    def __post_init__(self) -> None:
        self.behind = StoreBehindHttp(self)

    @classmethod
    @asynccontextmanager
    async def started(cls) -> AsyncIterator[Self]:
        """Runs a store on a free port of 127.0.0.1."""
        store = cls()
        app = web.Application(client_max_size=2**40)
        app.router.add_route("*", "/{key:.*}", store.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        store.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield store
        finally:
            if store.stall is not None:
                store.stall.set()
            await runner.cleanup()

    def target(self, key: str, size_bytes: int, **headers: str) -> PresignedRequest:
        """Returns a write target for `key`, with an awkwardly escaped URL that must be sent verbatim."""
        return PresignedRequest(
            method="PUT",
            url=f"{self.url}/{key}?X-Amz-Credential=AK%2F2026&X-Amz-Signature={SIGNATURE}",
            headers={
                "content-length": str(size_bytes),
                "content-type": "image/jpeg",
                "if-none-match": "*",
                **headers,
            },
        )

    def body(self, upload_id: str, variant: str = "original") -> bytes:
        """Returns the bytes of a variant."""
        return self.bodies[self.key(upload_id, variant)]

    def key(self, upload_id: str, variant: str = "original") -> str:
        """Returns the key of a variant that is stored."""
        (key,) = (key for key in self.bodies if f"/{upload_id}/{variant}" in key)
        return key

    def place(self, key: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Stores an object, as a PUT with these headers did (their names in lower case)."""
        self._keep(key, len(body), hashlib.sha256(body).digest(), body, headers)

    def clear(self) -> None:
        """Forgets every object."""
        self.sizes.clear()
        self.hashes.clear()
        self.bodies.clear()
        self.behind.objects.clear()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers a request by the script, otherwise as a store would."""
        seen = Seen(request.method, request.raw_path, list(request.headers.items()))
        self.seen.append(seen)
        self.reached.set()
        step = self.script.popleft() if self.script else None
        if self.stall is not None:
            await self.stall.wait()
        if step == "drop":
            await request.content.read(1)
            return self._hung_up(request)
        if isinstance(step, int):
            return self._refused(step, self.code)
        key = request.match_info["key"]
        is_open = request.method == "GET" and key.startswith("public/")
        if not is_open and request.query.get("X-Amz-Signature") not in self.signatures:
            return self._refused(403, "AccessDenied")
        if request.method == "GET":
            return await self._give(request, key)
        if key in self.sizes:
            return self._refused(412, "PreconditionFailed")
        await self._take(request, seen, key)
        return self._hung_up(request) if step == "arrive-drop" else web.Response(status=200)

    async def _take(self, request: web.Request, seen: Seen, key: str) -> None:
        digest = hashlib.sha256()
        kept = bytearray()
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            seen.size_bytes += len(chunk)
            if self.keeps_bodies:
                kept += chunk
        seen.sha256 = digest.digest()
        headers = {name.lower(): value for name, value in seen.headers}
        self._keep(key, seen.size_bytes, seen.sha256, bytes(kept), headers)

    def _keep(self, key: str, size_bytes: int, sha256: bytes, body: bytes, headers: Mapping[str, str]) -> None:
        self.sizes[key], self.hashes[key], self.bodies[key] = size_bytes, sha256, body
        promised = base64.b64decode(headers.get("x-amz-checksum-sha256", ""))
        self.behind.store(key, body, headers, hashlib.sha256(b"other bytes").digest() if self.damages else promised)

    async def _give(self, request: web.Request, key: str) -> web.StreamResponse:
        body = self.bodies[key]
        wanted = request.http_range
        start = wanted.start or 0
        response = web.StreamResponse(status=206 if start else 200)
        response.content_length = len(body) - start
        await response.prepare(request)
        if self.script and self.script[0] == "half":
            self.script.popleft()
            await response.write(body[start : start + (len(body) - start) // 2])
            return self._hung_up(request)
        await response.write(body[start:])
        return response

    def _refused(self, status: int, code: str) -> web.Response:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Signature>{SIGNATURE}</Signature></Error>"
        return web.Response(status=status, text=text, content_type="application/xml")

    def _hung_up(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response(status=500)


_NONE: Mapping[str, str] = MappingProxyType({})


class StoreBehindHttp(MemoryObjectStore):
    """What the server sees of an `ObjectStore`: its URLs lead there, with the one signature that it knows."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__()
        self._front = store

    def presign(
        self,
        method: str,
        key: str,
        signed_at: datetime,
        lifetime: timedelta,
        headers: Mapping[str, str],
        query: Mapping[str, str] = _NONE,
    ) -> SignedRequest:
        """See MemoryObjectStore."""
        request = super().presign(method, key, signed_at, lifetime, headers, query)
        shown = {name: value for name, value in query.items() if name == "response-content-disposition"}
        words = urlencode({**shown, "X-Amz-Signature": SIGNATURE})
        return SignedRequest(method, f"{self._front.url}/{quote(key)}?{words}", headers, request.expire_time)

    def public_url(self, key: str) -> str:
        """See MemoryObjectStore."""
        return f"{self._front.url}/{quote(key)}"
