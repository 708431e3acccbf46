"""What belongs to whom, and what is missing: decided without any I/O."""

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.refusals import raises
from tests.uploads.samples import ID, NOW, completed, requested

from assetlane_server.model.listing import ListedObject
from assetlane_server.model.parts import OpenMultipart
from assetlane_server.model.paths import upload_id_of
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.reconciliation import (
    DEFAULT_AGE,
    SETTLING,
    Kind,
    least_age,
    lingering,
    orphan,
    phantom,
    phantoms,
)
from assetlane_server.model.upload import Asset, Failure, Upload

QUARTER = timedelta(minutes=15)
LATER = NOW + timedelta(days=2)


def initialized() -> Upload:
    """An upload whose write URLs are handed out."""
    return requested().initialized(NOW, QUARTER)


def asset() -> Asset:
    """What it becomes."""
    one = completed(initialized()).asset
    assert one is not None
    return one


LISTED = ListedObject(initialized().variants[0].key, 5_000_000, NOW)


def test_every_key_that_we_make_is_recognized_by_its_shape() -> None:
    """And leads back to its upload, below any prefix."""
    for prefix in ("", "app/", "a/b/"):
        for variant in initialized().variants:
            assert upload_id_of(f"{prefix}{variant.key}", prefix) == ID


@pytest.mark.parametrize(
    "key",
    [
        "logs/2026.txt",
        "private/beach.jpg",
        f"private/{ID}/original.jpg",  # no partition
        f"other/user/7f3a/{ID}/original.jpg",
        f"private/user/{ID}/",
        f"private/user/{ID.upper()}/original.jpg",
        f"private/user/{ID}/Original.jpg",
        f"private/user/{ID}/a/original.jpg",
        "probe/0123/kept",
    ],
)
def test_any_other_key_is_none_of_ours(key: str) -> None:
    """It is never called an orphan, so never deleted."""
    assert upload_id_of(key, "") is None
    assert upload_id_of(LISTED.key, "elsewhere/") is None


def test_the_object_of_an_asset_belongs() -> None:
    """As long as the asset is not deleted."""
    assert orphan(LISTED, ID, completed(initialized()), LATER) is None


@pytest.mark.parametrize("upload", [requested(), initialized(), initialized().uploaded(NOW)], ids=lambda it: it.status)
def test_the_object_of_an_open_upload_belongs_however_old_it_is(upload: Upload) -> None:
    """The sweeper ends it, not reconcile."""
    assert orphan(LISTED, ID, upload, LATER + timedelta(days=365)) is None


def test_the_object_of_an_ended_upload_is_an_orphan_once_its_write_urls_have_ended() -> None:
    """And had time to settle: until then the sweeper or a slow PUT may be at work."""
    failed = initialized().failed(NOW, Failure("SIZE_MISMATCH", "too long"))
    end = NOW + QUARTER + SETTLING

    assert orphan(LISTED, ID, failed, end - timedelta(seconds=1)) is None
    found = orphan(LISTED, ID, failed, end)
    assert found is not None
    assert (found.kind, found.is_deletable) == (Kind.ORPHAN, True)
    assert "FAILED" in found.detail


def test_a_renewed_write_url_is_waited_for() -> None:
    """The last one ever handed out counts."""
    cancelled = initialized().renewed(NOW + timedelta(hours=5), QUARTER).cancelled(NOW + timedelta(hours=5))
    assert orphan(LISTED, ID, cancelled, NOW + timedelta(hours=5, minutes=29)) is None
    assert orphan(LISTED, ID, cancelled, NOW + timedelta(hours=6)) is not None


def test_the_object_of_a_deleted_asset_is_an_orphan_once_the_deletion_had_its_time() -> None:
    """Its record stays in the ledger, marked."""
    deleted = replace(completed(initialized()), asset=asset().deleted(NOW + timedelta(hours=3)))
    assert orphan(LISTED, ID, deleted, NOW + timedelta(hours=3, minutes=14)) is None
    found = orphan(LISTED, ID, deleted, LATER)
    assert found is not None
    assert "was deleted" in found.detail


