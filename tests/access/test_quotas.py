"""What the quotas decide."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.refusals import numbers_in
from tests.uploads.samples import NOW, QUARTER, requested

from assetlane_server.access.quotas import (
    CallRate,
    Quotas,
    claim_lease,
    claim_of,
    forfeited,
    never_fits,
    quota_of,
    shortage,
)
from assetlane_server.model.errors import CallRateExceeded, TooManyBytes, TooManyUploads
from assetlane_server.model.quotas import Account, Balance, QuotaLimit

SIZE = 5_020_000  # of the sample


def test_an_upload_counts_for_its_owner_and_where_its_asset_goes() -> None:
    """For each where there is a limit."""
    upload = requested(asset_partition="public")
    some, other = QuotaLimit(1), QuotaLimit(2)
    assert Quotas(some, other).of(upload) == (("uid:7f3a", some), ("partition:public", other))
    assert Quotas(None, other).of(upload) == (("partition:public", other),)
    assert Quotas().is_empty
    assert quota_of(None, None) is None
    assert quota_of(None, 7) == QuotaLimit(10_000, 7)


def test_a_repeat_claims_the_same_and_another_request_does_not() -> None:
    """The owner's request id and the size make the claim; without a request id, the upload."""
    one = requested()
    assert claim_of(replace(one, upload_id="other"), NOW).key == claim_of(one, NOW).key
    assert claim_of(one, NOW).size_bytes == SIZE
    others = [
        replace(one, uid="8"),
        replace(one, request_id="r-2"),
        replace(one, variants=one.variants[:1]),
        replace(one, request_id=""),
        replace(one, request_id="", upload_id="other"),
    ]
    assert len({claim_of(upload, NOW).key for upload in (one, *others)}) == 6


def test_what_is_larger_than_the_quota_is_refused_for_good() -> None:
    """A repeat would not help, so nobody is asked to wait."""
    claim = claim_of(requested(), NOW)
    assert never_fits("uid:7f3a", claim, QuotaLimit(1, SIZE)) is None
    assert never_fits("uid:7f3a", claim, QuotaLimit(1)) is None
    refusal = never_fits("uid:7f3a", claim, QuotaLimit(1, SIZE - 1))
    assert isinstance(refusal, TooManyBytes)
    assert refusal.retry_after is None


def test_the_refusal_names_the_limit_that_was_met() -> None:
    """Where both are limited, the one that is full; of bytes also how many are promised and asked for."""
    claim = claim_of(requested(), NOW)
    full = shortage(Balance("uid:7f3a", 3, 3, NOW), claim, QuotaLimit(3, SIZE))
    assert isinstance(full, TooManyUploads)
    assert (full.reason, full.subject, numbers_in(full.limit)) == ("TOO_MANY_UPLOADS", "uid:7f3a", {3})
    assert full.retry_after is not None
    heavy = shortage(Balance("uid:7f3a", 2, 9, NOW), claim, QuotaLimit(3, SIZE + 1))
    assert isinstance(heavy, TooManyBytes)
    assert (heavy.reason, heavy.subject, numbers_in(heavy.limit)) == ("TOO_MANY_BYTES", "uid:7f3a", {SIZE + 1, 9, SIZE})
    assert heavy.retry_after is not None


def test_a_claim_is_forfeited_when_its_upload_has_ended_or_was_never_stored() -> None:
    """Never while an upload that rests on it is open, nor while one may still be stored."""
    upload = requested().initialized(NOW, QUARTER)
    claim = claim_of(upload, NOW)
    account = Account(Balance("uid:7f3a", 1, SIZE, NOW), (claim,))
    assert forfeited(account, {upload.upload_id: upload}, NOW + timedelta(days=1)) == []
    assert forfeited(account, {upload.upload_id: upload.cancelled(NOW)}, NOW) == [claim]
    assert forfeited(account, {}, NOW) == []
    assert forfeited(account, {}, NOW + timedelta(milliseconds=1)) == [claim]
    assert claim_lease(timedelta(seconds=10)) == timedelta(seconds=90)
    repeated = replace(account, claims=(replace(claim, upload_ids=("gone", upload.upload_id)),))
    assert forfeited(repeated, {upload.upload_id: upload}, NOW + timedelta(days=1)) == []


@given(st.floats(0.01, 1000), st.lists(st.floats(0, 3), max_size=60))
def test_a_caller_gets_what_a_bucket_of_one_second_gives(rate: float, pauses_s: list[float]) -> None:
    """Never more than the burst and the rate allow, in any stretch; a caller that waits as asked is let in."""
    now = [100.0]
    bucket = CallRate(rate, lambda: now[0])
    burst = max(rate, 1.0)
    let_in: list[float] = []
    for pause_s in pauses_s:
        now[0] += pause_s
        try:
            bucket.take("ann")
        except CallRateExceeded as refusal:
            now[0] += (refusal.retry_after or QUARTER).total_seconds() + 1e-5
            bucket.take("ann")
        let_in.append(now[0])
    for first, begun in enumerate(let_in):
        for count, instant in enumerate(let_in[first:], 1):
            assert count <= burst + rate * (instant - begun) + 1e-3


def test_one_callers_calls_do_not_count_for_another_and_full_buckets_are_forgotten() -> None:
    """A caller that has paused takes no memory."""
    now = [0.0]
    bucket = CallRate(2, lambda: now[0])
    outcomes: Counter[str] = Counter()
    for uid in ("ann", "ann", "ann", "bob"):
        try:
            bucket.take(uid)
        except CallRateExceeded:
            outcomes[uid] += 1
    assert outcomes == {"ann": 1}
    for number in range(5000):
        now[0] += 1.0
        bucket.take(f"caller {number}")
    assert len(bucket._full_at) <= 1025


def test_a_rate_below_one_lets_single_calls_in() -> None:
    """One call in ten seconds is one call, then a wait."""
    now = [0.0]
    bucket = CallRate(0.1, lambda: now[0])
    bucket.take("ann")
    with pytest.raises(CallRateExceeded) as refused:
        bucket.take("ann")
    assert refused.value.retry_after == timedelta(seconds=10)
    now[0] = 10.0
    bucket.take("ann")
