"""The stores that servers under measurement share, and the settings that point there."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from assetlane_server.composition.app import set_up_bucket
from assetlane_server.config.settings import PREFIX, settings_from
from assetlane_server.local import StackAddress, embedded_stack

NOTES: Final = (
    "Servers, load generator and stores share this machine's cores.",
    "The embedded MongoDB runs with --sync-on-commit: every write waits for the disk, as MongoDB's own do.",
)


@asynccontextmanager
async def stores() -> AsyncIterator[StackAddress]:
    """Runs the embedded stack on empty data, with its bucket set up, until the block ends."""
    with TemporaryDirectory(prefix="assetlane-bench-") as directory:
        async with embedded_stack(Path(directory)) as stack:
            await set_up_bucket(settings_from(variables(stack.address, "setup")))
            yield stack.address


def variables(stores: StackAddress, database: str, **given: str) -> dict[str, str]:
    """Returns the environment of a server with a fresh database of its own and a free port."""
    settings = {
        "listen": "127.0.0.1:0",
        "mongo_uri": stores.mongo_uri,
        "mongo_database": f"{database}_{secrets.token_hex(4)}",
        "s3_endpoint": stores.s3_endpoint,
        "s3_region": stores.s3_region,
        "s3_bucket": stores.s3_bucket,
        "s3_access_key_id": stores.s3_access_key_id,
        "s3_secret_access_key": stores.s3_secret_access_key,
        "grace_seconds": "5",
        **given,
    }
    return {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}
