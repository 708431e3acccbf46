"""Serves until a signal says stop: one process, whether it is the only one or a worker among several."""

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from assetlane_server.composition.app import application
from assetlane_server.config.settings import Settings
from assetlane_server.telemetry.stderr import native_lines_logged

SECOND_SIGNAL_STATUS = 130

_log = logging.getLogger(__name__)


async def serve(
    settings: Settings,
    on_ready: Callable[[int, int | None], None] = lambda port, web_port: None,
    *,
    supervisor_fd: int | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once.

    `on_ready` is called with the port, and that of the web gateway. Raises NotReady.

    With `supervisor_fd` this process is a worker: it shares its port, drains also when that pipe ends, and counts no
    signals. What its supervisor passes on may have reached it already, from a terminal or from systemd.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    is_ready = False
    stop = asyncio.Event()

    def drain(cause: str) -> None:
        if stop.is_set():
            return
        stop.set()
        if is_ready:
            _log.info("%s: draining for up to %g s", cause, settings.grace_seconds, extra={"event_code": "DRAINING"})
        else:
            _log.info("%s: not starting", cause)
            task.cancel()

    def on_signal() -> None:
        if stop.is_set() and supervisor_fd is None:
            _log.warning("second signal: ending at once")
            sys.stderr.flush()
            os._exit(SECOND_SIGNAL_STATUS)
        drain("signal")

    def on_supervisor_end(fd: int) -> None:
        loop.remove_reader(fd)
        drain("the supervisor is gone")

    raise_file_limit()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if supervisor_fd is not None:
        loop.add_reader(supervisor_fd, on_supervisor_end, supervisor_fd)
    _log.debug("signal handlers are set", extra={"event_code": "SIGNALS_HANDLED"})
    with native_lines_logged():
        try:
            async with application(settings, shares_port=supervisor_fd is not None) as app:
                is_ready = True
                collect_garbage_less_often()
                listen = settings.listen.rpartition(":")[0] + f":{app.port}"
                _log.info("serving on %s", listen, extra={"event_code": "SERVING", "listen": listen})
                if settings.web_listen is not None:
                    _log.info("web gateway on %s", settings.web_listen.rpartition(":")[0] + f":{app.web_port}")
                on_ready(app.port, app.web_port)
                await stop.wait()
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
            task.uncancel()
        _log.info("stopped", extra={"event_code": "STOPPED"})


def raise_file_limit() -> None:
    """Takes as many open files as the system grants: each connection is one, and without one no caller gets in."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        return
    # macOS: the limit is infinite, and to ask for more than the kernel's own is an error.
    for files in (1_048_576, 65_536, 10_240):
        if files <= now:
            return
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
            return


def collect_garbage_less_often() -> None:
    """Makes the garbage collector keep what lives now, and look less often at what comes.

    An open watch is some fifty objects that live for hours, and one change to 10,000 watches makes ten more of each
    for a moment. At the default thresholds walking through all these, again and again, takes more CPU than sending
    the change. What is in no cycle goes at once, as always; the most that may lie about in cycles is some 20 MB.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 20)
