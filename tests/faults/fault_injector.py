"""Everything that goes wrong, at random and for as long as it is asked to."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.faults.proxy import Proxy, cut
from tests.faults.server_process import NotServingError, ServerProcess
from tests.records.stores import failing

GUST_S: Final = 5.0
STARTS: Final = 10  # of a killed server, before the storm gives up


@dataclass(frozen=True, slots=True)
class StreamFault:
    """What MongoDB does to one server: which commands fail and how, and how often that is drawn."""

    name: str
    weight: int
    commands: list[str]
    how: Mapping[str, Any]


SHUT: Final = StreamFault("history lost, not to be reopened", 4, ["getMore", "aggregate"], {"errorCode": 286})
READS_FAIL: Final = StreamFault("reads fail", 4, ["find"], {"errorCode": 50})
STREAM_FAULTS: Final = (
    SHUT,
    READS_FAIL,
    StreamFault("history lost", 4, ["getMore"], {"errorCode": 286}),
    StreamFault("connection dropped", 4, ["getMore"], {"closeConnection": True}),
    StreamFault("connection dropped, not to be reopened", 4, ["getMore", "aggregate"], {"closeConnection": True}),
    # Rare: the driver then waits for up to 10 s for a primary, and the whole server with it.
    StreamFault("not primary", 1, ["getMore", "aggregate"], {"errorCode": 10107}),
)


class FaultInjector:
    """Cuts, delays and silences connections, kills servers, breaks change streams. `faults` counts them.

    `fronts`: one proxy before each server. `balancers`: proxies whose upstreams are all servers.
    `app_names`: what failpoints know each server by.
    """

    def __init__(
        self,
        seed: int,
        servers: Sequence[ServerProcess],
        fronts: Sequence[Proxy],
        balancers: Sequence[Proxy],
        mongo_uri: str,
        app_names: Sequence[str],
    ) -> None:
        self._seed = seed
        self._servers = servers
        self._fronts = fronts
        self._balancers = balancers
        self._mongo_uri = mongo_uri
        self._app_names = app_names
        self._calm = asyncio.Event()
        self.faults: Counter[str] = Counter()

    async def blow(self) -> None:
        """Goes on until `calm`; then every server runs, and what stays wrong is only connections half-open."""
        async with asyncio.TaskGroup() as tasks:
            for name, fault, shortest_s, longest_s in (
                ("cut", self._cut, 0.1, 0.6),
                ("half-open", self._half_open, 3.0, 8.0),
                ("delay", self._delay, 1.0, 5.0),
                ("kill", self._kill, 3.0, 7.0),
                ("stream", self._break_stream, 1.0, 4.0),
            ):
                tasks.create_task(self._repeat(name, fault, shortest_s, longest_s), name=name)

    def calm(self) -> None:
        """Lets `blow` return soon."""
        self._calm.set()

    async def last_gust(self) -> None:
        """Loses every change stream and makes every server's reads fail, once more and for `GUST_S`.

        No cut or restart comes after it and makes watchers read again: what is forgotten now stays missed.
        """
        gusts = [(fault, app_name) for fault in (SHUT, READS_FAIL) for app_name in self._app_names]
        for fault, app_name in gusts:
            await self._break(fault, app_name, GUST_S / len(gusts))

    async def _repeat(self, name: str, fault: Any, shortest_s: float, longest_s: float) -> None:
        # Dice of its own: how long one kind of fault takes does not change the plan of another.
        dice = random.Random(f"{self._seed} {name}")
        while not await self._is_calm_after(dice.uniform(shortest_s, longest_s)):
            await fault(dice)

    async def _is_calm_after(self, pause_s: float) -> bool:
        try:
            async with asyncio.timeout(pause_s):
                return await self._calm.wait()
        except TimeoutError:
            return False

    async def _cut(self, dice: random.Random) -> None:
        connections = dice.choice(self._fronts).connections
        self.faults["connections cut"] += cut(dice.sample(connections, min(len(connections), dice.randint(1, 3))))

    async def _half_open(self, dice: random.Random) -> None:
        if connections := dice.choice(self._fronts).connections:
            dice.choice(connections).half_open()
            self.faults["connections half-opened"] += 1

    async def _delay(self, dice: random.Random) -> None:
        front = dice.choice(self._fronts)
        front.delay_s = dice.uniform(0.01, 0.2)
        self.faults["delays"] += 1
        await self._is_calm_after(dice.uniform(0.5, 2.0))
        front.delay_s = 0.0

    async def _kill(self, dice: random.Random) -> None:
        number = dice.randrange(len(self._servers))
        server = self._servers[number]
        await server.kill()
        self.faults["servers killed"] += 1
        await self._is_calm_after(dice.uniform(0.0, 2.0))
        await self._start(server)
        self._fronts[number].upstreams = (server.port,)
        for balancer in self._balancers:
            balancer.upstreams = tuple(one.port for one in self._servers)

    async def _start(self, server: ServerProcess) -> None:
        # As an orchestrator does: a server that finds MongoDB in disorder refuses to start.
        for _ in range(STARTS):
            try:
                await server.start()
            except NotServingError as error:
                self.faults["starts refused"] += 1
                refusal = error
            else:
                return
        raise refusal

    async def _break_stream(self, dice: random.Random) -> None:
        fault = dice.choices(STREAM_FAULTS, [fault.weight for fault in STREAM_FAULTS])[0]
        await self._break(fault, dice.choice(self._app_names), dice.uniform(0.1, 1.5))

    async def _break(self, fault: StreamFault, app_name: str, duration_s: float) -> None:
        async with failing(self._mongo_uri, app_name, fault.commands, **fault.how):
            self.faults[f"failpoints: {fault.name}"] += 1
            await asyncio.sleep(duration_s)
