"""What the heart needs from outside: a ledger, an object store, a way to be woken.

Each method states its promise; every adapter passes `tests/contracts/`.
Unless a method says otherwise, an adapter raises LedgerUnavailable or StoreUnavailable when its server does
not answer in time, and changes nothing that it was not asked to change.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, Protocol, Self, TypeVar

from assetlane_server.uploads.asset import StoredObject
from assetlane_server.uploads.cut_plan import CutPlan, MadePicture
from assetlane_server.uploads.parts import PartPromise, StoredPart
from assetlane_server.uploads.progress import Progress
from assetlane_server.uploads.upload import Asset, LedgerTime, Status, Upload, VariantPromise

# A change is stamped before it is committed: a query for what changed since an instant asks for that much more.
VISIBLE_WITHIN = LedgerTime(60 << 32)


@dataclass(frozen=True, slots=True)
class PresignedRequest:
    """A request that a caller sends to the store as it stands."""

    method: str
    url: str
    headers: Mapping[str, str]  # exactly these, names in lower case
    expire_time: datetime  # the instant from which the store refuses it


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing of the store."""

    key: str
    size_bytes: int
    modify_time: datetime


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """Some objects in the store's own order, and how to ask for those after them."""

    objects: tuple[ListedObject, ...]
    after: str  # empty: there are no more


@dataclass(frozen=True, slots=True)
class Ration:
    """How much may be open at a time in one account."""

    max_uploads: int
    max_bytes: int | None = None  # promised sizes; None: no limit


@dataclass(frozen=True, slots=True)
class Claim:
    """What one request takes of an account, until the upload that comes of it has ended."""

    key: str  # the same for every repeat of a request, hexadecimal
    size_bytes: int
    upload_ids: tuple[str, ...]  # of the uploads it may have become; one of them at most is stored
    time: datetime  # of its last repeat


@dataclass(frozen=True, slots=True)
class Balance:
    """How much is open of one owner, or in one partition: the sums of the claims."""

    subject: str
    open_uploads: int
    open_bytes: int
    sweep_time: datetime  # when somebody looks for claims that nobody gave back


@dataclass(frozen=True, slots=True)
class Account:
    """What exactly is open."""

    balance: Balance
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class PartPage:
    """Some parts by ascending number, each once, and how to ask for those after them."""

    parts: tuple[StoredPart, ...]
    after: int  # 0: there are no more


@dataclass(frozen=True, slots=True)
class OpenMultipart:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    multipart_id: str
    open_time: datetime


@dataclass(frozen=True, slots=True)
class OpenMultipartPage:
    """Some open multipart uploads in the store's own order, and how to ask for those after them."""

    open: tuple[OpenMultipart, ...]
    after: str  # empty: there are no more


class MultipartStore(Protocol):
    """Objects that arrive in parts: what a PUT in one piece promises holds for the object that becomes of them."""

    async def open(self, promise: VariantPromise) -> str:
        """Opens a multipart upload of `promise.key` with the promised type, disposition and caching; returns its id."""
        ...

    def presign_part(
        self,
        promise: VariantPromise,
        multipart_id: str,
        part: PartPromise,
        signed_at: datetime,
        lifetime: timedelta,
    ) -> PresignedRequest:
        """Signs a PUT of one part that the store accepts only with that part's length, with its SHA-256 when one is
        promised, and while the multipart upload is open. It lives like a `presign_put`. Pure CPU.
        """
        ...

    async def list_parts(self, key: str, multipart_id: str, *, after: int, limit: int) -> PartPage | None:
        """Returns a page of at most so many parts with numbers above `after`, None if none such is open."""
        ...

    async def complete(self, promise: VariantPromise, multipart_id: str, parts: Sequence[StoredPart]) -> str:
        """Makes the object of these parts, all there are, if nothing is stored under its key.

        Also returns when something is, or the multipart upload is not open any more: `head` finds out. Returns why the
        store will never do it (it says that parts are missing, changed or too small), empty otherwise.
        """
        ...

    async def abort(self, key: str, multipart_id: str) -> None:
        """Drops a multipart upload with its parts; one that is not open counts as dropped."""
        ...

    async def list_open(self, prefix: str, after: str) -> OpenMultipartPage:
        """Returns a page of the open multipart uploads whose keys begin with `prefix`; `after` is as of `list_keys`."""
        ...


