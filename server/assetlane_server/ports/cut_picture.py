"""The port of one picture's cuts, made and not stored yet."""

from collections.abc import Sequence
from typing import Protocol

from assetlane_server.model.cut_plan import MadePicture
from assetlane_server.model.presigned import PresignedRequest


class CutPicture(Protocol):
    """The cuts of one picture, made and not stored yet."""

    made: MadePicture
    """What the picture is, and its cuts."""

    async def store(self, requests: Sequence[PresignedRequest]) -> list[bool]:
        """Sends each cut with its PUT, in their order; returns whether it was stored now.

        False: something was stored under its key before, and is still. Raises StoreUnavailable.
        """
        ...
