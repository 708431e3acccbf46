"""Checks of the store as a user's browser meets it: the public endpoint, CORS, and who may read without a URL."""

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from urllib.parse import quote, urlsplit

from assetlane_server.config.settings import Settings
from assetlane_server.doctor.finding import (
    Finding,
    Verdict,
    checked,
    failed,
    ok,
    skipped,
    warning,
)
from assetlane_server.doctor.store import Prerequisites
from assetlane_server.model.errors import StoreUnavailable
from assetlane_server.model.upload import VariantPromise
from assetlane_server.objects.inspection import Inspection
from assetlane_server.objects.s3.deletion import purge_folder
from assetlane_server.objects.s3.headers import ENCRYPTION_HEADERS, UPLOAD_HEADERS
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.objects.wire import Reply, Wire

_LIFETIME = timedelta(minutes=5)
_BODY = b"a look from outside"
_ANY_ORIGIN = "https://any.example"

_REACH = "Set ASSETLANE_S3_PUBLIC_ENDPOINT to the store's address as callers reach it."
_CORS = (
    "`assetlane-server setup` (again if an earlier version did) adds the rule where the store has such; where it does"
    " not, let the store or the proxy before it allow ASSETLANE_CORS_ORIGINS to PUT with the headers of a write target."
)

NAMES = ("public endpoint", "CORS", "public prefix", "private prefix")


