"""A web gateway with services of the tests' own behind it: no store, no MongoDB."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest

from assetlane.v1.asset_pb2 import Asset
from assetlane.v1.asset_service_pb2 import GetAssetResponse, ListAssetsResponse, WatchAssetsResponse
from assetlane.v1.asset_service_pb2_grpc import AssetServiceServicer
from assetlane.v1.upload_pb2 import Upload
from assetlane.v1.upload_service_pb2 import (
    CancelUploadResponse,
    GetUploadResponse,
    Heartbeat,
    ListUploadsResponse,
    RequestUploadResponse,
    WatchUploadResponse,
)
from assetlane.v1.upload_service_pb2_grpc import UploadServiceServicer
from assetlane_server.access.identity import Anonymous
from assetlane_server.model.errors import ShuttingDown, UploadNotFound
from assetlane_server.rpc.asset_servicer import AssetServicer
from assetlane_server.rpc.limits import Limits
from assetlane_server.rpc.server import RpcServer, server_options, serving
from assetlane_server.rpc.upload_servicer import UploadServicer
from assetlane_server.rpc.web.server import WebTerms
from assetlane_server.telemetry.instruments import Instruments
from assetlane_server.telemetry.metrics import Metrics

PAGE = "https://app.example"
HOSTS = ("127.0.0.1", "localhost")


class Uploads(UploadServiceServicer):
    """Keeps what it was asked.

    A watch of `long` sends events of 64 KiB without an end, of `quiet` one and waits, of `junk` what is no message.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.open = 0
        self.changed = asyncio.Event()
        self.ending = asyncio.Event()

    def _note(self, change: int) -> None:
        self.open += change
        self.changed.set()
        self.changed = asyncio.Event()

    async def until_open(self, count: int) -> None:
        """Waits until so many watches are open."""
        while self.open != count:
            await self.changed.wait()

    async def RequestUpload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns what it was asked for."""
        self.requests.append(request)
        return RequestUploadResponse(upload=Upload(upload_id="u1", file_path=request.file_path))

    async def GetUpload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns it, but for `gone`; `slow` takes for ever."""
        self.requests.append(request)
        if request.upload_id == "gone":
            raise UploadNotFound(request.upload_id)
        if request.upload_id == "slow":
            self._note(1)
            try:
                await self.ending.wait()
            finally:
                self._note(-1)
        return GetUploadResponse(upload=Upload(upload_id=request.upload_id))

    async def CancelUpload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns it."""
        self.requests.append(request)
        return CancelUploadResponse(upload=Upload(upload_id=request.upload_id))

    async def ListUploads(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns what it was asked for."""
        self.requests.append(request)
        return ListUploadsResponse(next_page_token=request.page_token)

    async def WatchUpload(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """See the class."""
        self.requests.append(request)
        self._note(1)
        try:
            match request.upload_id or request.session_id:
                case "gone":
                    raise UploadNotFound("gone")
                case "breaks":
                    yield WatchUploadResponse(heartbeat=Heartbeat())
                    raise ShuttingDown
                case "three":
                    for _ in range(3):
                        yield WatchUploadResponse(heartbeat=Heartbeat())
                case "junk":
                    yield WatchUploadResponse(heartbeat=Heartbeat())
                    yield "junk"
                case "long":
                    big = WatchUploadResponse()
                    big.status.upload.file_path = "x" * 65536
                    while True:
                        yield big
                case _:
                    yield WatchUploadResponse(heartbeat=Heartbeat())
                    await self.ending.wait()
                    raise ShuttingDown
        finally:
            self._note(-1)


class Assets(AssetServiceServicer):
    """Answers with what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    async def GetAsset(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns an asset with a number that JSON cannot hold as a double."""
        self.requests.append(request)
        return GetAssetResponse(asset=Asset(asset_id=request.asset_id, revision=2**53 + 1))

    async def ListAssets(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns 4 MiB of assets."""
        self.requests.append(request)
        return ListAssetsResponse(assets=[Asset(asset_id="y" * 65536)] * 64)

    async def WatchAssets(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Two events with their tokens."""
        self.requests.append(request)
        synced = WatchAssetsResponse(resume_token="t1")
        synced.synced.SetInParent()
        yield synced
        yield WatchAssetsResponse(resume_token="t2", heartbeat=Heartbeat())


class Served:
    """A server, its services, and how to reach its web port."""

    def __init__(self, server: RpcServer, uploads: Uploads, assets: Assets, metrics: Metrics, scheme: str) -> None:
        assert server.web is not None
        self.server = server
        self.web = server.web
        self.uploads = uploads
        self.assets = assets
        self.metrics = metrics
        self.port = server.web.port
        self.url = f"{scheme}://127.0.0.1:{self.port}"


def terms(**changes: Any) -> WebTerms:
    """Returns the terms of a web port."""
    standard: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "origins": (PAGE,),
        "hosts": HOSTS,
        "max_message_bytes": 2**17,
        "max_connections": 6000,
        "head_seconds": 20.0,
        "silent_seconds": 60.0,
        "handshake_seconds": 20.0,
        "shares_port": False,
    }
    return WebTerms(**{**standard, **changes})


@asynccontextmanager
async def web_server(
    *, authenticator: Any = None, tls: Any = None, limits: dict[str, Any] | None = None, **changes: Any
) -> AsyncIterator[Served]:
    """Serves; `changes` are of the terms of the web port."""
    metrics = Metrics()
    uploads = Uploads()  # type: ignore[abstract]  # some methods are enough
    assets = Assets()  # type: ignore[abstract]
    standard = {"max_calls": 1000, "max_watches": 10_000, "max_watches_per_uid": 10_000, "max_message_bytes": 2**17}
    async with serving(
        cast(UploadServicer, uploads),
        cast(AssetServicer, assets),
        listen="127.0.0.1:0",
        authenticator=authenticator or Anonymous(),
        credentials=None,
        is_reflecting=False,
        limits=Limits(**{**standard, **(limits or {})}),
        observer=Instruments(metrics, None),
        options=server_options(max_message_bytes=2**17, keepalive_seconds=30, shares_port=False),
        web=terms(**changes),
        tls=tls,
    ) as server:
        server.say_serving(is_serving=True)
        yield Served(server, uploads, assets, metrics, "http" if tls is None else "https")


@pytest.fixture
async def gateway() -> AsyncIterator[Served]:
    """A web gateway."""
    async with web_server() as served:
        yield served


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client over HTTP."""
    async with aiohttp.ClientSession(auto_decompress=False) as one:
        yield one
