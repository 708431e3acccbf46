"""Page sizes and tokens."""

from hypothesis import given
from hypothesis import strategies as st
from tests.refusals import raises

from assetlane_server.model.errors import InvalidRequest
from assetlane_server.model.pages import last_id_of, page_size, page_token
from assetlane_server.model.tokens import TokenSigner

SIGNER = TokenSigner(b"k" * 32)


def test_sizes_are_cut_to_the_limit() -> None:
    """0 is the default, more than the limit is the limit, less than nothing is refused."""
    assert [page_size(asked) for asked in (0, 1, 1000, 5000)] == [50, 1, 1000, 1000]
    with raises(InvalidRequest, field="page_size"):
        page_size(-1)


def test_a_token_leads_back_to_its_list_only() -> None:
    """The same filters read it, others refuse it."""
    token = page_token(SIGNER, "01k8", ("assets", "public"))
    assert last_id_of(SIGNER, token, ("assets", "public")) == "01k8"
    with raises(InvalidRequest, field="page_token"):
        last_id_of(SIGNER, token, ("assets", "team/42"))


@given(st.text())
def test_an_invented_token_is_refused(token: str) -> None:
    """Nothing but our own tokens is read, and nothing raises but a refusal."""
    if token:
        with raises(InvalidRequest, field="page_token"):
            last_id_of(SIGNER, token, ("assets", "public"))
