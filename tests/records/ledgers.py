"""Every adapter of the ledger, open and empty: what the contract tests run on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from tests.memory.ledger import MemoryLedger
from tests.records.stores import drop

from assetlane_server.local import StackAddress
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.records.pages import OrderedPages, WindowPages

KINDS: Final = ("MongoDB, ordered pages", "MongoDB, windows", "memory")
Ledger = MongoRecords | MemoryLedger


@asynccontextmanager
async def opened(kind: str, stack: StackAddress, database_name: str) -> AsyncIterator[Ledger]:
    """Opens one of them; what it holds is dropped at the end."""
    if kind == "memory":
        yield MemoryLedger()
        return
    async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=timedelta(seconds=20)) as records:
        # Both ways to read pages are right on every server; which one is fast depends on it.
        is_in_windows = kind.endswith("windows")
        records._reads_whole_ranges = is_in_windows
        records._pages = (WindowPages if is_in_windows else OrderedPages)(records._by_id)
        yield records
    await drop(stack.mongo_uri, database_name)
