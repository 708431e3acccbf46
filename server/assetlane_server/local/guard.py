"""Runs one store server and takes it down when the process that asked for it is gone, however it went.

A program of its own, run by path (`python -I -S guard.py ORDER`): it starts in milliseconds and needs
nothing but the standard library. Pipes and process ids work alike on Linux and macOS; PR_SET_PDEATHSIG
exists on Linux only and is tied to the parent's thread, not to the parent.

Standard input is the life line. A `k` on it kills the server at once (kill -9); its end asks the server to
stop (SIGTERM) and kills it after a limit. Standard output reports the server's process id, standard error
is its log. The guard ends after its server, with the server's exit code.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

PARENT_PIPE: Final = 0
KILL: Final = b"k"
# A fork of the parent that never ran exec holds a copy of the life line: so look at the parent itself as well.
PARENT_CHECK_INTERVAL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class GuardOrder:
    """What to run, for whom, and what to tidy up after it."""

    command: tuple[str, ...]
    parent_pid: int
    stop_limit_s: float
    kept_fds: tuple[int, ...]
    """Descriptors that the server inherits: the lock of the directory holds as long as the server lives."""
    leftovers: tuple[str, ...]
    """Files that the server leaves behind, removed when it has ended."""

    def to_json(self) -> str:
        """Returns the order as the guard's one argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "GuardOrder":
        """Reads what `to_json` wrote."""
        order = json.loads(text)
        return cls(
            command=tuple(order["command"]),
            parent_pid=order["parent_pid"],
            stop_limit_s=order["stop_limit_s"],
            kept_fds=tuple(order["kept_fds"]),
            leftovers=tuple(order["leftovers"]),
        )


def end_with_parent(server: subprocess.Popen[bytes], order: GuardOrder) -> None:
    """Returns when the server has to end: killed on order, stopped when the life line or the parent ended."""
    while os.getppid() == order.parent_pid:
        readable, _, _ = select.select([PARENT_PIPE], [], [], PARENT_CHECK_INTERVAL_S)
        if not readable:
            continue
        if os.read(PARENT_PIPE, 1) == KILL:
            server.kill()
            return
        break
    server.terminate()
    try:
        server.wait(order.stop_limit_s)
    except subprocess.TimeoutExpired:
        server.kill()


def main(order: GuardOrder) -> int:
    """Runs the server until it ends; returns its exit code, 128 + n when signal n ended it."""
    server = subprocess.Popen(  # noqa: S603 - the order comes from our own parent
        order.command, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr, pass_fds=order.kept_fds
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: server.terminate())
    print(server.pid, flush=True)
    threading.Thread(target=end_with_parent, args=(server, order), daemon=True).start()
    exit_code = server.wait()
    for leftover in order.leftovers:
        Path(leftover).unlink(missing_ok=True)
    return exit_code if exit_code >= 0 else 128 - exit_code


if __name__ == "__main__":
    sys.exit(main(GuardOrder.from_json(sys.argv[1])))
