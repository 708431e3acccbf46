"""Reports to the server how far an upload is, so that its watchers see it too."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from assetlane.errors import DeadlineExceeded, ResourceExhausted, Unavailable

logger = logging.getLogger(__name__)

QUIET = 0.5  # seconds: an upload that takes no longer is over before anybody could look
INTERVAL = 0.34  # seconds between two reports
PATIENCE = 5.0  # seconds for one of them

_TRANSIENT = (Unavailable, DeadlineExceeded, ResourceExhausted, TimeoutError)


class Reporter:
    """Reports what is sent: newest only, in a task of its own that neither slows nor fails the upload."""

    def __init__(self, report: Callable[[Mapping[str, int]], Awaitable[None]], upload_id: str) -> None:
        self._report = report
        self._upload_id = upload_id
        self._sent: dict[str, int] = {}
        self._news = asyncio.Event()

    def sent(self, variant: str, sent_bytes: int) -> None:
        """Notes that so much of the variant has been sent, of the current try."""
        self._sent[variant] = sent_bytes
        self._news.set()

    async def run(self) -> None:
        """Reports until it is cancelled, or the server does not want to hear any more. Raises nothing."""
        await asyncio.sleep(QUIET)
        while await self._news.wait():
            self._news.clear()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._report(dict(self._sent))
            except _TRANSIENT as error:
                logger.debug("progress of upload %s was not reported: %r", self._upload_id, error)
            except Exception as error:  # a report is an extra: not even a faulty token function may end the upload
                logger.debug("progress of upload %s is not reported any more: %r", self._upload_id, error)
                return
            await asyncio.sleep(INTERVAL)
