"""What a watcher of a partition receives: plain values."""

from dataclasses import dataclass
from enum import StrEnum

from assetlane_server.model.upload import Asset


class AssetEventKind(StrEnum):
    """What a watcher of a partition is sent."""

    PRESENT = "PRESENT"
    ADDED = "ADDED"
    REFRESHED = "REFRESHED"
    DELETED = "DELETED"
    SYNCED = "SYNCED"
    HEARTBEAT = "HEARTBEAT"


@dataclass(frozen=True, slots=True)
class AssetEvent:
    """One event; the token resumes the watch after it."""

    kind: AssetEventKind
    asset: Asset | None
    resume_token: str
