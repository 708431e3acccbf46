"""Who may read and write which partition. Pure.

A policy is a TOML file with two lists of patterns:

    read = ["user/{uid}", "public", "team/{claim:team}", "team/{claim:team}/**"]
    write = ["user/{uid}", "public", "team/{claim:team}/inbox"]

A pattern is made of parts joined by `/`, as partitions are, and matches part by part. A part is
- a text, which matches itself;
- `{uid}`, which matches the token's subject;
- `{claim:team}`, which matches the claim `team` of the token: a text, a whole number, or any of a list of those;
- `*`, which matches any one part;
- `**`, only as the last part, which matches one part or more.

What a token says fills exactly one part and is compared as it stands: a `/`, `*` or `..` in it has no meaning, an
empty value matches nothing. The first part is never the token's to choose, or a user named `public` would own that.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from assetlane_server.uploads.errors import NotReady
from assetlane_server.uploads.paths import MAX_PARTITION_BYTES, fault_in_path

_LISTS = ("read", "write")
# Not at a slash within braces: the names of claims may be URLs.
_SLASH = re.compile(r"/(?![^{}]*\})")
_PLACEHOLDER = re.compile(r"\{(?:uid|claim:(?P<claim>[^{}]+))\}")
_RESERVED = re.compile(r"[{}*]")
_ANY, _REST = "*", "**"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a pattern: a fixed text, what a token says, or anything."""

    text: str = ""
    claim: str = ""
    is_uid: bool = False
    is_any: bool = False

    def matches(self, name: str, caller: "Caller") -> bool:
        """Returns whether it matches one part of a partition."""
        if self.is_any:
            return True
        if self.is_uid:
            return name == caller.uid
        if self.claim:
            return name in _values(caller.claims.get(self.claim))
        return name == self.text


@dataclass(frozen=True, slots=True)
class Pattern:
    """Partitions that belong together."""

    parts: tuple[Part, ...]
    has_rest: bool  # whether more parts follow

    def matches(self, partition: str, caller: "Caller") -> bool:
        """Returns whether the partition is one of them, for this caller."""
        names = partition.split("/")
        count = len(self.parts)
        if len(names) <= count if self.has_rest else len(names) != count:
            return False
        return all(part.matches(name, caller) for part, name in zip(self.parts, names, strict=False))


@dataclass(frozen=True, slots=True)
class Caller:
    """See Access: somebody who has proved to be `uid`."""

    uid: str
    claims: Mapping[str, Any]
    expire_time: datetime
    policy: "Policy"

    def may_read(self, partition: str) -> bool:
        """See Access."""
        return _may(self.policy.read, partition, self)

    def may_write(self, partition: str) -> bool:
        """See Access."""
        return _may(self.policy.write, partition, self)


@dataclass(frozen=True, slots=True)
class Policy:
    """What callers may read and write."""

    read: tuple[Pattern, ...]
    write: tuple[Pattern, ...]

    def caller(self, uid: str, claims: Mapping[str, Any], expire_time: datetime) -> Caller:
        """Returns what a token's holder may do. Only claims that some pattern names are kept."""
        named = {part.claim for pattern in (*self.read, *self.write) for part in pattern.parts if part.claim}
        return Caller(uid, {name: claims[name] for name in named if name in claims}, expire_time, self)


def policy_of(text: str) -> Policy:
    """Returns the policy of a file. Raises NotReady saying what is wrong with it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotReady(f"the policy is not TOML: {error}") from error
    if unknown := sorted(document.keys() - set(_LISTS)):
        raise NotReady(f"the policy has {unknown[0]!r}: it knows `read` and `write`")
    if missing := [name for name in _LISTS if name not in document]:
        raise NotReady(f"the policy has no list `{missing[0]}`: say so with an empty one")
    return Policy(read=_patterns("read", document["read"]), write=_patterns("write", document["write"]))


DEFAULT_POLICY = """\
read = ["user/{uid}", "public"]
write = ["user/{uid}", "public"]
"""


def _patterns(name: str, texts: object) -> tuple[Pattern, ...]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise NotReady(f"`{name}` of the policy must be a list of patterns, each a text")
    return tuple(pattern_of(text) for text in texts)


def pattern_of(text: str) -> Pattern:
    """Returns the pattern that a text writes. Raises NotReady saying what is wrong with it."""
    *names, last = _SLASH.split(text)
    has_rest = last == _REST
    if not has_rest:
        names.append(last)
    parts = tuple(_part(text, name) for name in names)
    if parts and (parts[0].is_uid or parts[0].claim):
        raise NotReady(f"the policy's pattern {text!r} lets a token choose the first part: put a fixed one before it")
    return Pattern(parts, has_rest)


def _part(pattern: str, name: str) -> Part:
    if name == _ANY:
        return Part(is_any=True)
    if match := _PLACEHOLDER.fullmatch(name):
        claim = match["claim"]
        return Part(claim=claim) if claim else Part(is_uid=True)
    fault = fault_in_path(name, MAX_PARTITION_BYTES)
    if fault is None and _RESERVED.search(name):
        fault = "mixes a text with `*`, `{` or `}`: a part is a text, `{uid}`, `{claim:NAME}`, `*`, or `**` at the end"
    if fault:
        raise NotReady(f"the policy's pattern {pattern!r} has a part {name!r} that {fault}")
    return Part(text=name)


def _values(claim: object) -> Sequence[str]:
    """Returns the texts that a claim stands for."""
    found = [_text(one) for one in (claim if isinstance(claim, list) else [claim])]
    return [text for text in found if text]


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)


def _may(patterns: Sequence[Pattern], partition: str, caller: Caller) -> bool:
    # What is no partition matches nothing: an empty name is no part, and `..` leads elsewhere.
    if fault_in_path(partition, MAX_PARTITION_BYTES):
        return False
    return any(pattern.matches(partition, caller) for pattern in patterns)
