"""Compares ledger and bucket: which objects belong to nobody, which assets lost an object. Pure.

An orphan is called one only when it can never belong to anybody again. The bucket is listed first, then the
uploads are read with their assets; that order makes a racing upload safe:

- a write URL exists only after its upload is durable, so an object that was listed has its upload read;
- an upload that is COMPLETED has its asset in the same record;
- ids are never given twice and final is final, so an orphan stays one, however late it is deleted.

What changed within `SETTLING` is left alone: the sweeper, a deletion or a write URL may still be at work on it,
and the clocks of store and server may differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from assetlane_server.model.listing import ListedObject
from assetlane_server.model.parts import OpenMultipart
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.upload import LONGEST_PUT, Asset, AssetVariant, Status, Upload

SETTLING = timedelta(minutes=15)
DEFAULT_AGE = timedelta(hours=48)


class Kind(StrEnum):
    """What is not as it should be."""

    ORPHAN = "orphan"  # an object that belongs to no asset, and to no upload that could still become one
    PHANTOM = "phantom"  # an asset whose object is missing, or is another
    LINGERING = "lingering"  # parts of a multipart upload that no upload will ever put together
    FOREIGN = "foreign"  # a key under our prefix that is none of ours by its shape: never touched


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing found, and what it means."""

    kind: Kind
    key: str
    detail: str
    size_bytes: int = 0
    modify_time: datetime | None = None
    is_deletable: bool = False  # an orphan that nobody can want back
    multipart_id: str = ""  # the store's, of what lingers

    def is_old(self, age: timedelta, now: datetime) -> bool:
        """Whether it was stored at least so long ago."""
        return self.modify_time is not None and now - self.modify_time >= age


def foreign(listed: ListedObject) -> Discrepancy:
    """Returns the report of a key that is not ours."""
    detail = "Its key is not one of Assetlane's: somebody else put it there."
    return Discrepancy(Kind.FOREIGN, listed.key, detail, listed.size_bytes, listed.modify_time)


def orphan(listed: ListedObject, upload_id: str, upload: Upload | None, now: datetime) -> Discrepancy | None:
    """Returns the report of an object that belongs to nobody, None if it belongs, or may yet."""
    asset = None if upload is None else upload.asset
    if asset is not None and not asset.is_deleted and any(it.key == listed.key for it in asset.variants):
        return None
    if upload is not None and not upload.status.is_final:
        return None
    if now - _last_touched(listed, upload) < SETTLING:
        return None
    is_deletable = True
    if asset is not None and asset.is_deleted:
        detail = f"Asset {upload_id} was deleted, and its object is still there."
    elif asset is not None:
        detail = f"Asset {upload_id} has no variant with this key."
    elif upload is None:
        detail = f"The ledger knows no upload or asset {upload_id}."
    elif upload.status is Status.COMPLETED:
        # The ledger lost an asset: the object may be all that is left of it.
        detail = f"Upload {upload_id} is COMPLETED, but its asset is gone from the ledger: restore the ledger."
        is_deletable = False
    else:
        detail = f"Upload {upload_id} is {upload.status}, and its write URLs have ended."
    return Discrepancy(Kind.ORPHAN, listed.key, detail, listed.size_bytes, listed.modify_time, is_deletable)


def lingering(found: OpenMultipart, upload_id: str, upload: Upload | None, now: datetime) -> Discrepancy | None:
    """Returns the report of an open multipart upload that belongs to nobody, None if it belongs, or may yet.

    It was listed before the upload was read, and an upload is durable before anything is opened for it.
    """
    if now - found.open_time < SETTLING:
        return None
    if upload is None:
        detail = f"The ledger knows no upload {upload_id}."
    elif upload.status is Status.PENDING or found.multipart_id in upload.multipart_ids.values():
        # The sweeper settles the one and aborts the other, for as long as there is a record.
        return None
    else:
        detail = f"Upload {upload_id} is {upload.status} and knows nothing of it: a server died that had opened it."
    return Discrepancy(Kind.LINGERING, found.key, detail, 0, found.open_time, True, found.multipart_id)


def phantom(asset: Asset, variant: AssetVariant, found: StoredObject | None) -> Discrepancy | None:
    """Returns the report of a variant whose object is not what the ledger says, None if it is."""
    whose = f"Asset {asset.asset_id}, {variant.name}"
    if found is None:
        return Discrepancy(Kind.PHANTOM, variant.key, f"{whose}: the object is missing.", variant.size_bytes)
    differences = [
        f"{name} is {there!r}, not {recorded!r}"
        for name, recorded, there in (
            ("size", variant.size_bytes, found.size_bytes),
            ("ETag", variant.etag, found.etag),
            ("version", variant.version_id, found.version_id),
        )
        # What the ledger never knew cannot differ: a bucket may have begun to keep versions since.
        if recorded != there and recorded != ""
    ]
    if not differences:
        return None
    return Discrepancy(Kind.PHANTOM, variant.key, f"{whose}: {', '.join(differences)}.", variant.size_bytes)


def phantoms(asset: Asset, found: Sequence[StoredObject | None]) -> list[Discrepancy]:
    """Returns what is wrong with an asset's objects, which are in the order of its variants."""
    judged = (phantom(asset, variant, there) for variant, there in zip(asset.variants, found, strict=True))
    return [one for one in judged if one is not None]


def least_age(asked: timedelta | None, write_url_lifetime: timedelta) -> timedelta:
    """Returns how old an orphan must be to be deleted: the longest life of a write URL, and a day for a slow PUT.

    Raises ValueError when less is asked for.
    """
    least = write_url_lifetime + LONGEST_PUT
    if asked is None:
        return max(DEFAULT_AGE, least)
    if asked < least:
        hours = least / timedelta(hours=1)
        raise ValueError(f"must be at least {hours:g} hours: the longest life of a write URL, and a day")
    return asked


def _last_touched(listed: ListedObject, upload: Upload | None) -> datetime:
    instants = [listed.modify_time]
    if upload is not None:
        instants += [upload.history[-1].time, upload.write_end]
        if upload.asset is not None and upload.asset.delete_time is not None:
            instants.append(upload.asset.delete_time)
    return max(instants)