class CallerKind(StrEnum):
    """How a caller proves who it is."""

    ANONYMOUS = "anonymous"  # not at all: the server asks nobody, or it is the server itself
    USER = "user"
    SERVICE = "service"  # a back end that acts for users
    TOKEN = "token"  # noqa: S105 - a device with a scoped token


class Access(Protocol):
    """What one caller may do. Whatever the heart does for a caller asks it first."""

    @property
    def kind(self) -> CallerKind:
        """How the caller proves who it is."""
        ...

    @property
    def uid(self) -> str | None:
        """The user that the caller is, or stands for; None: the request names the user."""
        ...

    @property
    def actor(self) -> str:
        """Who acts for the user, as history and logs say it: a service caller's name, `token:` and the name of a
        token's maker, empty for the user itself and where nobody asks for proof.
        """
        ...

    @property
    def caller(self) -> str | None:
        """Whose limits of calls and watches count: `uid:` or `service:` and a name; None: nobody's."""
        ...

    @property
    def max_watches(self) -> int | None:
        """How many watches the caller may have open, None: as many as any caller."""
        ...

    @property
    def calls_per_second(self) -> float | None:
        """How often the caller may call, None: as often as any caller."""
        ...

    @property
    def expire_time(self) -> datetime | None:
        """The instant from which the proof counts no more, None if it lasts."""
        ...

    def may_read(self, partition: str) -> bool:
        """Returns whether the caller may see what is in the partition."""
        ...

    def may_write(self, partition: str) -> bool:
        """Returns whether the caller may bring something into the partition, and delete from it."""
        ...

    def acting_for(self, uid: str) -> Self | None:
        """Returns what the caller may do in this user's name, None if it may do nothing."""
        ...

    def may_handle(self, upload: Upload) -> bool:
        """Returns whether the caller may see the upload, and lead it on."""
        ...

    def check(self, rpc: str) -> None:
        """Raises RpcNotAllowed if the caller may not call an RPC, named without its service; TokenRevoked if it may
        call none any more.
        """
        ...


