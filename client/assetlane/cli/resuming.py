"""Runs that go on where an earlier run of the same command stopped."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assetlane.cli.selection import Item
from assetlane.errors import PreconditionFailed, UploadFailed
from assetlane.progress import OnProgress, Progress

if TYPE_CHECKING:
    from assetlane.client import Client
    from assetlane.v1.asset_pb2 import Asset

_ATTEMPTS = 100  # at the same file, over all runs
_OVER = frozenset({"UPLOAD_CANCELLED", "UPLOAD_EXPIRED"})


async def resumed(
    client: "Client",
    item: Item,
    options: Mapping[str, Any],
    on_progress: OnProgress | None,
    *,
    attempts: int = _ATTEMPTS,
) -> "tuple[Asset, bool]":
    """Returns the asset of a file, and whether an earlier run had brought it in already.

    The request id is made from the file's path, size and time of change, and from the options: the same command
    finds its uploads again for as long as the server keeps their records. An attempt that is over for good makes
    room for the next. Raises what `Client.upload` raises, and PreconditionFailed when there is no room any more.
    """
    identity = _identity(item, options)
    for attempt in range(attempts):
        sent = _Sent(on_progress)
        request_id = f"{identity}-{attempt}"
        try:
            asset = await client.upload(item.path, **options, request_id=request_id, on_progress=sent.step)
        except (PreconditionFailed, UploadFailed) as error:
            is_over = isinstance(error, UploadFailed) or error.reason in _OVER
            if not is_over or sent.anything or attempt == attempts - 1:
                raise
            continue
        if asset.asset_id:  # else it has been deleted since
            return asset, not sent.anything
    raise PreconditionFailed(
        f"{attempts} earlier uploads of {item.path} are over and their assets deleted: upload it without --resume",
        reason="ATTEMPTS_EXHAUSTED",
    )


class _Sent:
    """Whether anything was sent; passes every step on."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self.anything = False
        self._on_progress = on_progress

    def step(self, step: Progress) -> Any:
        self.anything = self.anything or bool(step.variant)
        return self._on_progress(step) if self._on_progress else None


def _identity(item: Item, options: Mapping[str, Any]) -> str:
    found = Path(item.path).stat()
    words = [item.file_path, found.st_size, found.st_mtime_ns, sorted(options.items())]
    return hashlib.sha256(json.dumps(words, default=str).encode()).hexdigest()[:40]
