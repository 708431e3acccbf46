"""One run of a command: connects, works, and turns what goes wrong into a line and an exit code."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import typer

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


def run(context: typer.Context, work: Callable[[Client], Awaitable[int]], *, session_id: str | None = None) -> None:
    """Runs `work` with a client and exits with the code it returns, 1 for an error, 130 for Ctrl-C.

    Ctrl-C cancels the work, which gives its uploads up before this returns.
    """
    raise typer.Exit(_code(context.ensure_object(Connection), work, session_id))


def _code(connection: Connection, work: Callable[[Client], Awaitable[int]], session_id: str | None) -> int:
    async def connected() -> int:
        async with Client(
            connection.target,
            uid=connection.uid,
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
