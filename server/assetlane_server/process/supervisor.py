"""Runs several workers on one port and only watches over them.

Workers are forked, before any gRPC object, event loop or thread exists in this process, and none ever does:
so a fork is as good as a fresh start, quick, and shares the memory of what was imported. Linux spreads new
connections over the workers; each has a hub, a MongoDB client and a store pool of its own.

A worker reports through one pipe (that it serves, or why it cannot) and holds the end of another, its life line:
the supervisor never writes to that, but when it dies, by kill -9 too, the pipe ends and the worker drains.
"""

import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from assetlane_server.model.errors import NotReady

SECOND_SIGNAL_STATUS: Final = 130
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_READY: Final = b"\0"
_FIRST_BACKOFF_S: Final = 0.1
_LAST_BACKOFF_S: Final = 10.0
_SETTLED_AFTER_S: Final = 30.0  # a worker that lived so long was in order

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerPipes:
    """What ties a worker to its supervisor."""

    supervisor_fd: int
    """A pipe that ends when the supervisor is gone."""
    report_fd: int
    number: int
    """The worker's, from 1; a worker that replaces it has the same."""

    def report_ready(self) -> None:
        """Reports to the supervisor that this worker serves."""
        os.write(self.report_fd, _READY)


@dataclass(slots=True)
class _Worker:
    """One process and what it reported."""

    number: int
    pid: int
    report_fd: int
    started_at: float
    is_ready: bool = False
    refusal: str = ""

    def read_report(self) -> None:
        """Takes in the one thing that a worker reports; closes the pipe when there was nothing more to come."""
        if self.report_fd < 0:
            return
        try:
            report = os.read(self.report_fd, select.PIPE_BUF)
        except BlockingIOError:
            return
        if report == _READY:
            self.is_ready = True
        elif report:
            self.refusal = report.decode(errors="replace")
        else:
            self.close()

    def close(self) -> None:
        """Closes its pipe."""
        if self.report_fd >= 0:
            os.close(self.report_fd)
            self.report_fd = -1


