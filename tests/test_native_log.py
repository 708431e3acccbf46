"""The log of a server is one JSON object a line, also when gRPC's core has something to say."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.access.certificates import Authority
from tests.conftest import Figures
from tests.processes import command
from tests.servers import prepare_bucket, settings_for

from assetlane_server.local import StackAddress

LIMIT_S = 60.0


def read(log: str) -> list[dict[str, Any]]:
    """Returns the lines of a log; what is not JSON fails, but for the last word of a command that cannot start."""
    return [json.loads(line) for line in log.splitlines() if not line.startswith("assetlane-server: ")]


async def test_what_is_no_tls_is_reported_in_a_line_of_json(
    stack: StackAddress,
    database_name: str,
    key_prefix: str,
    tmp_path: Path,
    figures: Figures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Strangers that speak something else, of which the core writes lines of its own."""
    await prepare_bucket(settings_for(stack, database_name, key_prefix))
    chain, key = Authority().signed("one").put(tmp_path)
    settings = {"tls_cert_file": chain, "tls_key_file": key, "log_format": "json", "log_level": "debug"}
    monkeypatch.setenv("GRPC_VERBOSITY", "debug")
    async with command(stack, "serve", mongo_database=database_name, key_prefix=key_prefix, **settings) as server:
        host, _, port = (await server.serves()).rpartition(":")
        for _ in range(5):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            try:
                async with asyncio.timeout(LIMIT_S):
                    await reader.read()
            except ConnectionError:
                pass
            finally:
                writer.close()
        server.process.terminate()
        assert await server.ends() == 0
        lines = read(server.log)
        core = [line for line in lines if line["logger"] == "grpc.core"]
        figures(f"log with strangers on the TLS port: {len(lines)} lines of JSON, {len(core)} of gRPC's core")
        assert core, "the core says nothing any more: this test proves nothing"
        assert all(line["source"] for line in core)


async def test_a_port_in_use_is_reported_in_json_and_one_sentence(
    stack: StackAddress, database_name: str, key_prefix: str
) -> None:
    """The core has its own words for it; the sentence for the operator comes last, on standard error as it is."""
    await prepare_bucket(settings_for(stack, database_name, key_prefix))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {"listen": f"127.0.0.1:{taken.getsockname()[1]}", "log_format": "json"}
        async with command(stack, "serve", mongo_database=database_name, key_prefix=key_prefix, **settings) as server:
            assert await server.ends() == 1
            assert server.log.splitlines()[-1].startswith("assetlane-server: cannot listen on 127.0.0.1:")
            read(server.log)
