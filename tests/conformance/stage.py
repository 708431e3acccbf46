"""Where the script is played: a server of its own, on a port that stays the same when it is restarted."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from tests.access.certificates import Authority
from tests.access.tokens import Issuer
from tests.faults.server_process import ServerProcess, environment_for, server_process
from tests.servers import prepare_bucket, settings_for

from assetlane_server.access.ring_files import RingFiles
from assetlane_server.composition.app import utc_now
from assetlane_server.config.settings import PREFIX
from assetlane_server.local import StackAddress
from assetlane_server.uploads.rings import change_ring

STOP_LIMIT_S: Final = 30.0
UID: Final = "ann"
_LOG_LINES: Final = 60
_POLICY: Final = """\
read = ["user/{uid}", "public"]
write = ["user/{uid}", "public"]

[[service]]
name = "clinic"
subject = "clinic-backend"
users = ["ann"]
read = ["user/{uid}"]
write = ["user/{uid}"]
"""


class Stage:
    """A server that can be restarted, and the environment in which clients find it."""

    def __init__(
        self,
        server: ServerProcess,
        folder: Path,
        secrets_of_clients: Mapping[str, str],
        web_url: str = "",
        backend_token: str = "",
    ) -> None:
        self._server = server
        self._secrets_of_clients = secrets_of_clients
        self._backend_token = backend_token
        self.folder = folder
        """Where the driver's files are made."""
        self.web_url = web_url
        """Where the web gateway is; empty: there is none."""

    @property
    def target(self) -> str:
        """Where the server is called."""
        return self._server.target

    @property
    def environment(self) -> dict[str, str]:
        """What a client is started with: where to, and as whom."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        where = {"ASSETLANE_TARGET": self.target, "ASSETLANE_UID": UID}
        if self.web_url:
            where["ASSETLANE_WEB_URL"] = self.web_url
        return {**inherited, **where, **self._secrets_of_clients}

    @property
    def backend_environment(self) -> dict[str, str]:
        """The same for a service caller that acts for the user. Only of a secured stage."""
        if not self._backend_token:
            raise ValueError("this server verifies no tokens, and so knows no service caller")
        return {**self.environment, "ASSETLANE_TOKEN": self._backend_token}

    @property
    def server_errors(self) -> list[str]:
        """The end of the server's log from its last error on; empty when it has logged none."""
        lines = self._server.log.splitlines()
        starts = [number for number, line in enumerate(lines) if " ERROR " in line]
        return lines[starts[-1] :][-_LOG_LINES:] if starts else []

    async def restart_server(self) -> None:
        """Stops the server as a deployment does, and returns when it serves again."""
        self._server.terminate()
        await self._server.wait(STOP_LIMIT_S)
        await self._server.start()


@asynccontextmanager
async def stage(
    stack: StackAddress, folder: Path, *, is_secured: bool = False, has_web: bool = False
) -> AsyncIterator[Stage]:
    """Serves on these stores, with a database and a key prefix of its own; secured: with TLS, and for tokens.

    With `has_web` the web gateway listens too.
    """
    database_name, key_prefix = f"assetlane_test_{secrets.token_hex(8)}", f"conformance-{secrets.token_hex(8)}/"
    await prepare_bucket(settings_for(stack, database_name, key_prefix))
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    secured, clients, backend_token = await _secured(folder) if is_secured else ({}, {}, "")
    web_url = f"http{'s' if is_secured else ''}://localhost:{_free_port()}" if has_web else ""
    web = {"web_listen": web_url.replace("localhost", "127.0.0.1").rpartition("/")[2]} if has_web else {}
    settings = {"listen": f"127.0.0.1:{_free_port()}", "key_prefix": key_prefix, **web, **secured}
    environment = environment_for(stack, database_name, settings=settings, grace_seconds=5)
    async with server_process(environment, folder / "server.log") as server:
        yield Stage(server, folder, clients, web_url, backend_token)


async def _secured(folder: Path) -> tuple[dict[str, str], dict[str, str], str]:
    """Returns the settings of a server with TLS and tokens, the environment of its clients, and a back end's token."""
    authority, issuer = Authority(), Issuer()
    chain, key = authority.signed("localhost").put(folder)
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "tokens.pem").write_bytes(issuer.file)
    (folder / "policy.toml").write_text(_POLICY)
    rings, since = folder / "rings", utc_now() - timedelta(minutes=1)
    await change_ring(RingFiles(rings), "clinic", lambda ring: ring.with_key("k1", secrets.token_bytes(32), since))
    server = {
        "tls_cert_file": str(chain),
        "tls_key_file": str(key),
        "jwt_key_file": str(folder / "tokens.pem"),
        "policy_file": str(folder / "policy.toml"),
        "token_keys": str(rings),
    }
    client = {"ASSETLANE_CA_FILE": str(folder / "ca.pem"), "ASSETLANE_TOKEN": issuer.token(UID)}
    return server, client, issuer.token("clinic-backend")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
