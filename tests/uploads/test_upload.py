"""The life of an upload against its state table."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.uploads.samples import NOW, PICTURE, QUARTER, requested

from assetlane_server.uploads.admission import Terms, admit
from assetlane_server.uploads.upload import SWEEP_MARGIN, WORK_LEASE, Failure, Status, Upload, asked_alike

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
    step: Upload = getattr(upload, status.lower())(later)
    return step


@given(st.lists(st.sampled_from([status for status in Status if status is not Status.PENDING]), max_size=6))
def test_every_walk_follows_the_state_table(walk: list[Status]) -> None:
    """A transition is taken if and only if the table has it, and always adds one revision."""
    upload = requested()
    for status in walk:
        assert upload.may_become(status) == (status in LEADS_TO[upload.status])
        if not upload.may_become(status):
            with pytest.raises(ValueError, match="cannot become"):
                move(upload, status)
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
    then = failed.as_of(2)
    assert then.status is Status.INITIALIZED
    assert [change.revision for change in then.history] == [1, 2]
    assert then.failure is None
    assert failed.as_of(3) == failed


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
    """Targets' end, a lease, the end of the last URL, or the end of its record: never nothing."""
    upload = requested()
    assert upload.sweep_time == NOW + WORK_LEASE
    ready = upload.initialized(NOW, QUARTER)
    assert ready.sweep_time == NOW + QUARTER + SWEEP_MARGIN
    assert ready.renewed(NOW + QUARTER, QUARTER).sweep_time == NOW + 2 * QUARTER + SWEEP_MARGIN
    assert ready.uploaded(NOW).sweep_time == NOW + WORK_LEASE
    assert ready.uploaded(NOW).completed(NOW).sweep_time == NOW + ready.kept_for
    assert ready.cancelled(NOW).sweep_time == NOW + QUARTER + SWEEP_MARGIN
    assert ready.expired(NOW + 2 * QUARTER).sweep_time == NOW + 2 * QUARTER + SWEEP_MARGIN


def test_requests_in_the_same_words_are_alike_whatever_the_server_added() -> None:
    """Ids, keys, times and progress do not count; every word of the caller does."""
    one = requested()
    other = admit(PICTURE, Terms(key_prefix="x/"), "another-id", NOW + timedelta(hours=1)).initialized(NOW, QUARTER)
    assert asked_alike(one, other)
    assert not asked_alike(one, requested(file_path="albums/2026/other.jpg"))
    assert not asked_alike(one, requested(expiration_hours=1))
    assert not asked_alike(one, requested(notices=()))
    assert asked_alike(one, requested(session_id="of the process after the crash"))
