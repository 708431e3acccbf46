"""The ledger writer: group commit. Inserts and status changes of one process are sent together.

While one bulk write is in progress, new writes wait; then all that wait are sent as the next unordered bulk write. A
write never waits for others to join it: if none is in progress, it is sent at once. If one takes long, another begins
beside it. Each caller receives the outcome of its own write:

- An operation is encoded before it waits. If it cannot be encoded, or is too large, its caller gets the error at once:
  in a bulk write it would make all others fail.
- A document is in one batch at a time, so a second change of it is sent after the first one has succeeded or failed.
- A bulk write reports which inserts met a duplicate key, but only how many of its updates matched. If some did not
  match, the documents are read, and each change is found by its id.
- If the server did not confirm that a batch is durable (a write-concern error, a lost reply, a time-out), all of its
  writes are LEDGER_UNAVAILABLE. Each caller may retry, since every write is conditional.

MongoDB 6 is enough: the bulk write of MongoDB 8 that reports each update is not used. The collection is passed in; this
module does not import Motor.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, Final

from bson import encode
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import InsertOne, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from assetlane_server.model.errors import LedgerBusy, LedgerUnavailable
from assetlane_server.records.documents import CHANGE_IDS, Change, Document, NotEncodable, change_ids_of

MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024 - 16 * 1024  # MongoDB's limit, less what an update adds around it
_AT_ONCE: Final = 2  # batches in progress, the second beside one that takes long
_LONG_S: Final = 0.1
MOST_OPERATIONS: Final = 500  # of a batch
_MOST_BYTES: Final = 8 * 1024 * 1024  # of a batch
_DUPLICATE_KEY: Final = 11000


@dataclass(slots=True, eq=False)
class _Write:
    """One write that waits or is in progress. Its outcome: whether it was made; False: no match, or a duplicate key."""

    document_id: Any
    parts: tuple[RawBSONDocument, ...]  # a document to insert, or a query and an update
    change_id: bytes | None  # of an update
    context: Context  # of its caller
    outcome: "asyncio.Future[bool]"

    @property
    def is_update(self) -> bool:
        return self.change_id is not None

    @property
    def size_bytes(self) -> int:
        return sum(len(part.raw) for part in self.parts)

    @property
    def operation(self) -> "InsertOne[RawBSONDocument] | UpdateOne":
        return UpdateOne(self.parts[0], self.parts[1]) if self.is_update else InsertOne(self.parts[0])


class LedgerWriter:
    """Writes to one collection. After LedgerUnavailable, which every method may raise, a write may have been made."""

    def __init__(
        self,
        collection: Any,
        *,
        asking: Callable[[str], AbstractContextManager[object]],
        unavailable: Callable[[PyMongoError], LedgerUnavailable],
        max_waiting: int,
        most_operations: int = MOST_OPERATIONS,
        long_s: float = _LONG_S,
    ) -> None:
        """`asking` measures an operation of that name; with `max_waiting` writes waiting, `insert` refuses.

        A batch has at most `most_operations` writes; beside one that takes `long_s` another may begin.
        """
        self._collection = collection
        self._asking = asking
        self._unavailable = unavailable
        self._max_waiting = max_waiting
        self._most_operations = most_operations
        self._long_s = long_s
        self._waiting: deque[_Write] = deque()
        self._under_way: set[Any] = set()  # ids of the documents in batches
        self._running = 0  # tasks that will look for another batch before they end
        self._long: set[object] = set()  # those of them whose batch takes long
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many writes wait for a batch."""
        return len(self._waiting)

    async def insert(self, document: Document) -> bool:
        """Stores a document; returns False if a unique key exists already. Raises LedgerBusy, NotEncodable."""
        if len(self._waiting) >= self._max_waiting:
            raise LedgerBusy
        return await self._write(document["_id"], (_encoded(document),), None)

    async def update(self, change: Change) -> bool:
        """Applies a change if its query still matches; returns whether it did. Raises NotEncodable."""
        parts = _encoded(change.query), _encoded(change.update)
        return await self._write(change.query["_id"], parts, change.change_id)

    async def finish(self) -> None:
        """Returns when nothing is in progress any more. Every operation has its own time limit."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _write(self, document_id: Any, parts: tuple[RawBSONDocument, ...], change_id: bytes | None) -> bool:
        outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Write(document_id, parts, change_id, copy_context(), outcome))
        self._go()
        # A caller that is cancelled withdraws a write that still waits; a batch in progress continues without it.
        return await outcome

    def _go(self) -> None:
        if self._running == len(self._long) < _AT_ONCE:
            self._running += 1
            task = asyncio.get_running_loop().create_task(self._run(), name="ledger writer")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        try:
            # Ends when nothing is left but writes to documents of the other task's batch, which that task will send, or
            # when that task has begun because this one took long.
            while self._running - len(self._long) == 1 and (batch := self._next_batch()):
                late = asyncio.get_running_loop().call_later(self._long_s, self._takes_long, batch[0])
                try:
                    await self._sent(batch)
                finally:
                    late.cancel()
                    self._long.discard(batch[0])
        finally:
            # Here, not in a done callback, which runs later: a write that arrived in between would wait for ever.
            self._running -= 1

    async def _sent(self, batch: list[_Write]) -> None:
        ids = {write.document_id for write in batch}
        self._under_way |= ids
        # In the context of its first caller, so that the span has a parent.
        sending = asyncio.get_running_loop().create_task(self._send(batch), context=batch[0].context)
        try:
            await sending
        finally:
            self._under_way -= ids
            for write in batch:
                if not write.outcome.done():  # this task was cancelled, or raised an unexpected error
                    write.outcome.set_exception(LedgerUnavailable("The ledger's writer ended: call again."))

    def _takes_long(self, batch: object) -> None:
        self._long.add(batch)
        self._go()

    def _next_batch(self) -> list[_Write]:
        """Takes the waiting writes, in order, except those whose document is in a batch already."""
        batch: list[_Write] = []
        ids: set[Any] = set()
        size_bytes = 0
        left: deque[_Write] = deque()
        while self._waiting and len(batch) < self._most_operations and size_bytes < _MOST_BYTES:
            write = self._waiting.popleft()
            if write.outcome.done():
                continue  # its caller was cancelled
            if write.document_id in ids or write.document_id in self._under_way:
                left.append(write)
                continue
            ids.add(write.document_id)
            size_bytes += write.size_bytes
            batch.append(write)
        left.extend(self._waiting)
        self._waiting = left
        return batch

    async def _send(self, batch: list[_Write]) -> None:
        try:
            outcomes = await (self._alone(batch[0]) if len(batch) == 1 else self._together(batch))
        except PyMongoError as error:
            refusal = str(self._unavailable(error))
            for write in batch:
                if not write.outcome.done():
                    write.outcome.set_exception(LedgerUnavailable(refusal))
        else:
            for write, outcome in zip(batch, outcomes, strict=True):
                if write.outcome.done():
                    continue
                if isinstance(outcome, bool):
                    write.outcome.set_result(outcome)
                else:
                    write.outcome.set_exception(outcome)

    async def _alone(self, write: _Write) -> list[bool | LedgerUnavailable]:
        if write.is_update:
            with self._asking("update"):
                result = await self._collection.update_one(*write.parts)
            return [result.matched_count == 1]
        with self._asking("insert"):
            try:
                await self._collection.insert_one(*write.parts)
            except DuplicateKeyError:
                return [False]
        return [True]

    async def _together(self, batch: list[_Write]) -> list[bool | LedgerUnavailable]:
        operations = [write.operation for write in batch]
        failed: dict[int, Mapping[str, Any]] = {}
        with self._asking("bulk_write"):
            try:
                matched = (await self._collection.bulk_write(operations, ordered=False)).matched_count
            except BulkWriteError as error:
                if error.details["writeConcernErrors"]:
                    raise
                failed = {one["index"]: one for one in error.details["writeErrors"]}
                matched = error.details["nMatched"]
        updates = [index for index, write in enumerate(batch) if write.is_update and index not in failed]
        made = set(updates)
        if matched < len(updates):
            made = await self._made(batch, updates)
        return [self._outcome(index, write, failed, made) for index, write in enumerate(batch)]

    async def _made(self, batch: list[_Write], updates: Iterable[int]) -> set[int]:
        """Returns which updates were made: some were not, and the server does not report which."""
        ids = [batch[index].document_id for index in updates]
        with self._asking("find"):
            documents = await self._collection.find({"_id": {"$in": ids}}, CHANGE_IDS).to_list(None)
        found = {document["_id"]: change_ids_of(document) for document in documents}
        return {
            index for index in updates if batch[index].change_id in found.get(batch[index].document_id, frozenset())
        }

    def _outcome(
        self, index: int, write: _Write, failed: Mapping[int, Mapping[str, Any]], made: set[int]
    ) -> bool | LedgerUnavailable:
        if (failure := failed.get(index)) is not None:
            if failure["code"] == _DUPLICATE_KEY and not write.is_update:
                return False
            return LedgerUnavailable(f"The ledger refused a write: {failure.get('errmsg', failure['code'])}")
        return not write.is_update or index in made


def _encoded(document: Document) -> RawBSONDocument:
    """Returns an encoded document. Raises NotEncodable when BSON cannot hold it, or it is too large."""
    try:
        raw = encode(document)
    except (BSONError, OverflowError, UnicodeError) as error:
        raise NotEncodable(f"a record cannot be encoded: {error}") from error
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise NotEncodable(f"a record would have {len(raw):,} bytes, MongoDB takes {MAX_DOCUMENT_BYTES:,}")
    return RawBSONDocument(raw)
