"""Devices that upload, and watchers. They repeat what failed, hang up, and keep account of what they were sent."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from tests.simulation.server import KEY, ConnectionLost, SimServer, SimWatch
from tests.simulation.store import Body, png, send

from assetlane_server.model.admission import UploadRequest
from assetlane_server.model.asset_event import AssetEvent, AssetEventKind
from assetlane_server.model.caller import CallerKind
from assetlane_server.model.cut_plan import CutPlan, CutSize
from assetlane_server.model.errors import (
    AssetNotFound,
    InvalidRequest,
    LedgerUnavailable,
    PartitionNotFound,
    QuotaExceeded,
    Refusal,
    ResumeExpired,
    ShuttingDown,
    StoreUnavailable,
    UploadNotFound,
    VariantsMissing,
    WrongStatus,
)
from assetlane_server.model.parts import PartPromise, part_bytes
from assetlane_server.model.presigned import WriteTarget
from assetlane_server.model.progress import Progress
from assetlane_server.model.resume_token import TOKEN_LIFETIME, Position, resume_token
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import Asset, LedgerTime, Status, Upload, VariantPromise

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

T = TypeVar("T")
DATA: Final = "data"
MIB: Final = 1024**2
TRY_AGAIN: Final = (LedgerUnavailable, StoreUnavailable, ConnectionLost, ShuttingDown)
_ATTEMPTS: Final = 4
_MOST_ANSWER_S: Final = 600.0  # every wait of a server has a limit
_UNSEEN_AFTER: Final = timedelta(seconds=60)  # from the instant at which a right was taken away


@dataclass
class Person:
    """A user, as an Access. A right that was taken away counts from the next look on."""

    uid: str | None
    is_revoked: bool = False
    revoked_at: datetime | None = None
    kind: CallerKind = CallerKind.USER
    actor: str = ""
    caller: str | None = None
    max_watches: int | None = None
    calls_per_second: float | None = None
    expire_time: datetime | None = None

    @property
    def partition(self) -> str:
        """Where its assets go."""
        return f"user/{self.uid}"

    def may_read(self, partition: str) -> bool:
        """See Access."""
        return not self.is_revoked and partition in (self.partition, "team/all")

    def may_write(self, partition: str) -> bool:
        """See Access."""
        return self.may_read(partition)

    def acting_for(self, uid: str) -> Self | None:
        """See Access."""
        return self if uid == self.uid else None

    def may_handle(self, upload: Upload) -> bool:
        """See Access."""
        return not self.is_revoked and upload.uid == self.uid

    def check(self, rpc: str) -> None:
        """See Access."""


@dataclass
class BackEnd(Person):
    """A service caller that acts for one user."""

    kind: CallerKind = CallerKind.SERVICE
    acts_for: str = "ada"

    def may_read(self, partition: str) -> bool:
        """See Access."""
        return partition == f"user/{self.acts_for}"

    def acting_for(self, uid: str) -> Self | None:
        """See Access."""
        return self if uid == self.acts_for else None

    def may_handle(self, upload: Upload) -> bool:
        """See Access."""
        return upload.uid == self.acts_for


@dataclass
class Sending:
    """One thing to upload, and what is known of it."""

    request: UploadRequest
    bodies: dict[str, Body]
    upload_id: str = ""
    revision: int = 0  # the highest that somebody was sent
    targets: tuple[WriteTarget, ...] = ()
    is_sent: bool = False  # every byte of it is in the store
    is_completed: bool = False
    is_given_up: bool = False  # its deletion was asked for
    is_deleted: bool = False  # and done
    opened: asyncio.Event = field(default_factory=asyncio.Event)


class Device:
    """Sends one thing, and does what else comes to its user's mind, perhaps at the same time on two servers."""

    def __init__(self, cluster: "Cluster", person: Person, sending: Sending) -> None:
        self._cluster = cluster
        self._person = person
        self.sending = sending

    async def run(self) -> None:
        """Requests, sends, completes."""
        cluster, sending = self._cluster, self.sending
        await self._cluster.think()
        await self.request()
        sending.opened.set()
        if not sending.upload_id or cluster.pick(8) == 7:
            return  # it vanishes
        for _ in range(2):
            if await self.send():
                break
            await self.request()
        if cluster.pick(6) == 5:
            cluster.auditor.reach("a client vanished after its PUTs")
            return
        if cluster.pick(3) == 2:
            await self._progress()
        await self.complete()

    async def interfere(self) -> None:
        """Does something else with the same upload or its asset, from another process of its user."""
        cluster, sending = self._cluster, self.sending
        await sending.opened.wait()
        actions: list[Callable[[], Coroutine[Any, Any, object]]] = [
            self.complete,
            self.delete,
            self.refresh,
            self._delete_and_send,
            self.request,
            self.cancel,
            self.refresh,
            self.delete,
            self.look,
            self.send,
            self._hang_up,
            self.list_all,
            self._pry,
        ]
        for _ in range(1 + cluster.pick(3)):
            await self._cluster.think()
            if not sending.upload_id:
                continue
            if cluster.pick(5) == 4:  # two at once, perhaps on two servers
                await cluster.all_of([actions[cluster.pick(len(actions))]() for _ in range(2)])
            else:
                await actions[cluster.pick(len(actions))]()

    # The calls

    async def request(self) -> None:
        """Calls RequestUpload."""
        sending = self.sending
        if sending.upload_id and not sending.request.request_id:
            return  # it would be another upload
        self._cluster.requests_running += 1
        try:
            await self._requested()
        finally:
            self._cluster.requests_running -= 1
        self._cluster.check_claims()

    async def request_once(self) -> None:
        """Calls RequestUpload and does not repeat it."""
        try:
            await self._cluster.server().call(
                lambda server: server.requests.request_upload(self.sending.request, self._person)
            )
        except (*TRY_AGAIN, QuotaExceeded):
            return

    async def _requested(self) -> None:
        sending, auditor = self.sending, self._cluster.auditor
        known = sending.revision if sending.request.request_id else 0
        try:
            answer = await self._repeated(lambda server: server.requests.request_upload(sending.request, self._person))
        except QuotaExceeded:
            auditor.reach("a quota was used up")
            auditor.check(not sending.upload_id, f"{sending.upload_id}: its repeat met the quota")
            return
        except UploadNotFound:
            auditor.check(bool(sending.upload_id), "a request was answered with UPLOAD_NOT_FOUND")
            return  # it was removed while the call was under way
        if answer is None:
            return
        upload, targets = answer
        if sending.upload_id and sending.request.request_id and upload.upload_id != sending.upload_id:
            auditor.check(self._is_gone(), f"{sending.upload_id}: the repeat of its request became {upload.upload_id}")
            sending.revision, sending.is_sent, sending.is_completed, sending.is_deleted = 0, False, False, False
        elif sending.upload_id and sending.request.request_id:
            auditor.reach("a request was repeated")
            auditor.check(
                upload.revision >= known, f"{upload.upload_id}: revision {known} was sent, now {upload.revision}"
            )
        self._note(upload)
        if upload.status is Status.INITIALIZED:
            sending.targets = targets

    async def send(self) -> bool:
        """Returns whether every variant was stored by somebody."""
        sending = self.sending
        upload_id = sending.upload_id
        are_sent = True
        for target in sending.targets:
            body = sending.bodies[target.variant]
            if target.single_put is None:
                are_sent &= await self._send_parts(target, body)
                continue
            headers = ("content-encoding",) if self._cluster.pick(12) == 11 else ()
            are_sent &= await self._put(lambda target=target: target.single_put, body, headers)  # type: ignore[misc]
        if sending.upload_id == upload_id:  # not another one that its request has become meanwhile
            sending.is_sent |= are_sent and bool(sending.targets)
        return are_sent and bool(sending.targets)

    async def _put(self, request: Callable[[], Any], body: Body, headers: tuple[str, ...] = ()) -> bool:
        cluster = self._cluster
        was_unclear = False
        for _ in range(3):
            await cluster.think()
            status = await send(cluster.store, cluster.faults, request(), body, headers)
            if status == 412 and was_unclear:
                cluster.auditor.reach("a PUT whose answer was lost met itself")
            if status in (200, 412):
                return True
            if status in (403, 404):
                return False
            was_unclear = True
        return False

    async def _send_parts(self, target: WriteTarget, body: Body) -> bool:
        sending, person = self.sending, self._person
        numbers = list(range(1, target.part_count + 1))
        promises = [PartPromise(number) for number in numbers]
        try:
            signed = await self._repeated(
                lambda server: server.parts.sign_parts(sending.upload_id, target.variant, promises, person)
            )
        except (WrongStatus, UploadNotFound):
            return False
        if signed is None:
            return False
        promise = VariantPromise(target.variant, "", body.size_bytes, part_size_bytes=target.part_size_bytes)
        for number, request in zip(numbers, signed, strict=True):
            part = Body(f"{body.label} {number}", part_bytes(promise, number))
            if not await self._put(lambda request=request: request, part):  # type: ignore[misc]
                return False
        try:
            page = await self._repeated(
                lambda server: server.parts.list_parts(sending.upload_id, target.variant, 0, "", person)
            )
        except (WrongStatus, UploadNotFound):
            return False
        return page is not None

    async def _progress(self) -> None:
        sending = self.sending
        sent = {name: body.size_bytes // 2 for name, body in sending.bodies.items()}
        try:
            await self._repeated(lambda server: server.uploads.report_progress(sending.upload_id, sent, self._person))
        except (WrongStatus, UploadNotFound):
            self._cluster.auditor.reach("progress was reported of an upload that has ended")

    async def complete(self) -> None:
        """Calls CompleteUpload."""
        await self._completed(lambda server: server.completions.complete_upload(self.sending.upload_id, self._person))

    async def _completed(self, call: Callable[[SimServer], Coroutine[Any, Any, Upload]]) -> None:
        sending, auditor = self.sending, self._cluster.auditor
        if not sending.upload_id:
            return
        was_sent = sending.is_sent
        try:
            upload = await self._repeated(call)
        except VariantsMissing:
            auditor.reach("a completion found variants missing")
            auditor.note(f"{sending.upload_id}: variants are missing, {was_sent=}")
            document = self._cluster.mongo.collections["uploads"].get(sending.upload_id)
            is_open = document is not None and document["status"] == "INITIALIZED"
            auditor.check(not (was_sent and is_open), f"{sending.upload_id}: nothing of it is missing")
        except WrongStatus as refusal:
            auditor.reach(f"a completion found {refusal.reason}")
            auditor.check(
                not sending.is_completed, f"{sending.upload_id}: a caller was sent COMPLETED, and now {refusal}"
            )
        except UploadNotFound:
            self._must_be_gone()
        else:
            if upload is not None:
                auditor.check(
                    upload.status in (Status.COMPLETED, Status.FAILED), f"a completion returned {upload.status}"
                )
                self._note(upload)

    async def _hang_up(self) -> None:
        """Calls CompleteUpload and does not wait for its answer."""
        cluster, sending = self._cluster, self.sending
        server = cluster.server()
        calling = cluster.loop.create_task(
            server.call(lambda server: server.completions.complete_upload(sending.upload_id, self._person)),
            name="a caller that hangs up",
        )
        await cluster.think()
        if calling.done():
            if not calling.cancelled():
                calling.exception()
            return
        cluster.auditor.reach("a caller hung up")
        calling.cancel()
        await asyncio.wait([calling])
        if not calling.cancelled():
            calling.exception()

    async def cancel(self) -> None:
        """Calls CancelUpload."""
        sending, auditor = self.sending, self._cluster.auditor
        if not sending.upload_id:
            return
        sending.is_given_up = True
        began = self._cluster.utc()
        try:
            upload = await self._repeated(lambda server: server.uploads.cancel_upload(sending.upload_id, self._person))
        except WrongStatus as refusal:
            auditor.reach(f"a cancellation found {refusal.reason}")
        except UploadNotFound:
            self._must_be_gone()
        else:
            if upload is not None:
                auditor.check(upload.status is Status.CANCELLED, f"a cancellation returned {upload.status}")
                auditor.check(not sending.is_completed, f"{sending.upload_id}: COMPLETED, and then cancelled")
                self._note(upload)
                self._must_be_empty(began)

    async def look(self) -> None:
        """Calls GetUpload."""
        sending, auditor = self.sending, self._cluster.auditor
        if not sending.upload_id:
            return
        known = sending.revision
        try:
            upload = await self._repeated(lambda server: server.uploads.get_upload(sending.upload_id, self._person))
        except UploadNotFound:
            self._must_be_gone()
        else:
            if upload is not None:
                auditor.check(
                    upload.revision >= known, f"{upload.upload_id}: revision {known} was sent, now {upload.revision}"
                )
                self._note(upload)

    async def refresh(self) -> None:
        """Calls RefreshAsset, sometimes GetAsset."""
        await self._asset(
            lambda server: (
                server.assets.refresh_asset(self.sending.upload_id, None, self._person)
                if self._cluster.pick(3)
                else server.assets.get_asset(self.sending.upload_id, self._person)
            )
        )

    async def _asset(self, call: Callable[[SimServer], Coroutine[Any, Any, Asset]]) -> None:
        sending, auditor = self.sending, self._cluster.auditor
        if not sending.upload_id:
            return
        was_deleted, was_there = sending.is_deleted, sending.is_completed
        try:
            asset = await self._repeated(call)
        except AssetNotFound:
            auditor.check(not was_there or sending.is_given_up, f"{sending.upload_id}: its asset is not found")
        else:
            if asset is not None:
                auditor.check(not was_deleted, f"{sending.upload_id}: its deleted asset was returned")
                auditor.acknowledged_asset(asset)

    async def delete(self) -> None:
        """Calls DeleteAsset."""
        sending, auditor = self.sending, self._cluster.auditor
        if not sending.upload_id:
            return
        was_there = sending.is_completed
        sending.is_given_up = True
        try:
            answer = await self._repeated(
                lambda server: _done(server.assets.delete_asset(sending.upload_id, self._person))
            )
        except AssetNotFound:
            auditor.check(
                not was_there or sending.is_deleted or self._is_gone(), f"{sending.upload_id}: no asset to delete"
            )
        else:
            if answer:
                sending.is_deleted = True

    async def _delete_and_send(self) -> None:
        """Sends it again when its asset is gone and was swept, through URLs that still live."""
        await self.delete()
        await asyncio.sleep(150.0)
        if self.sending.is_deleted:
            await self.send()

    async def list_all(self) -> None:
        """Whatever was completed before the call and is not given up is in the lists."""
        cluster, sending, person = self._cluster, self.sending, self._person
        was_there = sending.is_completed
        token: str = ""
        found: list[Asset] = []

        async def next_page(server: SimServer) -> tuple[list[Asset], str]:
            return await server.assets.list_assets(sending.request.asset_partition, 1, token, person)

        for _ in range(20):
            page = await self._repeated(next_page)
            if page is None:
                return
            found += page[0]
            token = page[1]
            if not token:
                break
        ids = [asset.asset_id for asset in found]
        cluster.auditor.check(ids == sorted(set(ids), reverse=True), "a list has an asset twice, or not in order")
        if was_there and not sending.is_given_up:
            cluster.auditor.check(sending.upload_id in ids, f"{sending.upload_id}: its asset is in no list")
        for asset in found:
            cluster.auditor.acknowledged_asset(asset)
        uploads = await self._repeated(
            lambda server: server.uploads.list_uploads(
                uid="", session_id=sending.request.session_id, statuses=(), size=10, token="", access=person
            )
        )
        if uploads is not None:
            cluster.auditor.check(all(one.uid == person.uid for one in uploads[0]), "a list has another owner's upload")

    async def _pry(self) -> None:
        """Asks for what is another's: it is not to be found."""
        cluster, sending, person = self._cluster, self.sending, self._person
        stranger = Person("stranger")
        asks: list[Callable[[SimServer], Coroutine[Any, Any, object]]] = [
            lambda server: server.uploads.get_upload(sending.upload_id, stranger),
            lambda server: server.completions.complete_upload(sending.upload_id, stranger),
            lambda server: server.uploads.cancel_upload(sending.upload_id, stranger),
            lambda server: server.uploads.list_uploads(
                uid="", session_id=sending.request.session_id, statuses=(), size=10, token="", access=stranger
            ),
        ]
        if sending.request.asset_partition != "team/all":
            asks += [
                lambda server: server.assets.get_asset(sending.upload_id, stranger),
                lambda server: server.assets.refresh_asset(sending.upload_id, None, stranger),
                lambda server: server.assets.delete_asset(sending.upload_id, stranger),
                lambda server: server.assets.list_assets(sending.request.asset_partition, 10, "", stranger),
            ]
        asks.append(lambda server: _first(server.asset_watches.watch("team/all", self._forged(), person)))
        asks.append(lambda server: _first(server.asset_watches.watch(person.partition, self._foreign(), person)))
        private = sending.request.asset_partition != "team/all"
        forgeries = len(asks) - 2  # from here on two with tokens that are not right
        for after in (0, 99):
            asks.append(
                lambda server, after=after: _first(  # type: ignore[misc]
                    server.upload_watches.watch_upload(sending.upload_id, after, stranger)
                )
            )
        if private:
            asks.append(
                lambda server: _first(server.asset_watches.watch(sending.request.asset_partition, "", stranger))
            )
        if person.uid != "ada":
            back_end = BackEnd(None)
            asks = [
                *asks,
                lambda server: server.uploads.get_upload(sending.upload_id, back_end),
                lambda server: _others(server, sending.request.session_id, back_end),
            ]
        chosen = cluster.pick(len(asks))
        try:
            answer = await self._repeated(asks[chosen])
        except InvalidRequest as refusal:
            is_forgery = 0 <= chosen - forgeries < 2
            cluster.auditor.check(is_forgery, f"a stranger was sent {refusal}")
            cluster.auditor.reach("a token that is not right was refused")
        except (WrongStatus, VariantsMissing) as refusal:
            cluster.auditor.fail(f"a stranger was sent {refusal}")
        except (UploadNotFound, AssetNotFound, PartitionNotFound):
            cluster.auditor.reach("a stranger was refused")
        else:
            cluster.auditor.check(answer in (None, ([], "")), f"a stranger was sent {answer}")

    def _forged(self) -> str:
        """Returns a resume token that no server made."""
        return resume_token(TokenSigner(b"a key of nobody"), "team/all", Position(LedgerTime(1)))

    def _foreign(self) -> str:
        """Returns a resume token of another partition."""
        return resume_token(TokenSigner(KEY), "team/all", Position(LedgerTime(1)))

    # How it keeps account

    def _note(self, upload: Upload) -> None:
        sending, auditor = self.sending, self._cluster.auditor
        sending.upload_id = upload.upload_id
        sending.revision = max(sending.revision, upload.revision)
        if not self._is_gone():
            auditor.acknowledged(upload)
        if upload.status is Status.COMPLETED:
            sending.is_completed = True

    def _must_be_empty(self, began: datetime) -> None:
        """Nothing is in the store of what was there before."""
        for key, stored in self._cluster.store.objects.items():
            is_its = f"/{self.sending.upload_id}/" in key
            if is_its and stored.modify_time < began and not self._cluster.faults.request:
                self._cluster.auditor.fail(f"{key} was to be deleted, and is there")

    def _must_be_gone(self) -> None:
        self._cluster.auditor.check(self._is_gone(), f"{self.sending.upload_id} is not found")

    def _is_gone(self) -> bool:
        """Whether its record was removed in its time."""
        return self.sending.upload_id not in self._cluster.mongo.collections["uploads"]

    async def _repeated(self, call: Callable[[SimServer], Coroutine[Any, Any, T]]) -> T | None:
        """Returns what the call returns, None when it was given up. Raises the refusals that no repeat changes."""
        cluster = self._cluster
        for _ in range(_ATTEMPTS):
            server = cluster.server()
            late = cluster.loop.call_later(_MOST_ANSWER_S, cluster.auditor.fail, "a call is never answered")
            try:
                return await server.call(call)
            except TRY_AGAIN as error:
                if isinstance(error, ConnectionLost):
                    cluster.auditor.reach("a call was repeated on another server")
                await cluster.think()
            except (UploadNotFound, AssetNotFound, PartitionNotFound):
                if not self._person.is_revoked:
                    raise
                return None
            finally:
                late.cancel()
        return None


async def _others(server: SimServer, session_id: str, access: BackEnd) -> tuple[list[Upload], str]:
    """Returns what a back end is shown of users that it does not act for."""
    uploads, _ = await server.uploads.list_uploads(
        uid="", session_id=session_id, statuses=(), size=10, token="", access=access
    )
    return [upload for upload in uploads if upload.uid != access.acts_for], ""


async def _first(events: AsyncGenerator[T]) -> T:
    async with aclosing(events):
        return await anext(events)


async def _done(work: Coroutine[Any, Any, None]) -> bool:
    await work
    return True


class Watcher:
    """Follows something, resumes when it is cut off, and compares what it is sent with what happened."""

    def __init__(self, cluster: "Cluster", person: Person) -> None:
        self._cluster = cluster
        self._person = person
        self._is_over = False
        self._read_at = cluster.utc()  # since then it has read quickly
        self.is_fickle = False  # it reads slowly, and hangs up after an event or two
        self.pauses_s: list[float] = []  # how long it takes over its first events; after these it reads as ever
        self.server: SimServer | None = None  # where it watches
        self._watch: SimWatch[Any] | None = None
        self.resumptions = 0

    @property
    def is_up_to_date(self) -> bool:
        """Whether it was sent all there is."""
        raise NotImplementedError

    def describe(self) -> str:
        """Returns what it is and has, for the report of a violation."""
        state = {name: value for name, value in vars(self).items() if name not in ("_cluster", "_person")}
        return f"{type(self).__name__} {state}"

    def _begin(self, server: SimServer) -> AsyncGenerator[Any]:
        raise NotImplementedError

    def _take(self, event: Any) -> None:
        raise NotImplementedError

    def _refused(self, refusal: Refusal) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        """Watches until the end of the schedule."""
        cluster = self._cluster
        while not self._is_over:
            server = cluster.server()
            if self.resumptions and not server.hub._live.is_set():
                cluster.auditor.reach("a watch was resumed while the change stream was lost")
            watch: SimWatch[Any] = server.watch(self._begin(server))
            self.server, self._watch = server, watch
            left = cluster.pick(3 if self.is_fickle else 6)  # events after which it hangs up; 0: never
            try:
                while True:
                    event = await watch.next()
                    if cluster.auditor.lines is not None and event is not None:
                        cluster.auditor.note(
                            f"{type(self).__name__} of {self._person.uid} at {server.name}: {_short(event)}"
                        )
                    self._may_see(event)
                    self._take(event)
                    cluster.check_mailboxes(server)
                    if self.pauses_s:
                        await asyncio.sleep(self.pauses_s.pop(0))
                        self._read_at = cluster.utc()
                        continue
                    left -= 1
                    if cluster.is_ending:
                        continue  # it reads all that is left
                    if left == 0:
                        break
                    if self.is_fickle:
                        await asyncio.sleep((0.0, 30.0, 200.0)[cluster.pick(3)])
                        self._read_at = cluster.utc()
                    elif cluster.pick(6) == 5:
                        await asyncio.sleep((2.0, 200.0)[cluster.pick(2)])  # a slow reader
                        self._read_at = cluster.utc()
            except StopAsyncIteration:
                self._is_over = True
            except TRY_AGAIN:
                pass
            except Refusal as refusal:
                self._refused(refusal)
            finally:
                watch.cancel()
            self.resumptions += 1
            if cluster.pick(6) == 5 and not cluster.is_ending:
                await asyncio.sleep(60.0)
            await cluster.think()

    def hang_up(self) -> None:
        """Ends its watch; it begins another one."""
        if self._watch is not None:
            self._watch.cancel()

    def _may_see(self, event: Any) -> None:
        revoked_at = self._person.revoked_at
        is_content = isinstance(event, Upload) or (isinstance(event, AssetEvent) and event.asset is not None)
        if (
            is_content
            and revoked_at is not None
            and self._cluster.utc() > max(revoked_at, self._read_at) + _UNSEEN_AFTER
        ):
            self._cluster.auditor.fail("a watch goes on a minute after its right was taken away")


def _short(event: object) -> str:
    if isinstance(event, Upload):
        return f"{event.upload_id} is {event.status}, revision {event.revision}"
    if isinstance(event, AssetEvent):
        asset = event.asset
        return f"{event.kind} {'' if asset is None else f'{asset.asset_id}, asset revision {asset.revision}'}"
    return type(event).__name__


class UploadWatcher(Watcher):
    """Follows one upload."""

    def __init__(self, cluster: "Cluster", person: Person, sending: Sending) -> None:
        super().__init__(cluster, person)
        self._sending = sending
        self._sent = 0

    @property
    def is_up_to_date(self) -> bool:
        """See Watcher."""
        known = self._cluster.auditor.statuses(self._sending.upload_id)
        return self._is_over or not known or known[-1][0] == self._sent or self._person.is_revoked

    async def run(self) -> None:
        """See Watcher."""
        await self._sending.opened.wait()
        if self._sending.upload_id:
            await super().run()
        else:
            self._is_over = True  # its request was given up

    def _begin(self, server: SimServer) -> AsyncGenerator[Any]:
        return server.upload_watches.watch_upload(self._sending.upload_id, self._sent, self._person)

    def _take(self, event: Any) -> None:
        if isinstance(event, Upload):
            take_status(self._cluster, event, self._sent)
            self._sent = event.revision
        elif isinstance(event, Progress):
            self._cluster.auditor.check(event.uid == self._person.uid, "progress of another owner's upload")

    def _refused(self, refusal: Refusal) -> None:
        if isinstance(refusal, UploadNotFound):
            self._is_over = True
            is_right = (
                self._person.is_revoked or self._sending.upload_id not in self._cluster.mongo.collections["uploads"]
            )
            if self._person.is_revoked:
                self._cluster.auditor.reach("a watch ended because its right was taken away")
            self._cluster.auditor.check(is_right, f"{self._sending.upload_id}: its watch was refused: {refusal}")
        else:
            self._cluster.auditor.fail(f"a watch of an upload was refused: {refusal!r}")


class SessionWatcher(Watcher):
    """Follows all uploads of a session."""

    def __init__(self, cluster: "Cluster", person: Person, session_id: str) -> None:
        super().__init__(cluster, person)
        self._session_id = session_id
        self._sent: dict[str, Upload] = {}
        self._names_all = cluster.pick(2) == 0

    @property
    def is_up_to_date(self) -> bool:
        """See Watcher."""
        wanted = {
            document["_id"]: document["revision"]
            for document in self._cluster.mongo.collections["uploads"].values()
            if document["session_id"] == self._session_id and document["uid"] == self._person.uid
        }
        sent = {upload_id: upload.revision for upload_id, upload in self._sent.items()}
        return self._person.is_revoked or all(sent.get(one) == revision for one, revision in wanted.items())

    def _begin(self, server: SimServer) -> AsyncGenerator[Any]:
        newest = max(self._sent, default="")
        named = {
            upload_id: upload.revision
            for upload_id, upload in self._sent.items()
            if self._names_all or not upload.status.is_final or upload_id == newest
        }
        if len(named) < len(self._sent):
            self._cluster.auditor.reach("a session was resumed without the uploads that had ended")
            # What is not named may come again.
            self._sent = {one: upload for one, upload in self._sent.items() if one in named}
        return server.upload_watches.watch_session(self._session_id, named, self._person)

    def _take(self, event: Any) -> None:
        if isinstance(event, Upload):
            auditor = self._cluster.auditor
            auditor.check(event.uid == self._person.uid, "a session's watch was sent another owner's upload")
            auditor.check(event.session_id == self._session_id, "a watch was sent another session's upload")
            known = self._sent.get(event.upload_id)
            take_status(self._cluster, event, 0 if known is None else known.revision)
            self._sent[event.upload_id] = event
        elif isinstance(event, Progress):
            self._cluster.auditor.check(event.uid == self._person.uid, "progress of another owner's upload")

    def _refused(self, refusal: Refusal) -> None:
        self._is_over = True
        self._cluster.auditor.fail(f"a watch of a session was refused: {refusal!r}")


class PartitionWatcher(Watcher):
    """Follows the assets of a partition."""

    def __init__(self, cluster: "Cluster", person: Person, partition: str) -> None:
        super().__init__(cluster, person)
        self._partition = partition
        self._token = ""
        self._seen: dict[str, tuple[int, bool]] = {}
        self._seen_now: dict[str, int] = {}  # in this watch
        self._is_synced = False
        self._token_time = cluster.utc()
        self._is_token_old = False

    @property
    def is_up_to_date(self) -> bool:
        """See Watcher."""
        wanted = {
            document["_id"]: document["asset"]["revision"]
            for document in self._cluster.mongo.collections["uploads"].values()
            if document.get("listed_in") == self._partition
        }
        there = {one: revision for one, (revision, is_deleted) in self._seen.items() if not is_deleted}
        return self._person.is_revoked or (self._is_synced and there == wanted)

    def _begin(self, server: SimServer) -> AsyncGenerator[AssetEvent]:
        auditor = self._cluster.auditor
        if self._token and not self._is_synced:
            auditor.reach("a partition's watch was resumed before it was synced")
        if self._cluster.pick(6) == 5:
            self._token, self._is_synced = "", False  # its client has forgotten it
        if not self._token:
            self._seen.clear()
        self._seen_now = {}
        # As the server sees it, whose stream may not have said yet that days have gone by.
        age_s = (server.hub._taken_until >> 32) - self._token_time.timestamp()
        self._is_token_old = bool(self._token) and age_s > TOKEN_LIFETIME.total_seconds() + 3600
        return server.asset_watches.watch(self._partition, self._token, self._person)

    def _take(self, event: Any) -> None:
        auditor = self._cluster.auditor
        auditor.check(not self._is_token_old, "a resume token was taken that is too old")
        self._token, self._token_time, self._is_token_old = event.resume_token, self._cluster.utc(), False
        if event.kind is AssetEventKind.SYNCED:
            self._is_synced = True
        asset = event.asset
        if asset is None:
            return
        auditor.check(asset.partition == self._partition, "a watch was sent another partition's asset")
        auditor.acknowledged_asset(asset)
        known = self._seen.get(asset.asset_id, (0, False))[0]
        now = self._seen_now.get(asset.asset_id, 0)
        auditor.check(asset.revision > now, f"{asset.asset_id}: a watch was sent revision {asset.revision} after {now}")
        auditor.check(
            asset.revision >= known,
            f"{asset.asset_id}: a resumed watch was sent revision {asset.revision} after {known}",
        )
        if asset.revision == known:
            auditor.reach("a resumed watch was sent a revision again")
        auditor.check(
            event.kind is AssetEventKind.PRESENT or (event.kind is AssetEventKind.DELETED) == asset.is_deleted,
            f"{asset.asset_id}: sent as {event.kind}",
        )
        if asset.is_deleted:
            auditor.reach("a watch was sent a deletion")
        self._seen[asset.asset_id] = (asset.revision, asset.is_deleted)
        self._seen_now[asset.asset_id] = asset.revision

    def _refused(self, refusal: Refusal) -> None:
        auditor = self._cluster.auditor
        if isinstance(refusal, ResumeExpired):
            auditor.reach("a resume token was too old")
            self._token, self._is_synced = "", False
        elif isinstance(refusal, PartitionNotFound) and self._person.is_revoked:
            auditor.reach("a watch ended because its right was taken away")
            self._is_over = True
        else:
            self._is_over = True
            auditor.fail(f"a watch of a partition was refused: {refusal!r}")


def take_status(cluster: "Cluster", upload: Upload, after: int) -> None:
    """Checks that a status event is the next one of its upload."""
    known = cluster.auditor.statuses(upload.upload_id)
    expected = next((one for one in known if one[0] > after), None)
    received = (upload.revision, upload.status.value)
    cluster.auditor.check(
        received == expected, f"{upload.upload_id}: after {after} a watch was sent {received}, not {expected}"
    )
    cluster.auditor.check(
        (upload.asset is not None) == (upload.status is Status.COMPLETED), "a status event, and its asset"
    )


def new_sending(
    cluster: "Cluster",
    person: Person,
    session_id: str,
    number: int,
    *,
    kind: int | None = None,
    partition: str = "",
) -> Sending:
    """Returns something to upload: of a kind and into a partition that are given, or of any."""
    name = f"{person.uid}-{number}"
    is_any = kind is None
    if kind is None:
        kind = cluster.pick(5)
    bodies: dict[str, Body]
    plan = None
    if kind in (0, 1):
        bodies = {"original": Body(f"{name} original", 100)}
    elif kind == 2:
        bodies = {"original": Body(f"{name} original", 100), "small": Body(f"{name} small", 10)}
    elif kind == 3:
        bodies = {"original": Body(f"{name} original", 40 * MIB)}
    else:
        bodies = {"original": png(f"{name} original", (5000, 500_000)[cluster.pick(2)])}
        plan = CutPlan(sizes=(CutSize("small", 300),), required=is_any and cluster.pick(2) == 1)
    has_sum = cluster.pick(2) == 1 and kind != 3
    content_type = "image/png" if kind == 4 else "application/octet-stream"
    variants = tuple(
        VariantPromise(one, content_type, body.size_bytes, body.sha256 if has_sum else b"")
        for one, body in bodies.items()
    )
    request = UploadRequest(
        uid=person.uid or "",
        file_path=f"{name}.bin",
        variants=variants,
        request_id="" if is_any and cluster.pick(5) == 4 else name,
        session_id=session_id,
        asset_partition=partition or ("team/all" if cluster.pick(3) == 2 else person.partition),
        expiration_hours=0 if is_any and cluster.pick(6) == 5 else 24,
        cut_plan=plan,
    )
    return Sending(request, bodies)
