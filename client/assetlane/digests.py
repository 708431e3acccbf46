"""What proves the bytes of an object: their SHA-256, or that of its parts' SHA-256s. Pure."""

import hashlib
from typing import Protocol


class Digest(Protocol):
    """Takes bytes in order, in pieces of any size."""

    def update(self, data: bytes, /) -> None:
        """Takes the next piece."""

    def digest(self) -> bytes:
        """Returns the digest of all that came so far."""


class PartsDigest:
    """The SHA-256 over the SHA-256s of parts of `part_size_bytes`, the last one with what is left."""

    def __init__(self, part_size_bytes: int) -> None:
        self._size_bytes = part_size_bytes
        self._sums = hashlib.sha256()
        self._part = hashlib.sha256()
        self._left = part_size_bytes

    def update(self, data: bytes, /) -> None:
        """Takes the next piece, whichever parts it belongs to."""
        rest = memoryview(data)
        while rest:
            if not self._left:
                self._sums.update(self._part.digest())
                self._part, self._left = hashlib.sha256(), self._size_bytes
            piece, rest = rest[: self._left], rest[self._left :]
            self._part.update(piece)
            self._left -= len(piece)

    def digest(self) -> bytes:
        """Returns the digest of all that came so far, a part that is not full included."""
        sums = self._sums.copy()
        sums.update(self._part.digest())
        return sums.digest()


def digest_for(part_size_bytes: int) -> Digest:
    """Returns a fresh digest: of the whole when there are no parts."""
    return PartsDigest(part_size_bytes) if part_size_bytes else hashlib.sha256()
