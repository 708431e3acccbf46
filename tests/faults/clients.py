"""Connections that many watches share, as those of a back end do."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import grpc

from assetlane import Client
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub

if TYPE_CHECKING:
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

WATCHES_PER_CONNECTION: Final = 25

CHANNEL_OPTIONS: Final = (
    # Not the 10 s that the server allows at most: a ping that comes a moment early counts as too often.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
)
# Slow readers that make the server wait: next to nothing is on its way that they have not asked for.
NARROW: Final = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))


class ClientPool:
    """Hands out thin clients and bare stubs, each for some watches, on `targets` in turn.

    `resources` closes them.
    """

    def __init__(self, resources: AsyncExitStack, targets: Sequence[str]) -> None:
        self._resources = resources
        self._targets = targets
        self._opened: Counter[str] = Counter()
        self._client: Client | None = None
        self._stubs: dict[bool, UploadServiceAsyncStub] = {}

    async def client(self) -> Client:
        """Returns a thin client for the next watch."""
        if self._client is None or self._is_full("thin"):
            self._client = await self._resources.enter_async_context(Client(self._target("thin"), uid="7f3a"))
        return self._client

    async def stub(self, *, is_narrow: bool) -> "UploadServiceAsyncStub":
        """Returns a bare stub for the next watch; a narrow one has next to no flow-control window."""
        kind = "narrow" if is_narrow else "bare"
        if is_narrow not in self._stubs or self._is_full(kind):
            options = [*CHANNEL_OPTIONS, *(NARROW if is_narrow else ())]
            channel = grpc.aio.insecure_channel(self._target(kind), options=options)
            self._stubs[is_narrow] = UploadServiceStub(await self._resources.enter_async_context(channel))
        return self._stubs[is_narrow]

    def _is_full(self, kind: str) -> bool:
        self._opened[kind] += 1
        return self._opened[kind] % WATCHES_PER_CONNECTION == 0

    def _target(self, kind: str) -> str:
        return self._targets[self._opened[kind] // WATCHES_PER_CONNECTION % len(self._targets)]


class LostWatches(logging.Handler):
    """Counts how often a watch of the thin client was lost and went on."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Counts one."""
        self.count += str(record.msg).startswith("watch lost")


@contextmanager
def counted_lost_watches() -> Iterator[LostWatches]:
    """Counts as long as the block lasts: a thin client reports it only in its log."""
    logger, handler = logging.getLogger("assetlane.watching"), LostWatches()
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates
