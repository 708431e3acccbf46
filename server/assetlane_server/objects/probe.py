"""What an object store really refuses, found out with real requests through our own signed URLs.

Who speaks S3 does not therefore keep what our signatures promise: some stores ignore `if-none-match`, some
check no checksum, some obey headers that nobody signed. About forty small requests, most of them at the same time,
on throw-away keys under `<prefix>probe/<random>/` and `<prefix>public/probe-<random>/`, deleted again whatever
happens. Needs the rights of s3.py, and where the bucket keeps versions s3:ListBucketVersions and
s3:DeleteObjectVersion, without which the versions of the probe stay.
"""

import asyncio
import hashlib
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

from assetlane_server.model.errors import NotReady, StoreRefused, StoreUnavailable
from assetlane_server.model.media_types import is_same_type
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.upload import VariantPromise
from assetlane_server.objects.s3.deletion import MAX_DELETED_KEYS, purge_folder
from assetlane_server.objects.s3.multipart import MultipartTrial, try_multipart
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.objects.wire import Reply, Wire, open_wire

_log = logging.getLogger(__name__)
_NOT_PROBED = {"event_code": "STORE_NOT_PROBED"}

_LIMIT = timedelta(seconds=8)  # of the probe at start-up as a whole; most stores take a tenth of a second
_REQUEST_LIMIT = timedelta(seconds=10)  # of one request, when doctor asks
_LIFETIME = timedelta(minutes=15)
_LEFTOVER_AGE = timedelta(hours=1)  # no probe takes that long, whatever the difference of two clocks
_BODY = b"a probe of Assetlane"
_OTHER_BODY = b"A PROBE OF ASSETLANE"  # as long
_TYPE = 'video/webm; codecs="vp8,opus"'  # as recorders have it, in the form in which all types are signed
_NEUTRAL_TYPE = "application/octet-stream"  # that stores like to replace by one that they guess
_DISPOSITION = "attachment; filename=\"pr_be.webm\"; filename*=UTF-8''pr%C3%B6be.webm"
_CACHE_CONTROL = "private"

_RACING_PUTS = 8
_MULTIPART_CALLS = 4
_OF_A_PUBLIC_PROBE = re.compile(r"probe-[0-9a-f]{16}/[a-z]+")  # no asset's: theirs have an upload id and a name

ACCEPTING = "ASSETLANE_ACCEPT_OVERWRITES=true"
ACCEPTING_HEADERS = "ASSETLANE_ACCEPT_UNSIGNED_HEADERS=true"

# What S3 and its kin answer to a fault that stays until somebody corrects a setting, a right or the bucket. An
# answer without one of these codes may come from a proxy whose store is away.
BAD_REGION = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "AuthorizationQueryParametersError",
        "PermanentRedirect",
        "IllegalLocationConstraintException",
    }
)
BAD_CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "ExpiredToken",
        "InvalidClientTokenId",
        "XAdminUserNotFound",  # versitygw
    }
)
BAD_CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired"})


@dataclass(frozen=True, slots=True)
class Weakness:
    """Something that the store does not refuse or report."""

    name: str
    detail: str  # a sentence: what follows from it
    is_grave: bool = False  # a URL, or none at all, does what nobody meant to allow
    accepting: str = ""  # the setting without which no server serves on such a store; empty: it does
    instead: str = "Use a store that checks what is signed."  # what to do about it


