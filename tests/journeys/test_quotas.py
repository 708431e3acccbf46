"""Quotas as callers meet them, on a real server and real stores."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import aiohttp
import grpc
import pytest
from google.protobuf.message import Message
from tests.access.tokens import Issuer
from tests.journeys.conftest import Stubs
from tests.journeys.guarded import guarded, guarded_server
from tests.journeys.lanes import BODY, RpcFailure, put, request_for
from tests.journeys.scraping import HERE, addresses, scraped
from tests.records.stores import failing
from tests.refusals import numbers_in, raises
from tests.servers import LIMIT_S, served
from tests.uploads.samples import requested

from assetlane import Client, ResourceExhausted
from assetlane.v1 import asset_service_pb2 as assets
from assetlane.v1 import upload_service_pb2 as uploads
from assetlane_server.access.quotas import claim_of
from assetlane_server.composition.app import new_id, utc_now
from assetlane_server.composition.security import quota_enforcer
from assetlane_server.config.settings import Settings
from assetlane_server.model.quotas import Claim, QuotaLimit
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.status_changes import StatusChanges

HOUR = timedelta(hours=1)
ANN = "uid:7f3a"


@asynccontextmanager
async def server(settings: Settings, **quotas: Any) -> AsyncIterator[Stubs]:
    """Serves with quotas."""
    limited = settings.model_copy(update=quotas)
    async with served(limited) as target, grpc.aio.insecure_channel(target) as channel:
        yield Stubs.on(channel)


@asynccontextmanager
async def ledger(settings: Settings) -> AsyncIterator[MongoRecords]:
    """Opens the records past the server."""
    uri = settings.mongo_uri.get_secret_value()
    async with MongoRecords.open(uri, settings.mongo_database, call_timeout=timedelta(seconds=10)) as records:
        yield records


def clock(ahead: timedelta) -> Callable[[], datetime]:
    """Returns a clock that is so far ahead."""
    return lambda: utc_now() + ahead


async def counted(settings: Settings, subject: str = ANN) -> tuple[int, int]:
    """Returns how many uploads and bytes the account says are open."""
    async with ledger(settings) as records:
        account = await records.quotas.find_account(subject)
    return (0, 0) if account is None else (account.balance.open_uploads, account.balance.open_bytes)


async def refusal(stubs: Stubs, request: uploads.RequestUploadRequest) -> RpcFailure:
    """Returns what a request is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stubs.uploads.RequestUpload(request, timeout=20)
    return RpcFailure(refused.value)


async def test_an_owner_at_the_limit_is_refused_until_an_upload_ends(
    settings: Settings, web: aiohttp.ClientSession
) -> None:
    """However it ends; others are not concerned, and nothing is stored for what was refused."""
    async with server(settings, quota_uid_uploads=2) as stubs:
        first, second = [await stubs.uploads.RequestUpload(request_for()) for _ in range(2)]
        failure = await refusal(stubs, request_for())
        assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_UPLOADS")
        assert {subject: numbers_in(limit) for subject, limit in failure.quotas.items()} == {ANN: {2}}
        assert failure.retry_after_s is not None
        await stubs.uploads.RequestUpload(request_for(uid="8"))
        assert len((await stubs.uploads.ListUploads(uploads.ListUploadsRequest(uid="7f3a"))).uploads) == 2

        await stubs.uploads.CancelUpload(uploads.CancelUploadRequest(upload_id=first.upload.upload_id))
        third = await stubs.uploads.RequestUpload(request_for())
        await refusal(stubs, request_for())
        for reply in (second, third):
            assert await put(web, reply.write_targets[0]) == 200
            await stubs.uploads.CompleteUpload(uploads.CompleteUploadRequest(upload_id=reply.upload.upload_id))
    assert await counted(settings) == (0, 0)


async def test_a_repeated_request_counts_once_and_is_never_refused(settings: Settings) -> None:
    """Also when the account is full, and when the upload has long ended."""
    async with server(settings, quota_uid_uploads=1, quota_partition_uploads=1) as stubs:
        request = request_for(request_id="r-1")
        upload_ids = {(await stubs.uploads.RequestUpload(request)).upload.upload_id for _ in range(3)}
        assert await counted(settings) == await counted(settings, "partition:user/7f3a") == (1, len(BODY))
        (upload_id,) = upload_ids
        other = request_for({"original": b"other"}, request_id="r-1")
        assert (await refusal(stubs, other)).reason == "REQUEST_ID_REUSED"
        assert await counted(settings) == (1, len(BODY))
        await stubs.uploads.CancelUpload(uploads.CancelUploadRequest(upload_id=upload_id))
        await stubs.uploads.RequestUpload(request_for(request_id="r-2"))
        assert (await stubs.uploads.RequestUpload(request)).upload.upload_id == upload_id
        assert await counted(settings) == (1, len(BODY))


