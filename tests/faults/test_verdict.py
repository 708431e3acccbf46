"""The judge is just: a good record passes, and each way of being wrong is caught for what it is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.verdict import Sighting, Verdict, judge

HISTORIES = {
    "a": ("PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"),
    "b": ("PENDING", "INITIALIZED", "CANCELLED"),
}
A = [Sighting("a", revision, status) for revision, status in enumerate(HISTORIES["a"], start=1)]
B = [Sighting("b", revision, status) for revision, status in enumerate(HISTORIES["b"], start=1)]


def test_a_complete_record_in_order_is_flawless() -> None:
    """However the uploads of a session interleave."""
    assert not judge([A[0], B[0], A[1], A[2], B[1], B[2], A[3]], HISTORIES)


def test_a_watch_that_began_later_owes_only_the_rest() -> None:
    """What lies before its start is neither missed nor allowed."""
    assert not judge([*A[2:], *B], HISTORIES, after={"a": 2})
    assert judge([*A[1:], *B], HISTORIES, after={"a": 2}) == Verdict(foreign=(A[1],))


@pytest.mark.parametrize("revision", range(1, 5))
def test_a_missed_revision_is_caught(revision: int) -> None:
    """The first, the last and any between."""
    record = [one for one in A if one.revision != revision]
    assert judge(record, {"a": HISTORIES["a"]}) == Verdict(missed=(A[revision - 1],))


@pytest.mark.parametrize("revision", range(1, 5))
def test_a_repeated_revision_is_caught(revision: int) -> None:
    """At once or later."""
    again = A[revision - 1]
    assert judge([*A, again], {"a": HISTORIES["a"]}) == Verdict(repeated=(again,))
    assert judge([*A[:revision], again, *A[revision:]], {"a": HISTORIES["a"]}) == Verdict(repeated=(again,))


@pytest.mark.parametrize("first", range(3))
def test_two_swapped_revisions_are_caught(first: int) -> None:
    """Both came, the earlier one too late."""
    record = [*A]
    record[first], record[first + 1] = record[first + 1], record[first]
    assert judge(record, {"a": HISTORIES["a"]}) == Verdict(out_of_order=(A[first],))


def test_what_never_happened_is_caught() -> None:
    """A wrong status, a revision that does not exist, an upload of another session."""
    wrong, ahead, stranger = replace(B[2], status="FAILED"), replace(B[2], revision=4), Sighting("c", 1, "PENDING")
    assert judge([*B[:2], wrong], {"b": HISTORIES["b"]}) == Verdict(missed=(B[2],), foreign=(wrong,))
    assert judge([*B, ahead, stranger], {"b": HISTORIES["b"]}) == Verdict(foreign=(ahead, stranger))


def test_an_empty_record_missed_everything() -> None:
    """Silence is no excuse."""
    assert judge([], HISTORIES) == Verdict(missed=(*A, *B))


@given(st.permutations([*A, *B]))
def test_exactly_the_records_that_keep_each_upload_in_order_are_flawless(record: list[Sighting]) -> None:
    """The judge agrees with the definition of order on any shuffle."""
    in_order = all([one for one in record if one.upload_id == way[0].upload_id] == way for way in (A, B))
    assert bool(judge(record, HISTORIES)) is not in_order
