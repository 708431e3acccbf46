"""Deletes what ended uploads and assets leave at the store: their objects, and multipart uploads in their places."""

import logging
from collections.abc import Iterable, Mapping, Sequence

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
        # Another server may have opened a second one in the same place.
        await abort_all(store, _places(upload.variants))
    except StoreUnavailable as error:
        _log.warning("multipart uploads beside upload %s are left to the sweeper: %s", upload.upload_id, error)


async def discard_upload(store: ObjectStore, upload: Upload) -> None:
    """Deletes what is stored of an upload and aborts every multipart upload in its places.

    The known ones by their ids, and whatever a listing finds: a server may have died after it opened one.
    """
    keys = {variant.name: variant.key for variant in upload.variants}
    known = [(keys[name], multipart_id) for name, multipart_id in upload.multipart_ids.items()]
    await _discard(store, _places(upload.variants), upload.keys, known)


async def discard_asset(store: ObjectStore, asset: Asset) -> None:
    """Deletes the objects of an asset, and what else was ever opened in their places."""
    await _discard(store, _places(asset.variants), [variant.key for variant in asset.variants])


async def abort_all(store: ObjectStore, keys: Sequence[str], known: Iterable[tuple[str, str]] = ()) -> None:
    """Aborts the known multipart uploads, by key and id, and every one of exactly these keys that the store lists."""
    found = list(known)
    for key in keys:
        after = ""
        while True:
            page = await store.multiparts.list_open(key, after)
            found += [(key, one.multipart_id) for one in page.open if one.key == key]
            after = page.after
            if not after:
                break
    await all_settled(*(store.multiparts.abort(key, multipart_id) for key, multipart_id in dict.fromkeys(found)))


async def abort_multiparts(store: ObjectStore, upload: Upload, multipart_ids: Mapping[str, str]) -> None:
    """Aborts these multipart uploads, by the names of their variants; those that are not there count as aborted."""
    keys = {variant.name: variant.key for variant in upload.variants}
    await all_settled(*(store.multiparts.abort(keys[name], one) for name, one in multipart_ids.items()))


async def _discard(
    store: ObjectStore, places: Sequence[str], keys: Sequence[str], known: Iterable[tuple[str, str]] = ()
) -> None:
    await abort_all(store, places, known)
    # Of what was deleted for good no key is left.
    if there := [key for key in keys if key]:
        await store.delete(there)


def _places(variants: Sequence[VariantPromise] | Sequence[AssetVariant]) -> list[str]:
    """Returns where multipart uploads may have been opened."""
    return [variant.key for variant in variants if variant.part_size_bytes and variant.key]
