"""Free loopback ports, claimed in blocks so that two stacks never meet."""

import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from assetlane_server.local.errors import LocalStackError

LOOPBACK: Final = "127.0.0.1"
GRPC_OFFSET: Final = 10_000
"""SeaweedFS listens for gRPC on each of its ports plus this."""

# Both a port and its gRPC twin stay below 32768, where systems begin to give ports to outgoing connections.
FIRST_PORT: Final = 12_000
LAST_PORT: Final = 21_999
BLOCK_SIZE: Final = 8
BLOCK_STARTS: Final = range(FIRST_PORT, LAST_PORT + 2 - BLOCK_SIZE, BLOCK_SIZE)


@dataclass(frozen=True, slots=True)
class PortBlock:
    """A claim on eight neighbouring ports and their gRPC twins.

    The first port is the claim itself: bound and never listened on, so among stacks exactly one can hold it.
    Other programs know nothing of claims and may still take one of the ports before its server does.
    """

    first_port: int
    claim: socket.socket

    @property
    def mongo(self) -> int:
        """The port of the MongoDB protocol."""
        return self.first_port + 1

    @property
    def s3(self) -> int:
        """The port of the S3 protocol."""
        return self.first_port + 2

    @property
    def s3_inner(self) -> tuple[int, int, int, int]:
        """The ports of SeaweedFS's own master, volume, filer and admin servers."""
        return (self.first_port + 3, self.first_port + 4, self.first_port + 5, self.first_port + 6)

    def are_free(self) -> bool:
        """Says whether nobody listens on any port that the servers will take."""
        with_grpc = (self.s3, *self.s3_inner)
        return all(is_free(port) for port in (self.mongo, *with_grpc, *(p + GRPC_OFFSET for p in with_grpc)))

    def release(self) -> None:
        """Gives the block up."""
        self.claim.close()


def claim_block(preferred: int | None = None) -> PortBlock:
    """Claims a free block, the preferred one if it still can be had.

    Raises LocalStackError when there is none.
    """
    for first_port in candidates(preferred):
        if (claim := bound(first_port)) is None:
            continue
        block = PortBlock(first_port, claim)
        if block.are_free():
            return block
        block.release()
    raise LocalStackError(
        f"no free block of {BLOCK_SIZE} ports on {LOOPBACK}, {FIRST_PORT} to {LAST_PORT}: stop other servers"
    )


def candidates(preferred: int | None) -> Iterator[int]:
    """Yields the preferred block first, then all in random order, so that racing stacks seldom meet."""
    if preferred is not None and preferred in BLOCK_STARTS:
        yield preferred
    yield from random.sample(BLOCK_STARTS, len(BLOCK_STARTS))


def bound(port: int, *, reuse: bool = False) -> socket.socket | None:
    """Returns a socket bound to this loopback port, or None when somebody else has it."""
    candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if reuse:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        candidate.bind((LOOPBACK, port))
    except OSError:
        candidate.close()
        return None
    return candidate


def is_free(port: int) -> bool:
    """Says whether a server could listen on this port now; ports of connections just closed count as free."""
    if (probe := bound(port, reuse=True)) is None:
        return False
    probe.close()
    return True
