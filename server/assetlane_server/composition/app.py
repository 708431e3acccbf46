"""The composition root: the only file that knows everything. Starts in order, stops in reverse."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from ulid import ULID

from assetlane_server.composition.observability import observability, opened_audit_log
from assetlane_server.composition.security import quota_enforcer, security
from assetlane_server.composition.use_cases import UseCases, use_cases
from assetlane_server.config.settings import Settings, default_hosts
from assetlane_server.images.worker import Route
from assetlane_server.images.workers import CuttingLimits, PictureWorkers, can_cut
from assetlane_server.model.errors import NotReady, StoreUnavailable
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.objects.bucket import BucketPlan, SetupStep, set_up
from assetlane_server.objects.probe import StoreTerms, check_store
from assetlane_server.objects.s3.settings import S3Settings
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.ports.meter import UNMETERED, Meter
from assetlane_server.records.hub import Hub
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.rpc.access_servicer import AccessServicer
from assetlane_server.rpc.asset_servicer import AssetServicer
from assetlane_server.rpc.auditing import Auditor
from assetlane_server.rpc.limits import Limits
from assetlane_server.rpc.server import RpcServer, server_options, serving
from assetlane_server.rpc.upload_servicer import UploadServicer
from assetlane_server.rpc.web.server import WebTerms
from assetlane_server.uploads.asset_watches import AssetWatches
from assetlane_server.uploads.scoped_tokens import AccessTokens
from assetlane_server.uploads.server_cuts import ServerCuts
from assetlane_server.uploads.status_changes import StatusChanges
from assetlane_server.uploads.sweeper import Sweeper
from assetlane_server.uploads.upload_watches import UploadWatches

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_log = logging.getLogger(__name__)
_PROGRESS_INTERVAL = timedelta(milliseconds=300)  # between two writes of one upload's progress
_DEAF_AFTER_S = 10.0  # silence of the change stream after which watchers are better served elsewhere
_HEALTH_INTERVAL_S = 1.0
_CLOCK_STEP_S = 0.05  # the loop's clock stands still while it works


class Application:
    """A server that takes calls. `port` is the one in use."""

    def __init__(
        self,
        server: RpcServer,
        hub: Hub,
        cases: UseCases,
        changes: StatusChanges,
        grace_seconds: float,
        deaf_after_s: float,
    ) -> None:
        self._deaf_after_s = deaf_after_s
        self._server = server
        self._hub = hub
        self._cases = cases
        self._changes = changes
        self._grace_seconds = grace_seconds

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    @property
    def web_port(self) -> int | None:
        """The port that the web gateway listens on, None without one."""
        return None if self._server.web is None else self._server.web.port

    async def report_health(self) -> None:
        """Sends callers here once the change stream is open, and while it answers; runs until cancelled."""
        await self._hub.opened()
        while True:
            self._server.say_serving(is_serving=self._hub.silence_seconds < self._deaf_after_s)
            await asyncio.sleep(_HEALTH_INTERVAL_S)

    async def drain(self) -> None:
        """Sends watchers elsewhere and finishes what is in flight, within the grace period; cuts off the rest."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._grace_seconds
        self._server.say_stopping()
        self._hub.close()  # before the server stops: it would wait its whole grace for an open watch
        await self._server.stop(self._grace_seconds)
        if loop.time() >= ends_at - _CLOCK_STEP_S:
            more = {"event_code": "CALLS_CANCELLED"}
            _log.warning("calls were still in flight at the end of the grace period: cancelled", extra=more)
        try:
            async with asyncio.timeout_at(ends_at):
                await self._cases.finish()
                await self._changes.finish()  # what these calls gave back
        except TimeoutError:
            more = {"event_code": "COMPLETIONS_CANCELLED"}
            _log.warning("completions were still running at the end of the grace period: cancelled", extra=more)


