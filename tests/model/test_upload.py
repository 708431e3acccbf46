"""The life of an upload against its state table."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.uploads.samples import ID, NOW, PICTURE, QUARTER, completed, requested

from assetlane_server.model.admission import Terms, UploadRequest, admit
from assetlane_server.model.cut_plan import CutPlan
from assetlane_server.model.upload import (
    DELETED_KEPT_FOR,
    LONGEST_PUT,
    SWEEP_MARGIN,
    WORK_LEASE,
    Details,
    Failure,
    InvalidTransition,
    Status,
    Upload,
    VariantPromise,
    request_digest,
)

# DESIGN's diagram, plus CANCELLED from PENDING: who asked may give up at once.
LEADS_TO = {
    "PENDING": {"INITIALIZED", "FAILED", "CANCELLED"},
    "INITIALIZED": {"UPLOADED", "CANCELLED", "EXPIRED", "FAILED"},
    "UPLOADED": {"COMPLETED", "FAILED"},
    "COMPLETED": set(),
    "FAILED": set(),
    "CANCELLED": set(),
    "EXPIRED": set(),
}


def move(upload: Upload, status: Status) -> Upload:
    """Moves an upload as the method of that status does."""
    later = NOW + timedelta(seconds=upload.revision)
    if status is Status.FAILED:
        return upload.failed(later, Failure("SIZE_MISMATCH", "too long"))
    if status is Status.INITIALIZED:
        return upload.initialized(later, QUARTER)
    if status is Status.COMPLETED:
        asset = completed(requested().initialized(NOW, QUARTER)).asset
        assert asset is not None
        return upload.completed(later, asset)
    step: Upload = getattr(upload, status.lower())(later)
    return step


@given(st.lists(st.sampled_from([status for status in Status if status is not Status.PENDING]), max_size=6))
def test_every_walk_follows_the_state_table(walk: list[Status]) -> None:
    """A transition is taken if and only if the table has it, and always adds one revision."""
    upload = requested()
    for status in walk:
        assert upload.may_become(status) == (status in LEADS_TO[upload.status])
        if not upload.may_become(status):
            with pytest.raises(InvalidTransition) as refused:
                move(upload, status)
            assert (refused.value.source, refused.value.target) == (upload.status, status)
            continue
        moved = move(upload, status)
        assert moved.status is status
        assert moved.revision == upload.revision + 1
        assert moved.history[:-1] == upload.history
        upload = moved


def test_final_are_those_that_lead_nowhere() -> None:
    """A watch ends exactly when nothing can follow."""
    assert {status for status in Status if status.is_final} == {
        name for name, following in LEADS_TO.items() if not following
    }


def test_history_never_runs_backwards_when_the_clock_does() -> None:
    """A change is not dated before the change that it follows."""
    upload = requested().initialized(NOW, QUARTER).uploaded(NOW - timedelta(hours=1))
    assert [change.time for change in upload.history] == [NOW, NOW, NOW]


def test_an_upload_as_of_a_revision_knows_nothing_of_what_followed() -> None:
    """Status, history and failure are those of that revision."""
    failed = requested().initialized(NOW, QUARTER).failed(NOW, Failure("SIZE_MISMATCH", "too long"))
    pending, then, now = failed.after(0)
    assert (pending.status, then.status, now) == (Status.PENDING, Status.INITIALIZED, failed)
    assert [change.revision for change in then.history] == [1, 2]
    assert then.failure is None
    assert list(failed.after(2)) == [failed]
    assert list(failed.after(3)) == []
    done = completed(requested().initialized(NOW, QUARTER))
    assert [change.asset is not None for change in done.after(1)] == [False, False, True]


def test_a_renewal_never_takes_signing_back() -> None:
    """The instant that bounds every write URL only grows."""
    upload = requested().initialized(NOW, QUARTER)
    assert upload.renewed(NOW - timedelta(seconds=9), QUARTER).targets_signed_at == NOW
    assert upload.renewed(NOW + timedelta(seconds=9), QUARTER).targets_signed_at == NOW + timedelta(seconds=9)


def test_no_target_outlives_the_deadline_nor_forgets_an_older_one() -> None:
    """What bounds the sweeper is the longest life of any URL that was ever handed out."""
    upload = requested().initialized(NOW, timedelta(hours=30))
    assert upload.targets_expire_time == upload.expire_time == NOW + timedelta(hours=24)
    assert upload.renewed(NOW + timedelta(minutes=1), QUARTER).targets_expire_time == upload.expire_time


def test_every_living_upload_comes_up_for_the_sweeper() -> None:
    """Targets' end, a lease, or the end of the last URL: never nothing until it is COMPLETED."""
    upload = requested()
    assert upload.sweep_time == NOW + WORK_LEASE
    ready = upload.initialized(NOW, QUARTER)
    assert ready.sweep_time == NOW + QUARTER + SWEEP_MARGIN
    assert ready.renewed(NOW + QUARTER, QUARTER).sweep_time == NOW + 2 * QUARTER + SWEEP_MARGIN
    assert ready.uploaded(NOW).sweep_time == NOW + WORK_LEASE
    assert ready.cancelled(NOW).sweep_time == NOW + QUARTER + SWEEP_MARGIN
    assert ready.expired(NOW + 2 * QUARTER).sweep_time == NOW + 2 * QUARTER + SWEEP_MARGIN
    assert completed(ready).sweep_time is None