class ObjectStore(Protocol):
    """Signs the ways in and out, proves what is there, deletes. Never carries a byte."""

    @property
    def reports_sha256(self) -> bool | None:
        """Whether `head` reports the SHA-256 that a PUT was signed with; None: it is not known."""
        ...

    def seen_from_here(self) -> "ObjectStore":
        """Returns the store with URLs that this server's own processes can call.

        For a short while: its credentials are those of this moment.
        """
        ...

    @property
    def multiparts(self) -> MultipartStore:
        """The part of it that takes objects in parts."""
        ...

    def presign_put(self, promise: VariantPromise, signed_at: datetime, lifetime: timedelta) -> PresignedRequest:
        """Signs one PUT of `promise.key` that the store accepts only with the promised length, type,
        `content_disposition`, `cache_control` and SHA-256 (when promised), and only while nothing is stored there.

        It lives from `signed_at`, cut to the second, for `lifetime` or as long as the credentials do,
        whichever ends first. Pure CPU. The same arguments give the same URL.
        """
        ...

    def presign_get(
        self, key: str, signed_at: datetime, lifetime: timedelta, content_disposition: str = ""
    ) -> PresignedRequest:
        """Signs one GET, with the same life as a `presign_put`. The store answers with an `expires` header of the
        URL's end, and with this `content_disposition` (empty: the stored one).
        """
        ...

    def public_url(self, key: str) -> str:
        """Returns the unsigned, permanent URL of a key under the public prefix."""
        ...

    async def head(self, key: str) -> StoredObject | None:
        """Returns what the store says about an object, None if there is none."""
        ...

    async def read_start(self, key: str, length_bytes: int) -> bytes:
        """Returns the first bytes of an object that is not empty, at most so many: to see what it is."""
        ...

    async def read_small(self, key: str, limit_bytes: int) -> tuple[StoredObject, bytes] | None:
        """Returns in one request what `head` does, and the whole object: for objects of a few kilobytes.

        Of a larger one the first `limit_bytes`. None if there is none.
        """
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects, at most 1,000; those that are not there count as deleted."""
        ...

    async def list_keys(self, prefix: str, after: str) -> ObjectPage:
        """Returns a page of the objects whose keys begin with `prefix`; `after` is the page's before, or empty.

        Following `after` to its end visits every object that is there from the first call to the last, once,
        in an order that is the store's own.
        """
        ...


class CutPicture(Protocol):
    """The cuts of one picture, made and not stored yet."""

    @property
    def made(self) -> MadePicture:
        """What the picture is, and its cuts."""
        ...

    async def store(self, requests: Sequence[PresignedRequest]) -> list[bool]:
        """Sends each cut with its PUT, in their order; returns whether it was stored now.

        False: something was stored under its key before, and is still. Raises StoreUnavailable.
        """
        ...


class PictureCutter(Protocol):
    """Makes cuts, away from the event loop and without the server touching a byte."""

    def cut(
        self, original: PresignedRequest, size_bytes: int, content_type: str, plan: CutPlan
    ) -> AbstractAsyncContextManager[CutPicture]:
        """Fetches the original and makes the plan's cuts of it; they are there for as long as the block runs.

        Raises PictureRefused for one that cannot be cut: broken, something else, too large, or one that takes too
        much CPU time or memory, or ends the process that cuts it; CuttingTimedOut for one that got no time; and
        StoreUnavailable when the original cannot be fetched or is not of that size.
        """
        ...


class UploadRecords(Protocol):
    """The uploads with their assets, durable: what was returned or written survives the loss of a minority of servers.

    A record that this version cannot read is left out of every list, logged and counted. Asking for that one record
    raises LedgerUnavailable: a server of the version that wrote it can answer.
    """

    async def insert_upload(self, upload: Upload) -> Upload:
        """Stores a new upload and returns it. If its owner already has one with the same non-empty
        `request_id`, stores nothing and returns that one.

        Raises LedgerBusy when as many writes wait already as may wait.
        """
        ...

    async def advance_upload(self, upload: Upload, *, after_revision: int | None = None) -> bool:
        """Stores the upload's newest status changes, and the asset that came with them, if the stored revision is
        still `after_revision`; without one, that before the newest.

        Returns whether it did; losing that race changes nothing.
        """
        ...

    async def renew_targets(self, upload: Upload) -> bool:
        """Stores `targets_signed_at` if the upload is still at this revision; returns whether it is.

        The stored instant never goes back.
        """
        ...

    async def find_upload(self, upload_id: str) -> Upload | None:
        """Returns the upload as of the last durable write."""
        ...

    async def find_requested(self, uid: str, request_id: str) -> Upload | None:
        """Returns the owner's upload with this non-empty `request_id`, as of the last durable write."""
        ...

    async def find_uploads(self, upload_ids: Sequence[str]) -> dict[str, Upload | None]:
        """Returns those that exist, by id, as of the last durable write; None for one that cannot be read."""
        ...

    async def list_uploads(
        self, *, uid: str, session_id: str, statuses: Sequence[Status], before_id: str, limit: int
    ) -> list[Upload]:
        """Returns uploads by descending id, below `before_id`; an empty filter lets everything through.

        Fewer than `limit` means that there are no more.
        """
        ...

    async def scan_uploads(
        self, *, uid: str, session_id: str, statuses: Sequence[Status], after_id: str, limit: int
    ) -> list[Upload]:
        """Returns uploads by ascending id, above `after_id`, otherwise like `list_uploads`."""
        ...


class QuotaRecords(Protocol):
    """What is open, counted across all servers; durable as UploadRecords. Each method is one atomic change."""

    async def claim(self, subject: str, claim: Claim, ration: Ration, sweep_time: datetime) -> Balance | None:
        """Adds a claim if the account stays within its ration, which one alone does; else returns its balance.

        A key that is in the account already counts once: its claim takes on the ids and the time, also in an
        account that is full. `sweep_time` is stored if the account's own is later or unset.
        """
        ...

    async def settle_claim(self, subject: str, claim: Claim) -> None:
        """Replaces the ids of the claim with this key; of one that is not there nothing."""
        ...

    async def release(self, subject: str, claim: Claim, *, only_as_of: datetime | None = None) -> bool:
        """Takes the claim with this key away, given an instant only if its time is still that one.

        Returns whether it did. One that is not there stays away.
        """
        ...

    async def find_account(self, subject: str) -> Account | None:
        """Returns the account as of the last durable write."""
        ...

    async def accounts_to_sweep(self, *, until: datetime, limit: int) -> list[Balance]:
        """Returns accounts whose `sweep_time` has come, the longest waiting first."""
        ...

    async def reschedule_account(self, balance: Balance, sweep_time: datetime) -> bool:
        """Stores `sweep_time` if the stored one is still the balance's; returns whether it did."""
        ...

    async def close_account(self, subject: str) -> None:
        """Removes the account if nothing is open in it."""
        ...

    async def remove_account(self, subject: str) -> None:
        """Removes the account with all its claims."""
        ...


