"""Resume tokens of a partition's watch."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.uploads.samples import NOW

from assetlane_server.uploads.errors import InvalidRequest, ResumeExpired
from assetlane_server.uploads.resumption import TOKEN_LIFETIME, resume_token, told_until


def test_a_token_holds_its_instant_for_its_partition() -> None:
    """Another partition refuses it."""
    token = resume_token("team/42", NOW)
    assert told_until(token, "team/42", NOW + TOKEN_LIFETIME) == NOW
    with pytest.raises(InvalidRequest, match="resume_token"):
        told_until(token, "team/43", NOW)


def test_too_old_a_token_is_told_so() -> None:
    """Never a silent gap."""
    with pytest.raises(ResumeExpired):
        told_until(resume_token("a", NOW), "a", NOW + TOKEN_LIFETIME + timedelta(milliseconds=1))


@given(st.text(min_size=1, max_size=40))
def test_an_invented_token_is_refused(token: str) -> None:
    """Nothing but a refusal comes of it."""
    with pytest.raises(InvalidRequest):
        told_until(token, "a", NOW)
