"""Just enough of MongoDB's wire protocol to be a server that ours must refuse."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import bson
from tests.servers import LIMIT_S

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]
"""What to answer a command with; None is silence."""

_HEADER: Final = struct.Struct("<iiii")  # length, request id, response to, opcode
_OP_REPLY: Final = 1
_OP_QUERY: Final = 2004
_OP_MSG: Final = 2013
STANDALONE: Final = {
    "isWritablePrimary": True,
    "ismaster": True,
    "maxBsonObjectSize": 16 * 1024 * 1024,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "ok": 1.0,
}


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[int]:
    """Listens on loopback, answers every command with a document, and yields the port."""
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            talks.add(task)
        try:
            while True:
                length, request_id, _, opcode = _HEADER.unpack(await reader.readexactly(_HEADER.size))
                body = await reader.readexactly(length - _HEADER.size)
                document = answer(_command(opcode, body))
                if document is None:
                    continue
                reply = bson.encode(document)
                if opcode == _OP_MSG:
                    body, opcode = struct.pack("<ib", 0, 0) + reply, _OP_MSG
                else:  # the first word of a driver that does not know yet whom it talks to
                    body, opcode = struct.pack("<iqii", 8, 0, 0, 1) + reply, _OP_REPLY
                writer.write(_HEADER.pack(_HEADER.size + len(body), 0, request_id, opcode) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the driver has left
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.wait(talks, timeout=LIMIT_S)  # each ends with its driver


def _command(opcode: int, body: bytes) -> dict[str, Any]:
    """Returns the command in a message: OP_MSG with one section, or OP_QUERY with a collection's name before it."""
    begin = 5 if opcode == _OP_MSG else body.index(b"\0", 4) + 1 + 8
    (length,) = struct.unpack_from("<i", body, begin)
    command: dict[str, Any] = bson.decode(body[begin : begin + length])
    return command
