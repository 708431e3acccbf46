"""What an operator runs beside the server: puts the parts together for `doctor` and `reconcile`."""

from collections.abc import AsyncIterator, Mapping

from assetlane_server.app import object_store, utc_now
from assetlane_server.config import settings_from
from assetlane_server.doctor.examination import examine
from assetlane_server.doctor.finding import Finding, failed
from assetlane_server.uploads.errors import NotReady


async def examination(environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Checks the whole set-up that the environment describes and yields what is found as it goes."""
    try:
        settings = settings_from(environment)
    except NotReady as error:
        yield failed("settings", str(error).replace("\n", "; "), "The README's table lists all settings.")
        return
    async for finding in examine(settings, object_store, utc_now):
        yield finding
