"""Checks of the machine that the server is to run on."""

import errno
import socket

from assetlane_server.doctor.finding import Finding, failed, ok, warning


def address_finding(name: str, setting: str, listen: str) -> Finding:
    """Returns whether a server could listen where a setting says. Binds for an instant."""
    host, _, port = listen.rpartition(":")
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            detail = f"{listen} is in use: by this very server, or by another program."
            return warning(name, detail, f"If it is another program, stop it or choose another {setting}.")
        detail = f"A server cannot listen on {listen} ({error.strerror or type(error).__name__})."
        return failed(name, detail, f"Choose an {setting} that this machine has and this user may use.")
    return ok(name, f"{listen} is free.")
