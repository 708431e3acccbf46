"""What native libraries write to file descriptor 2, between the lines of the log."""

import json
import subprocess
import sys
from typing import Any

PRELUDE = """
import logging, os, sys
from assetlane_server.telemetry.log import log_to
from assetlane_server.telemetry.stderr import native_lines_logged
log_to(sys.stderr, level='info', form='json')
"""


def run(script: str) -> list[dict[str, Any]]:
    """Returns the lines of the log of a script; each has to be JSON."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script], capture_output=True, text=True, timeout=60, check=False
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_lines_of_absl_have_their_severity_and_place() -> None:
    """All are JSON, in between too; what is written afterwards is not touched."""
    lines = run(
        "with native_lines_logged():\n"
        "    logging.getLogger('ours').info('first')\n"
        "    os.write(2, b'WARNING: All log messages before absl::InitializeLog() is called are written\\n')\n"
        "    os.write(2, b'E0000 00:00:1764184673.123456   12345 ssl_transport_security.cc:1877] Handshake fai')\n"
        "    os.write(2, b'led\\nW1126 19:31:54.347159    1854 chttp2_transport.cc:1403] odd\\n')\n"
        "    os.write(2, b'I1126 19:31:54.347159    1854 chttp2_transport.cc:1403] Got goaway\\n')\n"
        "    os.write(2, b'a line without a head \\xff \\x1b[31m\\n')\n"
        "    os.write(2, b'no end')\n"
        "logging.getLogger('ours').info('last')\n"
    )
    logged = [(line["level"], line["logger"], line["event"], line.get("source")) for line in lines]
    ours = [one for one in logged if one[1] == "ours"]
    theirs = [one for one in logged if one[1] == "grpc.core"]
    assert [one[2] for one in ours] == ["first", "last"]
    assert theirs == [
        ("error", "grpc.core", "Handshake failed", "ssl_transport_security.cc:1877"),
        ("warning", "grpc.core", "odd", "chttp2_transport.cc:1403"),
        ("warning", "grpc.core", "a line without a head \\xff \x1b[31m", "stderr"),
        ("warning", "grpc.core", "no end", "stderr"),
    ]


def test_a_secret_in_such_a_line_is_hidden() -> None:
    """They take the same way as all others."""
    (line,) = run(
        "with native_lines_logged():\n"
        "    os.write(2, b'E1126 19:31:54.3 1 a.cc:1] authorization: Bearer abcdefgh12345\\n')\n"
    )
    assert line["event"] == "authorization: Bearer ***"


def test_a_line_without_an_end_is_cut_and_a_flood_is_no_deadlock() -> None:
    """More than a pipe holds, from the thread that also logs."""
    lines = run(
        "with native_lines_logged():\n"
        "    os.write(2, b'x' * 100_000 + b'\\n')\n"
        "    for number in range(2000):\n"
        "        os.write(2, b'W1126 19:31:54.3 1 a.cc:1] ' + b'y' * 100 + b'\\n')\n"
        "        logging.getLogger('ours').info('line %d', number)\n"
    )
    assert sum(line["event"] == "y" * 100 for line in lines) == 2000
    assert sum(line["logger"] == "ours" for line in lines) == 2000
    assert max(len(line["event"]) for line in lines) <= 8192
