"""Resume tokens of a partition's watch."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.refusals import raises
from tests.uploads.samples import ID

from assetlane_server.model.errors import InvalidRequest, ResumeExpired
from assetlane_server.model.resume_token import TOKEN_LIFETIME, Position, check_age, position_of, resume_token
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import LedgerTime

SIGNER = TokenSigner(b"k" * 32)
THEN = LedgerTime((1_800_000_000 << 32) | 7)


@pytest.mark.parametrize("listed_to", ["", ID])
def test_a_token_holds_its_position_for_its_partition(listed_to: str) -> None:
    """Another partition refuses it, and so does a ledger with another key."""
    position = Position(THEN, listed_to)
    token = resume_token(SIGNER, "team/42", position)
    assert position_of(SIGNER, token, "team/42") == position
    for signer, partition in ((SIGNER, "team/43"), (TokenSigner(b"x" * 32), "team/42")):
        with raises(InvalidRequest, field="resume_token"):
            position_of(signer, token, partition)


def test_too_old_a_token_is_refused_as_such() -> None:
    """Never a silent gap. By the ledger's clock, on whichever server."""
    end = LedgerTime(THEN + (int(TOKEN_LIFETIME / timedelta(seconds=1)) << 32))
    check_age(Position(THEN), end)
    with pytest.raises(ResumeExpired):
        check_age(Position(THEN), LedgerTime(end + (1 << 32)))


@given(st.text(min_size=1, max_size=60))
def test_an_invented_token_is_refused(token: str) -> None:
    """Nothing but a refusal comes of it."""
    with pytest.raises(InvalidRequest):
        position_of(SIGNER, token, "a")