class Supervisor:
    """Keeps `count` workers at `work` until SIGTERM or SIGINT. Use it once."""

    def __init__(self, work: Callable[[WorkerPipes], None], count: int, *, stop_limit_s: float) -> None:
        self._work = work
        self._count = count
        self._stop_limit_s = stop_limit_s
        self._workers: dict[int, _Worker] = {}  # by process id
        self._failures = dict.fromkeys(range(1, count + 1), 0)  # in a row, by worker number
        self._due_at: dict[int, float] = {}  # when to start a worker, by its number
        self._has_served = False
        self._kill_at: float | None = None  # set once it stops
        self._refusal: str | None = None
        self._status = 0

    def run(self) -> int:
        """Returns the exit status when all workers have ended: 0 when all did in order, 130 after a second signal.

        Raises NotReady with the first worker's reason when one cannot start. Later, a worker that ends is replaced.
        """
        gc.collect()
        gc.freeze()  # a collection in a worker would copy every page that it shares with the others
        self._parent_pipe = os.pipe()
        with ExitStack() as closing, _signal_pipe() as signals:
            for fd in self._parent_pipe:
                closing.callback(os.close, fd)
            self._signal_fds = signals
            for number in self._failures:
                self._start(number)
            while self._workers or not self._is_stopping:
                self._wait()
                self._reap()
                self._start_due()
        if self._refusal is not None:
            raise NotReady(self._refusal)
        return self._status

    @property
    def _is_stopping(self) -> bool:
        return self._kill_at is not None

    # One round: wait, reap, start

    def _wait(self) -> None:
        """Waits until a signal, a report or a due time, and takes the first two in."""
        reporting = {worker.report_fd: worker for worker in self._workers.values() if worker.report_fd >= 0}
        moments = [*self._due_at.values(), *([] if self._kill_at is None else [self._kill_at])]
        timeout = max(0.0, min(moments) - time.monotonic()) if moments else None
        readable, _, _ = select.select([self._signal_fds[0], *reporting], [], [], timeout)
        for fd in readable:
            if worker := reporting.get(fd):
                self._take_report(worker)
            else:
                for number in os.read(fd, 64):
                    if number in _SIGNALS:
                        self._take_signal()
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            _log.error("%d workers did not stop within %g s: killed", len(self._workers), self._stop_limit_s)
            self._kill()

    def _take_report(self, worker: _Worker) -> None:
        worker.read_report()
        if not self._has_served and sum(one.is_ready for one in self._workers.values()) == self._count:
            self._has_served = True
            _log.info("%d workers serve", self._count, extra={"event_code": "WORKERS_SERVE"})

    def _take_signal(self) -> None:
        if self._is_stopping:
            _log.warning("second signal: ending all workers at once")
            self._status = SECOND_SIGNAL_STATUS
            self._kill()
        else:
            _log.info(
                "signal: stopping %d workers; a second one ends them at once",
                len(self._workers),
                extra={"event_code": "STOPPING_WORKERS"},
            )
            self._stop()

    def _reap(self) -> None:
        while True:
            try:
                # Any child: as a container's first process it inherits orphans.
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if worker := self._workers.pop(pid, None):
                worker.read_report()
                worker.close()
                self._take_end(worker, os.waitstatus_to_exitcode(wait_status))

    def _take_end(self, worker: _Worker, exit_code: int) -> None:
        if self._is_stopping:
            # One that had not come so far as to handle signals had nothing to finish either.
            if exit_code != 0 and (worker.is_ready or exit_code not in [-number for number in _SIGNALS]):
                self._status = self._status or 1
            return
        cause = worker.refusal or (
            f"it ended by signal {-exit_code}" if exit_code < 0 else f"it ended with {exit_code}"
        )
        if not self._has_served:
            self._refusal = worker.refusal or f"worker {worker.number} could not start: {cause}"
            self._stop()
            return
        if time.monotonic() - worker.started_at >= _SETTLED_AFTER_S:
            self._failures[worker.number] = 0
        delay_s = min(_FIRST_BACKOFF_S * 2.0 ** min(self._failures[worker.number], 32), _LAST_BACKOFF_S)
        self._failures[worker.number] += 1
        self._due_at[worker.number] = time.monotonic() + delay_s
        more = {
            "event_code": "WORKER_GONE",
            "worker": worker.number,
            "exit_code": exit_code,
            "delay_s": delay_s,
        }
        _log.error("worker %d is gone, another follows in %g s: %s", worker.number, delay_s, cause, extra=more)

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, due_at in self._due_at.items() if due_at <= now]:
            del self._due_at[number]
            self._start(number)

    # Processes

    def _start(self, number: int) -> None:
        report_fds = os.pipe()
        # A signal that came between the fork and the child's own handlers would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid == 0:
            self._run_worker(number, *report_fds)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.close(report_fds[1])
        os.set_blocking(report_fds[0], False)
        self._workers[pid] = _Worker(number, pid, report_fds[0], time.monotonic())

    def _run_worker(self, number: int, report_read_fd: int, report_fd: int) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for signal_number in (*_SIGNALS, signal.SIGCHLD):
                signal.signal(signal_number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            # A life line that the worker itself holds open never ends.
            for fd in (self._parent_pipe[1], *self._signal_fds, report_read_fd):
                os.close(fd)
            self._work(WorkerPipes(self._parent_pipe[0], report_fd, number))
            status = 0
        except NotReady as error:
            os.write(report_fd, str(error).encode())
        except BaseException:
            _log.critical("worker %d broke", number, exc_info=True)
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)  # what the supervisor would do at its end is not the worker's to do

    def _stop(self) -> None:
        self._due_at.clear()
        self._kill_at = time.monotonic() + self._stop_limit_s
        self._signal(signal.SIGTERM)

    def _kill(self) -> None:
        self._kill_at = time.monotonic() + self._stop_limit_s
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._workers:  # not reaped yet, so their ids are still theirs
            os.kill(pid, number)


@contextmanager
def held_port(listen: str) -> Iterator[str]:
    """Holds the address, a free port when port 0 is asked for, and yields it; workers may listen on it meanwhile.

    Raises NotReady when somebody else has it.
    """
    host, _, port = listen.rpartition(":")
    with ExitStack() as closing:
        try:
            family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
            # SO_REUSEPORT would let us share with a stranger: first see that there is none.
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            holder = closing.enter_context(socket.socket(family))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(address)
        except OSError as error:
            raise NotReady(f"cannot listen on {listen}: {error.strerror or error}") from error
        yield f"{host}:{holder.getsockname()[1]}"


@contextmanager
def _signal_pipe() -> Iterator[tuple[int, int]]:
    """Yields a pipe on which the number of each signal arrives that concerns a supervisor."""
    fds = os.pipe()
    for fd in fds:
        os.set_blocking(fd, False)
    numbers = (*_SIGNALS, signal.SIGCHLD)
    earlier = [signal.signal(number, lambda *_: None) for number in numbers]
    signal.set_wakeup_fd(fds[1])
    try:
        yield fds
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in zip(numbers, earlier, strict=True):
            signal.signal(number, handler)
        for fd in fds:
            os.close(fd)
