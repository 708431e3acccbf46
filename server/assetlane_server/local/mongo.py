"""The MongoDB protocol: SecantusDB (`secantusd-py` of the wheel secantusdb).

Run and never imported: it is GPL-2.

It calls itself a replica set of one node, so change streams and majority concerns work.
"""

import socket
import struct
from pathlib import Path
from typing import Final

from assetlane_server.local.ports import LOOPBACK
from assetlane_server.local.process import Launch, find_program

PROBE_LIMIT_S: Final = 1.0
NOOP_HEARTBEAT_S: Final = 10
"""Keeps the resume tokens of an idle change stream fresh; the same as mongod's default."""


def mongo_launch(directory: Path, port: int, *, test_commands: bool) -> Launch:
    """Returns how to run SecantusDB on this port, with its data in `directory/mongo`."""
    home = directory / "mongo"
    home.mkdir(mode=0o700, exist_ok=True)
    # An explicit file, empty: else the server reads ~/.secantus and /etc/secantus.
    (home / "secantusd.toml").touch(mode=0o600)
    command = (
        find_program("secantusdb", "secantusd-py"),
        "--config=secantusd.toml",
        f"--host={LOOPBACK}",
        f"--port={port}",
        "--storage-path=data",
        "--cache-size=256M",
        f"--noop-heartbeat-seconds={NOOP_HEARTBEAT_S}",
        # Else kill -9 loses acknowledged writes, majority ones too; MongoDB's own are journaled by then.
        "--sync-on-commit",
        "--log-level=WARNING",
    )
    return Launch(
        name="SecantusDB",
        command=(*command, "--enable-test-commands") if test_commands else command,
        working_directory=home,
        log=directory / "mongo.log",
        is_ready=lambda: is_writable_primary(port),
        variables={"HOME": str(home), "TMPDIR": str(home)},
    )


def mongo_uri(port: int) -> str:
    """Returns the URI for clients; a direct connection spares them the discovery of a set of one."""
    return f"mongodb://{LOOPBACK}:{port}/?directConnection=true"


def is_writable_primary(port: int) -> bool:
    """Says whether the server answers `hello` and takes writes.

    One OP_MSG by hand, so that no driver is needed: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
    """
    document = b"\x10hello\x00" + struct.pack("<i", 1) + b"\x02$db\x00" + struct.pack("<i", 6) + b"admin\x00\x00"
    body = struct.pack("<iB", 0, 0) + struct.pack("<i", len(document) + 4) + document
    message = struct.pack("<iiii", len(body) + 16, 1, 0, 2013) + body
    try:
        with socket.create_connection((LOOPBACK, port), PROBE_LIMIT_S) as connection:
            connection.settimeout(PROBE_LIMIT_S)
            connection.sendall(message)
            with connection.makefile("rb") as answer:
                (size_bytes,) = struct.unpack("<i", answer.read(4))
                return b"\x08isWritablePrimary\x00\x01" in answer.read(size_bytes - 4)
    except (OSError, struct.error):
        return False
