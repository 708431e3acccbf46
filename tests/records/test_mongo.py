"""Opening the ledger: what is not as it must be is refused with a reason and a sentence that says what to fix."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from datetime import timedelta
from typing import Any

import pytest
from tests.log_events import seen
from tests.records.hubs import LIMIT, initialized, running, status_of_next, upload_of
from tests.records.stores import drop, mongo
from tests.records.wire import STANDALONE, answering
from tests.refusals import check
from tests.uploads.samples import NOW

from assetlane_server.local import StackAddress
from assetlane_server.model.errors import NotReady
from assetlane_server.model.upload import Status
from assetlane_server.records.changes import RecordChange
from assetlane_server.records.mongo import Event, MongoRecords

SHORT = timedelta(seconds=1)
REPLICA_SET = {"setName": "rs0", "hosts": ["127.0.0.1:1"], "logicalSessionTimeoutMinutes": 30}


async def refusal_of(uri: str) -> NotReady:
    """Returns why a MongoDB is not ready, which it has to say in time."""
    with pytest.raises(NotReady) as refused:
        async with asyncio.timeout(LIMIT.total_seconds()), MongoRecords.open(uri, "ledger", call_timeout=SHORT):
            pytest.fail("it opened")
    return refused.value


async def test_a_standalone_server_is_refused() -> None:
    """It has no change streams; the operator reads how to make it a replica set."""
    async with answering(lambda command: STANDALONE) as port:
        refusal = await refusal_of(f"mongodb://127.0.0.1:{port}/?directConnection=true")
    check(refusal, reason="MONGO_IS_STANDALONE", names=["--replSet", "rs.initiate()"])


async def test_a_server_without_change_streams_is_refused() -> None:
    """A role that lacks the right to watch is reported at the start, not by watchers that hear nothing."""

    def answer(command: dict[str, Any]) -> dict[str, Any]:
        if "aggregate" in command:
            return {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized to $changeStream"}
        if "find" in command:
            found = [{"_id": "token_key", "key": b"k"}] if command["filter"] == {"_id": "token_key"} else []
            return {"ok": 1.0, "cursor": {"id": 0, "ns": f"ledger.{command['find']}", "firstBatch": found}}
        return {**STANDALONE, **REPLICA_SET}

    async with answering(answer) as port:
        refusal = await refusal_of(f"mongodb://127.0.0.1:{port}/?directConnection=true")
    check(refusal, reason="NO_CHANGE_STREAM", names=["$changeStream"])


async def test_a_silent_server_is_refused_in_time() -> None:
    """Accepted, and never answered: the limit of an operation holds for the start too."""
    async with answering(lambda command: None) as port:
        refusal = await refusal_of(f"mongodb://127.0.0.1:{port}/?directConnection=true")
    check(refusal, reason="MONGO_UNUSABLE")


async def test_an_unreachable_server_is_refused() -> None:
    """The operator reads which address it was."""
    check(await refusal_of("mongodb://127.0.0.1:1/"), reason="MONGO_UNUSABLE", names=["127.0.0.1:1"])


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
    """A URI that is malformed because of its password is refused, and the password is not shown."""
    refusal = await refusal_of(uri)
    check(refusal, reason="NOT_A_MONGO_URI", names=["mongo_uri"])
    assert "hunter2" not in str(refusal)


async def test_wrong_credentials_are_refused_without_the_password() -> None:
    """The message shows what MongoDB answered, and nothing of the URI."""

    def answer(command: dict[str, Any]) -> dict[str, Any]:
        if "saslStart" in command:
            return {"ok": 0.0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "AuthenticationFailed:18"}
        return {**STANDALONE, **REPLICA_SET}

    async with answering(answer) as port:
        refusal = await refusal_of(f"mongodb://ann:hunter2@127.0.0.1:{port}/?directConnection=true")
    check(refusal, reason="MONGO_UNUSABLE", names=["AuthenticationFailed:18"])
    assert "hunter2" not in str(refusal)


async def test_opening_twice_finds_the_indexes_as_they_are(
    stack: StackAddress, database_name: str, records: MongoRecords
) -> None:
    """Every server creates them at its start; the second changes nothing."""
    async with mongo(stack.mongo_uri) as client:
        before = [await client[database_name][name].index_information() for name in ("uploads", "progress", "quotas")]
        async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT):
            after = [
                await client[database_name][name].index_information() for name in ("uploads", "progress", "quotas")
            ]
    assert before == after
    assert all(len(indexes) > 1 for indexes in before)


async def test_watchers_outlive_a_dropped_collection(
    stack: StackAddress, database_name: str, records: MongoRecords, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream ends with the collection: the hub opens a new one, and watchers are sent what comes after."""
    async with running(records) as hub, hub.watch_session("phone", "") as box:
        await hub.opened()
        async with mongo(stack.mongo_uri) as client:
            await client[database_name].drop_collection("uploads")
        await seen(caplog, "STREAM_LOST")
        upload = await records.insert_upload(initialized())
        async with asyncio.timeout(LIMIT.total_seconds()):
            while (delivery := await box.next(LIMIT)).missed_since is None:  # what the hub opened before was lost
                continue
        await records.advance_upload(upload.cancelled(NOW))
        statuses: list[Status] = []
        while Status.CANCELLED not in statuses:
            later = await box.next(LIMIT)
            statuses += [upload_of(one).status for one in later.news]
            assert later.news, "no news within the limit"
        assert set(statuses) <= {Status.INITIALIZED, Status.CANCELLED}
        assert later.until > delivery.missed_since


