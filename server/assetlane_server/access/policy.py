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

Service callers are back ends that act for users. Each is a table of its own:

    [[service]]
    name = "clinic"                        # in records, logs and the audit log; also the name of its ring of keys
    subject = "clinic-backend"             # who it is: by the subject of its token,
    claim = { azp = "clinic" }             # by claims of its token,
    certificate = "backend.clinic.example" # by its client certificate; of these, all that are given have to fit
    users = ["patient-*"]                  # the users that it acts for: a uid, the start of one and `*`, or `*`
    read = ["user/{uid}", "clinic/**"]     # `{uid}` is any user that it acts for
    write = ["user/{uid}"]
    rpcs = ["RequestUpload", "WatchUpload"]  # default: every RPC
    max_watches = 1000                     # open at a time, per process; default: the setting for one caller
    calls_per_second = 200                 # per process; default: the setting for one caller
"""

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from typing_extensions import override

from assetlane_server.model.errors import NotReady
from assetlane_server.model.paths import MAX_PARTITION_BYTES, fault_in_path
from assetlane_server.model.rings import fault_in_ring_name

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
            return caller.is_user(name)
        if self.claim:
            return name in _values(caller.claims.get(self.claim))
        return name == self.text

    def covers(self, other: "Part") -> bool:
        """Returns whether it matches every name that the other one does, for every caller. Of texts and `*` alone."""
        return self.is_any or (not other.is_any and self.text == other.text and bool(self.text))


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

    def covers(self, other: "Pattern") -> bool:
        """Returns whether every partition of the other one is one of its own. Both are of texts, `*` and `**` alone."""
        count, others = len(self.parts), len(other.parts)
        # With a rest it takes one part more at least; the other's own rest is one part at least.
        shortest = others + other.has_rest
        if shortest <= count if self.has_rest else (shortest != count or other.has_rest):
            return False
        pairs = zip(self.parts, (*other.parts, Part(is_any=True)), strict=False)
        return all(ours.covers(theirs) for ours, theirs in pairs)

    def of_user(self, uid: str) -> "Pattern":
        """Returns the pattern with this user in the place of `{uid}`."""
        if not any(part.is_uid for part in self.parts):
            return self
        return Pattern(tuple(Part(text=uid) if part.is_uid else part for part in self.parts), self.has_rest)


class Caller(Protocol):
    """What patterns ask about the caller."""

    __slots__ = ()  # adds nothing to what implements it

    @property
    def claims(self) -> Mapping[str, Any]:
        """Those of the token that patterns name."""
        ...

    def is_user(self, uid: str) -> bool:
        """Returns whether `{uid}` stands for this user."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """What the policy says of one service caller."""

    name: str
    subject: str
    claims: tuple[tuple[str, str], ...]
    certificate: str
    users: tuple[str, ...]
    read: tuple[Pattern, ...]
    write: tuple[Pattern, ...]
    rpcs: frozenset[str] | None = None  # None: all
    max_watches: int | None = None
    calls_per_second: float | None = None

    @property
    def identity(self) -> object:
        """What makes a caller this service: another identity under the same name is another caller."""
        return self.subject, self.claims, self.certificate

    def is_caller(self, subject: str, claims: Mapping[str, Any], names: Sequence[str]) -> bool:
        """Returns whether a token of this subject, over a connection with these certificate names, is its own.

        One that is known by its certificate alone sends no token: a token is somebody else's that it passes on.
        """
        if not self.subject and not self.claims:
            return not subject and self.certificate in names
        if (self.subject and subject != self.subject) or (self.certificate and self.certificate not in names):
            return False
        return bool(subject) and all(value in _values(claims.get(name)) for name, value in self.claims)

    def acts_for(self, uid: str) -> bool:
        """Returns whether it may act for this user."""
        return bool(uid) and any(
            uid.startswith(user[:-1]) if user.endswith(_ANY) else uid == user for user in self.users
        )

    def may_call(self, rpc: str) -> bool:
        """Returns whether it may call this RPC, named without its service."""
        return self.rpcs is None or rpc in self.rpcs

    def may_read(self, partition: str, uid: str = "") -> bool:
        """Returns whether it may read the partition, acting for that user; empty: for any of its users."""
        return matches_any(self.read, partition, _Acting(self, uid))

    def may_write(self, partition: str, uid: str = "") -> bool:
        """Returns whether it may write to it, likewise."""
        return matches_any(self.write, partition, _Acting(self, uid))


@dataclass(frozen=True, slots=True)
class _Acting(Caller):
    """A service caller, for one of its users or (uid empty) for any of them."""

    service: Service
    uid: str

    @property
    @override
    def claims(self) -> Mapping[str, Any]:
        return {}  # the patterns of a service name none

    @override
    def is_user(self, uid: str) -> bool:
        return self.service.acts_for(uid) if not self.uid else uid == self.uid


@dataclass(frozen=True, slots=True)
class Policy:
    """What users may read and write, and what service callers may do for them."""

    read: tuple[Pattern, ...]
    write: tuple[Pattern, ...]
    services: tuple[Service, ...] = ()

    def named_claims(self, claims: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns those claims that some pattern names: all that has to be kept of a user's token."""
        named = {part.claim for pattern in (*self.read, *self.write) for part in pattern.parts if part.claim}
        return {name: claims[name] for name in named if name in claims}

    def service(self, name: str) -> Service | None:
        """Returns the service caller of that name."""
        return next((service for service in self.services if service.name == name), None)

    def service_of(self, subject: str, claims: Mapping[str, Any], names: Sequence[str]) -> Service | None:
        """Returns the service caller that a token's subject and claims and a certificate's names stand for.

        `subject` is empty where there is no token. None: it is a user, or nobody.
        """
        return next((service for service in self.services if service.is_caller(subject, claims, names)), None)


