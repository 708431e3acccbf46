"""What an object store really refuses, found out with real requests through our own signed URLs.

Who speaks S3 does not therefore keep what our signatures promise: some stores ignore `if-none-match`, some
check no checksum. About ten small requests on throw-away keys under `<prefix>probe/<random>/`, deleted again
whatever happens. Needs the rights of s3.py, and where the bucket keeps versions s3:ListBucketVersions and
s3:DeleteObjectVersion, without which the versions of the probe stay.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from assetlane_server.objects.s3 import S3ObjectStore
from assetlane_server.objects.wire import Reply, Wire, open_wire
from assetlane_server.uploads.asset import StoredObject
from assetlane_server.uploads.errors import NotReady, StoreUnavailable
from assetlane_server.uploads.media_types import is_same_type
from assetlane_server.uploads.ports import PresignedRequest
from assetlane_server.uploads.upload import VariantPromise

_log = logging.getLogger(__name__)

_LIMIT = timedelta(seconds=2)  # of the probe at start-up as a whole
_REQUEST_LIMIT = timedelta(seconds=10)  # of one request, when doctor asks
_LIFETIME = timedelta(minutes=15)
_LEFTOVER_AGE = timedelta(hours=1)  # no probe takes that long, whatever the difference of two clocks
_BODY = b"a probe of Assetlane"
_OTHER_BODY = b"A PROBE OF ASSETLANE"  # as long
_TYPE = 'video/webm; codecs="vp8,opus"'  # as recorders have it, in the form in which all types are signed
_NEUTRAL_TYPE = "application/octet-stream"  # that stores like to replace by one that they guess
_DISPOSITION = "attachment; filename=\"pr_be.webm\"; filename*=UTF-8''pr%C3%B6be.webm"
_CACHE_CONTROL = "private"

ACCEPTING = "ASSETLANE_ACCEPT_OVERWRITES=true"


@dataclass(frozen=True, slots=True)
class Weakness:
    """Something that the store does not refuse or tell."""

    name: str
    told: str  # a sentence: what follows from it
    is_grave: bool = False  # whoever holds any URL, or none, may write


@dataclass(frozen=True, slots=True)
class StoreCapabilities:
    """What the store was seen to do. True is good, but for `keeps_versions`, which is neither."""

    refuses_overwrites: bool
    refuses_other_length: bool
    refuses_other_type: bool
    refuses_other_body: bool  # under a signed SHA-256
    refuses_expired: bool
    refuses_changed_signature: bool
    tells_sha256: bool
    keeps_versions: bool
    keeps_disposition: bool  # `content-disposition` given at PUT comes back at GET
    keeps_cache_control: bool
    keeps_types: bool  # also a neutral one, and one with parameters

    def weaknesses(self) -> tuple[Weakness, ...]:
        """Returns what is missing, the gravest first; none for a store that keeps every promise."""
        told = [
            (
                self.refuses_changed_signature,
                Weakness("signatures", "The store accepts a changed signature: anybody may write.", is_grave=True),
            ),
            (
                self.refuses_expired,
                Weakness("expiry", "The store accepts expired URLs: whoever ever had one may write.", is_grave=True),
            ),
            (
                self.refuses_overwrites,
                Weakness(
                    "overwrites",
                    "The store does not refuse a second PUT (if-none-match): a completed asset can be overwritten"
                    " as long as its write URL lives.",
                    is_grave=True,
                ),
            ),
            (
                self.refuses_other_length,
                Weakness("length", "The store accepts another length than signed: completion finds out, too late."),
            ),
            (
                self.refuses_other_type,
                Weakness("type", "The store accepts another content type than signed: completion finds out, too late."),
            ),
            (
                self.refuses_other_body,
                Weakness("checksum", "The store accepts another body under a signed SHA-256: nobody checks it."),
            ),
            (
                self.tells_sha256,
                Weakness(
                    "checksum told",
                    "HEAD does not tell the SHA-256: that it was checked at the PUT is all there is.",
                ),
            ),
            (
                self.keeps_types,
                Weakness(
                    "types",
                    "The store replaces media types: completion refuses such objects (CONTENT_TYPE_MISMATCH).",
                ),
            ),
            (
                self.keeps_disposition,
                Weakness(
                    "disposition",
                    "The store does not keep content-disposition: a page that somebody uploads can run at its address.",
                ),
            ),
            (
                self.keeps_cache_control,
                Weakness("caching", "The store does not keep cache-control: shared caches may keep private objects."),
            ),
        ]
        return tuple(weakness for is_kept, weakness in told if not is_kept)


async def probe_store(store: S3ObjectStore, prefix: str, now: Callable[[], datetime]) -> StoreCapabilities:
    """Returns what the store does, seen from this server. Leaves nothing behind.

    Raises StoreUnavailable when it does not answer or refuses what is right.
    """
    folder = f"{prefix}probe/{secrets.token_hex(8)}/"
    async with open_wire(_REQUEST_LIMIT) as wire:
        trial = _Trial(store.seen_from_here(), wire, folder, now)
        try:
            return await trial.run()
        finally:
            await trial.clean_up()


async def clear_leftovers(store: S3ObjectStore, prefix: str, before: datetime) -> None:
    """Deletes what probes left behind that began before that instant: a server killed while it probed."""
    page = await store.list_keys(f"{prefix}probe/", "")
    await store.delete([one.key for one in page.objects if one.modify_time < before])


async def check_store(store: S3ObjectStore, prefix: str, accept_overwrites: bool, now: Callable[[], datetime]) -> None:
    """Probes within two seconds and warns of every weakness. For the start of a server.

    Raises NotReady when the store cannot refuse overwrites and nobody accepted that. A store that does not
    answer is only warned of: a server that restarts during an outage serves its ledger.
    """
    try:
        async with asyncio.timeout(_LIMIT.total_seconds()):
            capabilities = await probe_store(store, prefix, now)
            await store.multiparts.learn(f"{prefix}probe/{secrets.token_hex(8)}/")
            await clear_leftovers(store, prefix, now() - _LEFTOVER_AGE)
    except TimeoutError:
        _log.warning("the store could not be probed within %g s: run `assetlane-server doctor`", _LIMIT.total_seconds())
        return
    except StoreUnavailable as error:
        _log.warning("the store could not be probed: %s Run `assetlane-server doctor`.", error)
        return
    store.reports_sha256 = capabilities.tells_sha256
    for weakness in capabilities.weaknesses():
        _log.warning("%s", weakness.told)
    if not (capabilities.refuses_overwrites or accept_overwrites):
        raise NotReady(
            "The object store does not refuse a second PUT to the same key (if-none-match), so a completed asset"
            f" could be overwritten: use a store with conditional writes, or accept it with {ACCEPTING}."
        )


class _Trial:
    """One probe: a key for each question, so that no answer hides another."""

    def __init__(self, store: S3ObjectStore, wire: Wire, folder: str, now: Callable[[], datetime]) -> None:
        self._store = store
        self._wire = wire
        self._folder = folder
        self._now = now
        self._keys: list[str] = []
        self._keeps_versions = False

    async def run(self) -> StoreCapabilities:
        kept = self._promise("kept")
        request = self._put(kept)
        first = await self._wire.send(request, _BODY)
        self._keeps_versions = first.headers.get("x-amz-version-id", "null") != "null"
        if not first.is_success:
            raise StoreUnavailable(f"It refuses a PUT that is signed as it should be ({first.told}).")
        neutral = replace(self._promise("neutral"), content_type=_NEUTRAL_TYPE)
        second = await self._wire.send(self._put(neutral), _BODY)
        if not second.is_success:
            raise StoreUnavailable(f"It refuses a PUT of type {_NEUTRAL_TYPE} ({second.told}).")
        found, found_neutral = await asyncio.gather(self._store.head(kept.key), self._store.head(neutral.key))
        read, again, length, kind, body, expired, signature = await _all(
            self._wire.send(self._store.presign_get(kept.key, self._now(), _LIFETIME)),
            self._wire.send(request, _BODY),
            self._wire.send(self._put(self._promise("length")), _BODY + b"!", {"content-length": str(len(_BODY) + 1)}),
            self._wire.send(self._put(self._promise("type")), _BODY, {"content-type": "text/html"}),
            self._wire.send(self._put(self._promise("body")), _OTHER_BODY),
            self._wire.send(self._put(self._promise("expired"), timedelta(hours=1)), _BODY),
            self._wire.send(_resigned(self._put(self._promise("signature"))), _BODY),
        )
        return StoreCapabilities(
            refuses_overwrites=_is_refused(again),
            refuses_other_length=_is_refused(length),
            refuses_other_type=_is_refused(kind),
            refuses_other_body=_is_refused(body),
            refuses_expired=_is_refused(expired),
            refuses_changed_signature=_is_refused(signature),
            tells_sha256=found is not None and found.sha256 == kept.sha256,
            keeps_versions=self._keeps_versions,
            keeps_disposition=read.headers.get("content-disposition") == _DISPOSITION,
            keeps_cache_control=read.headers.get("cache-control") == _CACHE_CONTROL,
            keeps_types=_keeps_type(kept, found) and _keeps_type(neutral, found_neutral),
        )

    async def clean_up(self) -> None:
        try:
            if self._keeps_versions:  # a deletion alone would only hide them
                await self._store.purge(self._folder)
            else:
                await self._store.delete(self._keys)
        except StoreUnavailable as error:
            _log.warning("what the probe stored under %s is still there: %s", self._folder, error)

    def _promise(self, name: str) -> VariantPromise:
        key = f"{self._folder}{name}"
        self._keys.append(key)
        return VariantPromise(
            name="original",
            content_type=_TYPE,
            size_bytes=len(_BODY),
            sha256=hashlib.sha256(_BODY).digest(),
            key=key,
            content_disposition=_DISPOSITION,
            cache_control=_CACHE_CONTROL,
        )

    def _put(self, promise: VariantPromise, age: timedelta = timedelta(0)) -> PresignedRequest:
        return self._store.presign_put(promise, self._now() - age, _LIFETIME)


async def _all(*sending: Awaitable[Reply]) -> list[Reply]:
    """Waits for every answer, so that nothing is stored after the clean-up; then raises what failed first."""
    replies = []
    for outcome in await asyncio.gather(*sending, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        replies.append(outcome)
    return replies


def _keeps_type(promise: VariantPromise, found: StoredObject | None) -> bool:
    return found is not None and is_same_type(promise.content_type, found.content_type)


def _is_refused(reply: Reply) -> bool:
    if reply.status >= 500:
        raise StoreUnavailable(f"It answers the probe with {reply.told}.")
    return not reply.is_success


def _resigned(request: PresignedRequest) -> PresignedRequest:
    """Returns the request with one digit of its signature changed."""
    last = "0" if request.url[-1] != "0" else "1"
    return replace(request, url=request.url[:-1] + last)
