"""What an operator sees of a call: who sees it stands behind these two ports."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import grpc

from assetlane_server.ports.access import Access

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

REQUEST_ID = "x-request-id"  # in the metadata of a call, and in its trailing metadata


class ObservedCall(Protocol):
    """One call that is under way. Its methods never raise."""

    @property
    def request_id(self) -> str:
        """What the caller, the log and the traces call it."""
        ...

    def admitted(self, access: Access) -> None:
        """It is known who calls, and for whom."""
        ...

    def refused(self, uid: str) -> None:
        """It is known who calls, and the call is refused for that."""
        ...

    def asked(self, request: Any) -> None:
        """It is known what for."""
        ...

    def ended(self, code: grpc.StatusCode, reason: str = "", response: Any = None) -> None:
        """The call is over, with this status and the reason of its ErrorInfo; a unary one that is OK has a response."""
        ...


class CallObserver(Protocol):
    """Observes every call of ours, in the task that serves it."""

    def began(self, method: str, metadata: Metadata, *, is_watch: bool) -> ObservedCall:
        """A call of `/package.Service/Method` has come."""
        ...
