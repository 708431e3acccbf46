"""Two users do everything at once, each also to what is the other's, and neither learns anything of the other."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.message import Message
from tests.access.tokens import Issuer
from tests.conftest import Figures
from tests.journeys.guarded import Person, guarded, guarded_server

from assetlane.v1 import asset_service_pb2 as assets
from assetlane.v1 import upload_service_pb2 as uploads
from assetlane.v1.upload_pb2 import UploadStatus
from assetlane_server.access.callers import UserAccess
from assetlane_server.access.policy import Policy
from assetlane_server.composition.app import object_store, utc_now
from assetlane_server.config.settings import Settings
from assetlane_server.model.errors import AssetNotFound
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.assets import Assets
from assetlane_server.uploads.url_signer import UrlSigner

STEPS = 120
SESSION = "phone"  # both users': it is the client who chooses
LIMIT_S = 30.0


class User:
    """One of the two: what is theirs, and every text that the server ever sent them."""

    def __init__(self, name: str, person: Person, *, said_uid: str = "") -> None:
        self.name = name
        self.person = person
        self.said_uid = said_uid  # in requests of a back end that acts for them
        self.partition = f"user/{name}"
        self.open: list[str] = []
        self.finished: list[str] = []
        self.assets: list[str] = []
        self.secrets: set[str] = {name}
        self.received: list[str] = []
        self.revisions: dict[str, int] = {}
        self.seen: dict[str, list[int]] = {}
        self.seen_assets: set[str] = set()
        self.synced = asyncio.Event()

    def took(self, message: object, asked: str = "") -> None:
        """Writes down what came, but for the id that was asked for."""
        text = str(message)
        self.received.append(text.replace(asked, "?") if asked else text)

    async def call(self, method: str, request: Message) -> Any:
        """Makes a call that succeeds."""
        reply = await self.person.call(method, request)
        self.took(reply)
        return reply

    async def probe(self, method: str, request: Message, asked: str) -> None:
        """Makes a call about what is the other's, which is not there for them."""
        failure = await self.person.refusal(method, request)
        assert failure is not None, f"{self.name} may {method} what is the other's"
        assert failure.code is grpc.StatusCode.NOT_FOUND
        self.took(vars(failure), asked)

    async def watch(self, method: str, request: Message) -> None:
        """Writes down what a watch sends, until it is cancelled."""
        stub: Any = self.person.stubs.uploads if method == "WatchUpload" else self.person.stubs.assets
        async for event in getattr(stub, method)(request, metadata=self.person.metadata):
            self.took(event)
            match event.WhichOneof("event"):
                case "status":
                    upload = event.status.upload
                    self.seen.setdefault(upload.upload_id, []).append(upload.revision)
                case "asset":
                    self.seen_assets.add(event.asset.asset.asset_id)
                case "synced":
                    self.synced.set()

    # Steps

    async def begin(self, dice: random.Random) -> None:
        """Requests an upload and stores its bytes."""
        marks = [f"mark{dice.randrange(10**12):012}" for _ in range(3)]
        reply = await self.person.upload(
            uid=self.said_uid,
            session_id=SESSION,
            request_id=marks[0],
            file_path=f"{marks[1]}/a.txt",
            details={"title": marks[2]},
        )
        self.took(reply)
        self.secrets |= {reply.upload.upload_id, *marks}
        self.open.append(reply.upload.upload_id)
        self.revisions[reply.upload.upload_id] = reply.upload.revision

    async def complete(self, dice: random.Random) -> None:
        """Completes one of their uploads."""
        reply = await self.call("CompleteUpload", uploads.CompleteUploadRequest(upload_id=self._end(dice)))
        self.assets.append(reply.asset.asset_id)
        self.revisions[reply.upload.upload_id] = reply.upload.revision

    async def cancel(self, dice: random.Random) -> None:
        """Cancels one of their uploads."""
        reply = await self.call("CancelUpload", uploads.CancelUploadRequest(upload_id=self._end(dice)))
        self.revisions[reply.upload.upload_id] = reply.upload.revision

    async def report(self, dice: random.Random) -> None:
        """Reports progress on one of their uploads."""
        request = uploads.ReportProgressRequest(upload_id=dice.choice(self.open), sent_bytes={"original": 3})
        await self.call("ReportProgress", request)

    async def refresh(self, dice: random.Random) -> None:
        """Refreshes one of their assets."""
        await self.call("RefreshAsset", assets.RefreshAssetRequest(asset_id=dice.choice(self.assets)))

    async def list_all(self, dice: random.Random) -> None:
        """Lists what is theirs, in small pages: exactly that, whatever the filter."""
        for request in (
            uploads.ListUploadsRequest(page_size=3),
            uploads.ListUploadsRequest(page_size=3, session_id=SESSION),
        ):
            found: list[str] = []
            while True:
                page = await self.call("ListUploads", request)
                found += [upload.upload_id for upload in page.uploads]
                if not page.next_page_token:
                    break
                assert len(page.uploads) == 3, "a page before the last is full"
                request.page_token = page.next_page_token
            assert sorted(found) == sorted([*self.open, *self.finished])
        page = await self.call("ListAssets", assets.ListAssetsRequest(partition=self.partition, page_size=1000))
        assert sorted(asset.asset_id for asset in page.assets) == sorted(self.assets)

    async def pry(self, other: "User", dice: random.Random) -> None:
        """Tries everything on what is the other's."""
        page = await self.call("ListUploads", uploads.ListUploadsRequest(uid=other.name))
        assert not page.uploads
        for method, request in (
            ("ListAssets", assets.ListAssetsRequest(partition=other.partition)),
            ("WatchAssets", assets.WatchAssetsRequest(partition=other.partition)),
        ):
            await self.probe(method, request, other.name)
        for upload_id in dice.sample([*other.open, *other.finished], min(1, len(other.revisions))):
            for method in ("GetUpload", "CompleteUpload", "CancelUpload", "ReportProgress", "WatchUpload"):
                await self.probe(method, getattr(uploads, f"{method}Request")(upload_id=upload_id), upload_id)
        for asset_id in dice.sample(other.assets, min(1, len(other.assets))):
            for method in ("GetAsset", "RefreshAsset", "DeleteAsset"):
                await self.probe(method, getattr(assets, f"{method}Request")(asset_id=asset_id), asset_id)
            reply = await self.person.call("BatchRefreshAssets", assets.BatchRefreshAssetsRequest(asset_ids=[asset_id]))
            assert reply.results[0].failure.reason == "ASSET_NOT_FOUND"
            self.took(reply, asset_id)

    def _end(self, dice: random.Random) -> str:
        upload_id = self.open.pop(dice.randrange(len(self.open)))
        self.finished.append(upload_id)
        return upload_id

    def actions(self) -> list[Any]:
        """What they can do now."""
        doable = [self.begin, self.list_all]
        if self.open:
            doable += [self.complete, self.cancel, self.report]
        if self.assets:
            doable.append(self.refresh)
        return doable

    def has_seen_all(self) -> bool:
        """Whether their watches have sent what they have done."""
        newest = {upload_id: revisions[-1] for upload_id, revisions in self.seen.items()}
        return newest == self.revisions and self.seen_assets >= set(self.assets)


