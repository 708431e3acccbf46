"""Why no server could be reached, in one sentence that says what to do.

gRPC reports every failed connection as UNAVAILABLE and the text of its core. Most of these texts say enough. What
"Socket closed" means is found out by one TLS handshake of our own.
"""

import asyncio
import re
import ssl
from dataclasses import dataclass

PROBE_SECONDS = 2.0
_DEFAULT_PORT = 50151
# What gRPC resolves by other rules than HOST:PORT.
_SCHEMES = ("dns:", "unix:", "unix-abstract:", "ipv4:", "ipv6:", "vsock:", "xds:")
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\]]+):(\d{1,5})", re.ASCII)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_LOOPBACK = re.compile(r"localhost|\[::1\]|127(\.\d{1,3}){3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong, by its stable reason and in a sentence; `is_permanent`: a repeat would only meet it again."""

    reason: str
    message: str
    is_permanent: bool = False


@dataclass(frozen=True, slots=True)
class TargetFault:
    """What is wrong with a target, and how to write it.

    Reasons: URL, PORT_MISSING, PORT_OUT_OF_RANGE, BRACKETS_MISSING (around an IPv6 address), NOT_HOST_PORT.
    """

    reason: str
    message: str
    instead: str = ""  # the target as it should be written; empty where nothing in it can be made out
    needs_tls: bool = False


def target_fault(target: str) -> TargetFault | None:
    """Returns what is wrong with a target and how to write it, None when it can be one."""
    if target.startswith(_SCHEMES):
        return None
    if (url := _URL.fullmatch(target)) is not None:
        scheme, rest = url.group(1).lower(), url.group(2).partition("/")[0]
        with_port = rest if re.search(r":\d+$", rest) else f"{rest}:{_DEFAULT_PORT}"
        needs_tls = scheme in ("https", "grpcs")
        tls = " and TLS (--tls, or credentials in Python)" if needs_tls else ""
        message = f"The target is HOST:PORT, not a URL: give {with_port}{tls} instead of {target}."
        return TargetFault("URL", message, with_port, needs_tls)
    match = _HOST_PORT.fullmatch(target)
    if match is not None and 0 < int(match.group(2)) < 65_536:
        return None
    if match is not None:
        return TargetFault("PORT_OUT_OF_RANGE", f"The port of the target {target} is not between 1 and 65535.")
    if target.count(":") > 1 and not target.startswith("["):
        instead = f"[{target}]:{_DEFAULT_PORT}"
        message = f"An IPv6 address in the target needs brackets: {instead}, or [ADDRESS]:PORT."
        return TargetFault("BRACKETS_MISSING", message, instead)
    if target and re.fullmatch(r"[^\s:/@]+", target):
        instead = f"{target}:{_DEFAULT_PORT}"
        return TargetFault("PORT_MISSING", f"The target {target} has no port: give {instead}.", instead)
    return TargetFault("NOT_HOST_PORT", f"The target {target!r} is not HOST:PORT, such as 127.0.0.1:{_DEFAULT_PORT}.")


def is_loopback(target: str) -> bool:
    """Returns whether only this machine is reached by that target."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    return _LOOPBACK.fullmatch(target.removeprefix("ipv4:").rpartition(":")[0]) is not None


async def diagnosed(details: str, target: str, *, is_secure: bool) -> Diagnosis | None:
    """Returns what gRPC's words about a failed connection mean, None when that is not known.

    Where the words can mean several things the port is asked once more, for PROBE_SECONDS at most.
    """
    found = _from_words(details, target, is_secure=is_secure)
    if found is not None:
        return found
    speaks_other = "SETTINGS frame" in details or "http1.x server" in details
    if not (speaks_other or "Socket closed" in details or "Connection reset" in details):
        return None
    match = _HOST_PORT.fullmatch(target)
    speaks_tls, takes_us = await _shaken(match.group(1).strip("[]"), int(match.group(2))) if match else (False, False)
    if speaks_tls and not is_secure:
        return Diagnosis(
            "TLS_REQUIRED",
            f"The server at {target} speaks TLS: connect with --tls, or with --ca-file for an authority of your own.",
            is_permanent=True,
        )
    if speaks_tls and not takes_us:
        return Diagnosis(
            "CLIENT_CERTIFICATE_REQUIRED",
            f"The server at {target} wants a client certificate that it trusts: give --client-cert-file and"
            " --client-key-file.",
            is_permanent=True,
        )
    if speaks_other:
        message = f"What answers at {target} is not an Assetlane server: check the port."
        return Diagnosis("NOT_GRPC", message, is_permanent=True)
    return None


def _from_words(details: str, target: str, *, is_secure: bool) -> Diagnosis | None:
    lower = details.lower()
    if "connection refused" in lower or "no such file or directory" in lower:
        return Diagnosis("UNAVAILABLE", f"No server at {target}. Is it running (make run), and is the address right?")
    if "hostname lookup error" in lower or "dns resolution failed" in lower or "domain name not found" in lower:
        host = target.rpartition(":")[0] or target
        return Diagnosis("HOST_UNKNOWN", f"There is no host {host}: check the target {target}.")
    if "unreachable" in lower or "no route to host" in lower:
        return Diagnosis("UNAVAILABLE", f"There is no route to {target}: check the address and the network.")
    if "wrong_version_number" in lower or ("tls handshake failed" in lower and "http_request" in lower):
        return Diagnosis(
            "TLS_NOT_SPOKEN",
            f"The server at {target} does not speak TLS: connect without it (no --tls and no certificate files).",
            is_permanent=True,
        )
    if "hostname verification" in lower or "peer name" in lower or "is not in peer certificate" in lower:
        return _wrong_name(target)
    if "certificate_verify_failed" in lower:
        return _untrusted(target, details)
    if "could not load" in lower or "security handshaker" in lower:
        return Diagnosis(
            "CERTIFICATE_UNREADABLE",
            "The certificate files cannot be used: each holds PEM, and the key has to fit the certificate.",
            is_permanent=True,
        )
    return None


def _wrong_name(target: str) -> Diagnosis:
    return Diagnosis(
        "CERTIFICATE_NAME_MISMATCH",
        f"The certificate of {target} is for another name: connect by the name that it has.",
        is_permanent=True,
    )


def _untrusted(target: str, details: str) -> Diagnosis:
    if "expired" in details.lower():
        message = f"The certificate of {target} has expired: the server needs a new one."
        return Diagnosis("CERTIFICATE_EXPIRED", message, is_permanent=True)
    return Diagnosis(
        "CERTIFICATE_UNTRUSTED",
        f"The certificate of {target} is signed by an authority that is not trusted here: name the authority with"
        " --ca-file (ASSETLANE_CA_FILE), or credentials in Python.",
        is_permanent=True,
    )


async def _shaken(host: str, port: int) -> tuple[bool, bool]:
    """Returns whether the port speaks TLS, and whether it goes on with somebody who shows no certificate.

    The handshake trusts anybody, and nothing is sent after it.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    speaks_tls = False
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            speaks_tls = True
            try:
                # An HTTP/2 server speaks at once. In TLS 1.3 a missing certificate is refused after the handshake.
                return speaks_tls, bool(await reader.read(1))
            finally:
                writer.transport.abort()
    except ssl.SSLError as error:
        return speaks_tls or "certificate" in str(error).lower(), False
    except OSError:  # TimeoutError among them
        return speaks_tls, False
