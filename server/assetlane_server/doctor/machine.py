"""Checks of the machine that the server is to run on."""

import errno
import socket

from assetlane_server.config.settings import Settings
from assetlane_server.doctor.finding import Finding, failed, ok, warning


def listen_finding(settings: Settings) -> Finding:
    """Returns whether a server could listen where the settings say. Binds for an instant."""
    name = "listen address"
    host, _, port = settings.listen.rpartition(":")
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            told = f"{settings.listen} is in use: by this very server, or by another program."
            return warning(name, told, "If it is another program, stop it or choose another ASSETLANE_LISTEN.")
        told = f"A server cannot listen on {settings.listen} ({error.strerror or type(error).__name__})."
        return failed(name, told, "Choose an ASSETLANE_LISTEN that this machine has and this user may take.")
    return ok(name, f"{settings.listen} is free.")
