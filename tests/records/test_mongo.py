"""Opening the ledger: what is not as it must be is refused with a sentence that says what to mend."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.records.hubs import LIMIT, initialized, running, snapshot_of, status_of_next
from tests.records.stores import mongo
from tests.records.wire import STANDALONE, answering
from tests.uploads.samples import NOW

from assetlane_server.local import StackAddress
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.errors import NotReady
from assetlane_server.uploads.upload import Status

SHORT = timedelta(seconds=1)


async def refusal_of(uri: str) -> str:
    """Returns why a MongoDB is not ready, which it has to say in time."""
    with pytest.raises(NotReady) as refused:
        async with asyncio.timeout(LIMIT.total_seconds()), MongoRecords.open(uri, "ledger", call_timeout=SHORT):
            pytest.fail("it opened")
    return str(refused.value)


async def test_a_standalone_server_is_refused() -> None:
    """It has no change streams; the operator reads how to make it a replica set."""
    async with answering(lambda command: STANDALONE) as port:
        told = await refusal_of(f"mongodb://127.0.0.1:{port}/?directConnection=true")
    assert told.startswith("MongoDB is a standalone server, and watching needs change streams: make it a replica set")


async def test_a_server_without_change_streams_is_refused() -> None:
    """A role that lacks the right to watch is told at the start, not by watchers that hear nothing."""

    def answer(command: dict[str, Any]) -> dict[str, Any]:
        if "aggregate" in command:
            return {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized to $changeStream"}
        return {**STANDALONE, "setName": "rs0", "hosts": ["127.0.0.1:1"]}

    async with answering(answer) as port:
        told = await refusal_of(f"mongodb://127.0.0.1:{port}/?directConnection=true")
    assert told.startswith("MongoDB opens no change stream")
    assert "not authorized to $changeStream" in told


async def test_a_silent_server_is_refused_in_time() -> None:
    """Accepted, and never answered: the limit of an operation holds for the start too."""
    async with answering(lambda command: None) as port:
        began = asyncio.get_running_loop().time()
        told = await refusal_of(f"mongodb://127.0.0.1:{port}/?directConnection=true")
        assert asyncio.get_running_loop().time() - began < 10 * SHORT.total_seconds()
    assert told.startswith("MongoDB cannot be used")


async def test_an_unreachable_server_is_refused() -> None:
    """The operator reads which address it was."""
    assert (await refusal_of("mongodb://127.0.0.1:1/")).startswith("MongoDB cannot be used: 127.0.0.1:1: ")


@pytest.mark.parametrize(
    "uri",
    [
        "ann:hunter2@127.0.0.1",
        "http://ann:hunter2@127.0.0.1",
        "mongodb://ann:hunter2",
        "mongodb://ann:pass/hunter2@127.0.0.1/",
        "mongodb://ann:pass@hunter2@127.0.0.1/",
        "mongodb://ann:hunter2@127.0.0.1:99999/",
        "mongodb://ann:hunter2@127.0.0.1/?hunter2",
    ],
)
async def test_what_is_no_uri_is_refused_without_its_secrets(uri: str) -> None:
    """Also when the password is what made it none."""
    told = await refusal_of(uri)
    assert told.startswith("mongo_uri is not a MongoDB URI: ")
    assert "hunter2" not in told


async def test_wrong_credentials_are_refused_without_the_password() -> None:
    """The server's own word, not ours."""

    def answer(command: dict[str, Any]) -> dict[str, Any]:
        if "saslStart" in command:
            return {"ok": 0.0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "Authentication failed."}
        return {**STANDALONE, "setName": "rs0", "hosts": ["127.0.0.1:1"]}

    async with answering(answer) as port:
        told = await refusal_of(f"mongodb://ann:hunter2@127.0.0.1:{port}/?directConnection=true")
    assert told.startswith("MongoDB cannot be used: Authentication failed.")
    assert "hunter2" not in told


async def test_opening_twice_finds_the_indexes_as_they_are(
    stack: StackAddress, database_name: str, records: MongoRecords
) -> None:
    """Every server creates them at its start; the second changes nothing."""
    async with mongo(stack.mongo_uri) as client:
        before = [await client[database_name][name].index_information() for name in ("uploads", "assets", "progress")]
        async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT):
            after = [
                await client[database_name][name].index_information() for name in ("uploads", "assets", "progress")
            ]
    assert before == after
    assert all(len(indexes) > 1 for indexes in before)


async def test_watchers_outlive_a_dropped_collection(
    stack: StackAddress, database_name: str, records: MongoRecords, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream ends with the collection: the hub opens a new one, and who watches is told what comes after."""
    async with running(records) as hub, hub.watch_session("phone", "") as box:
        await hub.opened()
        async with mongo(stack.mongo_uri) as client:
            await client[database_name].drop_collection("uploads")
        async with asyncio.timeout(LIMIT.total_seconds()):
            while "opening it anew" not in caplog.text:  # noqa: ASYNC110 - the log is all that tells
                await asyncio.sleep(0.01)
        upload = await records.insert_upload(initialized())
        assert snapshot_of((await box.next(LIMIT))[0]).upload.upload_id == upload.upload_id
        await records.advance_upload(upload.cancelled(NOW))
        # What the hub reads anew and what its new stream tells may be the same state.
        while (status := await status_of_next(box)) is not Status.CANCELLED:
            assert status is Status.INITIALIZED
