"""What an operator runs beside the server: puts the parts together for `doctor`, `reconcile`, `migrate`, `erase`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

from assetlane_server.composition.app import object_store, utc_now
from assetlane_server.composition.security import quota_enforcer
from assetlane_server.config.settings import Settings, settings_from
from assetlane_server.doctor.examination import examine
from assetlane_server.doctor.finding import Finding, failed
from assetlane_server.model.errors import InvalidRequest, NotReady, Refusal
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.records.migration import MigrationReport
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.erasure import Erasure
from assetlane_server.uploads.reconciler import Reconciler
from assetlane_server.uploads.status_changes import StatusChanges


async def examination(environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Checks the whole set-up that the environment describes and yields what is found as it goes."""
    try:
        settings = settings_from(environment)
    except NotReady as error:
        yield failed("settings", str(error).replace("\n", "; "), "docs/configuration.md lists all settings.")
        return
    async for finding in examine(settings, object_store, utc_now):
        yield finding


@asynccontextmanager
async def reconciling(settings: Settings) -> AsyncIterator[Reconciler]:
    """Opens ledger and bucket to be compared. Raises NotReady, also when one of them fails on the way."""
    async with _ledger_and_bucket(settings) as (records, store):
        try:
            yield Reconciler(uploads=records, assets=records, store=store, prefix=settings.key_prefix, now=utc_now)
        except Refusal as error:
            raise NotReady(f"ledger and bucket could not be compared to the end: {error}") from error


def migration(settings: Settings) -> AsyncIterator[MigrationReport]:
    """Turns the ledger of an older version into this version's form; yields how far it is. Raises NotReady."""
    return MongoRecords.migrate(
        settings.mongo_uri.get_secret_value(),
        settings.mongo_database,
        call_timeout=timedelta(seconds=settings.mongo_timeout_seconds),
        now=utc_now(),
    )


@asynccontextmanager
async def erasing(settings: Settings) -> AsyncIterator[Erasure]:
    """Opens ledger and bucket to erase from. Raises NotReady, also when one of them fails on the way."""
    async with _ledger_and_bucket(settings) as (records, store):
        changes = StatusChanges(records, quota_enforcer(settings, records, records.quotas, records.clock.utc))
        try:
            yield Erasure(records=records, accounts=records.quotas, changes=changes, store=store, now=utc_now)
        except* InvalidRequest as invalid:
            raise NotReady(f"nothing was erased: {invalid.exceptions[0]}") from invalid
        except* Refusal as refusals:
            reasons = "; ".join(str(one) for one in refusals.exceptions)
            raise NotReady(f"not everything could be erased, run it again: {reasons}") from refusals


@asynccontextmanager
async def _ledger_and_bucket(settings: Settings) -> AsyncIterator[tuple[MongoRecords, S3ObjectStore]]:
    limit = timedelta(seconds=settings.mongo_timeout_seconds)
    uri = settings.mongo_uri.get_secret_value()
    async with (
        MongoRecords.open(uri, settings.mongo_database, call_timeout=limit) as records,
        object_store(settings) as store,
    ):
        yield records, store
