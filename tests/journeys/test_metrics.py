"""What Prometheus reads of a server that is at work."""

import asyncio
import re
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import grpc
import pytest
from tests.access.tokens import Issuer
from tests.journeys.conftest import Stubs
from tests.journeys.guarded import guarded
from tests.journeys.scraping import HERE, Scrape, addresses, health, scraped
from tests.journeys.steps import BODY, put, request_for
from tests.journeys.test_server_cuts import REQUIRED, completed, picture
from tests.processes import command, until
from tests.records.stores import drop, failing
from tests.servers import LIMIT_S, prepare_bucket, served, settings_for
from tests.uploads.samples import requested

from assetlane.v1.upload_service_pb2 import (
    CompleteUploadRequest,
    GetUploadRequest,
    ListUploadsRequest,
    WatchUploadRequest,
)
from assetlane_server.composition.app import utc_now
from assetlane_server.config.settings import Settings
from assetlane_server.local import StackAddress
from assetlane_server.records.mongo import MongoRecords

CALLS = "assetlane_calls_total"


def metered(settings: Settings, **changes: object) -> Settings:
    """Returns the settings of a server that has metrics."""
    return settings.model_copy(update={"metrics_listen": HERE, **changes})


async def once(address: str, is_so: Callable[[Scrape], bool]) -> Scrape:
    """Returns the first reading of which something is so."""
    async with asyncio.timeout(LIMIT_S):
        while not is_so(found := await scraped(address)):  # noqa: ASYNC110 - a server is no event
            await asyncio.sleep(0.05)
    return found


async def test_every_call_upload_and_outside_operation_is_counted(
    settings: Settings, web: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """One upload, one call that is refused, one watch: exact numbers."""
    caplog.set_level("INFO")
    async with served(metered(settings)) as target, grpc.aio.insecure_channel(target) as channel:
        stubs, (address,) = Stubs.on(channel), addresses(caplog)
        reply = await stubs.uploads.RequestUpload(request_for())
        upload_id = reply.upload.upload_id
        watch = stubs.uploads.WatchUpload(WatchUploadRequest(upload_id=upload_id))
        await watch.read()
        open_watches = await scraped(address)
        assert open_watches.value("assetlane_watches_open", method="UploadService/WatchUpload") == 1
        assert await put(web, reply.write_targets[0]) == 200
        await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=upload_id))
        while await watch.read() is not grpc.aio.EOF:
            continue
        with pytest.raises(grpc.aio.AioRpcError):
            await stubs.uploads.GetUpload(GetUploadRequest(upload_id="nobody"))
        found = await scraped(address)
        assert await health(address) == (200, "SERVING")

    assert {key: found.value(CALLS, method=f"UploadService/{key[0]}", code=key[1]) for key in CALLED} == CALLED
    assert found.value(CALLS) == sum(CALLED.values())
    # Watches live for hours: they would be in the last bucket.
    assert found.labels("assetlane_call_seconds_count", "method") == {
        f"UploadService/{name}" for name in ("RequestUpload", "CompleteUpload", "GetUpload")
    }
    assert found.value("assetlane_calls_in_flight") == 0
    assert found.value("assetlane_watches_open") == 0
    for status in ("PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"):
        assert found.value("assetlane_uploads_total", status=status, reason="") == 1
    assert found.value("assetlane_promised_bytes_total") == len(BODY)
    assert found.value("assetlane_completed_bytes_total") == len(BODY)
    assert found.value("assetlane_mongodb_call_seconds_count", operation="insert uploads", outcome="ok") == 1
    assert found.value("assetlane_mongodb_call_seconds_count", operation="update uploads", outcome="ok") == 1
    assert found.value("assetlane_s3_call_seconds_count", operation="look at an object", outcome="ok") >= 1
    assert found.value("assetlane_hub_delivery_seconds_count") >= 1
    assert found.value("assetlane_hub_silence_seconds") < 10
    assert found.value("assetlane_build_info") == 1
    assert found.value("process_open_fds") > 0


