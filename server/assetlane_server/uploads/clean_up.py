"""Deletes what ended uploads and assets leave at the store: their objects, and multipart uploads in their places."""

import logging
from collections.abc import Mapping, Sequence

from assetlane_server.concurrency.gathering import all_settled
from assetlane_server.model.errors import StoreUnavailable
from assetlane_server.model.upload import Asset, AssetVariant, Status, Upload, VariantPromise
from assetlane_server.ports.object_store import ObjectStore

_log = logging.getLogger(__name__)


async def clean_up(store: ObjectStore, upload: Upload) -> None:
    """Deletes what the store holds of an upload that has ended, except the objects of its asset.

    Where there is an asset, what the store does not do now is left to the sweeper.
    """
    if upload.status is not Status.COMPLETED:
        await discard_upload(store, upload)
        return
    try:
        for variant in upload.variants:
            if variant.part_size_bytes:
                # Another server may have opened a second one in the same place.
                await abort_all(store, variant.key)
    except StoreUnavailable as error:
        _log.warning("multipart uploads beside upload %s are left to the sweeper: %s", upload.upload_id, error)


async def discard_upload(store: ObjectStore, upload: Upload) -> None:
    """Deletes what is stored of an upload and aborts every multipart upload in its places.

    The known ones by their ids, and whatever a listing finds: a server may have died after it opened one.
    """
    await abort_multiparts(store, upload.variants, upload.multipart_ids)
    await _discard(store, upload.variants, upload.keys)


async def discard_asset(store: ObjectStore, asset: Asset) -> None:
    """Deletes the objects of an asset, and what else was ever opened in their places."""
    await _discard(store, asset.variants, [variant.key for variant in asset.variants])


async def abort_multiparts(
    store: ObjectStore, variants: Sequence[VariantPromise], multipart_ids: Mapping[str, str]
) -> None:
    """Aborts these multipart uploads; those that are not there count as aborted."""
    keys = {variant.name: variant.key for variant in variants}
    await all_settled(*(store.multiparts.abort(keys[name], one) for name, one in multipart_ids.items()))


async def _discard(
    store: ObjectStore, variants: Sequence[VariantPromise] | Sequence[AssetVariant], keys: Sequence[str]
) -> None:
    # Of what was deleted for good no key is left.
    in_parts = [variant.key for variant in variants if variant.part_size_bytes and variant.key]
    await all_settled(*(abort_all(store, key) for key in in_parts))
    if there := [key for key in keys if key]:
        await store.delete(there)


async def abort_all(store: ObjectStore, key: str) -> None:
    """Aborts every multipart upload of exactly that key that the store lists."""
    after = ""
    while True:
        page = await store.multiparts.list_open(key, after)
        await all_settled(*(store.multiparts.abort(key, one.multipart_id) for one in page.open if one.key == key))
        after = page.after
        if not after:
            return
