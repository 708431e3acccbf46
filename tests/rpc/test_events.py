"""Watchers of what was read at once share its events, and nobody else does."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.objects.settings import SETTINGS
from tests.uploads.samples import NOW, QUARTER, requested

from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.records.documents import upload_document, upload_of
from assetlane_server.rpc.events import StatusEvents
from assetlane_server.uploads.url_signer import UrlSigner


@pytest.fixture
async def events() -> AsyncIterator[StatusEvents]:
    """Events whose URLs are signed for a store that nobody asks."""
    async with S3ObjectStore.open(SETTINGS) as store:
        yield StatusEvents(UrlSigner(store))


async def test_watchers_of_one_reading_get_the_same_message_of_each_revision(events: StatusEvents) -> None:
    """Also of the revisions before the newest, which every watcher derives for itself."""
    upload = requested().initialized(NOW, QUARTER)
    pending, initialized = (events.event_of(change) for change in upload.after(0))
    assert [events.event_of(change) for change in upload.after(0)] == [pending, initialized]
    assert events.event_of(upload) is initialized
    assert [event.status.upload.revision for event in (pending, initialized)] == [1, 2]
    assert [len(event.status.write_targets) for event in (pending, initialized)] == [0, 2]


async def test_what_was_read_later_is_sent_as_it_is_now(events: StatusEvents) -> None:
    """Targets may have been signed again since, without a new revision."""
    upload = requested().initialized(NOW, QUARTER)
    events.event_of(upload)
    later = upload_of(upload_document(upload.renewed(NOW + timedelta(minutes=1), QUARTER)))
    event = events.event_of(later)
    assert "T120100Z" in event.status.write_targets[0].single_put.url


async def test_what_is_kept_is_bounded(events: StatusEvents) -> None:
    """An event that was pushed out is built again, alike."""
    first = requested()
    event = events.event_of(first)
    for number in range(100):
        events.event_of(replace(first, upload_id=str(number)))
    again = events.event_of(first)
    assert again is not event
    assert again == event