def test_the_record_of_a_completed_multipart_comes_up_once_more() -> None:
    """A server may have died that opened a second multipart upload in the same place."""
    variants = tuple(replace(variant, part_size_bytes=5 * 2**20) for variant in requested().variants)
    ready = replace(requested(), variants=variants).initialized(NOW, QUARTER)
    assert completed(ready).sweep_time == NOW + QUARTER + LONGEST_PUT


def test_the_record_of_a_deleted_asset_outlives_every_token_and_every_put() -> None:
    """8 days, and a day after the last URL that could write; its words go at once, its places with the objects."""
    ready = requested().initialized(NOW, QUARTER)
    done = completed(ready)
    assert done.asset is not None
    deleted = replace(done, asset=done.asset.deleted(NOW + timedelta(hours=1)))
    assert deleted.asset is not None
    assert deleted.asset.details == Details()
    assert deleted.purge_time == NOW + timedelta(hours=1) + DELETED_KEPT_FOR
    long_lived = replace(deleted, targets_expire_time=NOW + timedelta(days=30))
    assert long_lived.purge_time == NOW + timedelta(days=30) + LONGEST_PUT
    assert deleted.next_deletion(NOW) == NOW + QUARTER + SWEEP_MARGIN
    assert deleted.next_deletion(NOW + QUARTER + SWEEP_MARGIN) == NOW + QUARTER + LONGEST_PUT
    assert deleted.next_deletion(NOW + QUARTER + LONGEST_PUT) is None
    planned = replace(deleted, cut_plan=CutPlan(place="private/user/x/"))
    assert "private/user/x/small.jpg" in planned.keys
    assert set(planned.without_places().keys) == {""}  # and not `small.jpg`, which may be somebody else's
    bare = deleted.without_places()
    assert bare.asset is not None
    assert {bare.file_path, bare.asset.file_path, *bare.keys, *(one.key for one in bare.asset.variants)} == {""}
    assert (bare.uid, bare.asset.partition, bare.is_swept) == (done.uid, done.asset_partition, True)


def test_requests_in_the_same_words_are_alike_whatever_the_server_added() -> None:
    """Ids, keys, times and progress do not count; every word of the caller does."""
    one = requested()
    other = admit(PICTURE, Terms(key_prefix="x/"), "another-id", NOW + timedelta(hours=1)).initialized(NOW, QUARTER)
    assert request_digest(one) == request_digest(other) == one.request_sha256
    assert request_digest(one) != request_digest(requested(file_path="albums/2026/other.jpg"))
    assert request_digest(one) != request_digest(requested(expiration_hours=1))
    assert request_digest(one) != request_digest(requested(notices=()))
    assert request_digest(one) == request_digest(requested(session_id="of the process after the crash"))
    assert requested(request_id="").request_sha256 == b""


def test_a_digest_of_a_request_never_changes() -> None:
    """It is stored for as long as the record: a later version has to come to the same one."""
    request = UploadRequest(
        uid="ann",
        request_id="r",
        file_path="a/ü.jpg",
        variants=(VariantPromise("original", "image/jpeg", 5, b"\1" * 32, 4, 3, promises_parts=True),),
        expiration_hours=1.5,
        details=Details("t", "c", "#000000", timedelta(seconds=1), {"b": [1.5, None, True, "ü"], "a": {}}),
    )
    assert admit(request, Terms(), ID, NOW).request_sha256.hex() == (
        "08cb503585550a4dc1b1565147c1ae3ff4005367fc56a4b57b2e29c8160c65c9"
    )
    extra = {"b": [1.5, None, True, "\u00fc"], "a": {}}
    assert request_digest(requested(details=Details(extra=extra))) == request_digest(
        requested(details=Details(extra=dict(reversed(extra.items()))))
    )
