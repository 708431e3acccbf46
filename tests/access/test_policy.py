"""The policy: patterns match what they say, and nothing that a token says can make them match more."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.refusals import raises

from assetlane_server.access.callers import UserAccess
from assetlane_server.access.policy import DEFAULT_POLICY, PolicyFault, pattern_of, policy_of
from assetlane_server.model.paths import fault_in_path

LATER = datetime(2100, 1, 1, tzinfo=UTC)


def caller(uid: str = "ann", policy: str = DEFAULT_POLICY, **claims: Any) -> UserAccess:
    """Returns a caller under a policy."""
    known = policy_of(policy)
    return UserAccess(uid, known.named_claims(claims), LATER, lambda: known)


def reads(*patterns: str) -> str:
    """Returns a policy that lets these be read."""
    return f"read = {list(patterns)!r}\nwrite = []\n"


def test_by_default_a_user_has_their_own_partition_and_the_public_one() -> None:
    """To read and to write, and nothing else."""
    ann = caller("ann")
    for partition in ("user/ann", "public"):
        assert ann.may_read(partition)
        assert ann.may_write(partition)
    for partition in ("user/bob", "user", "user/ann/x", "public/x", "Public", "team/42", "user/ANN", "user/annabel"):
        assert not ann.may_read(partition)
        assert not ann.may_write(partition)


@pytest.mark.parametrize(
    ("pattern", "partition", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a", False),
        ("a/b", "a/b/c", False),
        ("a/*", "a/b", True),
        ("a/*", "a", False),
        ("a/*", "a/b/c", False),
        ("a/*/c", "a/b/c", True),
        ("a/**", "a/b", True),
        ("a/**", "a/b/c/d", True),
        ("a/**", "a", False),
        ("**", "a", True),
        ("**", "a/b", True),
        ("*", "a", True),
        ("*", "a/b", False),
        ("user/{uid}/**", "user/ann/x/y", True),
        ("user/{uid}/**", "user/bob/x", False),
        ("user/{uid}/**", "user/ann", False),
        ("team/{claim:team}", "team/42", True),
        ("team/{claim:team}", "team/red", True),
        ("team/{claim:team}", "team/blue", False),
        ("org/{claim:org}/{uid}", "org/7/ann", True),
        ("org/{claim:org}/{uid}", "org/ann/7", False),
        ("x/{claim:https://example.com/teams}", "x/t1", True),
        ("x/{claim:absent}", "x/absent", False),
        ("x/{claim:flag}", "x/True", False),
        ("x/{claim:nested}", "x/y", False),
    ],
)
def test_a_pattern_matches_part_by_part(pattern: str, partition: str, matches: bool) -> None:
    """As its file's comment says."""
    claims = {"team": ["red", 42], "org": 7, "https://example.com/teams": "t1", "flag": True, "nested": {"y": "y"}}
    assert caller("ann", reads(pattern), **claims).may_read(partition) is matches


@pytest.mark.parametrize(
    "pattern",
    ["", "/a", "a/", "a//b", "a/../b", "a/.", "{uid}", "{uid}/a", "{claim:x}/a", "a/x{uid}", "a/{uid}y", "a/b*",
     "a/***", "a/**/b", "**/a", "a/{claim:}", "a/{user}", "a/{uid}{uid}", "a/}", "a\\b", "a/e\u0301"],
)  # fmt: skip
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    """With the pattern in the sentence; the start of a server is the time to report it."""
    with pytest.raises(PolicyFault) as refused:
        pattern_of(pattern)
    assert refused.value.subject == pattern


@pytest.mark.parametrize(
    ("text", "reason", "subject"),
    [
        ("read = ", "POLICY_MALFORMED", ""),
        ("read = []", "KEY_MISSING", "write"),
        ("read = []\nwrite = []\nadmin = []", "KEY_UNKNOWN", "admin"),
        ("read = 'public'\nwrite = []", "VALUE_INVALID", "read"),
        ("read = []\nwrite = [1]", "VALUE_INVALID", "write"),
    ],
)
def test_a_policy_that_is_none_is_refused(text: str, reason: str, subject: str) -> None:
    """Naming what is wrong: a list that is left out by mistake must not lock everybody out, or in."""
    with raises(PolicyFault, reason=reason) as refused:
        policy_of(text)
    assert refused.value.subject == subject


NASTY = st.one_of(
    st.sampled_from(
        ["", "/", "*", "**", "..", ".", "ann/x", "x/../public", "{uid}", "public", "user", "\\", "%2F", "\0"]
    ),
    st.text(max_size=12),
)
PLACES = st.lists(st.one_of(NASTY, st.sampled_from(["user", "team", "public", "x"])), min_size=1, max_size=4)
POLICY = reads("user/{uid}", "team/{claim:team}", "team/{claim:team}/**", "public")


@given(
    uid=NASTY.filter(bool), claim=st.one_of(NASTY, st.lists(NASTY, max_size=3), st.integers(), st.none()), place=PLACES
)
def test_what_a_token_says_never_widens_a_match(uid: str, claim: object, place: list[str]) -> None:
    """Whatever matches is the literal text of a pattern with one whole part of it said by the token."""
    partition = "/".join(place)
    if not caller(uid, POLICY, team=claim).may_read(partition):
        return
    assert fault_in_path(partition, 256) is None
    names = partition.split("/")
    said = [str(one) for one in (claim if isinstance(claim, list) else [claim])]
    assert (
        names == ["public"]
        or (names[0] == "user" and len(names) == 2 and names[1] == uid)
        or (names[0] == "team" and len(names) >= 2 and names[1] in said)
    )


@given(uid=NASTY.filter(bool), more=NASTY.filter(bool))
def test_a_user_never_reaches_the_partition_of_another(uid: str, more: str) -> None:
    """Not with any name that they may have chosen, also not with the beginning or the end of another's."""
    for other in {more, uid + more, more + uid} - {uid}:
        assert not caller(uid).may_read(f"user/{other}")
        assert not caller(uid).may_write(f"user/{other}")


def test_a_caller_keeps_only_claims_that_the_policy_names() -> None:
    """What a token says besides is nobody's business."""
    assert dict(caller("ann", POLICY, team="red", email="ann@example.com").claims) == {"team": "red"}
