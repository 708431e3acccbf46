"""What lies between a server and its stores: requests that are slow, lost, applied without an answer, or late.

Every choice is the event loop's, so that a schedule can be replayed and shrunk. The default of each is no fault.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from detangle import SimLoop

T = TypeVar("T")
FAULT = "fault"
_DELAYS_S = (0.0, 0.0, 0.01, 0.3)
_SLOW_S = (0.5, 2.0, 4.0)
_LATE_S = (0.1, 2.0, 5.0)


class Lost(Exception):  # noqa: N818 - what happened to a request
    """The answer of a request did not come; whether the request was carried out is not known."""


@dataclass
class Faults:
    """How often something goes wrong, from 0 to 1. All 0: nothing does."""

    request: float = 0.0  # a request to a store fails in one of its ways
    stream: float = 0.0  # a change stream is lost, each time it is asked
    call: float = 0.0  # the answer of a server to a client is lost
    write_s: float = 0.0  # how long each write of a ledger takes: others gather behind it meanwhile
    cut: float = 0.0  # a picture cannot be fetched, decoded, or cut in time
    put: float = 0.0  # the answer of the object store to a client is lost, or is an error

    def calm(self) -> None:
        """Nothing goes wrong from now on."""
        self.request = self.stream = self.call = self.cut = self.put = self.write_s = 0.0


class Observer(Protocol):
    """Keeps the list of situations that were reached."""

    def reach(self, situation: str) -> None:
        """Notes that a situation was reached."""
        ...

    def note(self, line: str) -> None:
        """Notes what happened, where somebody reads it."""
        ...

    def fail(self, what: str) -> None:
        """Notes that something does not hold: the schedule ends after this step."""
        ...


class Link:
    """The connection of one server to one store. When the server dies, nothing returns from it any more."""

    def __init__(self, loop: SimLoop, faults: Faults, observer: Observer, name: str) -> None:
        self._loop = loop
        self.faults = faults
        self._observer = observer
        self.name = name
        self.is_alive = True
        self.is_cut = False  # every request fails
        self.slow_s = 0.0  # how much longer each write takes
        self.under_way = 0
        self.documents_under_way: set[Any] = set()  # those that its ledger writer has sent

    async def request(self, what: str, apply: Callable[[], T], *, is_write: bool) -> T:
        """Returns what `apply` returns, which happens at one instant. Raises Lost, before that instant or after it."""
        loop = self._loop
        await self.alive()
        self.under_way += 1
        if is_write:
            self._observer.note(f"{self.name}: {what}")
        try:
            await self._travel()
            if self.is_cut:
                raise Lost(what)
            if is_write and (pause_s := self.faults.write_s + self.slow_s):
                await asyncio.sleep(pause_s)
            if not self.is_alive:
                if is_write and loop.choose(2, FAULT):
                    self._attempted(apply)
                    self._observer.reach("a write of a server that died was applied")
                await self._never()
            if loop.flip(self.faults.request, FAULT):
                await self._go_wrong(what, apply, is_write=is_write)
            result = apply()
            if delay_s := _DELAYS_S[loop.choose(len(_DELAYS_S), FAULT)]:
                await asyncio.sleep(delay_s)
        finally:
            self.under_way -= 1
        await self.alive()
        return result

    async def _go_wrong(self, what: str, apply: Callable[[], Any], *, is_write: bool) -> None:
        match self._loop.choose(4 if is_write else 2, FAULT):
            case 0:
                await asyncio.sleep(_SLOW_S[self._loop.choose(len(_SLOW_S), FAULT)])
                await self.alive()
            case 1:
                self._observer.reach(f"{what}: refused")
                self._observer.note(f"{self.name}: {what}: refused")
                raise Lost(what)
            case 2:
                self._attempted(apply)
                self._observer.reach(f"{what}: applied, and the answer lost")
                self._observer.note(f"{self.name}: {what}: the answer is lost")
                await self._travel()
                await self.alive()
                raise Lost(what)
            case _:
                later_s = _LATE_S[self._loop.choose(len(_LATE_S), FAULT)]
                self._observer.reach(f"{what}: applied after the caller had an error")
                self._observer.note(f"{self.name}: {what}: an error now, applied in {later_s} s")
                self.under_way += 1
                self._loop.call_later(later_s, self._late, apply)
                raise Lost(what)

    def _late(self, apply: Callable[[], Any]) -> None:
        self.under_way -= 1
        self._attempted(apply)

    @staticmethod
    def _attempted(apply: Callable[[], Any]) -> None:
        with suppress(Refused):  # the store's answer is an error, and nobody hears it
            apply()

    async def _travel(self) -> None:
        delay_s = _DELAYS_S[self._loop.choose(len(_DELAYS_S), FAULT)]
        await asyncio.sleep(delay_s)

    async def alive(self) -> None:
        """Returns if the server lives; of one that has died nothing goes on."""
        if not self.is_alive:
            await self._never()

    async def _never(self) -> None:
        await self._loop.create_future()


class Refused(Exception):  # noqa: N818 - what a store says
    """The store carried a request out as far as it could and answers with this error of the driver's."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))