@asynccontextmanager
async def application(
    settings: Settings,
    *,
    shares_port: bool = False,
    spans: "SpanExporter | None" = None,
    deaf_after_s: float = _DEAF_AFTER_S,
) -> AsyncIterator[Application]:
    """Serves until the block ends, which drains it. Raises NotReady, saying what to fix.

    When a part of it breaks, the block is cancelled and the whole raises. With `shares_port` others may listen
    on the same one. With `spans` traces go there. After `deaf_after_s` without an answer of the change stream it
    says that it does not serve.
    """
    async with (
        observability(settings, spans=spans) as sight,
        MongoRecords.open(
            settings.mongo_uri.get_secret_value(),
            settings.mongo_database,
            call_timeout=timedelta(seconds=settings.mongo_timeout_seconds),
            meter=sight.instruments,
        ) as records,
        object_store(settings, sight.instruments) as store,
        security(settings, utc_now, records.rings) as guard,
        opened_audit_log(settings) as audit_log,
    ):
        await check_store(store, settings.key_prefix, store_terms(settings), utc_now)
        meter = sight.instruments
        # By the ledger's clock: a claim's age is judged by other servers than the one that made it.
        upload_quotas = quota_enforcer(settings, records, records.quotas, records.clock.utc)
        changes = StatusChanges(records, upload_quotas, meter)
        signer = TokenSigner(records.token_key)
        hub = Hub(records, meter)
        heartbeat = timedelta(seconds=settings.heartbeat_seconds)
        upload_watches = UploadWatches(uploads=records, hub=hub, heartbeat=heartbeat)
        asset_watches = AssetWatches(assets=records, hub=hub, signer=signer, heartbeat=heartbeat)
        cases = use_cases(
            records=records,
            changes=changes,
            store=store,
            server_cuts=server_cuts(settings, records, store, utc_now, meter),
            terms=replace(settings.terms, can_cut=can_cut),
            signer=signer,
            new_id=records.clock.new_id,
            now=utc_now,
            progress_interval=_PROGRESS_INTERVAL,
        )
        tokens = AccessTokens(records, guard.signer, utc_now)
        sweeper = Sweeper(
            records=records,
            changes=changes,
            store=store,
            completions=cases.completions,
            interval=timedelta(seconds=settings.sweep_seconds),
            now=utc_now,
            meter=meter,
        )
        async with (
            serving(
                UploadServicer(
                    cases.requests, cases.completions, cases.uploads, cases.parts, upload_watches, cases.urls, tokens
                ),
                AssetServicer(cases.assets, asset_watches, cases.urls),
                AccessServicer(tokens),
                listen=settings.listen,
                authenticator=guard.authenticator,
                credentials=guard.tls.credentials if guard.tls else None,
                is_reflecting=settings.reflection,
                limits=Limits(
                    max_calls=settings.max_calls,
                    max_watches=settings.max_watches,
                    max_watches_per_uid=settings.max_watches_per_uid,
                    max_message_bytes=settings.max_message_bytes,
                    max_probes=settings.max_probes,
                    request_seconds=settings.request_seconds,
                ),
                observer=sight.instruments,
                auditor=Auditor(audit_log, utc_now),
                options=server_options(
                    max_message_bytes=settings.max_message_bytes,
                    keepalive_seconds=settings.keepalive_seconds,
                    shares_port=shares_port,
                    min_ping_seconds=settings.min_ping_seconds,
                    handshake_seconds=settings.handshake_seconds,
                    max_connections=settings.max_connections,
                    max_streams_per_connection=settings.max_streams_per_connection,
                ),
                web=web_terms(settings, shares_port=shares_port),
                tls=guard.tls,
            ) as server,
            sight.endpoint(settings, silence_seconds=lambda: hub.silence_seconds, is_serving=lambda: server.is_serving),
            asyncio.TaskGroup() as tasks,
        ):
            app = Application(server, hub, cases, changes, settings.grace_seconds, deaf_after_s)
            tasks.create_task(_essential("hub", hub.run), name="hub")
            tasks.create_task(_essential("gRPC server", server.run), name="server")
            tending = [tasks.create_task(_essential("sweeper", sweeper.run), name="sweeper")]
            if upload_quotas is not None:
                healing = partial(upload_quotas.run, timedelta(seconds=settings.sweep_seconds))
                tending.append(tasks.create_task(_essential("quotas", healing), name="quotas"))
            watching_files = [
                tasks.create_task(_essential(name, part.run), name=name)
                for name, part in (
                    ("token keys", guard.keyring),
                    ("policy", guard.policy),
                    ("rings of keys", guard.rings),
                    ("certificates", guard.tls),
                )
                if part is not None
            ]
            reporting_health = tasks.create_task(app.report_health(), name="health")
            try:
                yield app
            finally:
                for task in tending:
                    task.cancel()
                await app.drain()
                for task in (reporting_health, *watching_files):
                    task.cancel()