class PolicyFault(NotReady):
    """The policy cannot be used.

    `reason` is UPPER_SNAKE and stable; `subject` is the key, pattern or RPC of the policy that is wrong, if it is one.
    """

    def __init__(self, reason: str, subject: str, message: str) -> None:
        super().__init__(message, reason=reason)
        self.subject = subject


def policy_of(text: str) -> Policy:
    """Returns the policy of a file. Raises PolicyFault saying what is wrong with it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyFault("POLICY_MALFORMED", "", f"the policy is not TOML: {error}") from error
    if unknown := sorted(document.keys() - {*_LISTS, "service"}):
        fault = f"the policy has {unknown[0]!r}: it knows `read`, `write` and `[[service]]`"
        raise PolicyFault("KEY_UNKNOWN", unknown[0], fault)
    if missing := [name for name in _LISTS if name not in document]:
        fault = f"the policy has no list `{missing[0]}`: say so with an empty one"
        raise PolicyFault("KEY_MISSING", missing[0], fault)
    return Policy(
        read=_patterns("read", document["read"]),
        write=_patterns("write", document["write"]),
        services=tuple(_services(document.get("service", []))),
    )


DEFAULT_POLICY = """\
read = ["user/{uid}", "public"]
write = ["user/{uid}", "public"]
"""


_SERVICE_KEYS = {f.name for f in fields(Service)} - {"claims"} | {"claim"}


def _services(tables: object) -> Iterator[Service]:
    """Yields the service callers of a policy. Raises PolicyFault naming the table and what is wrong with it."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise PolicyFault("VALUE_INVALID", "service", "`service` of the policy must be tables: write `[[service]]`")
    seen: set[str] = set()
    for number, table in enumerate(tables, 1):
        service = _service(f"the policy's service {table.get('name', number)!r}", table)
        if service.name in seen:
            raise PolicyFault("SERVICE_TWICE", service.name, f"the policy has two services named {service.name!r}")
        seen.add(service.name)
        yield service


