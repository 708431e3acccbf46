"""What the sweeper does to a ledger once enough time has passed, without waiting for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from assetlane_server.composition.app import new_id, object_store, server_cuts, utc_now
from assetlane_server.composition.security import quota_enforcer
from assetlane_server.composition.use_cases import use_cases
from assetlane_server.config.settings import Settings
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.status_changes import StatusChanges
from assetlane_server.uploads.sweeper import Sweeper

_SECOND = timedelta(seconds=1)
_CALL_LIMIT = timedelta(seconds=20)


@asynccontextmanager
async def sweeper_at(settings: Settings, ahead: timedelta) -> AsyncIterator[Sweeper]:
    """Opens a sweeper whose clock is so far ahead."""

    def now() -> datetime:
        return utc_now() + ahead

    uri = settings.mongo_uri.get_secret_value()
    async with (
        MongoRecords.open(uri, settings.mongo_database, call_timeout=_CALL_LIMIT) as records,
        object_store(settings) as store,
    ):
        changes = StatusChanges(records, quota_enforcer(settings, records, records.quotas, now))
        cases = use_cases(
            records=records,
            changes=changes,
            store=store,
            server_cuts=server_cuts(settings, records, store, now),
            terms=settings.terms,
            signer=TokenSigner(records.token_key),
            new_id=new_id,
            now=now,
            progress_interval=_SECOND,
        )
        yield Sweeper(
            records=records, changes=changes, store=store, completions=cases.completions, interval=_SECOND, now=now
        )


async def settled(settings: Settings, ahead: timedelta) -> None:
    """Returns when a sweeper so far ahead finds nothing more to do."""
    async with sweeper_at(settings, ahead) as sweeper, asyncio.timeout(120):
        while await sweeper.sweep():
            pass