@asynccontextmanager
async def watching(*users: User) -> AsyncIterator[None]:
    """Everybody watches the session that both have, and their own partition; afterwards each has seen all."""
    async with asyncio.TaskGroup() as group:
        tasks = []
        for user in users:
            # A resumption that names the other's uploads opens nothing either.
            session = uploads.WatchUploadRequest(session_id=SESSION, after_revisions={"0" * 26: 1})
            tasks.append(group.create_task(user.watch("WatchUpload", session)))
            tasks.append(
                group.create_task(user.watch("WatchAssets", assets.WatchAssetsRequest(partition=user.partition)))
            )
        async with asyncio.timeout(LIMIT_S):
            for user in users:
                await user.synced.wait()
        yield
        async with asyncio.timeout(LIMIT_S):
            while not all(user.has_seen_all() for user in users):  # noqa: ASYNC110 - many events, of two kinds
                await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()


@pytest.mark.timeout(240)
async def test_two_users_never_learn_of_one_another(
    settings: Settings,
    web: aiohttp.ClientSession,
    over: str,
    tmp_path: Path,
    figures: Figures,
    pytestconfig: pytest.Config,
) -> None:
    """Not a byte, id or count, in any reply, event, page or error; and each sees all of their own."""
    seed = pytestconfig.getoption("--seed") or random.SystemRandom().randrange(10**9)
    dice = random.Random(seed)
    issuer = Issuer()
    async with guarded_server(guarded(settings, tmp_path, issuer), web, over) as person_with:
        ann, bob = (User(name, person_with(issuer.token(name))) for name in ("ann-8417", "bob-5523"))
        figures(f"isolation: seed {seed}, {await kept_apart(ann, bob, dice, STEPS)}")


