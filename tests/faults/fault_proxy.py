"""A proxy before one store that decides about every single request: it passes, or what happens to it.

Each server under test gets proxies of its own: when they shut for good, the stores see what they see of a server
that was killed.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Final

from tests.faults.messages import Language, Message, StoreError
from tests.faults.proxy import CHUNK_BYTES, LOOPBACK

REPLY_LIMIT_S: Final = 10.0
HEAD_LIMIT_BYTES: Final = 256 * 1024


class Action(StrEnum):
    """What happens to one request."""

    PASS = "passed"  # noqa: S105 - no password
    LOSE = "lost: the connection breaks before the request leaves"
    DELAY = "delayed: the connection breaks after the request left, and it arrives much later"
    SWALLOW = "swallowed: the request is carried out, the connection breaks before the reply arrives"
    REFUSE = "refused: the store says that it is ill"
    STEP_DOWN = "refused: the store says that it is no primary any more"
    DENY = "denied: the store says no for good"
    HANG = "hung: the request is carried out, the reply never comes"
    STALL = "stalled: the request is not carried out, nothing ever comes"


_ERRORS: Final = {
    Action.REFUSE: StoreError.UNREACHABLE,
    Action.STEP_DOWN: StoreError.STEPPED_DOWN,
    Action.DENY: StoreError.FORBIDDEN,
}
_HARMLESS: Final = frozenset({"hello", "ismaster", "isMaster", "ping", "endSessions", "killCursors"})

Decide = Callable[[Message], Action]


def let_pass(message: Message) -> Action:
    """Lets everything through."""
    return Action.PASS


class CarriedConnection:
    """One carried connection."""

    def __init__(self, proxy: "FaultProxy", caller: asyncio.StreamWriter, upstream: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._caller = caller
        self._upstream = upstream
        self._swallowed: asyncio.Event | None = None
        self._is_silent = False
        self.is_waiting = False
        """Whether its last request was the driver's own: a `hello` that waits for news."""

    async def carry_requests(self, reader: asyncio.StreamReader) -> None:
        """Carries requests, each as the proxy decides."""
        language = self._proxy.language
        while True:
            message = await language.read(reader)
            self.is_waiting = not message.is_of_a_call
            action = self._proxy.judge(message)
            match action:
                case Action.PASS:
                    await self._send(message)
                case Action.LOSE | Action.DELAY:
                    if action is Action.DELAY:
                        self._proxy.delayed.append(message)
                    self._proxy.done.set()
                    self.cut()
                    return
                case Action.SWALLOW:
                    self._swallowed = self._proxy.done
                    await self._send(message)
                case Action.REFUSE | Action.STEP_DOWN | Action.DENY:
                    self._caller.write(language.refusal(message, _ERRORS[action]))
                    await self._caller.drain()
                    if action is Action.STEP_DOWN:
                        self._proxy.wake_drivers()
                case Action.HANG | Action.STALL:
                    self._is_silent = True
                    if action is Action.HANG:
                        await self._send(message)

    async def carry_replies(self, reader: asyncio.StreamReader) -> None:
        """Carries replies until the store ends the connection or one is to be swallowed."""
        while data := await reader.read(CHUNK_BYTES):
            if self._swallowed is not None:
                self._swallowed.set()
                break
            if not self._is_silent:
                self._caller.write(data)
                await self._caller.drain()
        self.cut()

    def cut(self) -> None:
        """Breaks both sides."""
        self._caller.transport.abort()
        self._upstream.transport.abort()

    async def _send(self, message: Message) -> None:
        self._upstream.write(message.data)
        await self._upstream.drain()


class FaultProxy:
    """See the module. Made by `fault_proxy`; `decide` may change at any time."""

    def __init__(self, upstream: int, language: Language) -> None:
        self.language = language
        self.decide: Decide = let_pass
        self.port = 0
        self.actions: Counter[Action] = Counter()
        """What was done to the requests of calls."""
        self.delayed: list[Message] = []
        """Requests that are still on their way, see `deliver`."""
        self.done = asyncio.Event()
        """Set when a request was lost, delayed, or carried out and its reply swallowed."""
        self._upstream = upstream
        self._passages: set[CarriedConnection] = set()
        self._is_shut = False

    def judge(self, message: Message) -> Action:
        """Returns what happens to a request."""
        if self._is_shut:
            return Action.PASS if message.name.partition(" ")[0] in _HARMLESS else Action.DENY
        if not message.is_of_a_call:
            return Action.PASS
        action = self.decide(message)
        self.actions[action] += 1
        return action

    def shut(self) -> None:
        """Nothing of its server reaches the store any more, as if the server had been killed.

        What it still asks is denied at once, and its driver finds the store well: else the dead server would
        wait for the store, in threads that it shares with the living.
        """
        self._is_shut = True
        for passage in tuple(self._passages):
            passage.cut()

    def wake_drivers(self) -> None:
        """Ends every `hello` that waits, as a primary does that steps down."""
        for passage in tuple(self._passages):
            if passage.is_waiting:
                passage.cut()

    async def deliver(self) -> None:
        """Lets delayed requests arrive and be carried out."""
        while self.delayed:
            message = self.delayed.pop()
            async with asyncio.timeout(REPLY_LIMIT_S):
                reader, writer = await asyncio.open_connection(LOOPBACK, self._upstream)
                writer.write(message.data)
                assert await reader.read(CHUNK_BYTES), "the store did not answer"
                writer.transport.abort()

    async def carry(self, caller: socket.socket) -> None:
        """Carries one connection until either side ended it."""
        reader, writer = await asyncio.open_connection(sock=caller, limit=HEAD_LIMIT_BYTES)
        passage: CarriedConnection | None = None
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(LOOPBACK, self._upstream)
            passage = CarriedConnection(self, writer, upstream_writer)
            self._passages.add(passage)
            async with asyncio.TaskGroup() as pumps:
                replies = pumps.create_task(passage.carry_replies(upstream_reader))
                with suppress(asyncio.IncompleteReadError, OSError):
                    await passage.carry_requests(reader)
                passage.cut()
                replies.cancel()
        except* OSError:
            pass
        finally:
            writer.transport.abort()
            if passage is not None:
                passage.cut()
                self._passages.discard(passage)


@asynccontextmanager
async def fault_proxy(upstream: int, language: Language) -> AsyncIterator[FaultProxy]:
    """Runs a proxy before this port on loopback; at the end every connection is cut."""
    proxy = FaultProxy(upstream, language)
    # Not start_server: what it accepts in the moment of its end stays open.
    with socket.create_server((LOOPBACK, 0), backlog=256) as listener:
        listener.setblocking(False)
        proxy.port = listener.getsockname()[1]
        async with asyncio.TaskGroup() as tasks:

            async def accept() -> None:
                while True:
                    caller, _ = await asyncio.get_running_loop().sock_accept(listener)
                    tasks.create_task(proxy.carry(caller))

            accepting = tasks.create_task(accept())
            try:
                yield proxy
            finally:
                accepting.cancel()
                proxy.shut()
