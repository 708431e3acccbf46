"""Who may do what to uploads and partitions."""

from dataclasses import dataclass
from datetime import datetime

from assetlane_server.uploads.admission import required
from assetlane_server.uploads.errors import PartitionNotFound, PartitionReadOnly, UploadNotFound
from assetlane_server.uploads.ports import Access, UploadRecords
from assetlane_server.uploads.upload import Upload


@dataclass(frozen=True, slots=True)
class Unrestricted:
    """See Access: may do all, in anybody's name. The server itself, and every caller of one that asks for no proof."""

    uid: str | None = None
    expire_time: datetime | None = None

    def may_read(self, partition: str) -> bool:
        """See Access."""
        return True

    def may_write(self, partition: str) -> bool:
        """See Access."""
        return True


UNRESTRICTED = Unrestricted()


def owns(access: Access, upload: Upload) -> bool:
    """Returns whether the caller is the upload's owner, the only one who may see it."""
    return access.uid is None or access.uid == upload.uid


async def owned_upload(uploads: UploadRecords, upload_id: str, access: Access) -> Upload:
    """Returns one upload of the caller's. Raises InvalidRequest, UploadNotFound, also for somebody else's."""
    upload = await uploads.find_upload(required("upload_id", upload_id))
    if upload is None or not owns(access, upload):
        raise UploadNotFound(upload_id)
    return upload


def check_may_read(access: Access, partition: str) -> None:
    """Raises PartitionNotFound if the caller may not see what is in it, whether anything is or not."""
    if not access.may_read(partition):
        raise PartitionNotFound(partition)


def check_may_write(access: Access, partition: str) -> None:
    """Raises PartitionReadOnly if the caller may only read it, PartitionNotFound if not even that."""
    if not access.may_write(partition):
        check_may_read(access, partition)
        raise PartitionReadOnly(partition)
