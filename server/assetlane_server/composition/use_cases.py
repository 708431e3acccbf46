"""The use cases of uploads and assets, put together on a ledger and an object store."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from assetlane_server.concurrency.gathering import all_settled
from assetlane_server.model.admission import Terms
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.ports.asset_records import AssetRecords
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.ports.progress_records import ProgressRecords
from assetlane_server.ports.upload_records import UploadRecords
from assetlane_server.uploads.assets import Assets
from assetlane_server.uploads.completions import UploadCompletions
from assetlane_server.uploads.multipart import MultipartUploads
from assetlane_server.uploads.progress import ProgressReporter
from assetlane_server.uploads.proving import Prover
from assetlane_server.uploads.requests import UploadRequests
from assetlane_server.uploads.server_cuts import ServerCuts
from assetlane_server.uploads.status_changes import StatusChanges
from assetlane_server.uploads.uploads import Uploads
from assetlane_server.uploads.url_signer import UrlSigner


class Ledger(UploadRecords, AssetRecords, ProgressRecords, Protocol):
    """The records that these use cases read and write."""


@dataclass(frozen=True)
class UseCases:
    """What the servicers of uploads and assets call, watches excepted."""

    requests: UploadRequests
    completions: UploadCompletions
    uploads: Uploads
    parts: MultipartUploads
    assets: Assets
    urls: UrlSigner
    progress: ProgressReporter

    async def finish(self) -> None:
        """Waits for the work under way; the caller bounds the wait."""
        await all_settled(self.requests.finish(), self.completions.finish())
        await self.progress.finish()


def use_cases(
    *,
    records: Ledger,
    changes: StatusChanges,
    store: ObjectStore,
    server_cuts: ServerCuts,
    terms: Terms,
    signer: TokenSigner,
    new_id: Callable[[], str],
    now: Callable[[], datetime],
    progress_interval: timedelta,
) -> UseCases:
    """Returns the use cases of one server; each upload's progress is written once an interval."""
    urls = UrlSigner(store, now)
    progress = ProgressReporter(records, progress_interval)
    return UseCases(
        requests=UploadRequests(
            uploads=records, changes=changes, store=store, urls=urls, terms=terms, new_id=new_id, now=now
        ),
        completions=UploadCompletions(
            uploads=records,
            changes=changes,
            store=store,
            prover=Prover(store, accept_mislabelled=terms.accept_mislabelled),
            server_cuts=server_cuts,
            progress=progress,
            now=now,
        ),
        uploads=Uploads(uploads=records, changes=changes, store=store, progress=progress, signer=signer, now=now),
        parts=MultipartUploads(uploads=records, store=store, urls=urls, signer=signer, terms=terms, now=now),
        assets=Assets(assets=records, store=store, urls=urls, signer=signer, now=now),
        urls=urls,
        progress=progress,
    )
