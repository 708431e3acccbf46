"""The port that says what one caller may do."""

from datetime import datetime
from typing import Protocol, Self

from assetlane_server.model.caller import CallerKind
from assetlane_server.model.upload import Upload


class Access(Protocol):
    """What one caller may do. Every use case asks it before it acts for a caller."""

    __slots__ = ()  # adds nothing to what implements it

    @property
    def kind(self) -> CallerKind:
        """How the caller proves who it is."""
        ...

    @property
    def uid(self) -> str | None:
        """The user that the caller is, or stands for; None: the request names the user."""
        ...

    @property
    def actor(self) -> str:
        """Who acts for the user, as history and logs say it: a service caller's name, `token:` and the name of a
        token's maker, empty for the user itself and where nobody asks for proof.
        """
        ...

    @property
    def caller(self) -> str | None:
        """Whose limits of calls and watches count: `uid:` or `service:` and a name; None: nobody's."""
        ...

    @property
    def max_watches(self) -> int | None:
        """How many watches the caller may have open, None: as many as any caller."""
        ...

    @property
    def calls_per_second(self) -> float | None:
        """How often the caller may call, None: as often as any caller."""
        ...

    @property
    def expire_time(self) -> datetime | None:
        """The instant from which the proof counts no more, None if it lasts."""
        ...

    def may_read(self, partition: str) -> bool:
        """Returns whether the caller may see what is in the partition."""
        ...

    def may_write(self, partition: str) -> bool:
        """Returns whether the caller may bring something into the partition, and delete from it."""
        ...

    def acting_for(self, uid: str) -> Self | None:
        """Returns what the caller may do in this user's name, None if it may do nothing."""
        ...

    def may_handle(self, upload: Upload) -> bool:
        """Returns whether the caller may see the upload, and lead it on."""
        ...

    def check(self, rpc: str) -> None:
        """Raises RpcNotAllowed if the caller may not call an RPC, named without its service; TokenRevoked if it may
        call none any more.
        """
        ...