async def test_servers_that_start_at_once_share_one_key_and_one_mark(stack: StackAddress, database_name: str) -> None:
    """They open an empty database together, where each of them would make the key and the mark."""
    keys = set()

    async def start() -> None:
        async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT) as records:
            keys.add(records.token_key)

    async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT):
        pass  # SecantusDB hangs when two create the same indexes at once
    async with mongo(stack.mongo_uri) as client:
        await client[database_name].drop_collection("meta")
    await asyncio.gather(*(start() for _ in range(8)))
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    await drop(stack.mongo_uri, database_name)


class Answers:
    """Counts what the change stream of a ledger brings at a time."""

    def __init__(self, records: MongoRecords, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self._take = records._take_events
        monkeypatch.setattr(records, "_take_events", self._counted)

    async def _counted(self, stream: Any, thread: Executor) -> Sequence[Event]:
        events = await self._take(stream, thread)
        self.sizes.append(len(events))
        return events


async def test_what_one_answer_of_the_stream_brings_is_taken_at_once(
    records: MongoRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The changes of one answer come in order, each with its own instant, in one step of the driver's thread."""
    answers = Answers(records, monkeypatch)
    async with records.changes() as feed:
        uploads = [await records.insert_upload(initialized()) for _ in range(30)]
        seen: list[tuple[object, str]] = []
        async with asyncio.timeout(LIMIT.total_seconds()):
            while len(seen) < len(uploads):
                if isinstance(change := await feed.next(), RecordChange):
                    seen.append((feed.time, change.upload_id))
    assert [upload_id for _, upload_id in seen] == [upload.upload_id for upload in uploads]
    assert seen == sorted(seen, key=lambda one: one[0])  # type: ignore[arg-type, return-value]
    assert max(answers.sizes) > len(uploads) / 2


async def test_a_stream_that_nobody_watches_is_asked_less_often(
    records: MongoRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody who begins to watch then misses nothing, and the stream is followed at once again."""
    answers = Answers(records, monkeypatch)
    clock = asyncio.get_running_loop().time
    async with running(records) as hub:
        await hub.opened()
        began = clock()
        for _ in range(30):
            upload = await records.insert_upload(initialized())
        asked = sum(1 for size in answers.sizes if size)
        assert asked <= (clock() - began) / 0.05 + 1
        async with hub.watch_upload(upload.upload_id) as box:
            await records.advance_upload(upload.cancelled(NOW))
            while await status_of_next(box) is not Status.CANCELLED:
                continue
    assert sum(answers.sizes) >= 30