class BrowserChecks:
    """The checks in order, on what the store's own checks found to stand on."""

    def __init__(
        self,
        settings: Settings,
        store: S3ObjectStore,
        wire: Wire,
        prerequisites: Prerequisites,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._store = store
        self._wire = wire
        self._prerequisites = prerequisites
        self._now = now
        self._origins = [origin.replace("*", "any") for origin in settings.cors_origins if origin != "*"]
        if "*" in settings.cors_origins:
            self._origins.append(_ANY_ORIGIN)
        unused = frozenset() if settings.s3_sse_kms_key_id else ENCRYPTION_HEADERS
        self._headers = [name for name in UPLOAD_HEADERS if name not in unused]
        word = secrets.token_hex(8)
        self._folders = [f"{settings.key_prefix}{place}/doctor-{word}/" for place in ("private", "public")]
        self._private_key, self._public_key = [f"{folder}look" for folder in self._folders]

    async def findings(self) -> AsyncIterator[Finding]:
        """Yields what is found."""
        if not self._prerequisites.has_bucket:
            for finding in skipped(NAMES, "there is no bucket that it could lead to"):
                yield finding
            return
        try:
            endpoint = await checked("public endpoint", self._endpoint(), _REACH)
            yield endpoint
            if endpoint.verdict is Verdict.FAILED:
                for finding in skipped(NAMES[1:], "the public endpoint does not work"):
                    yield finding
                return
            for origin in self._origins:
                yield await checked("CORS", self._preflight(origin), _CORS)
            if not self._prerequisites.can_put:
                for finding in skipped(NAMES[2:], "it takes the right to put"):
                    yield finding
                return
            if self._settings.public_assets:
                yield await checked("public prefix", self._public_prefix(), _REACH)
            else:
                yield ok("public prefix", "ASSETLANE_PUBLIC_ASSETS=false: there are no public assets.")
            yield await checked("private prefix", self._private_prefix(), _REACH)
        finally:
            if self._prerequisites.can_put:
                await self._clean_up()

    async def _endpoint(self) -> Finding:
        """PUTs and GETs with URLs as a user gets them, in the name of a page of the first origin."""
        name = "public endpoint"
        where = self._bare_url(self._private_key)
        place = "/".join(where.split("/")[:3])
        headers = {"origin": self._origins[0]} if self._origins else {}
        if not self._prerequisites.can_put:
            await self._wire.ask("HEAD", where, headers)
            return ok(name, f"{place} answers; nothing could be put.")
        promise = VariantPromise("original", "text/plain", len(_BODY), key=self._private_key)
        advice = f"{_REACH} A proxy before it must pass Host and path on unchanged: both are signed."
        put = await self._wire.send(self._store.presign_put(promise, self._now(), _LIFETIME), _BODY, headers)
        if not put.is_success:
            return failed(name, f"{place} refuses a PUT with a user's URL ({put.detail}).", advice)
        got = await self._wire.send(self._store.presign_get(self._private_key, self._now(), _LIFETIME), headers=headers)
        if not got.is_success or got.body != _BODY:
            return failed(name, f"{place} does not give back what was put ({got.detail}).", advice)
        if headers and not _exposes_etag(put):
            return warning(name, "PUT and GET work, but pages may not see the ETag, which multipart uploads need.",
                           f"Let the answers expose the header ETag: {_CORS}")  # fmt: skip
        if any(_is_blocked(place, origin) for origin in self._origins if origin != _ANY_ORIGIN):
            return warning(name, f"PUT and GET work at {place}, but pages on https may not call http.",
                           "Set ASSETLANE_S3_PUBLIC_ENDPOINT to an address of the store on https.")  # fmt: skip
        return ok(name, f"A user's PUT and GET work at {place}.")

    async def _preflight(self, origin: str) -> Finding:
        reply = await self._wire.ask(
            "OPTIONS",
            self._bare_url(self._private_key),
            {
                "origin": origin,
                "access-control-request-method": "PUT",
                "access-control-request-headers": ",".join(self._headers),
            },
        )
        whose = "any origin" if origin == _ANY_ORIGIN else origin
        if fault := _preflight_fault(reply, origin, self._headers):
            return failed("CORS", f"A page of {whose} may not upload: {fault}.", _CORS)
        return ok("CORS", f"A page of {whose} may upload.")

    async def _public_prefix(self) -> Finding:
        name = "public prefix"
        if fault := await self._put(self._public_key):
            return failed(name, fault, "Look at the rights under the key prefix.")
        reply = await self._wire.ask("GET", self._store.public_url(self._public_key))
        place = f"{self._settings.key_prefix}public/"
        if reply.is_success and reply.body == _BODY:
            return ok(name, f"Everybody may read {place}, as public assets promise.")
        advice = await self._advice_on_public_prefix()
        return failed(name, f"Nobody can read {place} without a signature ({reply.detail}).", advice)

    async def _advice_on_public_prefix(self) -> str:
        if self._settings.public_base_url:
            return "Let the CDN behind ASSETLANE_PUBLIC_BASE_URL read that prefix."
        inspection = Inspection(self._store.connection)
        others = "let a CDN read it (ASSETLANE_PUBLIC_BASE_URL), or set ASSETLANE_PUBLIC_ASSETS=false."
        if await inspection.blocks_public_policies():
            return f"Block Public Access is on: run `assetlane-server setup --allow-public-policy`, {others}"
        if not await inspection.has_policies():
            return f"The store has no bucket policies: open the prefix by the store's own means, {others}"
        return f"Run `assetlane-server setup`, {others}"

    async def _private_prefix(self) -> Finding:
        name = "private prefix"
        place = f"{self._settings.key_prefix}private/"
        urls = [self._bare_url(self._private_key)]
        if base := self._settings.public_base_url:
            urls.append(f"{base}/{quote(self._private_key)}")
        for url in urls:
            reply = await self._wire.ask("GET", url)
            if reply.is_success:
                where = "/".join(url.split("/")[:3])
                advice = f"Narrow the bucket's policy (and what a CDN may read) to {self._settings.key_prefix}public/*."
                return failed(name, f"Everybody can read {place} at {where}.", advice)
        return ok(name, f"Nobody can read {place} without a signed URL.")

    async def _put(self, key: str) -> str:
        """Puts an object and returns what went wrong, if anything."""
        promise = VariantPromise("original", "text/plain", len(_BODY), key=key)
        request = self._store.seen_from_here().presign_put(promise, self._now(), _LIFETIME)
        reply = await self._wire.send(request, _BODY)
        return "" if reply.is_success else f"The store refuses a PUT of {key} ({reply.detail})."

    def _bare_url(self, key: str) -> str:
        """Returns the key's URL at the public endpoint, without a signature."""
        return self._store.presign_get(key, self._now(), _LIFETIME).url.partition("?")[0]

    async def _clean_up(self) -> None:
        try:
            if self._prerequisites.keeps_versions:
                for folder in self._folders:
                    await purge_folder(self._store.connection, folder)
            else:
                await self._store.delete([self._private_key, self._public_key])
        except StoreUnavailable:
            return  # the right to delete was reported above


def _exposes_etag(reply: Reply) -> bool:
    exposed = {name.strip().lower() for name in reply.headers.get("access-control-expose-headers", "").split(",")}
    return bool(exposed & {"etag", "*"})


def _preflight_fault(reply: Reply, origin: str, names: Sequence[str]) -> str:
    """Returns what a browser would object to, nothing if it would go on. The rules are the Fetch Standard's."""
    if not reply.is_success:
        return f"the preflight is answered with {reply.detail}"
    if reply.headers.get("access-control-allow-origin") not in ("*", origin):
        return "the origin is not allowed"
    missing = [] if _listed(reply, "access-control-allow-methods") & {"put", "*"} else ["the method PUT"]
    headers = _listed(reply, "access-control-allow-headers")
    missing += [f"the header {name}" for name in names if not headers & {name, "*"}]
    return f"it does not allow {', '.join(missing)}" if missing else ""


def _is_blocked(endpoint: str, origin: str) -> bool:
    """Whether a browser refuses the call as mixed content: from https to http, but for its own machine."""
    host = urlsplit(endpoint).hostname or ""
    is_own = host in ("localhost", "::1") or host.startswith("127.")
    return endpoint.startswith("http://") and origin.startswith("https://") and not is_own


def _listed(reply: Reply, header: str) -> set[str]:
    return {name.strip().lower() for name in reply.headers.get(header, "").split(",")}
