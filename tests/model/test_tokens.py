"""Tokens that nobody else can make."""

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetlane_server.model.tokens import TokenSigner

SIGNER = TokenSigner(b"k" * 32)
PURPOSE = ("page", "assets", "public")


@given(st.binary(max_size=60), st.lists(st.text(max_size=10), max_size=4))
def test_a_token_says_what_was_put_into_it(content: bytes, purpose: list[str]) -> None:
    """For its purpose, to anybody who has the key."""
    token = SIGNER.token_of(content, purpose)
    assert SIGNER.content_of(token, purpose) == content
    assert SIGNER.content_of(token, [*purpose, ""]) is None
    assert TokenSigner(b"other").content_of(token, purpose) is None


@given(st.binary(min_size=1, max_size=30), st.data())
def test_a_token_that_was_changed_anywhere_is_refused(content: bytes, data: st.DataObject) -> None:
    """Each bit of it counts, those that base64 leaves unused included."""
    token = SIGNER.token_of(content, PURPOSE)
    index = data.draw(st.integers(0, len(token) - 1))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    digit = data.draw(st.sampled_from(alphabet).filter(lambda one: one != token[index]))
    assert SIGNER.content_of(token[:index] + digit + token[index + 1 :], PURPOSE) is None


@pytest.mark.parametrize("separated", [("a", "b,c"), ("a,b", "c"), ("a", "b", "c"), ('a","b', "c")])
def test_no_two_purposes_read_alike(separated: tuple[str, ...]) -> None:
    """However their words are divided."""
    token = SIGNER.token_of(b"x", ("a,b,c",))
    assert SIGNER.content_of(token, separated) is None


def test_a_token_of_version_0_1_0_is_refused() -> None:
    """Anybody could make its checksum."""
    forged = zlib.crc32("\0".join(PURPOSE).encode()).to_bytes(4, "big") + b"01k8"
    assert SIGNER.content_of(base64.urlsafe_b64encode(forged).decode().rstrip("="), PURPOSE) is None
