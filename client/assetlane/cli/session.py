"""One run of a command: connects, works, and turns what goes wrong into a line and an exit code."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from assetlane.cli.identity import Claims, claims_of, login_name
from assetlane.cli.output import complain, note
from assetlane.errors import AssetlaneError

if TYPE_CHECKING:
    import grpc

    from assetlane.calls import Token
    from assetlane.client import Client

DEFAULT_TARGET = "127.0.0.1:50151"
FAILED = 1
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the server is, who calls, and how many seconds a call may take."""

    target: str
    uid: str
    timeout: float
    token: str = ""
    token_file: Path | None = None
    plaintext: bool = False  # whether a token may be sent unencrypted
    tls: "Tls | None" = None

    @property
    def has_token(self) -> bool:
        """Whether calls carry a token."""
        return bool(self.token) or self.token_file is not None

    def claims(self) -> Claims:
        """Returns what the token says of itself. Raises FileUnreadable when it cannot be read."""
        if self.token_file is not None:
            return claims_of(_token_in(self.token_file))
        return claims_of(self.token)

    def own_partition(self) -> str:
        """Returns the caller's own partition, empty when it is not known here."""
        uid = self.uid or (self.claims().subject if self.has_token else "")
        return f"user/{uid}" if uid else ""


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to trust, None for the authorities that everybody trusts, and the certificate to show, if any."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def credentials(self) -> "grpc.ChannelCredentials":
        """Returns what a channel takes. Raises FileUnreadable when a file cannot be read."""
        import grpc

        return grpc.ssl_channel_credentials(
            _contents("CA file", self.ca_file),
            _contents("client key file", self.key_file),
            _contents("client certificate file", self.cert_file),
        )


class FileUnreadable(AssetlaneError):  # noqa: N818 - as the other errors
    """A file that an option or a variable names cannot be read, or does not hold what it should."""


def _contents(what: str, file: Path | None) -> bytes | None:
    try:
        return None if file is None else file.read_bytes()
    except OSError as error:
        raise FileUnreadable(f"The {what} {file} cannot be read: {error.strerror}.", reason="FILE_UNREADABLE") from None


async def read_token(file: Path) -> str:
    """Returns what the file holds now: it is replaced by another program before the token expires."""
    return await asyncio.to_thread(_token_in, file)


def _token_in(file: Path) -> str:
    try:
        token = file.read_text().strip()
    except OSError as error:
        fault = f"The token file {file} cannot be read: {error.strerror}."
    except UnicodeDecodeError:
        fault = f"The token file {file} holds no token, but something that is not text."
    else:
        if token:
            return token
        fault = f"The token file {file} is empty: there is no token in it."
    raise FileUnreadable(fault, reason="TOKEN_UNREADABLE")


def client_of(connection: Connection, *, session_id: str | None = None) -> "Client":
    """Returns a client that is not open yet. Raises AssetlaneError, also when a file cannot be read."""
    from assetlane.client import Client
    from assetlane.diagnosis import is_loopback
    from assetlane.errors import Unauthenticated

    token: Token | None = connection.token or None
    if connection.token_file is not None:
        token = partial(read_token, connection.token_file)
    if token is not None and connection.tls is None and not (connection.plaintext or is_loopback(connection.target)):
        raise Unauthenticated(
            f"The token would be sent to {connection.target} unencrypted: connect with --tls,"
            " or with --plaintext if nobody can listen.",
            reason="TOKEN_IN_THE_CLEAR",
        )
    return Client(
        connection.target,
        uid=connection.uid,
        token=token,
        credentials=None if connection.tls is None else connection.tls.credentials(),
        session_id=session_id,
        call_timeout=connection.timeout,
    )


def run(
    context: typer.Context,
    work: "Callable[[Client], Awaitable[int]]",
    *,
    session_id: str | None = None,
    on_interrupt: Callable[[], Iterable[str]] = tuple,
) -> None:
    """Runs `work` with a client and exits with the code it returns, 1 for an error, 130 for Ctrl-C.

    Ctrl-C cancels the work, which gives its uploads up before this returns; then the lines of `on_interrupt` are
    printed.
    """
    _pass_on_warnings()
    raise typer.Exit(_code(context.ensure_object(Connection), work, session_id, on_interrupt))


def _code(
    connection: Connection,
    work: "Callable[[Client], Awaitable[int]]",
    session_id: str | None,
    on_interrupt: Callable[[], Iterable[str]],
) -> int:
    async def connected() -> int:
        async with client_of(connection, session_id=session_id) as client:
            return await work(client)

    try:
        return asyncio.run(connected())
    except KeyboardInterrupt:
        note("assetlane: interrupted")
        for line in on_interrupt():
            note(line)
        return INTERRUPTED
    except (AssetlaneError, OSError, ExceptionGroup) as caught:
        error: Exception = caught
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, BrokenPipeError):
            raise error from None  # the reader of our output has closed it: the command ends quietly
        if not isinstance(error, AssetlaneError | OSError):
            raise error from caught
        complain(error)
        return FAILED


class _Notes(logging.Handler):
    """Prints what the client logs as lines of the command's own."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record."""
        note(f"assetlane: {record.getMessage()}")


def _pass_on_warnings() -> None:
    """Shows the client's warnings, and to a person also that a call is being repeated."""
    log = logging.getLogger("assetlane")
    if not log.handlers:
        log.addHandler(_Notes())
        log.propagate = False
        if sys.stderr.isatty():
            logging.getLogger("assetlane.calls").setLevel(logging.INFO)


def connection_from(
    *,
    target: str,
    uid: str,
    timeout: float,
    token: str = "",
    token_file: Path | None = None,
    plaintext: bool = False,
    tls: Tls | None = None,
) -> Connection:
    """Returns the connection of these options; where no token says who calls, it is the user of this machine."""
    if not (uid or token or token_file):
        uid = login_name()
    return Connection(target or DEFAULT_TARGET, uid, timeout, token, token_file, plaintext, tls)
