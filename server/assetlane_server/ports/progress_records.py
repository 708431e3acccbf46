"""The port of reported progress."""

from typing import Protocol

from assetlane_server.model.progress import Progress


class ProgressRecords(Protocol):
    """How far uploads are: newest only, and no promise that it lasts."""

    async def put_progress(self, progress: Progress) -> None:
        """Replaces what is known of the upload's progress."""
        ...
