"""Servers that are there and are not what the client hopes for: TLS or none, another protocol, silence."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import grpc
import grpc.aio
from tests.access.certificates import Authority, Pair

OURS, OTHERS = Authority("ours"), Authority("another")
CERTIFICATE = OURS.signed("server")


@asynccontextmanager
async def grpc_server(credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[str]:
    """Runs a gRPC server that knows no call of ours."""
    server = grpc.aio.server()
    port = (
        server.add_secure_port("127.0.0.1:0", credentials) if credentials else server.add_insecure_port("127.0.0.1:0")
    )
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def talker(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Runs a server that speaks something else."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers as a web server does."""
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


async def mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets as a mail server does."""
    writer.write(b"220 mail.example.com ESMTP\r\n")
    await reader.read(1000)


def tls(pair: Pair = CERTIFICATE, client_ca: bytes | None = None) -> grpc.ServerCredentials:
    """Returns a server's credentials."""
    return grpc.ssl_server_credentials([(pair.key, pair.chain)], client_ca, client_ca is not None)


def trusting(authority: Authority = OURS, pair: Pair | None = None) -> grpc.ChannelCredentials:
    """Returns a client's credentials."""
    return grpc.ssl_channel_credentials(authority.pem, pair.key if pair else None, pair.chain if pair else None)
