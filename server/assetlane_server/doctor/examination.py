"""The whole examination: every check in order, each reported when it is done."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

from assetlane_server.config.settings import Settings
from assetlane_server.doctor import browser, store
from assetlane_server.doctor.browser import BrowserChecks
from assetlane_server.doctor.finding import Finding, failed, guarded, ok, skipped
from assetlane_server.doctor.guard import guard_findings
from assetlane_server.doctor.ledger import ledger_findings
from assetlane_server.doctor.machine import address_finding
from assetlane_server.doctor.store import StoreChecks
from assetlane_server.doctor.web import web_findings
from assetlane_server.model.errors import NotReady
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.objects.wire import open_wire

_REQUEST_LIMIT = timedelta(seconds=5)

OpenStore = Callable[[Settings], AbstractAsyncContextManager[S3ObjectStore]]


async def examine(settings: Settings, open_store: OpenStore, now: Callable[[], datetime]) -> AsyncIterator[Finding]:
    """Yields a finding per check. Leaves nothing behind in MongoDB or the bucket."""
    yield ok("settings", "They can be read.")
    yield address_finding("listen address", "ASSETLANE_LISTEN", settings.listen)
    async for finding in guarded("web port", web_findings(settings)):
        yield finding
    async for finding in guarded("who is let in", guard_findings(settings, now)):
        yield finding
    async for finding in guarded("MongoDB", ledger_findings(settings, now)):
        yield finding
    try:
        async with open_store(settings) as opened, open_wire(_REQUEST_LIMIT) as wire:
            checks = StoreChecks(settings, opened, wire, now)
            async for finding in guarded("object store", checks.findings()):
                yield finding
            outside = BrowserChecks(settings, opened, wire, checks.prerequisites, now)
            async for finding in guarded("public endpoint", outside.findings()):
                yield finding
    except (NotReady, ValueError) as error:
        advice = "Look at the ASSETLANE_S3_ settings, and at where boto3 finds credentials."
        yield failed("object store", str(error), advice)
        for finding in skipped((*store.NAMES, *browser.NAMES), "the store cannot be asked"):
            yield finding
