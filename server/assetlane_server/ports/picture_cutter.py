"""The port of what makes cuts."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from assetlane_server.model.cut_plan import CutPlan
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.ports.cut_picture import CutPicture


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
