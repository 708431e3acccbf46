"""Proves that what the store has is what was promised: one HEAD and one look at the first bytes per variant."""

from collections.abc import Mapping, Sequence

from assetlane_server.concurrency.gathering import all_at_once
from assetlane_server.model.asset import StoredObject, difference
from assetlane_server.model.sniffing import SNIFFED_BYTES, is_sniffed, mislabelled
from assetlane_server.model.upload import Failure, Upload, VariantPromise
from assetlane_server.ports.object_store import ObjectStore


class Prover:
    """Looks at the variants of an upload, at all of them at once."""

    def __init__(self, store: ObjectStore, *, accept_mislabelled: bool) -> None:
        self._store = store
        self._accept_mislabelled = accept_mislabelled

    async def stored(self, variants: Sequence[VariantPromise]) -> dict[str, StoredObject]:
        """Returns what the store says about those variants that are there, by name."""
        found = await all_at_once(*(self._store.head(variant.key) for variant in variants))
        return {variant.name: it for variant, it in zip(variants, found, strict=True) if it is not None}

    async def broken_promise(self, upload: Upload, stored: Mapping[str, StoredObject]) -> Failure | None:
        """Returns how what is stored differs from what was promised, None if it does not."""
        for variant in upload.variants:
            found = stored.get(variant.name)
            if found is None:
                return Failure("VARIANT_LOST", f"{variant.name}: it was in the store, and is there no more.")
            if failure := difference(variant, found, reports_sha256=self._store.reports_sha256):
                return failure
        if self._accept_mislabelled:
            return None
        # An empty object has no first bytes, and of many types nothing can be told by them.
        looked_at = [variant for variant in upload.variants if variant.size_bytes and is_sniffed(variant.content_type)]
        starts = await all_at_once(*(self._store.read_start(variant.key, SNIFFED_BYTES) for variant in looked_at))
        failures = (mislabelled(variant, start) for variant, start in zip(looked_at, starts, strict=True))
        return next((failure for failure in failures if failure), None)
