"""Who may do what to uploads and partitions."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from typing_extensions import override

from assetlane_server.model.admission import required
from assetlane_server.model.caller import CallerKind
from assetlane_server.model.errors import (
    FieldViolation,
    InvalidRequest,
    PartitionNotFound,
    PartitionReadOnly,
    UidMismatch,
    UploadNotFound,
)
from assetlane_server.model.upload import Upload
from assetlane_server.ports.access import Access
from assetlane_server.ports.upload_records import UploadRecords


@dataclass(frozen=True, slots=True)
class Unrestricted(Access):
    """May do all, in anybody's name. The server itself, and every caller of one that asks for no proof."""

    uid: str | None = None
    expire_time: datetime | None = None
    kind: CallerKind = CallerKind.ANONYMOUS
    actor: str = ""
    caller: str | None = None
    max_watches: int | None = None
    calls_per_second: float | None = None

    @override
    def may_read(self, partition: str) -> bool:
        return True

    @override
    def may_write(self, partition: str) -> bool:
        return True

    @override
    def acting_for(self, uid: str) -> Self | None:
        return self

    @override
    def may_handle(self, upload: Upload) -> bool:
        return True

    @override
    def check(self, rpc: str) -> None:
        return


UNRESTRICTED = Unrestricted()


async def owned_upload(uploads: UploadRecords, upload_id: str, access: Access) -> Upload:
    """Returns one upload of the caller's. Raises InvalidRequest, UploadNotFound, also for somebody else's."""
    upload = await uploads.find_upload(required("upload_id", upload_id))
    if upload is None or not access.may_handle(upload):
        raise UploadNotFound(upload_id)
    return upload


def acting_for(access: Access, uid: str) -> Access:
    """Returns what the caller may do in the name of the user that a request names.

    Raises InvalidRequest where a service caller names none, UidMismatch for a user that is not the caller's.
    """
    if access.kind is CallerKind.SERVICE and not uid:
        limit = "is required: a service caller names the user that it acts for"
        raise InvalidRequest([FieldViolation("uid", limit)])
    bound = access.acting_for(uid)
    if bound is None:
        raise UidMismatch.of_service() if access.kind is CallerKind.SERVICE else UidMismatch()
    return bound


def check_may_read(access: Access, partition: str) -> None:
    """Raises PartitionNotFound if the caller may not see what is in it, whether anything is or not."""
    if not access.may_read(partition):
        raise PartitionNotFound(partition)


def check_may_write(access: Access, partition: str) -> None:
    """Raises PartitionReadOnly if the caller may only read it, PartitionNotFound if not even that."""
    if not access.may_write(partition):
        check_may_read(access, partition)
        raise PartitionReadOnly(partition)