async def test_bytes_that_are_promised_count(settings: Settings) -> None:
    """What alone is too much is refused for good, without a time to wait."""
    async with server(settings, quota_uid_bytes=10) as stubs:
        await stubs.uploads.RequestUpload(request_for({"original": b"1234567"}))
        failure = await refusal(stubs, request_for({"original": b"1234"}))
        assert (failure.reason, failure.retry_after_s) == ("TOO_MANY_BYTES", 5.0)
        assert numbers_in(failure.quotas[ANN]) == {10, 7, 4}
        failure = await refusal(stubs, request_for({"original": b"12345678901"}))
        assert (failure.reason, failure.retry_after_s) == ("TOO_MANY_BYTES", None)
        await stubs.uploads.RequestUpload(request_for({"original": b"123"}))
    assert await counted(settings) == (2, 10)


async def test_a_partition_has_a_quota_of_its_own(settings: Settings) -> None:
    """Whatever the owners are; what it refuses does not count for the owner."""
    async with server(settings, quota_uid_uploads=5, quota_partition_uploads=2) as stubs:
        for uid in ("7f3a", "8"):
            await stubs.uploads.RequestUpload(request_for(uid=uid, asset_partition="public"))
        failure = await refusal(stubs, request_for(asset_partition="public"))
        assert (failure.reason, list(failure.quotas)) == ("TOO_MANY_UPLOADS", ["partition:public"])
        assert await counted(settings) == (1, len(BODY))
        await stubs.uploads.RequestUpload(request_for())


async def test_claims_that_nobody_gave_back_are_found_when_they_are_in_the_way(settings: Settings) -> None:
    """A server died before the upload was stored, another one after the upload had ended."""
    async with server(settings, quota_uid_uploads=2) as stubs, ledger(settings) as records:
        ended = await stubs.uploads.RequestUpload(request_for())
        upload = await records.find_upload(ended.upload.upload_id)
        assert upload is not None
        assert await records.advance_upload(upload.cancelled(utc_now()))  # and its server died
        orphan = Claim("0" * 24, 7, (new_id(),), utc_now() - HOUR)
        assert await records.quotas.claim(ANN, orphan, QuotaLimit(2), utc_now() - HOUR) is None
        assert await counted(settings) == (2, 12)
        for _ in range(2):
            await stubs.uploads.RequestUpload(request_for())
        await refusal(stubs, request_for())
    assert await counted(settings) == (2, 2 * len(BODY))


async def test_claims_that_are_in_nobodys_way_are_found_in_time(settings: Settings) -> None:
    """And the account goes when nothing is open any more."""
    limited = settings.model_copy(update={"quota_uid_uploads": 2})
    async with ledger(settings) as records:
        orphan = Claim("0" * 24, 7, (new_id(),), utc_now())
        assert await records.quotas.claim(ANN, orphan, QuotaLimit(2), utc_now()) is None
        for ahead, left in ((timedelta(seconds=1), (1, 7)), (HOUR, (0, 0))):
            later = quota_enforcer(limited, records, records.quotas, clock(ahead))
            assert later is not None
            await later.sweep()
            assert await counted(settings) == left
        last = quota_enforcer(limited, records, records.quotas, clock(2 * HOUR))
        assert last is not None
        assert await last.sweep() == 1
        assert await records.quotas.find_account(ANN) is None


async def test_an_upload_that_ends_while_the_account_is_out_of_reach_ends_all_the_same(
    settings: Settings, database_name: str
) -> None:
    """What it took is given back when somebody needs it."""
    named = settings.mongo_uri.get_secret_value() + f"&appName={database_name}"
    limited = settings.model_copy(update={"quota_uid_uploads": 1})
    async with ledger(settings) as records, ledger(Settings(**{**limited.model_dump(), "mongo_uri": named})) as far:
        changes = StatusChanges(records, quota_enforcer(limited, records, far.quotas, utc_now))
        async with server(settings, quota_uid_uploads=1) as stubs:
            reply = await stubs.uploads.RequestUpload(request_for())
            upload = await records.find_upload(reply.upload.upload_id)
            assert upload is not None
            async with failing(settings.mongo_uri.get_secret_value(), database_name, ["update"], errorCode=50):
                assert await changes.advance(upload.cancelled(utc_now()))
            assert await counted(settings) == (1, len(BODY))
            account = await records.quotas.find_account(ANN)
            assert account is not None
            assert account.claims[0].key == claim_of(upload, utc_now()).key
            assert await records.quotas.reschedule_account(account.balance, utc_now())
            await stubs.uploads.RequestUpload(request_for())


