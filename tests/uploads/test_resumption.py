"""Resume tokens of a partition's watch."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.uploads.samples import ID, NOW

from assetlane_server.uploads.errors import InvalidRequest, ResumeExpired
from assetlane_server.uploads.resumption import TOKEN_LIFETIME, Position, position_of, resume_token


@pytest.mark.parametrize("listed_to", ["", ID])
def test_a_token_holds_its_position_for_its_partition(listed_to: str) -> None:
    """Another partition refuses it."""
    position = Position(NOW, listed_to)
    token = resume_token("team/42", position)
    assert position_of(token, "team/42", NOW + TOKEN_LIFETIME) == position
    with pytest.raises(InvalidRequest, match="resume_token"):
        position_of(token, "team/43", NOW)


def test_too_old_a_token_is_told_so() -> None:
    """Never a silent gap."""
    with pytest.raises(ResumeExpired):
        position_of(resume_token("a", Position(NOW)), "a", NOW + TOKEN_LIFETIME + timedelta(milliseconds=1))


@given(st.text(min_size=1, max_size=40))
def test_an_invented_token_is_refused(token: str) -> None:
    """Nothing but a refusal comes of it."""
    with pytest.raises(InvalidRequest):
        position_of(token, "a", NOW)
