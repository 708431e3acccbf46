"""Checks of the web port: where it listens, and whether the pages that may call it can finish an upload."""

import asyncio
from collections.abc import AsyncIterator
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from assetlane_server.access.certificates import read_certificates
from assetlane_server.composition.security import certificate_files
from assetlane_server.config.settings import Settings, default_hosts
from assetlane_server.doctor.finding import Finding, checked, ok, warning
from assetlane_server.doctor.machine import address_finding
from assetlane_server.model.errors import NotReady

_LOCAL = ("localhost", "127.0.0.1", "::1")
_ORIGINS = "Look at ASSETLANE_WEB_ORIGINS and ASSETLANE_CORS_ORIGINS."
_HOSTS = "Look at ASSETLANE_WEB_HOSTS; docs/web.md says what it is for."


async def web_findings(settings: Settings) -> AsyncIterator[Finding]:
    """Yields what is found, in order; nothing where no web port is set."""
    if settings.web_listen is None:
        return
    yield address_finding("web address", "ASSETLANE_WEB_LISTEN", settings.web_listen)
    yield _origins(settings)
    yield await checked("web hosts", asyncio.to_thread(_hosts, settings, settings.web_listen), _HOSTS)


def _origins(settings: Settings) -> Finding:
    name = "web origins"
    origins = settings.web_origins
    if not origins:
        return ok(name, "No page of another origin may call; scripts and apps may.")
    shut_out = [
        origin
        for origin in origins
        # As S3 has it: `*` stands for anything, and the rest is compared by case.
        if not any(fnmatchcase(origin, pattern.replace("[", "[[]")) for pattern in settings.cors_origins)
    ]
    if shut_out:
        detail = f"Pages of {', '.join(shut_out)} may call, but the bucket lets none of them PUT or GET."
        return warning(name, detail, "List them in ASSETLANE_CORS_ORIGINS too, and run assetlane-server setup.")
    insecure = [
        origin for origin in origins if origin.lower().startswith("http:") and urlsplit(origin).hostname not in _LOCAL
    ]
    if insecure:
        detail = (
            f"Browsers give pages of {', '.join(insecure)} no Web Locks: each tab watches over a connection of its own."
        )
        return warning(name, detail, "Serve these pages over https.")
    return ok(name, f"Pages of {', '.join(origins)} may call, PUT and GET.")


def _hosts(settings: Settings, listen: str) -> Finding:
    name = "web hosts"
    hosts = settings.web_hosts or default_hosts(listen)
    detail = f"Requests for {', '.join(hosts)} are answered."
    if (files := certificate_files(settings)) is None:
        return ok(name, detail)
    try:
        names = [one.lower() for one in read_certificates(files).names]
    except NotReady:
        return ok(name, detail)  # the check of TLS says what is wrong with it
    foreign = [host for host in hosts if host not in _LOCAL and not _is_for(names, host.lower())]
    if foreign:
        detail = f"The certificate is for {', '.join(names)}: browsers refuse it at {', '.join(foreign)}."
        return warning(name, detail, "Let ASSETLANE_WEB_HOSTS list the names of the certificate that callers use.")
    return ok(name, detail)


def _is_for(names: list[str], host: str) -> bool:
    """Whether one of a certificate's names is this host's; a wildcard stands for one label (RFC 9525)."""
    return host in names or f"*.{host.partition('.')[2]}" in names