async def kept_apart(ann: User, bob: User, dice: random.Random, count: int) -> str:
    """Has both do so many steps, and returns the figures; fails if one learns of the other, or misses their own."""
    async with watching(ann, bob):
        for _ in range(count // 2):
            steps = [dice.choice(user.actions())(dice) for user in (ann, bob)]
            await asyncio.gather(*steps)
            if dice.random() < 0.3:
                await asyncio.gather(ann.pry(bob, dice), bob.pry(ann, dice))
    leaks = [
        secret
        for one, other in ((ann, bob), (bob, ann))
        for secret in other.secrets
        if any(secret in text for text in one.received)
    ]
    texts, watched = len(ann.received) + len(bob.received), sum(len(user.seen) for user in (ann, bob))
    secrets = len(ann.secrets) + len(bob.secrets)
    assert leaks == []
    for user in (ann, bob):
        assert user.seen_assets == set(user.assets)
        for upload_id, revisions in user.seen.items():
            assert revisions == list(range(1, user.revisions[upload_id] + 1))
    return (
        f"{count} steps, {texts} messages and {watched} watched uploads searched for"
        f" {secrets} secrets of the other: {len(leaks)} found"
    )


async def test_the_others_changes_do_not_even_wake_a_watch(
    settings: Settings, web: aiohttp.ClientSession, over: str, tmp_path: Path
) -> None:
    """Heartbeats come as if nobody else were there: who knows a session's id can neither stop nor hasten them."""
    issuer = Issuer()
    guard = guarded(settings, tmp_path, issuer, heartbeat_seconds=0.3)
    async with guarded_server(guard, web, over) as person_with:
        ann, bob = (person_with(issuer.token(name)) for name in ("ann", "bob"))
        request = uploads.WatchUploadRequest(session_id=SESSION)
        watch = ann.stubs.uploads.WatchUpload(request, metadata=ann.metadata)
        done = asyncio.Event()

        async def busy() -> None:
            while not done.is_set():
                await bob.upload(session_id=SESSION)

        async with asyncio.TaskGroup() as group:
            group.create_task(busy())
            async with asyncio.timeout(LIMIT_S):
                for _ in range(3):
                    event: Any = await watch.read()
                    assert event.WhichOneof("event") == "heartbeat"
            done.set()
        watch.cancel()


class Counted:
    """Real records that write down what is asked of them."""

    def __init__(self, records: MongoRecords) -> None:
        self._records = records
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """Returns the method, counted."""
        method = getattr(self._records, name)

        async def counted(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            return await method(*arguments, **named)

        return counted


async def test_the_forbidden_costs_the_same_reads_as_the_missing(
    settings: Settings, web: aiohttp.ClientSession, over: str, tmp_path: Path, figures: Figures
) -> None:
    """So that the time of an answer reveals nothing: both take the same path to the ledger."""
    issuer = Issuer()
    limit = timedelta(seconds=10)
    uri = settings.mongo_uri.get_secret_value()
    async with (
        guarded_server(guarded(settings, tmp_path, issuer), web, over) as person_with,
        MongoRecords.open(uri, settings.mongo_database, call_timeout=limit) as records,
        object_store(settings) as store,
    ):
        asset = await person_with(issuer.token("ann")).asset()
        counted: Any = Counted(records)
        ledger = Assets(
            assets=counted, store=store, urls=UrlSigner(store), signer=TokenSigner(records.token_key), now=utc_now
        )
        bob = nobody_elses()
        compared = []
        for name, work in {
            "get": ledger.get_asset,
            "refresh": lambda asset_id, access: ledger.refresh_asset(asset_id, None, access),
            "batch": lambda asset_id, access: ledger.refresh_assets([asset_id], None, access),
            "delete": ledger.delete_asset,
        }.items():
            costs = []
            for asset_id in (asset.asset_id, "0" * 26):
                counted.calls.clear()
                with suppress(AssetNotFound):  # a batch returns it
                    await work(asset_id, bob)
                costs.append(tuple(counted.calls))
            assert costs[0] == costs[1] == ("find_assets",)
            compared.append(name)
        assert (await ledger.get_asset(asset.asset_id, UNRESTRICTED)).revision == asset.revision
    figures(f"forbidden and missing cost the same reads: {', '.join(compared)}")


def nobody_elses() -> UserAccess:
    """Returns what somebody may do who may do nothing to what is there."""
    return UserAccess("bob", {}, None, lambda: Policy(read=(), write=()))


async def test_an_upload_that_is_being_completed_is_nobody_elses(
    settings: Settings, web: aiohttp.ClientSession, over: str, tmp_path: Path
) -> None:
    """A stranger who asks for the same work at the same time is refused before it, not handed its outcome."""
    issuer = Issuer()
    async with guarded_server(guarded(settings, tmp_path, issuer), web, over) as person_with:
        ann, bob = (person_with(issuer.token(name)) for name in ("ann", "bob"))
        request = uploads.CompleteUploadRequest(upload_id=(await ann.upload()).upload.upload_id)
        first, *others = await asyncio.gather(
            ann.call("CompleteUpload", request), *(bob.refusal("CompleteUpload", request) for _ in range(8))
        )
        assert first.upload.status == UploadStatus.UPLOAD_STATUS_COMPLETED
        assert {failure.reason for failure in others if failure} == {"UPLOAD_NOT_FOUND"}
        assert None not in others
