"""What each kind of caller may do: users, service callers, and devices with a scoped token. Pure.

Every question is answered by the policy of that moment, so that a right that is taken away is gone at once, also for
calls and watches that are under way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from typing_extensions import override

from assetlane_server.access.policy import Caller, Pattern, Policy, Service, matches_any
from assetlane_server.model.caller import CallerKind
from assetlane_server.model.errors import RpcNotAllowed, TokenRevoked
from assetlane_server.model.upload import Upload
from assetlane_server.ports.access import Access

CREATE_TOKEN = "CreateToken"  # noqa: S105 - the name of an RPC
# What the holder of a token for one upload may call.
RPCS_OF_ONE_UPLOAD = frozenset(
    {"WatchUpload", "ReportProgress", "SignParts", "ListParts", "CompleteUpload", "CancelUpload", "GetUpload"}
)

CurrentPolicy = Callable[[], Policy]

# A field that a port declares and that has no default says `field()`: a dataclass would take the property of the port
# for its default.


@dataclass(frozen=True, slots=True)
class UserAccess(Access, Caller):
    """A user who has proved to be `uid`."""

    uid: str = field()
    claims: Mapping[str, Any] = field()
    expire_time: datetime | None = field()
    policy: CurrentPolicy
    kind: CallerKind = CallerKind.USER
    actor: str = ""
    max_watches: int | None = None
    calls_per_second: float | None = None

    @property
    @override
    def caller(self) -> str:
        return f"uid:{self.uid}"

    @override
    def is_user(self, uid: str) -> bool:
        return uid == self.uid

    @override
    def may_read(self, partition: str) -> bool:
        return matches_any(self.policy().read, partition, self)

    @override
    def may_write(self, partition: str) -> bool:
        return matches_any(self.policy().write, partition, self)

    @override
    def acting_for(self, uid: str) -> Self | None:
        return self if uid == self.uid else None

    @override
    def may_handle(self, upload: Upload) -> bool:
        return upload.uid == self.uid

    @override
    def check(self, rpc: str) -> None:
        if rpc == CREATE_TOKEN:
            raise RpcNotAllowed(rpc, "only a service caller of the policy makes tokens")


@dataclass(frozen=True, slots=True)
class ServiceAccess(Access):
    """A service caller, for one of its users once `acting_for` has named one."""

    name: str
    identity: object  # of the service that the caller has proved to be
    expire_time: datetime | None = field()
    policy: CurrentPolicy
    acting_uid: str = ""
    kind: CallerKind = CallerKind.SERVICE
    uid: None = None

    @property
    def service(self) -> Service:
        """What the policy says of it now. Raises TokenRevoked when that is nothing, or of another caller."""
        service = self.policy().service(self.name)
        if service is None or service.identity != self.identity:
            raise TokenRevoked
        return service

    @property
    @override
    def actor(self) -> str:
        return self.name

    @property
    @override
    def caller(self) -> str:
        return f"service:{self.name}"

    @property
    @override
    def max_watches(self) -> int | None:
        return self.service.max_watches

    @property
    @override
    def calls_per_second(self) -> float | None:
        return self.service.calls_per_second

    @override
    def may_read(self, partition: str) -> bool:
        return self.service.may_read(partition, self.acting_uid)

    @override
    def may_write(self, partition: str) -> bool:
        return self.service.may_write(partition, self.acting_uid)

    @override
    def acting_for(self, uid: str) -> Self | None:
        return replace(self, acting_uid=uid) if self.service.acts_for(uid) else None

    @override
    def may_handle(self, upload: Upload) -> bool:
        """An upload of one of its users, in partitions that it may write to for that user."""
        return _may_handle(self.service, upload)

    @override
    def check(self, rpc: str) -> None:
        if not self.service.may_call(rpc):
            raise RpcNotAllowed(rpc, f"the policy does not give it to {self.name}")


@dataclass(frozen=True, slots=True)
class TokenAccess(Access, Caller):
    """The holder of a scoped token, within the token and within what the policy gives its maker."""

    uid: str = field()
    maker: str
    token_id: str
    expire_time: datetime = field()
    policy: CurrentPolicy
    is_good: Callable[[], bool]
    """Whether the key that it was signed with is still in its maker's ring."""
    upload_id: str = ""  # empty: it is for partitions
    read: tuple[Pattern, ...] = ()
    write: tuple[Pattern, ...] = ()
    kind: CallerKind = CallerKind.TOKEN
    max_watches: int | None = None
    calls_per_second: float | None = None

    @property
    @override
    def claims(self) -> Mapping[str, Any]:
        return {}  # its patterns name none

    @property
    def service(self) -> Service:
        """What the policy says of its maker now. Raises TokenRevoked when that may not act for the user any more."""
        service = self.policy().service(self.maker)
        if service is None or not service.acts_for(self.uid) or not self.is_good():
            raise TokenRevoked
        return service

    @property
    @override
    def actor(self) -> str:
        return f"token:{self.maker}"

    @property
    @override
    def caller(self) -> str:
        return f"uid:{self.uid}"  # its calls count as the user's

    @override
    def is_user(self, uid: str) -> bool:
        return uid == self.uid

    @override
    def may_read(self, partition: str) -> bool:
        return matches_any(self.read, partition, self) and self.service.may_read(partition, self.uid)

    @override
    def may_write(self, partition: str) -> bool:
        return matches_any(self.write, partition, self) and self.service.may_write(partition, self.uid)

    @override
    def acting_for(self, uid: str) -> Self | None:
        return self if uid == self.uid else None

    @override
    def may_handle(self, upload: Upload) -> bool:
        if upload.uid != self.uid or not _may_handle(self.service, upload):
            return False
        if self.upload_id:
            return upload.upload_id == self.upload_id
        return self.may_write(upload.partition) and self.may_write(upload.asset_partition)

    @override
    def check(self, rpc: str) -> None:
        if self.upload_id and rpc not in RPCS_OF_ONE_UPLOAD:
            raise RpcNotAllowed(rpc, f"the token is for upload {self.upload_id} alone")
        if rpc == CREATE_TOKEN:
            raise RpcNotAllowed(rpc, "a scoped token makes no tokens")
        if not self.service.may_call(rpc):
            raise RpcNotAllowed(rpc, "the policy does not give it to the maker of the token")


def _may_handle(service: Service, upload: Upload) -> bool:
    return service.acts_for(upload.uid) and all(
        service.may_write(partition, upload.uid) for partition in (upload.partition, upload.asset_partition)
    )
