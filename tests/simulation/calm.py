"""The simulated stores without anything that goes wrong, on the event loop that is running: for contract tests."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from detangle import SimLoop
from tests.simulation.auditor import Auditor
from tests.simulation.mongo import Document, SimDatabase, SimMongo, taken_event
from tests.simulation.network import Faults, Link
from tests.simulation.store import SimStore, StoreClient

from assetlane_server.records.mongo import MongoRecords


class CalmLoop:
    """What the stores ask of a SimLoop: every choice is the plainest one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def choose(self, _count: int, _kind: str) -> int:
        """See SimLoop."""
        return 0

    def flip(self, _chance: float, _kind: str) -> bool:
        """See SimLoop."""
        return False

    def time(self) -> float:
        """See asyncio."""
        return self._loop.time()

    def create_future(self) -> "asyncio.Future[Any]":
        """See asyncio."""
        return self._loop.create_future()

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """See asyncio."""
        return self._loop.call_at(when, callback, *args)


class CalmAuditor:
    """Looks away: contract tests write what no server writes."""

    def reach(self, situation: str) -> None:
        """See Observer."""

    def note(self, line: str) -> None:
        """See Observer."""

    def fail(self, what: str) -> None:
        """See Observer."""
        raise AssertionError(what)

    def document_changed(self, collection: str, before: Document | None, after: Document | None) -> None:
        """See mongo.Auditor."""

    def object_deleted(self, key: str) -> None:
        """See store.Auditor."""

    def multipart_aborted(self, multipart_id: str) -> None:
        """See store.Auditor."""

    def parts_put_together(self, key: str) -> None:
        """See store.Auditor."""


def calm_records() -> MongoRecords:
    """Returns the ledger on a simulated MongoDB."""
    loop, auditor = cast(SimLoop, CalmLoop()), CalmAuditor()
    mongo = SimMongo(loop, time.time, auditor)
    link = Link(loop, Faults(), auditor, "a server")
    records = MongoRecords(cast(Any, SimDatabase(mongo, link, Faults())), take_events=taken_event)
    stamp = mongo.stamp()
    records.clock.learn(cast(Any, (stamp.time << 32) | stamp.inc))
    return records


def calm_store() -> StoreClient:
    """Returns the simulated object store."""
    loop, auditor = cast(SimLoop, CalmLoop()), CalmAuditor()
    store = SimStore(loop, lambda: datetime.now(UTC), cast(Auditor, auditor))  # type: ignore[arg-type]  # as in cluster.py
    return StoreClient(store, Link(loop, Faults(), auditor, "a server"))
