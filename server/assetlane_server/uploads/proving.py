"""Proves that what the store has is what was promised: its metadata and the first bytes of every variant."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from assetlane_server.model.pages import MAX_PAGE_SIZE
from assetlane_server.model.parts import StoredPart, are_whole
from assetlane_server.model.proof import Evidence, StoredObject, broken_promise
from assetlane_server.model.sniffing import SNIFFED_BYTES, is_sniffed
from assetlane_server.model.upload import Failure, Upload, VariantPromise
from assetlane_server.ports.object_store import ObjectStore

# One GET of a whole object this small costs less than a HEAD and a GET of its first bytes. Measured by `make bench`.
SMALL_BYTES: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class Arrival:
    """What has arrived of an upload, by the names of its variants."""

    objects: Mapping[str, Evidence]
    parts: Mapping[str, Sequence[StoredPart]]  # of the variants that are whole, and not put together yet
    missing: Sequence[str]


class Prover:
    """Looks at the variants of an upload, at all of them at once, and puts those together that came in parts."""

    def __init__(self, store: ObjectStore, *, accept_mislabelled: bool) -> None:
        self._store = store
        self._accept_mislabelled = accept_mislabelled

    async def find(self, upload: Upload) -> Arrival:
        """Returns what has arrived: objects, and where there is none, parts that make one."""
        objects = await self._objects(upload.variants)
        # Parts are looked for only where there is no object: it may have been made of them already.
        loose = [one for one in upload.variants if one.name not in objects and one.name in upload.multipart_ids]
        listed = await asyncio.gather(*(self._all_parts(one.key, upload.multipart_ids[one.name]) for one in loose))
        parts = {one.name: found for one, found in zip(loose, listed, strict=True) if are_whole(one, found)}
        missing = [one.name for one in upload.variants if one.name not in objects and one.name not in parts]
        return Arrival(objects, parts, missing)

    async def prove(self, upload: Upload, arrival: Arrival) -> list[StoredObject] | Failure:
        """Returns what is stored of the variants, in their order, or how it differs from what was promised.

        Makes objects of the parts first.
        """
        objects = arrival.objects
        if arrival.parts:
            if failure := await self._assemble(upload, arrival.parts):
                return failure
            # Whether they are there now is for the store to say: another server may be at it too.
            objects = await self._objects(upload.variants)
        started = await self._with_starts(upload.variants, objects)
        failure = broken_promise(upload.variants, started, reports_sha256=self._store.reports_sha256)
        return failure or [objects[variant.name].stored for variant in upload.variants]

    async def _objects(self, variants: Sequence[VariantPromise]) -> dict[str, Evidence]:
        found = await asyncio.gather(*(self._look(variant) for variant in variants))
        return {variant.name: it for variant, it in zip(variants, found, strict=True) if it is not None}

    async def _all_parts(self, key: str, multipart_id: str) -> tuple[StoredPart, ...]:
        parts: list[StoredPart] = []
        after = 0
        while True:
            page = await self._store.multiparts.list_parts(key, multipart_id, after=after, limit=MAX_PAGE_SIZE)
            if page is None:
                return ()
            parts += page.parts
            after = page.after
            if not after:
                return tuple(parts)

    async def _assemble(self, upload: Upload, parts: Mapping[str, Sequence[StoredPart]]) -> Failure | None:
        """Makes objects of these parts; returns why the store will never take the parts of one, None otherwise."""
        variants = [variant for variant in upload.variants if variant.name in parts]
        complete = self._store.multiparts.complete
        refusals = await asyncio.gather(
            *(complete(one, upload.multipart_ids[one.name], parts[one.name]) for one in variants)
        )
        for variant, refusal in zip(variants, refusals, strict=True):
            if refusal:
                message = f"{variant.name}: the store does not put its parts together ({refusal})."
                return Failure("PARTS_REFUSED", message)
        return None

    async def _look(self, variant: VariantPromise) -> Evidence | None:
        if self._has_signature(variant) and variant.size_bytes <= SMALL_BYTES:
            found = await self._store.read_small(variant.key, variant.size_bytes)
            if found is None:
                return None
            stored, body = found
            # Some stores report checksums with a HEAD only.
            if stored.sha256 or not variant.sha256 or self._store.reports_sha256 is False:
                return Evidence(stored, body[:SNIFFED_BYTES])
        stored_now = await self._store.head(variant.key)
        return None if stored_now is None else Evidence(stored_now)

    async def _with_starts(
        self, variants: Sequence[VariantPromise], objects: Mapping[str, Evidence]
    ) -> Mapping[str, Evidence]:
        unread = [one for one in variants if one.name in objects and self._is_to_be_read(one, objects[one.name])]
        if not unread:
            return objects
        starts = await asyncio.gather(*(self._store.read_start(one.key, SNIFFED_BYTES) for one in unread))
        read = {one.name: Evidence(objects[one.name].stored, it) for one, it in zip(unread, starts, strict=True)}
        return {**objects, **read}

    def _is_to_be_read(self, variant: VariantPromise, evidence: Evidence) -> bool:
        # Another size breaks the promise already, and of an empty object there is nothing to read.
        is_known = evidence.start is not None or evidence.stored.size_bytes != variant.size_bytes
        return not is_known and self._has_signature(variant)

    def _has_signature(self, variant: VariantPromise) -> bool:
        # An empty object has no first bytes, and those of many types show nothing.
        return not self._accept_mislabelled and variant.size_bytes > 0 and is_sniffed(variant.content_type)
