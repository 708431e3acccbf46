"""Rings of keys that scoped tokens are signed with: one ring per service caller. Pure.

A key goes through three states. *Waiting*: every server verifies with it, none signs with it yet. *In use*: the newest
key of this state signs. *Retired*: it verifies the tokens that it has signed, and signs no more. So keys are rotated
without an outage, however the servers' readings of the ring interleave. A dropped key is gone, and with it its tokens.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from assetlane_server.model.errors import Advice

SECRET_BYTES = 32  # RFC 7518, 3.2: as long as the hash of HS256
MAX_KEYS = 16  # of one ring
# From a key's addition until tokens are signed with it: by then every server has read the ring several times.
WAIT = timedelta(seconds=30)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class RingKey:
    """One key of a ring."""

    key_id: str
    secret: bytes = field(repr=False)
    create_time: datetime
    use_time: datetime  # from then on tokens are signed with it
    retire_time: datetime | None = None  # set: no token is signed with it any more

    def state(self, now: datetime) -> str:
        """Returns `waiting`, `in use` or `retired`."""
        if self.retire_time is not None:
            return "retired"
        return "waiting" if now < self.use_time else "in use"


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys of one service caller, oldest first. Every change raises `revision` by one."""

    name: str
    keys: tuple[RingKey, ...] = ()
    revision: int = 0
    fault: str = ""  # why what is stored under this name is no ring: it has no keys then, and others are not affected

    @property
    def damage(self) -> "RingDamaged | None":
        """The error for a ring that cannot be read, None for one that can."""
        return RingDamaged(self.name, self.fault) if self.fault else None

    def signing_key(self, now: datetime) -> RingKey | None:
        """Returns the key that tokens are signed with now: the newest one in use, else none."""
        return next((key for key in reversed(self.keys) if key.state(now) == "in use"), None)

    def key(self, key_id: str) -> RingKey | None:
        """Returns the key with this id."""
        return next((key for key in self.keys if key.key_id == key_id), None)

    def with_key(self, key_id: str, secret: bytes, now: datetime) -> "Ring":
        """Returns the ring with one more key, which is in use at once where no other is, else after WAIT.

        Raises RingUnchanged when there are MAX_KEYS already.
        """
        if len(self.keys) >= MAX_KEYS:
            fault = f"ring {self.name} has {MAX_KEYS} keys, which is the limit: drop retired ones first"
            raise RingUnchanged("RING_FULL", fault)
        use_time = now if self.signing_key(now) is None else now + WAIT
        return self._changed((*self.keys, RingKey(key_id, secret, now, use_time)))

    def retired(self, key_id: str, now: datetime) -> "Ring":
        """Returns the ring whose key signs no more. Raises RingUnchanged when there is no such key, or no other signs.

        A key that waits to be used does not count as one that signs.
        """
        key = self._known(key_id)
        if key.retire_time is not None:
            raise RingUnchanged("KEY_RETIRED", f"key {key_id} of ring {self.name} is retired already")
        rest = replace(self, keys=tuple(one for one in self.keys if one.key_id != key_id))
        if rest.signing_key(now) is None:
            raise RingUnchanged(
                "LAST_KEY_IN_USE",
                f"no other key of ring {self.name} is in use yet: add one, and retire {key_id} once that is",
            )
        retired = replace(key, retire_time=now)
        return self._changed(tuple(retired if one.key_id == key_id else one for one in self.keys))

    def dropped(self, key_id: str) -> "Ring":
        """Returns the ring without the key. Raises RingUnchanged when there is no such key."""
        self._known(key_id)
        return self._changed(tuple(key for key in self.keys if key.key_id != key_id))

    def _known(self, key_id: str) -> RingKey:
        key = self.key(key_id)
        if key is None:
            raise RingUnchanged("KEY_UNKNOWN", f"ring {self.name} has no key {key_id}")
        return key

    def _changed(self, keys: tuple[RingKey, ...]) -> "Ring":
        return replace(self, keys=keys, revision=self.revision + 1)


class RingUnchanged(Exception):  # noqa: N818 - an answer to the operator
    """The ring was left as it is; the message says why and what to do.

    Reasons: RING_UNKNOWN, RING_FULL, RING_CHANGED, KEY_UNKNOWN, KEY_RETIRED, LAST_KEY_IN_USE.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class RingsUnreadable(Exception):  # noqa: N818 - an answer to the operator
    """The rings could not be read or written; the message says why. `ring` is the one that is meant, empty for all."""

    def __init__(self, message: str, *, ring: str = "") -> None:
        self.ring = ring
        super().__init__(message)


class RingDamaged(RingsUnreadable):
    """What is stored under the name of a ring is none."""

    advice = Advice.DROP_RING

    def __init__(self, ring: str, fault: str) -> None:
        super().__init__(f"{fault}: {self.advice}", ring=ring)


def fault_in_ring_name(name: str) -> str:
    """Returns what is wrong with the name of a ring or service caller, empty if nothing is."""
    if _NAME.fullmatch(name):
        return ""
    return "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
