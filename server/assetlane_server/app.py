"""The composition root: the only file that knows everything. Starts in order, stops in reverse."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from ulid import ULID

from assetlane_server.config import Settings
from assetlane_server.objects.bucket import BucketPlan, SetupStep
from assetlane_server.objects.probe import check_store
from assetlane_server.objects.s3 import S3ObjectStore
from assetlane_server.objects.settings import S3Settings
from assetlane_server.records.hub import Hub
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.rpc.asset_servicer import AssetServicer
from assetlane_server.rpc.server import RpcServer, serving
from assetlane_server.rpc.upload_servicer import UploadServicer
from assetlane_server.uploads.broker import UploadBroker
from assetlane_server.uploads.errors import NotReady, StoreUnavailable
from assetlane_server.uploads.lanes import Lanes
from assetlane_server.uploads.ledger import AssetLedger
from assetlane_server.uploads.progress import ProgressBoard
from assetlane_server.uploads.sweeper import Sweeper
from assetlane_server.uploads.watching import AssetWatches

_log = logging.getLogger(__name__)
_SECOND_SIGNAL_STATUS = 130
_PROGRESS_INTERVAL = timedelta(milliseconds=300)  # between two writes of one upload's progress


class Application:
    """A server that takes calls. `port` is the one in use."""

    def __init__(self, server: RpcServer, hub: Hub, broker: UploadBroker, grace_seconds: float) -> None:
        self._server = server
        self._hub = hub
        self._broker = broker
        self._grace_seconds = grace_seconds

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    async def drain(self) -> None:
        """Sends watchers elsewhere and finishes the calls in flight, within the grace period."""
        await self._server.say_not_serving()
        self._hub.close()  # before the server stops: it would wait its whole grace for an open watch
        await self._server.stop(self._grace_seconds)
        try:
            async with asyncio.timeout(self._grace_seconds):
                await self._broker.finish()
        except TimeoutError:
            _log.warning("completions were still under way at the end of the grace period")


@asynccontextmanager
async def application(settings: Settings) -> AsyncIterator[Application]:
    """Serves until the block ends, which drains it. Raises NotReady, saying what to mend."""
    async with (
        MongoRecords.open(
            settings.mongo_uri.get_secret_value(),
            settings.mongo_database,
            call_timeout=timedelta(seconds=settings.mongo_timeout_seconds),
        ) as records,
        object_store(settings) as store,
    ):
        await check_store(store, settings.key_prefix, settings.accept_overwrites, utc_now)
        hub = Hub(records, utc_now)
        heartbeat = timedelta(seconds=settings.heartbeat_seconds)
        lanes = Lanes(store)
        ledger = AssetLedger(assets=records, store=store, lanes=lanes, now=utc_now)
        watches = AssetWatches(assets=records, hub=hub, heartbeat=heartbeat, now=utc_now)
        broker = UploadBroker(
            uploads=records,
            assets=records,
            store=store,
            hub=hub,
            lanes=lanes,
            board=ProgressBoard(records, _PROGRESS_INTERVAL),
            terms=settings.terms,
            heartbeat=heartbeat,
            new_id=new_id,
            now=utc_now,
        )
        sweeper = Sweeper(
            records=records,
            uploads=records,
            store=store,
            broker=broker,
            interval=timedelta(seconds=settings.sweep_seconds),
            now=utc_now,
        )
        async with (
            serving(
                UploadServicer(broker, lanes),
                AssetServicer(ledger, watches, lanes),
                listen=settings.listen,
                max_message_bytes=settings.max_message_bytes,
            ) as server,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(hub.run(), name="hub")
            sweeping = tasks.create_task(sweeper.run(), name="sweeper")
            app = Application(server, hub, broker, settings.grace_seconds)
            try:
                yield app
            finally:
                sweeping.cancel()
                await app.drain()


async def serve(settings: Settings, on_ready: Callable[[int], None] = lambda port: None) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once.

    `on_ready` is told the port. Raises NotReady.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            _log.warning("second signal: ending at once")
            sys.stderr.flush()
            os._exit(_SECOND_SIGNAL_STATUS)
        _log.info("signal: draining for up to %g s; a second one ends at once", settings.grace_seconds)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with application(settings) as app:
        _log.info("serving on %s", settings.listen.rpartition(":")[0] + f":{app.port}")
        on_ready(app.port)
        await stop.wait()
    _log.info("stopped")


async def set_up_bucket(settings: Settings) -> tuple[SetupStep, ...]:
    """Makes the bucket, its policy, CORS and lifecycle what the settings want. Raises NotReady."""
    plan = BucketPlan(
        prefix=settings.key_prefix,
        # A base URL of one's own is a CDN's, and a CDN has a right of its own to read.
        public_read=settings.public_base_url is None,
        browser_origins=settings.cors_origins,
    )
    async with object_store(settings) as store:
        try:
            return await store.set_up(plan)
        except StoreUnavailable as error:
            raise NotReady(f"the object store cannot be set up: {error}") from error


@asynccontextmanager
async def object_store(settings: Settings) -> AsyncIterator[S3ObjectStore]:
    """Opens the store that the settings name. Raises NotReady when there are no credentials for it."""
    addressing = settings.s3_addressing
    if addressing == "auto":
        addressing = "virtual" if settings.s3_endpoint is None else "path"
    key_id, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    opening = S3ObjectStore.open(
        S3Settings(
            bucket=settings.s3_bucket,
            region=settings.s3_region,
            endpoint=settings.s3_endpoint or "",
            public_endpoint=settings.s3_public_endpoint or "",
            access_key_id=key_id.get_secret_value() if key_id else "",
            secret_access_key=secret.get_secret_value() if secret else "",
            addressing=addressing,
            public_base_url=settings.public_base_url or "",
            pool_size=settings.s3_pool_size,
            call_timeout=timedelta(seconds=settings.s3_timeout_seconds),
        )
    )
    try:
        store = await opening.__aenter__()
    except StoreUnavailable as error:
        raise NotReady(str(error)) from error
    try:
        yield store
    finally:
        await opening.__aexit__(*sys.exc_info())


def utc_now() -> datetime:
    """Returns the instant, to the millisecond: what MongoDB keeps of it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def new_id() -> str:
    """Returns an id for an upload and its asset: 26 characters, ordered by creation, 80 bits of chance."""
    return str(ULID()).lower()
