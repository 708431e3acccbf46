"""Proves that what the store has is what was promised: its metadata and the first bytes of every variant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from assetlane_server.concurrency.gathering import all_at_once
from assetlane_server.model.asset import StoredObject, difference
from assetlane_server.model.sniffing import SNIFFED_BYTES, is_sniffed, mislabelled
from assetlane_server.model.upload import Failure, Upload, VariantPromise
from assetlane_server.ports.object_store import ObjectStore

# One GET of a whole object this small costs less than a HEAD and a GET of its first bytes. Measured by `make bench`.
SMALL_BYTES: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the store says about one object, and its first bytes where the same answer held them."""

    stored: StoredObject
    start: bytes | None = None


class Prover:
    """Looks at the variants of an upload, at all of them at once."""

    def __init__(self, store: ObjectStore, *, accept_mislabelled: bool) -> None:
        self._store = store
        self._accept_mislabelled = accept_mislabelled

    async def evidence(self, variants: Sequence[VariantPromise]) -> dict[str, Evidence]:
        """Returns what the store says about those variants that are there, by name."""
        found = await all_at_once(*(self._look(variant) for variant in variants))
        return {variant.name: it for variant, it in zip(variants, found, strict=True) if it is not None}

    async def broken_promise(self, upload: Upload, evidence: Mapping[str, Evidence]) -> Failure | None:
        """Returns how what is stored differs from what was promised, None if it does not."""
        for variant in upload.variants:
            found = evidence.get(variant.name)
            if found is None:
                return Failure("VARIANT_LOST", f"{variant.name}: it was in the store, and is there no more.")
            if failure := difference(variant, found.stored, reports_sha256=self._store.reports_sha256):
                return failure
        variants = [variant for variant in upload.variants if self._has_signature(variant)]
        starts = await all_at_once(*(self._start(variant, evidence[variant.name]) for variant in variants))
        failures = (mislabelled(variant, start) for variant, start in zip(variants, starts, strict=True))
        return next((failure for failure in failures if failure), None)

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

    async def _start(self, variant: VariantPromise, evidence: Evidence) -> bytes:
        if evidence.start is not None:
            return evidence.start
        return await self._store.read_start(variant.key, SNIFFED_BYTES)

    def _has_signature(self, variant: VariantPromise) -> bool:
        # An empty object has no first bytes, and those of many types show nothing.
        return not self._accept_mislabelled and variant.size_bytes > 0 and is_sniffed(variant.content_type)
