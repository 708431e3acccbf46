"""What proves the bytes of an object that arrived in parts."""

import hashlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from assetlane.digests import digest_for


@given(data=st.binary(max_size=60), part_size=st.integers(1, 20), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_a_digest_of_parts_is_the_same_in_whatever_pieces_it_comes(
    data: bytes, part_size: int, cuts: list[int]
) -> None:
    """The SHA-256 over the parts' SHA-256s, as stores make it."""
    digest = digest_for(part_size)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        digest.update(data[start:end])
    parts = [data[start : start + part_size] for start in range(0, len(data), part_size)] or [b""]
    assert digest.digest() == hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


def test_without_parts_it_is_the_digest_of_the_bytes() -> None:
    """An object that is sent in one piece has the SHA-256 of its bytes."""
    digest = digest_for(0)
    digest.update(b"abc")
    assert digest.digest() == hashlib.sha256(b"abc").digest()
