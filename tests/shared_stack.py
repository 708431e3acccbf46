"""One embedded stack for a whole test run, started when the first test asks for it.

The process that owns the run (pytest itself, xdist's controller) owns the stack; xdist's workers ask for its
address through a door on loopback.
"""

import asyncio
import json
import os
import secrets
import socket
import socketserver
import tempfile
import threading
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.servers import EVERY_TEST, settings_for

from assetlane_server.composition.app import set_up_bucket
from assetlane_server.local import EmbeddedStack, StackAddress

START_LIMIT_S: Final = 90.0
STOP_LIMIT_S: Final = 30.0
ENVIRONMENT: Final = {
    "mongo_uri": "ASSETLANE_MONGO_URI",
    "s3_endpoint": "ASSETLANE_S3_ENDPOINT",
    "s3_region": "ASSETLANE_S3_REGION",
    "s3_access_key_id": "ASSETLANE_S3_ACCESS_KEY_ID",
    "s3_secret_access_key": "ASSETLANE_S3_SECRET_ACCESS_KEY",
    "s3_bucket": "ASSETLANE_S3_BUCKET",
}


def address_from_environment() -> StackAddress | None:
    """Returns the real servers that the environment names, None when it names none.

    Raises ValueError when it names one without all the rest.
    """
    named = {field: os.environ[variable] for field, variable in ENVIRONMENT.items() if variable in os.environ}
    if not {"mongo_uri", "s3_endpoint"} & named.keys():
        return None
    if missing := [variable for field, variable in ENVIRONMENT.items() if field not in named]:
        raise ValueError(f"tests against real servers need {', '.join(missing)} too")
    return StackAddress(**named)


class SharedStack:
    """Runs one embedded stack in a thread of its own, with test commands; its data goes when it closes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._address: Future[StackAddress] = Future()
        self._stop: Future[None] = Future()

    def address(self) -> StackAddress:
        """Returns the stack's address; starts the stack when nobody asked before."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=asyncio.run, args=(self._run(),), name="shared-stack", daemon=True
                )
                self._thread.start()
        return self._address.result(START_LIMIT_S)

    def close(self) -> None:
        """Ends the stack, if it was started, and removes its data."""
        if self._thread is not None:
            self._stop.set_result(None)
            self._thread.join(STOP_LIMIT_S)

    async def _run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="assetlane-tests-") as directory:
            stack = EmbeddedStack(Path(directory), test_commands=True)
            try:
                await stack.start()
                # No server starts where not everybody can read the public prefix.
                for prefix in ("", EVERY_TEST):
                    await set_up_bucket(settings_for(stack.address, "unused", prefix))
                self._address.set_result(stack.address)
                await asyncio.wrap_future(self._stop)
            except Exception as error:
                self._address.set_exception(error)
            finally:
                await stack.kill()


@dataclass(frozen=True, slots=True)
class AddressSource:
    """Where a worker asks for the address, and the word that opens."""

    port: int
    password: str

    def ask(self) -> StackAddress:
        """Returns the address that the controller gives. Raises RuntimeError when its stack did not start."""
        with socket.create_connection(("127.0.0.1", self.port), START_LIMIT_S) as connection:
            connection.sendall(self.password.encode() + b"\n")
            with connection.makefile() as answers:
                answer = json.loads(answers.readline() or '{"error": "the controller is gone"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return StackAddress(**answer)


class AddressServer:
    """Answers the workers of an xdist run until it closes."""

    def __init__(self, stack: SharedStack) -> None:
        password = secrets.token_hex()

        class Answer(socketserver.StreamRequestHandler):
            """Gives one worker the address, or the reason why there is none."""

            def handle(self) -> None:
                """Answers one line with one line."""
                if not secrets.compare_digest(self.rfile.readline().strip(), password.encode()):
                    return
                try:
                    answer = asdict(stack.address())
                except Exception as error:
                    answer = {"error": f"the shared stack did not start: {error}"}
                self.wfile.write(json.dumps(answer).encode() + b"\n")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="shared-stack-door",
            daemon=True,
        )
        self._thread.start()
        self.source = AddressSource(port=self._server.server_address[1], password=password)

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(STOP_LIMIT_S)
