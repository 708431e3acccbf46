"""Parts that the store has from an earlier run of another file."""

from collections.abc import Collection, Sequence
from typing import Any

import aiohttp
from tests.client.object_store import ObjectStore

from assetlane.parts import REPLACE_DELAY, PartsTransfer
from assetlane.sources import Source
from assetlane.v1.upload_pb2 import MultipartTarget
from assetlane.v1.upload_service_pb2 import PartPromise, SignedPart, StoredPart

PARTS = 12
PART_BYTES = 1000


class Uploads:
    """See UploadCalls: every part is stored, of another file."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def sign_parts(self, upload_id: str, variant: str, parts: Sequence[PartPromise]) -> Sequence[SignedPart]:
        """Signs PUTs of the parts."""
        return [
            SignedPart(part_number=part.part_number, request=self._store.target(f"part{part.part_number}", PART_BYTES))
            for part in parts
        ]

    async def list_parts(self, upload_id: str, variant: str) -> Collection[StoredPart]:
        """Lists all of them."""
        return [
            StoredPart(part_number=number, size_bytes=PART_BYTES, sha256=b"x" * 32) for number in range(1, PARTS + 1)
        ]


async def test_parts_that_differ_are_replaced_after_one_pause_in_all(store: ObjectStore) -> None:
    """A store that reports times to the second has to see that they are newer: newer than all that was listed."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    source = Source.of(bytes(PARTS * PART_BYTES))
    target = MultipartTarget(part_size_bytes=PART_BYTES, part_count=PARTS)
    uploads: Any = Uploads(store)
    async with aiohttp.ClientSession() as session:
        transfer = PartsTransfer(uploads, session, "U1", "original", source, target, lambda _sent: None, pause)
        await transfer.run(resumes=True)
    assert len(store.sizes) == PARTS
    assert 0 < max(pauses) <= REPLACE_DELAY
    # This clock does not move while it pauses: what is left gets shorter with each part, and is never a second again.
    assert pauses == sorted(pauses, reverse=True)
    assert sum(pauses) < PARTS * REPLACE_DELAY