async def test_calls_a_second_are_limited_per_subject(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """One call in a hundred seconds: the second one is given the time to wait, another caller is not concerned."""
    issuer = Issuer()
    limited = guarded(settings, tmp_path, issuer, quota_calls_per_second=0.01)
    async with guarded_server(limited, web) as person_with:
        ann, bob = person_with(issuer.token("ann")), person_with(issuer.token("bob"))
        listing: Message = uploads.ListUploadsRequest()
        assert await ann.refusal("ListUploads", listing) is None
        failure = await ann.refusal("ListUploads", listing)
        assert failure is not None
        assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CALL_RATE_EXCEEDED")
        assert list(failure.quotas) == ["uid:ann"]
        assert failure.retry_after_s is not None
        assert 0 < failure.retry_after_s <= 100
        assert await bob.refusal("ListUploads", listing) is None


async def test_watches_are_limited_per_subject(settings: Settings, web: aiohttp.ClientSession, tmp_path: Path) -> None:
    """One that ends makes room; another caller is not concerned."""
    issuer = Issuer()
    limited = guarded(settings, tmp_path, issuer, max_watches_per_uid=2)
    async with guarded_server(limited, web) as person_with:
        ann, bob = person_with(issuer.token("ann")), person_with(issuer.token("bob"))
        request = assets.WatchAssetsRequest(partition="user/ann")
        watches = [ann.stubs.assets.WatchAssets(request, metadata=ann.metadata) for _ in range(2)]
        for watch in watches:
            await watch.read()
        failure = await ann.refusal("WatchAssets", request)
        assert failure is not None
        assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHES_OF_ONE")
        assert list(failure.quotas) == ["uid:ann"]
        assert await bob.refusal("WatchAssets", assets.WatchAssetsRequest(partition="user/bob")) is None
        watches.pop().cancel()
        while (failure := await ann.refusal("WatchAssets", request)) is not None:
            assert failure.reason == "TOO_MANY_WATCHES_OF_ONE"  # the server hears of the end in its own time
        watches.pop().cancel()


async def test_the_client_waits_for_room_as_long_as_it_may_and_then_says_which_quota(settings: Settings) -> None:
    """What will never fit it says at once."""
    limited = settings.model_copy(update={"quota_uid_uploads": 1, "quota_uid_bytes": 100})
    async with served(limited) as target, Client(target, uid="7f3a", call_timeout=1.0) as lane:
        await lane.request_upload(request_for())
        with raises(ResourceExhausted, reason="TOO_MANY_UPLOADS", limits=[1]) as refused:
            await lane.request_upload(request_for())
        assert refused.value.retry_after == 5.0
        with pytest.raises(ResourceExhausted) as refused:
            await lane.request_upload(request_for({"original": b"x" * 101}))
        assert (refused.value.reason, refused.value.retry_after) == ("TOO_MANY_BYTES", None)


async def test_operations_of_quotas_are_counted(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """As all other operations on MongoDB are."""
    caplog.set_level("INFO")
    async with server(settings, quota_uid_uploads=3, metrics_listen=HERE) as stubs:
        reply = await stubs.uploads.RequestUpload(request_for())
        await stubs.uploads.CancelUpload(uploads.CancelUploadRequest(upload_id=reply.upload.upload_id))
        (address,) = addresses(caplog)
        found = await scraped(address)
    for operation in ("claim quotas", "release quotas"):
        assert found.value("assetlane_mongodb_call_seconds_count", operation=operation, outcome="ok") == 1


async def test_quotas_that_are_being_given_back_are_waited_for(settings: Settings) -> None:
    """A caller hangs up while its upload's end makes room: the server that stops does not forget the room."""
    limited = settings.model_copy(update={"quota_uid_uploads": 3})
    async with ledger(limited) as records:
        may_release, is_releasing = asyncio.Event(), asyncio.Event()

        class SlowAccounts:
            """The accounts, of which one release waits."""

            def __getattr__(self, name: str) -> Any:
                return getattr(records.quotas, name)

            async def release(self, *arguments: Any, **named: Any) -> bool:
                is_releasing.set()
                await may_release.wait()
                return await records.quotas.release(*arguments, **named)

        upload_quotas = quota_enforcer(limited, records, cast(Any, SlowAccounts()), utc_now)
        changes = StatusChanges(records, upload_quotas)
        upload = await changes.insert(replace(requested(), upload_id=new_id()))
        ending = asyncio.create_task(changes.advance(upload.cancelled(utc_now())))
        await asyncio.wait_for(is_releasing.wait(), LIMIT_S)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        finishing = asyncio.create_task(changes.finish())
        await asyncio.sleep(0.05)
        assert not finishing.done()
        may_release.set()
        await asyncio.wait_for(finishing, LIMIT_S)
    assert await counted(settings) == (0, 0)