def web_terms(settings: Settings, *, shares_port: bool) -> WebTerms | None:
    """Returns what the settings say about the web port, None where there is none."""
    if settings.web_listen is None:
        return None
    return WebTerms(
        listen=settings.web_listen,
        origins=settings.web_origins,
        hosts=settings.web_hosts or default_hosts(settings.web_listen),
        max_message_bytes=settings.max_message_bytes,
        max_connections=settings.max_connections,
        head_seconds=settings.request_seconds,
        silent_seconds=2 * settings.keepalive_seconds,
        handshake_seconds=settings.handshake_seconds,
        shares_port=shares_port,
    )


def store_terms(settings: Settings) -> StoreTerms:
    """Returns what the settings want of the store, and accept."""
    return StoreTerms(
        accept_overwrites=settings.accept_overwrites,
        accept_unsigned_headers=settings.accept_unsigned_headers,
        public_assets=settings.public_assets,
        has_public_base_url=settings.public_base_url is not None,
        ask_for_races=settings.store_probe == "full",
    )


async def set_up_bucket(settings: Settings, *, allow_public_policy: bool = False) -> tuple[SetupStep, ...]:
    """Makes the bucket, its policy, CORS and lifecycle what the settings want. Raises NotReady.

    With `allow_public_policy` the bucket's Block Public Access is lifted as far as its policy needs.
    """
    plan = BucketPlan(
        prefix=settings.key_prefix,
        # A base URL of one's own is a CDN's, and a CDN has a right of its own to read.
        public_read=settings.public_assets and settings.public_base_url is None,
        allow_public_policy=allow_public_policy,
        browser_origins=settings.cors_origins,
        abort_multipart_after_days=settings.abort_multipart_days,
    )
    async with object_store(settings) as store:
        try:
            return await set_up(store.connection, plan)
        except StoreUnavailable as error:
            raise NotReady(f"the object store cannot be set up: {error}") from error


@asynccontextmanager
async def object_store(settings: Settings, meter: Meter = UNMETERED) -> AsyncIterator[S3ObjectStore]:
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
            sse_kms_key_id=settings.s3_sse_kms_key_id or "",
            call_timeout=timedelta(seconds=settings.s3_timeout_seconds),
        ),
        meter,
    )
    try:
        store = await opening.__aenter__()
    except StoreUnavailable as error:
        raise NotReady(str(error)) from error
    try:
        yield store
    finally:
        await opening.__aexit__(*sys.exc_info())


def server_cuts(
    settings: Settings,
    records: MongoRecords,
    store: S3ObjectStore,
    now: Callable[[], datetime],
    meter: Meter = UNMETERED,
) -> ServerCuts:
    """Returns where cuts are made, within the settings' limits."""
    limits = CuttingLimits(
        workers=settings.cut_workers,
        cpu_time=timedelta(seconds=settings.cut_seconds),
        time=timedelta(seconds=settings.cut_wall_seconds),
        memory_bytes=settings.cut_memory_bytes,
        max_pixels=settings.cut_max_pixels,
    )
    return ServerCuts(
        cutter=PictureWorkers(limits, Route(store.connection.route.ca_bundle, store.connection.route.proxy)),
        store=store,
        records=records,
        at_once=settings.cut_workers,
        now=now,
        can_cut=can_cut,
        max_bytes=settings.cut_max_bytes,
        meter=meter,
    )


async def _essential(name: str, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a part without which the server would be half alive: when it breaks, the server ends, loudly."""
    try:
        await part()
    except Exception:
        failed = {"event_code": "PART_FAILED", "part": name}
        _log.critical("the %s failed: this server ends", name, exc_info=True, extra=failed)
        raise


def utc_now() -> datetime:
    """Returns the instant, to the millisecond: what MongoDB keeps of it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def new_id() -> str:
    """Returns an id for an upload and its asset: 26 characters, ordered by creation, 80 bits of chance."""
    return str(ULID()).lower()