def _service(here: str, table: Mapping[str, Any]) -> Service:
    if unknown := sorted(table.keys() - _SERVICE_KEYS):
        known = ", ".join(sorted(_SERVICE_KEYS))
        raise PolicyFault("KEY_UNKNOWN", unknown[0], f"{here} has {unknown[0]!r}: it knows {known}")
    if missing := [key for key in ("name", "users", *_LISTS) if key not in table]:
        raise PolicyFault("KEY_MISSING", missing[0], f"{here} has no `{missing[0]}`")
    for key in ("name", "subject", "certificate"):
        if not isinstance(table.get(key, "x"), str) or not table.get(key, "x"):
            raise PolicyFault("VALUE_INVALID", key, f"{here}: `{key}` must be a text that is not empty")
    if fault := fault_in_ring_name(table["name"]):
        raise PolicyFault("VALUE_INVALID", "name", f"{here}: `name` {fault}")
    claim = table.get("claim", {})
    if not isinstance(claim, dict) or not all(isinstance(value, str) and value for value in claim.values()):
        fault = f"{here}: `claim` must be a table of texts, such as {{ azp = 'clinic' }}"
        raise PolicyFault("VALUE_INVALID", "claim", fault)
    if not (table.get("subject") or claim or table.get("certificate")):
        fault = f"{here} has none of `subject`, `claim` and `certificate`: nobody could be it"
        raise PolicyFault("SERVICE_WITHOUT_PROOF", "", fault)
    users = _texts(here, "users", table)
    for user in users:
        if not user or _ANY in user[:-1]:
            fault = f"{here}: `users` has {user!r}: write a uid, the start of one and `*`, or `*`"
            raise PolicyFault("VALUE_INVALID", "users", fault)
    for key in _LISTS:
        for pattern in _patterns(key, table[key]):
            if any(part.claim for part in pattern.parts):
                fault = f"{here}: `{key}` names a claim: patterns of a service have texts, `{{uid}}`, `*`, `**`"
                raise PolicyFault("CLAIM_IN_SERVICE", key, fault)
    rpcs = _texts(here, "rpcs", table) if "rpcs" in table else None
    return Service(
        name=table["name"],
        subject=table.get("subject", ""),
        claims=tuple(sorted(claim.items())),
        certificate=table.get("certificate", ""),
        users=users,
        read=_patterns("read", table["read"]),
        write=_patterns("write", table["write"]),
        rpcs=None if rpcs is None else frozenset(rpcs),
        max_watches=_positive(here, "max_watches", table, int),
        calls_per_second=_positive(here, "calls_per_second", table, (int, float)),
    )


def _texts(here: str, key: str, table: Mapping[str, Any]) -> tuple[str, ...]:
    texts = table[key]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise PolicyFault("VALUE_INVALID", key, f"{here}: `{key}` must be a list of texts, with one at least")
    return tuple(texts)


def _positive(here: str, key: str, table: Mapping[str, Any], kind: Any) -> Any:
    value = table.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < 1e9):
        raise PolicyFault("VALUE_INVALID", key, f"{here}: `{key}` must be a number above 0")
    return value


def check_rpcs(policy: Policy, known: Collection[str]) -> None:
    """Raises PolicyFault for the name of an RPC that does not exist: a slip would take a right away."""
    for service in policy.services:
        if service.rpcs is not None and (unknown := sorted(service.rpcs - set(known))):
            fault = f"the policy's service {service.name!r} names the RPC {unknown[0]!r}, which does not exist"
            raise PolicyFault("RPC_UNKNOWN", unknown[0], fault)


def _patterns(name: str, texts: object) -> tuple[Pattern, ...]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise PolicyFault("VALUE_INVALID", name, f"`{name}` of the policy must be a list of patterns, each a text")
    return tuple(pattern_of(text) for text in texts)


def pattern_of(text: str) -> Pattern:
    """Returns the pattern that a text writes. Raises PolicyFault saying what is wrong with it."""
    *names, last = _SLASH.split(text)
    has_rest = last == _REST
    if not has_rest:
        names.append(last)
    parts = tuple(_part(text, name) for name in names)
    if parts and (parts[0].is_uid or parts[0].claim):
        fault = f"the policy's pattern {text!r} lets a token choose the first part: put a fixed one before it"
        raise PolicyFault("FIRST_PART_OPEN", text, fault)
    return Pattern(parts, has_rest)


def _part(pattern: str, name: str) -> Part:
    if name == _ANY:
        return Part(is_any=True)
    if match := _PLACEHOLDER.fullmatch(name):
        claim = match["claim"]
        return Part(claim=claim) if claim else Part(is_uid=True)
    found = fault_in_path(name, MAX_PARTITION_BYTES)
    fault = "" if found is None else found.message
    if not fault and _RESERVED.search(name):
        fault = "mixes a text with `*`, `{` or `}`: a part is a text, `{uid}`, `{claim:NAME}`, `*`, or `**` at the end"
    if fault:
        raise PolicyFault(
            "PATTERN_INVALID", pattern, f"the policy's pattern {pattern!r} has a part {name!r} that {fault}"
        )
    return Part(text=name)


def _values(claim: object) -> Sequence[str]:
    """Returns the texts that a claim stands for."""
    found = [_text(one) for one in (claim if isinstance(claim, list) else [claim])]
    return [text for text in found if text]


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)


def matches_any(patterns: Sequence[Pattern], partition: str, caller: Caller) -> bool:
    """Returns whether the partition is one of those that the patterns mean for this caller."""
    # What is no partition matches nothing: an empty name is no part, and `..` leads elsewhere.
    if fault_in_path(partition, MAX_PARTITION_BYTES):
        return False
    return any(pattern.matches(partition, caller) for pattern in patterns)
