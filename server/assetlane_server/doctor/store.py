"""Checks of the object store as this server reaches it: address, clock, credentials, bucket, region, rights,
and what it refuses.
"""

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from assetlane_server.config.settings import Settings
from assetlane_server.doctor.finding import (
    Finding,
    Verdict,
    checked,
    clock_finding,
    failed,
    ok,
    skipped,
    warning,
)
from assetlane_server.model.errors import StoreUnavailable
from assetlane_server.model.upload import VariantPromise
from assetlane_server.objects.inspection import BucketAnswer, Inspection
from assetlane_server.objects.probe import (
    BAD_CLOCK,
    BAD_CREDENTIALS,
    BAD_REGION,
    StoreCapabilities,
    StoreTerms,
    probe_store,
)
from assetlane_server.objects.s3.deletion import purge_folder
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.objects.wire import Reply, Wire

_LIFETIME = timedelta(minutes=5)
_BODY = b"a look at the rights"

_REACH = "Look at ASSETLANE_S3_ENDPOINT and at the network between."
_REGION = "Set ASSETLANE_S3_REGION to the bucket's region: it is part of every signature."
_SETUP = "Run `assetlane-server setup`."
_NO_RULE = (
    "`assetlane-server setup` adds the rule where the store knows such; where it does not, run"
    " `assetlane-server reconcile --delete-orphans` from time to time."
)
_SHORT_RULE = "Run `assetlane-server setup` again; a rule that it has not made is for its owner to change."

RIGHTS = {
    "put": "s3:PutObject",
    "get": "s3:GetObject",
    "head": "s3:GetObject and s3:ListBucket",
    "list": "s3:ListBucket",
    "abort multipart": "s3:AbortMultipartUpload",
    "list parts": "s3:ListMultipartUploadParts",
    "list multipart": "s3:ListBucketMultipartUploads",
    "delete": "s3:DeleteObject",
}
_RIGHT_NAMES = tuple(f"right to {right}" for right in RIGHTS)
NAMES = ("store clock", "credentials", "bucket", "region", *_RIGHT_NAMES, "store promises", "clean-up rule")


@dataclass
class Prerequisites:
    """What later checks depend on: none of them fails for a fault that was reported already."""

    has_bucket: bool = False
    can_put: bool = False
    put: Reply | None = None  # what the store answered to a PUT that was as it should be
    keeps_versions: bool = False  # a deletion only hides: what was put must be purged