CALLED = {
    ("RequestUpload", "OK"): 1,
    ("WatchUpload", "OK"): 1,
    ("CompleteUpload", "OK"): 1,
    ("GetUpload", "NOT_FOUND"): 1,
}


async def test_no_metric_says_who_or_what(
    settings: Settings, web: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a user nor an upload is a label: they would be without number, and Prometheus has no policy."""
    caplog.set_level("INFO")
    async with served(metered(settings)) as target, grpc.aio.insecure_channel(target) as channel:
        stubs, (address,) = Stubs.on(channel), addresses(caplog)
        reply = await stubs.uploads.RequestUpload(request_for(uid="secret-person", session_id="secret-phone"))
        with pytest.raises(grpc.aio.AioRpcError):
            await stubs.uploads.GetUpload(GetUploadRequest(upload_id="secret-id"))
        async with web.get(f"{address}/metrics") as response:
            text = await response.text()
    assert 'code="NOT_FOUND"' in text
    assert not any(word in text for word in ("secret", reply.upload.upload_id, settings.key_prefix))


async def test_callers_without_a_token_and_those_who_hang_up_are_counted(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """UNAUTHENTICATED, CANCELLED: and no place is left taken."""
    caplog.set_level("INFO")
    issuer = Issuer()
    async with (
        served(guarded(metered(settings), tmp_path, issuer)) as target,
        grpc.aio.insecure_channel(target) as channel,
    ):
        stubs, (address,) = Stubs.on(channel), addresses(caplog)
        with pytest.raises(grpc.aio.AioRpcError):
            await stubs.uploads.ListUploads(ListUploadsRequest())
        metadata = (("authorization", f"Bearer {issuer.token()}"),)
        watch = stubs.uploads.WatchUpload(WatchUploadRequest(session_id="phone"), metadata=metadata)
        await once(address, lambda found: found.value("assetlane_watches_open") == 1)
        watch.cancel()
        found = await once(address, lambda found: found.value("assetlane_watches_open") == 0)
    assert found.value(CALLS, method="UploadService/ListUploads", code="UNAUTHENTICATED") == 1
    assert found.value(CALLS, method="UploadService/WatchUpload", code="CANCELLED") == 1


async def test_cuts_are_timed_and_refused_ones_counted_by_reason(
    settings: Settings, web: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """A picture, and one that only looks like one."""
    caplog.set_level("INFO")
    async with served(metered(settings)) as target, grpc.aio.insecure_channel(target) as channel:
        stubs, (address,) = Stubs.on(channel), addresses(caplog)
        await completed(stubs, web, picture())
        broken = await completed(stubs, web, picture()[:600], plan=REQUIRED)
        found = await scraped(address)
    reason = broken.upload.failure.reason
    assert reason
    assert found.value("assetlane_cut_seconds_count", outcome="ok") == 1
    assert found.value("assetlane_cut_seconds_count", outcome=reason) == 1
    assert found.value("assetlane_uploads_total", status="FAILED", reason=reason) == 1
    assert found.value("assetlane_cuts_waiting") == 0


async def test_what_the_sweeper_settles_is_counted_by_kind(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """An upload whose server died before it signed anything."""
    caplog.set_level("INFO")
    now = utc_now()
    abandoned = replace(requested(), create_time=now, expire_time=now + timedelta(hours=1), sweep_time=now)
    async with MongoRecords.open(
        settings.mongo_uri.get_secret_value(), settings.mongo_database, call_timeout=timedelta(seconds=10)
    ) as records:
        await records.insert_upload(abandoned)
    async with served(metered(settings, sweep_seconds=0.05)):
        (address,) = addresses(caplog)
        found = await once(address, lambda found: found.value("assetlane_swept_total") > 0)
    assert found.value("assetlane_swept_total", kind="pending", outcome="ok") == 1
    assert found.value("assetlane_sweep_seconds_count", outcome="ok") >= 1
    assert found.value("assetlane_uploads_total", status="FAILED", reason="ABANDONED") == 1


@pytest.mark.faults
async def test_a_lost_change_stream_and_a_ledger_that_fails_are_counted(
    settings: Settings, stack: StackAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """Restarts rise, operations fail by name, calls end UNAVAILABLE."""
    caplog.set_level("INFO")
    name = f"metrics-{settings.mongo_database}"
    separator = "&" if "?" in stack.mongo_uri else "/?"
    unreliable = settings_for(
        stack, settings.mongo_database, settings.key_prefix,
        mongo_uri=f"{stack.mongo_uri}{separator}appName={name}", metrics_listen=HERE, mongo_timeout_seconds=2,
    )  # fmt: skip
    async with served(unreliable) as target, grpc.aio.insecure_channel(target) as channel:
        (address,) = addresses(caplog)
        async with failing(stack.mongo_uri, name, ["getMore", "aggregate", "find"], errorCode=286):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await Stubs.on(channel).uploads.ListUploads(ListUploadsRequest(uid="7f3a"))
            found = await once(address, lambda found: found.value("assetlane_hub_restarts_total") > 0)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert found.value(CALLS, method="UploadService/ListUploads", code="UNAVAILABLE") == 1
    assert found.value("assetlane_mongodb_call_seconds_count", operation="find uploads", outcome="failed") >= 1


async def test_the_sums_over_all_workers_are_right_also_after_one_was_replaced(
    stack: StackAddress, database_name: str, key_prefix: str
) -> None:
    """A port per worker: what is summed up over all of them is every call, once, wherever it went."""
    place = {"mongo_database": database_name, "key_prefix": key_prefix}
    await prepare_bucket(settings_for(stack, database_name, key_prefix))
    async with command(stack, "serve", "--workers", "2", metrics_listen=HERE, **place) as server:
        target = await server.serves("WORKERS_SERVE")
        first, second = addresses(server.log)
        assert first != second

        async def count(calls: int) -> None:
            """Makes calls on connections of their own, so that both workers get some."""
            async with AsyncExitStack() as channels:
                for number in range(calls):
                    options = [("grpc.use_local_subchannel_pool", 1)]
                    channel = await channels.enter_async_context(grpc.aio.insecure_channel(target, options=options))
                    await Stubs.on(channel).uploads.ListUploads(ListUploadsRequest(uid=f"u{number}"), timeout=LIMIT_S)

        await count(24)
        readings = [await scraped(address) for address in (first, second)]
        assert all(reading.value(CALLS) > 0 for reading in readings)
        assert sum(reading.value(CALLS, code="OK") for reading in readings) == 24

        server.workers()[0].kill()
        await until(lambda: len(addresses(server.log)) == 3)
        found = addresses(server.log)
        alive = []
        for address in found:
            try:
                alive.append((address, (await scraped(address)).value(CALLS)))
            except aiohttp.ClientConnectionError:
                continue
        assert len(alive) == 2
        # The new one counts from nothing, which Prometheus knows by its series, and the other one goes on.
        assert [count for address, count in alive if address == found[2]] == [0]
        before = sum(count for _, count in alive)
        await count(8)
        assert sum([(await scraped(address)).value(CALLS) for address, _ in alive]) == before + 8
        server.signal(signal.SIGTERM)
        assert await server.ends() == 0
    await drop(stack.mongo_uri, database_name)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_metrics_port_in_use_is_reported_in_one_sentence(
    stack: StackAddress, database_name: str, key_prefix: str, workers: int
) -> None:
    """With the setting to look at; half of the metrics would be worth nothing."""
    place = {"mongo_database": database_name, "key_prefix": key_prefix, "workers": workers}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with command(stack, "serve", **place, metrics_listen=f"127.0.0.1:{port}") as server:
            assert await server.ends() == 1
    # The second worker takes the port after it, which another program may have.
    listen = rf"127\.0\.0\.1:({port}|{port + 1})"
    assert re.search(f"assetlane-server: ASSETLANE_METRICS_LISTEN: cannot listen on {listen}", server.log)
    assert "Traceback" not in server.log
    await drop(stack.mongo_uri, database_name)
