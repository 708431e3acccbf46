"""What use cases and adapters report of their work, so that an operator can see it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from assetlane_server.model.upload import Upload

Server = Literal["mongodb", "s3"]


_NOTHING: AbstractContextManager[object] = nullcontext()  # has no state: all may share it


class Meter:
    """Is called when something happens, and does nothing itself: the instruments of an operator override it.

    Never raises and never waits: no work depends on being seen.
    """

    def asking(self, server: Server, operation: str) -> AbstractContextManager[object]:
        """Lasts as long as one operation on a server outside; one that ends with an exception failed."""
        return _NOTHING

    def moved(self, upload: Upload, *, after_revision: int) -> None:
        """The upload's status changes after that revision are durable, and this process made them."""

    def skipped(self) -> None:
        """A record was skipped because this version cannot read it."""

    def stream_lost(self) -> None:
        """The change stream was lost: the hub reopens it."""

    def delivered(self, delay_s: float) -> None:
        """Watchers have been given changes; the oldest had waited for so long since the stream sent it."""

    def sweeping(self) -> AbstractContextManager[object]:
        """Lasts as long as the sweeper works on one batch; one that ends with an exception failed."""
        return _NOTHING

    def swept(self, kind: str, *, is_settled: bool) -> None:
        """The sweeper had a look at an upload (`kind` is the status it found, in lower case) or an `asset`."""

    def waiting_to_cut(self) -> AbstractContextManager[object]:
        """Lasts as long as a picture waits for its turn to be cut."""
        return _NOTHING

    def cutting(self) -> AbstractContextManager[object]:
        """Lasts as long as the cuts of one picture take to make; ends with PictureRefused for one without."""
        return _NOTHING


UNMETERED = Meter()
