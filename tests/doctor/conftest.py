"""A set-up that is as it should be, to plant one fault in."""

import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from tests.records.stores import drop
from tests.servers import prepare_bucket, settings_for

from assetlane_server.composition.app import object_store, utc_now
from assetlane_server.config.settings import Settings
from assetlane_server.doctor.examination import examine
from assetlane_server.doctor.finding import Finding, Verdict
from assetlane_server.local import StackAddress
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.records.mongo import MongoRecords

ORIGIN = "https://app.example"


@dataclass(frozen=True)
class Report:
    """What doctor found."""

    findings: tuple[Finding, ...]

    def of(self, *verdicts: Verdict) -> set[str]:
        """The names of the checks with one of these verdicts."""
        return {finding.name for finding in self.findings if finding.verdict in verdicts}

    @property
    def failed(self) -> set[str]:
        """The names of the checks that failed."""
        return self.of(Verdict.FAILED)

    @property
    def warned(self) -> set[str]:
        """The names of the checks that warn."""
        return self.of(Verdict.WARNING)

    def text(self, name: str) -> str:
        """What is said of one check, and how to fix it."""
        return " ".join(f"{one.detail} {one.advice}" for one in self.findings if one.name == name)


async def examined(settings: Settings) -> Report:
    """Runs doctor."""
    return Report(tuple([finding async for finding in examine(settings, object_store, utc_now)]))


def changed(settings: Settings, **changes: Any) -> Settings:
    """Returns other settings."""
    return settings.model_copy(update=changes)


async def delete_bucket(store: S3ObjectStore, keys: Iterable[str] = ()) -> None:
    """Takes a test's bucket away."""
    await store.delete(list(keys))
    await store.connection.ask(lambda client, bucket: client.delete_bucket(Bucket=bucket))


async def set_up(stack: StackAddress, database_name: str, key_prefix: str, **changes: Any) -> Settings:
    """Returns the settings of a set-up that has all it needs: `setup` ran, and a server once."""
    settings = settings_for(stack, database_name, key_prefix, cors_origins=(ORIGIN,), **changes)
    await prepare_bucket(settings, is_own=True)
    limit = timedelta(seconds=10)
    async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=limit):
        return settings


@pytest.fixture
async def settings(stack: StackAddress, database_name: str, key_prefix: str) -> AsyncIterator[Settings]:
    """A set-up of this test alone, with a bucket of its own."""
    bucket = f"doctor-{secrets.token_hex(6)}"
    settings = await set_up(stack, database_name, key_prefix, s3_bucket=bucket)
    yield settings
    await drop(stack.mongo_uri, database_name)
    async with object_store(settings) as store:
        await delete_bucket(store)
