"""Multipart uploads of one upload: opened at the store, listed, put together, dropped. Nothing is kept in memory."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from assetlane_server.concurrency.gathering import all_at_once, all_settled
from assetlane_server.model.admission import Terms
from assetlane_server.model.content_headers import served
from assetlane_server.model.errors import MAX_ROUNDS, WrongStatus, too_many_rounds
from assetlane_server.model.pages import MAX_PAGE_SIZE, last_id_of, page_size, page_token
from assetlane_server.model.parts import (
    PartPromise,
    StoredPart,
    are_whole,
    check_promises,
    multipart_variant,
    part_number_of,
)
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import Asset, AssetVariant, Failure, Status, Upload, VariantPromise
from assetlane_server.ports.access import Access
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.ports.upload_records import UploadRecords
from assetlane_server.uploads.access import owned_upload
from assetlane_server.uploads.lanes import Lanes

Parts = tuple[StoredPart, ...]


class PartDesk:
    """What callers ask about parts while they upload."""

    def __init__(
        self,
        *,
        uploads: UploadRecords,
        store: ObjectStore,
        lanes: Lanes,
        signer: TokenSigner,
        terms: Terms,
        now: Callable[[], datetime],
    ) -> None:
        self._signer = signer
        self._uploads = uploads
        self._store = store
        self._lanes = lanes
        self._terms = terms
        self._now = now

    async def sign_parts(
        self, upload_id: str, name: str, promises: Sequence[PartPromise], access: Access
    ) -> tuple[PresignedRequest, ...]:
        """Signs a PUT of each part, for as long as a write URL lives, but not beyond the deadline.

        The upload's targets count as renewed: so the sweeper waits for these URLs too.
        Raises InvalidRequest, UploadNotFound, WrongStatus.
        """
        for _ in range(MAX_ROUNDS):
            upload = await self._initialized(upload_id, "signed for", access)
            variant = multipart_variant(upload, name)
            check_promises(variant, promises)
            renewed = upload.renewed(self._now(), self._terms.write_url_lifetime)
            ways = self._lanes.part_requests(renewed, variant, promises)
            if not ways:
                raise WrongStatus(upload_id, Status.EXPIRED, "signed for")
            if await self._uploads.renew_targets(renewed):
                return ways
        raise too_many_rounds(upload_id)

    async def list_parts(self, upload_id: str, name: str, size: int, token: str, access: Access) -> tuple[Parts, str]:
        """Returns a page of the parts that the store has and the token of the next page (empty: the last).

        Raises InvalidRequest, UploadNotFound, WrongStatus.
        """
        upload = await self._initialized(upload_id, "listed", access)
        variant = multipart_variant(upload, name)
        filters = ("parts", upload_id, name)
        page = await self._store.multiparts.list_parts(
            variant.key,
            upload.multipart_ids[name],
            after=part_number_of(last_id_of(self._signer, token, filters)),
            limit=page_size(size or MAX_PAGE_SIZE),
        )
        if page is None:  # completed or aborted a moment ago
            return (), ""
        return page.parts, page_token(self._signer, str(page.after), filters) if page.after else ""

    async def _initialized(self, upload_id: str, wish: str, access: Access) -> Upload:
        upload = await owned_upload(self._uploads, upload_id, access)
        if upload.status is not Status.INITIALIZED:
            raise WrongStatus(upload_id, upload.status, wish)
        return upload


async def open_multiparts(store: ObjectStore, upload: Upload) -> dict[str, str]:
    """Opens one multipart upload for each variant that needs one; returns the store's ids by name.

    When one fails, drops the others and raises what failed.
    """
    names = [variant.name for variant in upload.variants if variant.part_size_bytes]
    # Not a TaskGroup: it would stop the others in the middle, and what they opened would be in nobody's hands.
    outcomes = await asyncio.gather(
        *(store.multiparts.open(served(upload, variant)) for variant in upload.variants if variant.part_size_bytes),
        return_exceptions=True,
    )
    opened = {name: it for name, it in zip(names, outcomes, strict=True) if isinstance(it, str)}
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            await drop_multiparts(store, upload.variants, opened)
            raise outcome
    return opened


async def drop_multiparts(
    store: ObjectStore, variants: Sequence[VariantPromise], multipart_ids: Mapping[str, str]
) -> None:
    """Aborts these multipart uploads; those that are not there count as aborted."""
    keys = {variant.name: variant.key for variant in variants}
    await all_settled(*(store.multiparts.abort(keys[name], one) for name, one in multipart_ids.items()))


async def whole_multiparts(store: ObjectStore, upload: Upload, missing: Sequence[str]) -> dict[str, Parts]:
    """Returns those of the missing variants of which the store has every part, with the parts."""
    loose = [variant for variant in upload.variants if variant.name in missing and variant.name in upload.multipart_ids]
    listed = await all_at_once(
        *(_all_parts(store, variant.key, upload.multipart_ids[variant.name]) for variant in loose)
    )
    return {variant.name: parts for variant, parts in zip(loose, listed, strict=True) if are_whole(variant, parts)}


async def _all_parts(store: ObjectStore, key: str, multipart_id: str) -> Parts:
    parts: list[StoredPart] = []
    after = 0
    while True:
        page = await store.multiparts.list_parts(key, multipart_id, after=after, limit=MAX_PAGE_SIZE)
        if page is None:
            return ()
        parts += page.parts
        after = page.after
        if not after:
            return tuple(parts)


async def assemble(store: ObjectStore, upload: Upload, whole: Mapping[str, Parts]) -> Failure | None:
    """Makes objects of these parts, then drops what else was ever opened in their places.

    Whether they are there now is for a HEAD to find out: another server may be at it too. Returns why the store
    will never take the parts of one, None otherwise.
    """
    variants = [variant for variant in upload.variants if variant.name in whole]
    refusals = await all_settled(
        *(
            store.multiparts.complete(variant, upload.multipart_ids[variant.name], whole[variant.name])
            for variant in variants
        )
    )
    await all_settled(*(abort_all(store, variant.key) for variant in variants))
    for variant, refusal in zip(variants, refusals, strict=True):
        if refusal:
            return Failure("PARTS_REFUSED", f"{variant.name}: the store does not put its parts together ({refusal}).")
    return None


async def discard_upload(store: ObjectStore, upload: Upload) -> None:
    """Deletes what is stored of an upload and aborts every multipart upload in its places.

    The known ones by their ids, and whatever a listing finds: a server may have died after it opened one.
    """
    await drop_multiparts(store, upload.variants, upload.multipart_ids)
    await _discard(store, upload.variants, upload.keys)


async def discard_asset(store: ObjectStore, asset: Asset) -> None:
    """Deletes the objects of an asset, and what else was ever opened in their places."""
    await _discard(store, asset.variants, [variant.key for variant in asset.variants])


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