class SweepRecords(Protocol):
    """What the sweeper of every server takes its work from; taking it is a conditional update."""

    async def uploads_to_sweep(self, *, until: datetime, limit: int) -> list[Upload]:
        """Returns uploads whose `sweep_time` has come, the longest waiting first."""
        ...

    async def reschedule_upload(self, upload: Upload, sweep_time: datetime | None, *, is_swept: bool) -> bool:
        """Stores both if the stored `sweep_time` is still the upload's; returns whether it did."""
        ...

    async def erase_places(self, upload: Upload, sweep_time: datetime) -> bool:
        """Stores `upload.without_places()` with this `sweep_time` if the stored `sweep_time` is still the upload's.

        Returns whether it did.
        """
        ...

    async def count_cut_timeout(self, upload_id: str) -> int:
        """Counts that there was once more no time for an upload's cuts; returns how often that was. Durable.

        Raises UploadNotFound.
        """
        ...

    async def purge_upload(self, upload: Upload) -> bool:
        """Removes the record if the stored `sweep_time` is still the upload's; returns whether it did."""
        ...


class AssetRecords(Protocol):
    """The assets, durable as UploadRecords. Deleted ones are kept for a while, marked."""

    async def find_assets(self, asset_ids: Sequence[str]) -> dict[str, Asset]:
        """Returns those that exist, by id, deleted ones included."""
        ...

    async def list_assets(self, *, partition: str, before_id: str, limit: int) -> list[Asset]:
        """Returns the partition's assets by descending id, below `before_id`, without deleted ones.

        Fewer than `limit` means that there are no more.
        """
        ...

    async def advance_asset(self, asset: Asset) -> bool:
        """Stores a refreshed or deleted asset if the stored revision is still the one before.

        Returns whether it did; losing that race changes nothing. Of a deleted one, the upload's details are erased too.
        """
        ...

    async def changed_assets(
        self, *, partition: str, since: LedgerTime, after: tuple[LedgerTime, str] | None, limit: int
    ) -> list[Asset]:
        """Returns the partition's assets changed at that instant of the ledger's clock or later, deleted included, by
        ascending `(change_time, asset_id)`, above `after` where one is given.

        Fewer than `limit` means that there were no more.
        """
        ...


class ProgressRecords(Protocol):
    """How far uploads are: newest only, and no promise that it lasts."""

    async def put_progress(self, progress: Progress) -> None:
        """Replaces what is known of the upload's progress."""
        ...


T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Delivery(Generic[T_co]):
    """What a mailbox held: the newest state of each record that changed, in the order in which they changed first."""

    news: Sequence[T_co]
    missed_since: LedgerTime | None  # the reader has to read again what changed since then; None: `news` is all
    until: LedgerTime  # every change before it is in here or was delivered earlier, or lies after `missed_since`


class Mailbox(Protocol[T_co]):
    """Where one watcher finds what changed. Bounded: a slow reader is sent to read again, nothing is queued for it."""

    @property
    def opened_at(self) -> LedgerTime:
        """An instant of the ledger's clock: what changes after it is delivered."""
        ...

    async def next(self, timeout: timedelta) -> Delivery[T_co]:
        """Returns what changed since the last call, waiting for at least one change; an empty one after `timeout`.

        Raises ShuttingDown when the server is about to stop.
        """
        ...


class ChangeHub(Protocol):
    """Wakes watchers. Order at the start of a watch: open the mailbox, then read, then follow."""

    def watch_upload(self, upload_id: str) -> AbstractAsyncContextManager[Mailbox[Upload | Progress]]:
        """Opens a mailbox for one upload: from its start on, no change is missed."""
        ...

    def watch_session(self, session_id: str, uid: str) -> AbstractAsyncContextManager[Mailbox[Upload | Progress]]:
        """Opens a mailbox for an owner's uploads of a session, those requested later included; empty: everybody's.

        Nobody else's uploads wake it: a session id is the client's choice, and two owners may choose the same.
        """
        ...

    def watch_partition(self, partition: str) -> AbstractAsyncContextManager[Mailbox[Asset]]:
        """Opens a mailbox for all assets of a partition, deleted ones included."""
        ...

    async def read_upload(self, upload_id: str) -> Upload | None:
        """Returns the upload as of the last durable write."""
        ...

    async def read_session(self, session_id: str, uid: str) -> list[Upload] | None:
        """Returns the uploads that `watch_session` is about, oldest first, as of the last durable write.

        None when they are too many to be read at once: read them with `UploadRecords.scan_uploads`.
        """
        ...
