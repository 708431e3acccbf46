"""One run of a command: connects, works, and turns what goes wrong into a line and an exit code."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import typer

from assetlane.calls import Token
from assetlane.cli.output import complain, note
from assetlane.client import Client
from assetlane.errors import AssetlaneError
from assetlane.parcel import first

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
    tls: "Tls | None" = None


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to trust, None for the authorities that everybody trusts, and the certificate to show, if any."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns what a channel takes. Raises OSError when a file cannot be read."""
        ca, key, cert = (
            None if file is None else file.read_bytes() for file in (self.ca_file, self.key_file, self.cert_file)
        )
        return grpc.ssl_channel_credentials(ca, key, cert)


async def read_token(file: Path) -> str:
    """Returns what the file holds now: whoever keeps it fresh replaces it before the token expires."""
    token = (await asyncio.to_thread(file.read_text)).strip()
    if not token:
        raise OSError(errno.EINVAL, "there is no token in it", str(file))
    return token


def run(context: typer.Context, work: Callable[[Client], Awaitable[int]], *, session_id: str | None = None) -> None:
    """Runs `work` with a client and exits with the code it returns, 1 for an error, 130 for Ctrl-C.

    Ctrl-C cancels the work, which gives its uploads up before this returns.
    """
    raise typer.Exit(_code(context.ensure_object(Connection), work, session_id))


def _code(connection: Connection, work: Callable[[Client], Awaitable[int]], session_id: str | None) -> int:
    async def connected() -> int:
        token: Token | None = connection.token or None
        if connection.token_file is not None:
            token = partial(read_token, connection.token_file)
        async with Client(
            connection.target,
            uid=connection.uid,
            token=token,
            credentials=None if connection.tls is None else connection.tls.credentials(),
            session_id=session_id,
            call_timeout=connection.timeout,
        ) as lane:
            return await work(lane)

    try:
        return asyncio.run(connected())
    except KeyboardInterrupt:
        note("assetlane: interrupted")
        return INTERRUPTED
    except (AssetlaneError, OSError, ExceptionGroup) as caught:
        error = first(caught) if isinstance(caught, ExceptionGroup) else caught
        if isinstance(error, BrokenPipeError):
            raise error from None  # whoever read us hung up: the caller of the command ends quietly
        if not isinstance(error, AssetlaneError | OSError):
            raise error from caught
        complain(error)
        return FAILED