class StoreChecks:
    """The checks in order; `prerequisites` is complete when they have ended."""

    def __init__(self, settings: Settings, store: S3ObjectStore, wire: Wire, now: Callable[[], datetime]) -> None:
        self.prerequisites = Prerequisites()
        self._settings = settings
        self._store = store
        self._inner = store.seen_from_here()
        self._inspection = Inspection(store.connection)
        self._wire = wire
        self._now = now

    async def findings(self) -> AsyncIterator[Finding]:
        """Yields what is found."""
        try:
            before = datetime.now(UTC)
            # Not HEAD: radosgw sends a body after it, which breaks the connection.
            reply = await self._wire.ask("GET", f"{self._store.connection.endpoint}/")
            middle = before + (datetime.now(UTC) - before) / 2
        except StoreUnavailable as error:
            yield failed("object store", str(error), _REACH)
            for finding in skipped(NAMES, "the store cannot be reached"):
                yield finding
            return
        yield ok("object store", f"It answers at {self._store.connection.endpoint}.")
        yield _clock(reply.headers.get("date", ""), middle)

        word = await self._inspection.list_keys(self._settings.key_prefix)
        credentials = self._credentials(word)
        yield credentials
        if credentials.verdict is not Verdict.OK:
            for finding in skipped(NAMES[2:], "the store does not accept the credentials"):
                yield finding
            return
        bucket = self._bucket(word)
        yield bucket
        if bucket.verdict is Verdict.FAILED:
            for finding in skipped(NAMES[3:], "there is no bucket"):
                yield finding
            return
        self.prerequisites.has_bucket = True
        is_allowed = True
        rights = [finding async for finding in self._rights(word)]
        # Whether the store accepts what is signed for this region shows when something is put.
        yield await checked("region", self._region(word), _REACH)
        for finding in rights:
            is_allowed = is_allowed and finding.verdict is not Verdict.FAILED
            yield finding
        if is_allowed:
            async for finding in self._promises():
                yield finding
        else:
            for finding in skipped(["store promises"], "it takes the rights that are missing"):
                yield finding
        yield await checked("clean-up rule", self._clean_up_rule(), _NO_RULE)

    def _credentials(self, word: BucketAnswer) -> Finding:
        if word.code in BAD_CREDENTIALS:
            advice = "Look at ASSETLANE_S3_ACCESS_KEY_ID and ASSETLANE_S3_SECRET_ACCESS_KEY, or where boto3 finds them."
            return failed("credentials", f"The store does not accept them ({word.detail}).", advice)
        if word.code in BAD_CLOCK:
            advice = "Synchronise the clocks of this machine and the store (NTP)."
            return failed("credentials", f"The clocks are too far apart to sign ({word.detail}).", advice)
        return ok("credentials", "The store accepts them.")

    def _bucket(self, word: BucketAnswer) -> Finding:
        name = self._settings.s3_bucket
        if word.status == 404 and word.code in ("", "NoSuchBucket"):
            return failed("bucket", f"There is no bucket {name}.", f"{_SETUP} Or look at ASSETLANE_S3_BUCKET.")
        if word.status >= 500:
            return failed("bucket", f"The store cannot say whether {name} is there ({word.detail}).", "Try again.")
        return ok("bucket", f"{name} is there.")

    async def _region(self, listed: BucketAnswer) -> Finding:
        ours = self._settings.s3_region
        advice = _REGION
        word = await self._inspection.look_at_bucket()
        refused = next(
            (one for one in (self.prerequisites.put, listed) if one is not None and one.code in BAD_REGION), None
        )
        is_elsewhere = bool(word.region) and word.region != ours
        if refused is not None and is_elsewhere:
            return failed("region", f"The bucket is in {word.region}, and URLs are signed for {ours}.", advice)
        if refused is not None:
            return failed("region", f"The store does not accept URLs signed for {ours} ({refused.detail}).", advice)
        if is_elsewhere and self.prerequisites.can_put:
            return ok("region", f"The store calls its own {word.region}, and accepts URLs signed for {ours}.")
        if is_elsewhere:
            return warning("region", f"The store calls its own {word.region}, and URLs are signed for {ours}.", advice)
        if word.region:
            return ok("region", f"The bucket is in {ours}.")
        return ok("region", f"The store names none; {ours} is signed.")

    async def _rights(self, listed: BucketAnswer) -> AsyncIterator[Finding]:
        """Tries each right on one throw-away object."""
        folder = f"{self._settings.key_prefix}probe/{secrets.token_hex(8)}/"
        key = f"{folder}right"
        promise = VariantPromise("original", "text/plain", len(_BODY), key=key)
        try:
            put = await self._wire.send(self._inner.presign_put(promise, self._now(), _LIFETIME), _BODY)
            self.prerequisites.can_put = put.is_success
            self.prerequisites.put = put
            self.prerequisites.keeps_versions = put.headers.get("x-amz-version-id", "null") != "null"
            if put.code in BAD_REGION:
                yield failed("right to put", f"The store refuses it ({put.detail}).", _REGION)
            else:
                yield _right("put", is_allowed=put.is_success, detail=put.detail)
            # Where nothing could be put, "not there" says as well that one may look.
            fine = (200,) if put.is_success else (200, 404)
            got = await self._wire.send(self._inner.presign_get(key, self._now(), _LIFETIME))
            yield _right("get", is_allowed=got.status in fine, detail=got.detail)
            seen = await self._inspection.look_at(key)
            yield _right("head", is_allowed=seen.status in fine, detail=seen.detail)
            yield _right("list", is_allowed=listed.is_success, detail=listed.detail)
            aborted = await self._inspection.abort(key)
            yield _right(
                "abort multipart", is_allowed=aborted.is_success or aborted.status == 404, detail=aborted.detail
            )
            parts = await self._inspection.list_parts(key)
            yield _right("list parts", is_allowed=parts.is_success or parts.status == 404, detail=parts.detail)
            opened = await self._inspection.list_multiparts(folder)
            yield _right("list multipart", is_allowed=opened.is_success, detail=opened.detail)
        except StoreUnavailable as error:
            yield failed("rights", str(error), _REACH)
        try:
            deleted = await self._inspection.delete(key)
        except StoreUnavailable as error:
            yield failed("right to delete", str(error), _REACH)
        else:
            yield _right("delete", is_allowed=deleted.is_success, detail=deleted.detail, left=key)
        if self.prerequisites.keeps_versions:
            yield await checked("right to purge", self._purge(folder), f"Delete the versions of {key} by hand.")

    async def _purge(self, folder: str) -> Finding:
        name = "right to purge"
        try:
            await purge_folder(self._store.connection, folder)
        except StoreUnavailable as error:
            advice = "Grant s3:ListBucketVersions and s3:DeleteObjectVersion, or clean up <prefix>probe/ by a rule."
            return warning(name, f"The bucket keeps versions, also of what doctor and probes put: {error}", advice)
        return ok(name, "Granted; the bucket keeps versions.")

    async def _promises(self) -> AsyncIterator[Finding]:
        try:
            capabilities = await probe_store(self._store, self._settings.key_prefix, self._now)
        except StoreUnavailable as error:
            yield failed("store promises", str(error), _REACH)
            return
        weaknesses = capabilities.weaknesses()
        terms = StoreTerms(self._settings.accept_overwrites, self._settings.accept_unsigned_headers)
        for weakness in weaknesses:
            if terms.accepts(weakness):
                yield warning(weakness.name, weakness.detail, f"It was accepted with {weakness.accepting}.")
            elif weakness.accepting:
                advice = f"{weakness.instead.rstrip('.')}, or accept it with {weakness.accepting}."
                yield failed(weakness.name, weakness.detail, advice)
            elif weakness.is_grave:
                yield failed(weakness.name, weakness.detail, "Use another store: this one does not check its requests.")
            else:
                yield warning(weakness.name, weakness.detail, weakness.instead)
        if not weaknesses:
            yield ok("store promises", f"It refuses all that it should; {_also(capabilities)}.")

    async def _clean_up_rule(self) -> Finding:
        name = "clean-up rule"
        word, rules = await self._inspection.abort_rules(self._settings.key_prefix)
        least = self._settings.abort_multipart_days
        if rules.days is not None and rules.days < least:
            detail = f"A rule drops unfinished multipart uploads after {rules.days} days: they may live for {least - 2}"
            return warning(name, f"{detail}, and the rule is to wait {least} days.", _SHORT_RULE)
        if rules.covers:
            return ok(name, f"Unfinished multipart uploads are dropped after {rules.days} days.")
        if word.status == 403:
            return warning(name, f"The credentials may not read it ({word.detail}).",
                           "Give them s3:GetLifecycleConfiguration, or make sure that the rule is there.")  # fmt: skip
        if word.status in (405, 501):
            return warning(name, f"The store has no rules that drop unfinished multipart uploads ({word.detail}).",
                           "Run `assetlane-server reconcile --delete-orphans` from time to time.")  # fmt: skip
        return warning(name, "No rule drops unfinished multipart uploads: they cost money and appear in no listing.",
                       _NO_RULE)  # fmt: skip


def _clock(date: str, middle: datetime) -> Finding:
    try:
        detail = parsedate_to_datetime(date)
    except ValueError:
        return warning("store clock", "The store does not report its time.", "Compare the clocks by hand.")
    # Cut to the second: on average it was half a second later.
    return clock_finding("store clock", "The store's", detail + timedelta(seconds=0.5) - middle)


def _right(right: str, *, is_allowed: bool, detail: str, left: str = "") -> Finding:
    name = f"right to {right}"
    if is_allowed:
        return ok(name, "Granted.")
    advice = f"Give the credentials {RIGHTS[right]}."
    return failed(name, f"The store refuses it ({detail}).", f"{advice} Delete {left} by hand." if left else advice)


def _also(capabilities: StoreCapabilities) -> str:
    versions = "keeps versions" if capabilities.keeps_versions else "keeps no versions"
    names = "keeps file names" if capabilities.keeps_disposition else "keeps no file names (content-disposition)"
    return f"it {versions}, and {names}"