@dataclass(frozen=True, slots=True)
class StoreCapabilities:
    """What the store was seen to do. True is good, but for `keeps_versions`, which is neither."""

    refuses_overwrites: bool
    refuses_other_length: bool
    refuses_other_type: bool
    refuses_other_body: bool  # under a signed SHA-256
    refuses_expired: bool
    refuses_changed_signature: bool
    reports_sha256: bool
    keeps_versions: bool
    keeps_disposition: bool  # `content-disposition` given at PUT comes back at GET
    refuses_racing_overwrites: bool  # of simultaneous PUTs to one key one succeeds at most
    refuses_unsigned_acl: bool  # or does not obey it
    refuses_unsigned_copy: bool  # or does not obey it
    refuses_unsigned_headers: bool  # any other `x-amz-…` that was not signed
    refuses_multipart_overwrites: bool  # CompleteMultipartUpload under if-none-match, where an object is
    refuses_small_parts: bool  # below 5 MiB, the last excepted
    keeps_cache_control: bool
    keeps_types: bool  # also a neutral one, and one with parameters

    def weaknesses(self) -> tuple[Weakness, ...]:
        """Returns what is missing, the gravest first; none for a store that keeps every promise."""
        detail = [
            (
                self.refuses_changed_signature,
                Weakness("signatures", "The store accepts a changed signature: anybody may write.", is_grave=True),
            ),
            (
                self.refuses_expired,
                Weakness("expiry", "The store accepts expired URLs: anybody who had one can write.", is_grave=True),
            ),
            (
                self.refuses_overwrites,
                Weakness(
                    "overwrites",
                    "The store does not refuse a second PUT (if-none-match): a completed asset can be overwritten"
                    " as long as its write URL lives.",
                    is_grave=True,
                    accepting=ACCEPTING,
                    instead="Use a store with conditional writes.",
                ),
            ),
            (
                self.refuses_racing_overwrites,
                Weakness(
                    "racing overwrites",
                    "The store lets several simultaneous PUTs to one key succeed (if-none-match): a PUT that begins"
                    " before the first has ended can overwrite a completed asset.",
                    is_grave=True,
                    accepting=ACCEPTING,
                    instead="Use a store with atomic conditional writes.",
                ),
            ),
            (
                self.refuses_unsigned_copy,
                Weakness(
                    "unsigned copies",
                    "The store obeys an x-amz-copy-source that was not signed: the holder of a write URL can copy what"
                    " the server's credentials may read, other users' objects included.",
                    is_grave=True,
                    accepting=ACCEPTING_HEADERS,
                    instead="Use a store that refuses unsigned x-amz headers, or let a proxy remove them.",
                ),
            ),
            (
                self.refuses_unsigned_acl,
                Weakness(
                    "unsigned ACLs",
                    "The store obeys an x-amz-acl that was not signed: the holder of a write URL can make a private"
                    " object readable by everybody.",
                    is_grave=True,
                    accepting=ACCEPTING_HEADERS,
                    instead="Use a store that refuses unsigned x-amz headers, or let a proxy remove them.",
                ),
            ),
            (
                self.refuses_unsigned_headers,
                Weakness(
                    "unsigned headers",
                    "The store accepts x-amz headers that were not signed: an object can carry metadata that nobody"
                    " promised.",
                ),
            ),
            (
                self.refuses_multipart_overwrites,
                Weakness(
                    "multipart overwrites",
                    "The store ignores if-none-match at CompleteMultipartUpload: a repeated assembly could replace an"
                    " object that is there.",
                    instead="Use a store whose CompleteMultipartUpload is conditional.",
                ),
            ),
            (
                self.refuses_small_parts,
                Weakness(
                    "small parts",
                    "The store accepts parts below 5 MiB, which Amazon S3 refuses: tests on it do not find them.",
                    instead="Nothing is lost: test on another store too.",
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
                self.reports_sha256,
                Weakness(
                    "checksum reported",
                    "HEAD does not report the SHA-256: completion relies on the store's check at the PUT.",
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
        return tuple(weakness for is_kept, weakness in detail if not is_kept)


@dataclass(frozen=True, slots=True)
class StoreTerms:
    """What a deployment wants of its store, and what it accepts."""

    accept_overwrites: bool = False
    accept_unsigned_headers: bool = False
    public_assets: bool = True  # everybody must be able to read `<prefix>public/`
    has_public_base_url: bool = False  # by a URL that is not the store's own
    ask_for_races: bool = True  # SeaweedFS takes 1 to 3 s for simultaneous PUTs to one key

    def accepts(self, weakness: Weakness) -> bool:
        """Returns whether a setting accepts this weakness."""
        accepted = {ACCEPTING: self.accept_overwrites, ACCEPTING_HEADERS: self.accept_unsigned_headers}
        return accepted.get(weakness.accepting, False)


async def probe_store(
    store: S3ObjectStore, prefix: str, now: Callable[[], datetime], *, ask_for_races: bool = True
) -> StoreCapabilities:
    """Returns what the store does, seen from this server. Leaves nothing behind.

    Without `ask_for_races` the store counts as one that lets a single PUT win.

    Raises StoreUnavailable when it does not answer or refuses what is right.
    """
    folder = f"{prefix}probe/{secrets.token_hex(8)}/"
    async with _trial(store, folder, now) as trial:
        return await trial.run(_RACING_PUTS if ask_for_races else 0)


async def clear_leftovers(store: S3ObjectStore, prefix: str, before: datetime) -> None:
    """Deletes what probes left behind that began before that instant: a server killed while it probed."""
    private, public = f"{prefix}probe/", f"{prefix}public/"
    found = [*(await store.list_keys(private, "")).objects, *(await store.list_keys(f"{public}probe-", "")).objects]
    ours = [
        one.key
        for one in found
        if one.modify_time < before
        and (one.key.startswith(private) or _OF_A_PUBLIC_PROBE.fullmatch(one.key.removeprefix(public)))
    ]
    await store.delete(ours[:MAX_DELETED_KEYS])


async def check_store(store: S3ObjectStore, prefix: str, terms: StoreTerms, now: Callable[[], datetime]) -> None:
    """Probes within a few seconds and warns of every weakness. For the start of a server.

    Raises NotReady for a fault that stays until somebody corrects it: no such bucket, a missing right, a wrong
    region or secret, a public prefix that not everybody can read, a grave weakness that no setting accepts. A store
    that does not answer is only warned of: a server that restarts during an outage serves its ledger.
    """
    folder = f"{prefix}probe/{secrets.token_hex(8)}/"
    asked = [
        probe_store(store, prefix, now, ask_for_races=terms.ask_for_races),
        store.multiparts.learn(folder),
        store.multiparts.learn_listing(folder),
        clear_leftovers(store, prefix, now() - _LEFTOVER_AGE),
    ]
    if terms.public_assets:
        asked.append(check_public_prefix(store, prefix, terms, now))
    try:
        async with asyncio.timeout(_LIMIT.total_seconds()):
            capabilities, *outcomes = await asyncio.gather(*asked, return_exceptions=True)
    except TimeoutError:
        text = "the store could not be probed within %g s: run `assetlane-server doctor`"
        _log.warning(text, _LIMIT.total_seconds(), extra=_NOT_PROBED)
        return
    faults = [outcome for outcome in (capabilities, *outcomes) if isinstance(outcome, BaseException)]
    for fault in faults:
        if isinstance(fault, StoreRefused):
            raise NotReady(f"The object store cannot be used: {fault}", reason="STORE_REFUSED") from fault
        if not isinstance(fault, StoreUnavailable):
            raise fault
    if faults:
        _log.warning("the store could not be probed: %s Run `assetlane-server doctor`.", faults[0], extra=_NOT_PROBED)
    if isinstance(capabilities, StoreCapabilities):
        store.reports_sha256 = capabilities.reports_sha256
        _judge(capabilities.weaknesses(), terms)


def _judge(weaknesses: Sequence[Weakness], terms: StoreTerms) -> None:
    for weakness in weaknesses:
        _log.warning("%s", weakness.detail, extra={"event_code": "STORE_WEAKNESS", "weakness": weakness.name})
    refused = [weakness for weakness in weaknesses if weakness.accepting and not terms.accepts(weakness)]
    if refused:
        first = refused[0]
        detail = first.detail.replace("The store", "The object store", 1).rstrip(".")
        accepting = sorted({weakness.accepting for weakness in refused})
        raise NotReady(
            f"{detail}. {first.instead.rstrip('.')}, or accept it with {' and '.join(accepting)}.",
            reason="STORE_TOO_WEAK",
            settings=[setting.partition("=")[0] for setting in accepting],
        )


async def check_public_prefix(
    store: S3ObjectStore, prefix: str, terms: StoreTerms, now: Callable[[], datetime]
) -> None:
    """Returns when everybody can read what lies under `<prefix>public/`. Leaves nothing behind.

    Raises StoreRefused when the store says that they cannot, StoreUnavailable when nobody can say.
    """
    async with _trial(store, f"{prefix}public/probe-{secrets.token_hex(8)}/", now) as trial:
        await trial.read_as_anybody(f"{prefix}public/", terms)


def refusal(reply: Reply, region: str) -> StoreUnavailable:
    """Returns what a refused request of ours means: StoreRefused when it stays so until somebody corrects it."""
    code = reply.code
    if code in BAD_REGION:
        return StoreRefused(f"It does not accept URLs signed for {region} ({reply.detail}): set ASSETLANE_S3_REGION.")
    if code == "NoSuchBucket":
        return StoreRefused("There is no such bucket: run `assetlane-server setup`, or correct ASSETLANE_S3_BUCKET.")
    if code in BAD_CREDENTIALS:
        return StoreRefused(
            f"It does not accept the credentials ({reply.detail}): correct ASSETLANE_S3_ACCESS_KEY_ID and"
            " ASSETLANE_S3_SECRET_ACCESS_KEY, or where boto3 finds them."
        )
    if code in BAD_CLOCK:
        return StoreRefused(f"Its clock and this machine's differ too much ({reply.detail}): synchronise them (NTP).")
    if code in ("AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidBucketName"):
        return StoreRefused(
            f"It refuses a PUT that is signed as it should be ({reply.detail}): give the credentials s3:PutObject."
        )
    return StoreUnavailable(f"It refuses a PUT that is signed as it should be ({reply.detail}).")


@asynccontextmanager
async def _trial(store: S3ObjectStore, folder: str, now: Callable[[], datetime]) -> AsyncIterator["_Trial"]:
    """Opens a trial that leaves nothing behind. What its body raises counts more than what the clean-up does."""
    async with open_wire(_REQUEST_LIMIT) as wire:
        trial = _Trial(store.seen_from_here(), wire, folder, now)
        try:
            yield trial
        except BaseException:
            try:
                await trial.clean_up()
            except StoreRefused as error:
                _log.warning("what the probe stored under %s is still there: %s", folder, error)
            raise
        await trial.clean_up()


class _Trial:
    """One probe: a key for each question, so that no answer hides another."""

    def __init__(self, store: S3ObjectStore, wire: Wire, folder: str, now: Callable[[], datetime]) -> None:
        self._store = store
        self._wire = wire
        self._folder = folder
        self._now = now
        self._keys: list[str] = []
        self._keeps_versions = False

    async def run(self, racing_puts: int) -> StoreCapabilities:
        kept = self._promise("kept")
        request = self._put(kept)
        await self._send_first(request)
        neutral = replace(self._promise("neutral"), content_type=_NEUTRAL_TYPE)
        second = await self._wire.send(self._put(neutral), _BODY)
        if not second.is_success:
            raise StoreUnavailable(f"It refuses a PUT of type {_NEUTRAL_TYPE} ({second.detail}).")
        found, found_neutral = await asyncio.gather(self._store.head(kept.key), self._store.head(neutral.key))
        race = self._put(self._promise("race"))
        answers: list[Any] = await _all(
            _all(
                self._wire.send(self._store.presign_get(kept.key, self._now(), _LIFETIME)),
                self._wire.send(request, _BODY),
                self._wire.send(
                    self._put(self._promise("length")), _BODY + b"!", {"content-length": str(len(_BODY) + 1)}
                ),
                self._wire.send(self._put(self._promise("type")), _BODY, {"content-type": "text/html"}),
                self._wire.send(self._put(self._promise("body")), _OTHER_BODY),
                self._wire.send(self._put(self._promise("expired"), timedelta(hours=1)), _BODY),
                self._wire.send(_resigned(self._put(self._promise("signature"))), _BODY),
            ),
            _all(*(self._wire.send(race, _BODY) for _ in range(racing_puts))),
            _all(self._obeys_acl(kept.key), self._obeys_copy_source(kept.key), self._accepts_header()),
            self._try_multipart(),
        )
        (read, again, length, kind, body, expired, signature), racing, unsigned, multipart = answers
        obeys_acl, obeys_copy, accepts_header = unsigned
        return StoreCapabilities(
            refuses_overwrites=_is_refused(again),
            refuses_other_length=_is_refused(length),
            refuses_other_type=_is_refused(kind),
            refuses_other_body=_is_refused(body),
            refuses_expired=_is_refused(expired),
            refuses_changed_signature=_is_refused(signature),
            reports_sha256=found is not None and found.sha256 == kept.sha256,
            keeps_versions=self._keeps_versions,
            keeps_disposition=read.headers.get("content-disposition") == _DISPOSITION,
            keeps_cache_control=read.headers.get("cache-control") == _CACHE_CONTROL,
            keeps_types=_keeps_type(kept, found) and _keeps_type(neutral, found_neutral),
            # Where a second PUT is not refused at all, that says it all.
            refuses_racing_overwrites=not _is_refused(again) or sum(reply.is_success for reply in racing) <= 1,
            refuses_unsigned_acl=not obeys_acl,
            refuses_unsigned_copy=not obeys_copy,
            refuses_unsigned_headers=not accepts_header,
            refuses_multipart_overwrites=multipart.refuses_overwrites,
            refuses_small_parts=multipart.refuses_small_parts,
        )

    async def read_as_anybody(self, place: str, terms: StoreTerms) -> None:
        """Puts an object there and reads it without a signature; raises as `check_public_prefix`."""
        promise = self._promise("look")
        await self._send_first(self._put(promise))
        reply = await self._wire.ask("GET", self._store.public_url(promise.key))
        if reply.is_success and reply.body == _BODY:
            return
        detail = f"not everybody can read {place} ({reply.detail}), where public assets are"
        if reply.status >= 500 or (terms.has_public_base_url and not reply.code):
            # Not the store's own word: what stands before it may let others in, and not this server.
            raise StoreUnavailable(f"Perhaps {detail}.")
        advice = (
            "let what serves ASSETLANE_PUBLIC_BASE_URL read that prefix"
            if terms.has_public_base_url
            else "run `assetlane-server setup`, on Amazon S3 with --allow-public-policy"
        )
        raise StoreRefused(
            f"{detail[0].upper()}{detail[1:]}: {advice}, or set ASSETLANE_PUBLIC_ASSETS=false"
            " to have private assets only."
        )

    async def clean_up(self) -> None:
        """Deletes what was put. Raises StoreRefused when the credentials have no right to."""
        try:
            if self._keeps_versions:  # a deletion alone would only hide them
                await purge_folder(self._store.connection, self._folder)
                return
        except StoreUnavailable as error:
            _log.warning("the versions that the probe stored under %s are still there: %s", self._folder, error)
        try:
            await self._store.delete(self._keys)
        except StoreRefused:
            raise
        except StoreUnavailable as error:
            _log.warning("what the probe stored under %s is still there: %s", self._folder, error)

    async def _send_first(self, request: PresignedRequest) -> None:
        first = await self._wire.send(request, _BODY)
        self._keeps_versions = first.headers.get("x-amz-version-id", "null") != "null"
        if not first.is_success:
            if first.status < 500:
                self._keys.clear()  # it stored nothing, and would refuse to delete it as well
            raise refusal(first, self._store.connection.settings.region)

    async def _obeys_acl(self, private_key: str) -> bool:
        """Whether an ACL that nobody signed lets everybody read."""
        promise = self._promise("acl")
        stored = await self._wire.send(self._put(promise), _BODY, {"x-amz-acl": "public-read"})
        if _is_refused(stored):
            return False
        opened, closed = await _all(*(self._wire.ask("GET", self._bare_url(key)) for key in (promise.key, private_key)))
        return opened.is_success and not closed.is_success

    async def _obeys_copy_source(self, source_key: str) -> bool:
        """Whether a source that nobody signed is copied instead of the body."""
        promise = replace(self._promise("copy"), sha256=hashlib.sha256(_OTHER_BODY).digest())
        source = quote(f"/{self._store.connection.settings.bucket}/{source_key}")
        stored = await self._wire.send(self._put(promise), _OTHER_BODY, {"x-amz-copy-source": source})
        if _is_refused(stored):
            return False
        read = await self._wire.send(self._store.presign_get(promise.key, self._now(), _LIFETIME))
        return read.body == _BODY

    async def _accepts_header(self) -> bool:
        """Whether metadata that nobody signed is stored."""
        stored = await self._wire.send(self._put(self._promise("header")), _BODY, {"x-amz-meta-probe": "unsigned"})
        return not _is_refused(stored)

    async def _try_multipart(self) -> MultipartTrial:
        keys = [self._promise(name).key for name in ("multipart", "small")]
        return await self._store.connection.call(
            "try an object in parts",
            "s3:PutObject, s3:GetObject and s3:AbortMultipartUpload",
            lambda client, bucket: try_multipart(client, bucket, *keys),
            calls=_MULTIPART_CALLS,
        )

    def _bare_url(self, key: str) -> str:
        return self._store.presign_get(key, self._now(), _LIFETIME).url.partition("?")[0]

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


_T = TypeVar("_T")


async def _all(*sending: Awaitable[_T]) -> list[_T]:
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
    if reply.status >= 500 and reply.status != 501:  # NotImplemented is a refusal
        raise StoreUnavailable(f"It answers the probe with {reply.detail}.")
    return not reply.is_success


def _resigned(request: PresignedRequest) -> PresignedRequest:
    """Returns the request with one digit of its signature changed."""
    last = "0" if request.url[-1] != "0" else "1"
    return replace(request, url=request.url[:-1] + last)