def test_an_object_beside_the_variants_of_an_asset_is_an_orphan() -> None:
    """Nobody signed for it."""
    listed = replace(LISTED, key=LISTED.key.replace("original", "stray"))
    found = orphan(listed, ID, completed(initialized()), LATER)
    assert found is not None
    assert "no variant" in found.detail


def test_an_unknown_object_is_an_orphan_when_it_has_settled() -> None:
    """A young one is left alone."""
    assert orphan(LISTED, ID, None, NOW + timedelta(minutes=14)) is None
    found = orphan(LISTED, ID, None, LATER)
    assert found is not None
    assert found.is_deletable
    assert found.is_old(DEFAULT_AGE, LATER)
    assert not found.is_old(DEFAULT_AGE, LATER - timedelta(seconds=1))


def test_what_a_damaged_ledger_lost_is_never_deleted() -> None:
    """COMPLETED without an asset: the object may be all that is left."""
    found = orphan(LISTED, ID, replace(completed(initialized()), asset=None), LATER)
    assert found is not None
    assert not found.is_deletable


@pytest.mark.parametrize(
    ("stored", "word"),
    [
        (None, "missing"),
        (StoredObject(4_999_999, "image/jpeg", "etag", "v1"), "size"),
        (StoredObject(5_000_000, "image/jpeg", "other", "v1"), "ETag"),
        (StoredObject(5_000_000, "image/jpeg", "etag", "v2"), "version"),
    ],
)
def test_a_variant_whose_object_differs_is_a_phantom(stored: StoredObject | None, word: str) -> None:
    """The report says in which way."""
    one = asset()
    found = phantom(one, one.variants[0], stored)
    assert found is not None
    assert (found.kind, found.key) == (Kind.PHANTOM, LISTED.key)
    assert word in found.detail


def test_a_variant_as_it_was_recorded_is_no_phantom() -> None:
    """And a bucket that began to keep versions later makes none."""
    one = asset()
    stored = [StoredObject(it.size_bytes, it.content_type, "etag", "v1") for it in one.variants]
    assert phantoms(one, stored) == []
    unversioned = replace(one.variants[0], version_id="")
    assert phantom(one, unversioned, stored[0]) is None


def test_orphans_are_never_deleted_younger_than_a_write_url_can_be() -> None:
    """Nor within a day after that. Asked for less, it is refused; asked for nothing, it is two days or more."""
    assert least_age(None, QUARTER) == DEFAULT_AGE
    assert least_age(None, timedelta(days=7)) == timedelta(days=8)
    assert least_age(timedelta(hours=25), timedelta(hours=1)) == timedelta(hours=25)
    with raises(ValueError, limits=[25]):
        least_age(timedelta(hours=24, minutes=59), timedelta(hours=1))


def test_an_open_multipart_upload_lingers_when_no_upload_can_own_it() -> None:
    """Not one that is young, not one of an upload that is PENDING or knows it."""
    pending = requested()
    opened = OpenMultipart(pending.variants[0].key, "m-1", NOW)
    upload = replace(pending, multipart_ids={"original": "m-1"}).initialized(NOW, QUARTER)
    other = replace(pending, multipart_ids={"original": "m-2"}).initialized(NOW, QUARTER)
    assert lingering(opened, ID, None, NOW + SETTLING / 2) is None
    assert lingering(opened, ID, pending, LATER) is None
    assert lingering(opened, ID, upload, LATER) is None
    assert lingering(opened, ID, upload.cancelled(NOW), LATER) is None
    for owner in (None, other, other.cancelled(NOW)):
        found = lingering(opened, ID, owner, LATER)
        assert found is not None
        assert (found.kind, found.key, found.multipart_id) == (Kind.LINGERING, opened.key, "m-1")
        assert found.is_deletable
        assert found.is_old(DEFAULT_AGE, LATER)
