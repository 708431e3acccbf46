"""What a user can ask of the client."""

import asyncio
import errno
import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.client.lane_server import Fault, LaneServer
from tests.client.object_store import ObjectStore
from tests.refusals import raises

from assetlane import (
    AssetlaneError,
    Client,
    ClientUnusable,
    ContentMismatch,
    CutSize,
    ImageRefused,
    InvalidArgument,
    NotFound,
    PreconditionFailed,
    Progress,
    ResourceExhausted,
    StoreRefused,
    Unauthenticated,
    Unavailable,
    UploadFailed,
    UploadStatus,
)

LIMIT_S = 60.0
COMPLETED = UploadStatus.UPLOAD_STATUS_COMPLETED
CANCELLED = UploadStatus.UPLOAD_STATUS_CANCELLED
INITIALIZED = UploadStatus.UPLOAD_STATUS_INITIALIZED


async def test_a_picture_arrives_with_its_cuts(
    lane: Client, server: LaneServer, store: ObjectStore, jpeg: bytes, tmp_path: Path
) -> None:
    """Uploading a picture stores the original and the standard cuts, promised exactly."""
    (tmp_path / "beach.jpg").write_bytes(jpeg)
    asset = await lane.upload(tmp_path / "beach.jpg", title="Beach", extra={"stars": 5, "tags": ["sea"]})
    request = server.called("RequestUpload")[0]
    assert (request.uid, request.session_id, request.file_path) == ("ann", lane.session_id, "beach.jpg")
    assert request.request_id
    assert not request.HasField("expiration_hours")
    assert [variant.name for variant in asset.variants] == ["original", "small", "medium", "large"]
    assert asset.variants[0].sha256 == hashlib.sha256(jpeg).digest()
    assert (asset.variants[0].width_px, asset.variants[0].height_px) == (1000, 800)
    assert (asset.variants[1].width_px, asset.variants[1].height_px) == (300, 240)
    assert asset.details.color == "#c86432"
    assert asset.details.extra["stars"] == 5
    assert store.body(asset.asset_id) == jpeg
    assert {seen.sha256 for seen in store.seen} == {variant.sha256 for variant in asset.variants}


async def test_bytes_and_other_files_arrive_without_cuts(lane: Client, store: ObjectStore) -> None:
    """What is no picture has only its original."""
    asset = await lane.upload(b"hello", file_path="notes/hello.txt", expiration_hours=0)
    assert [(v.name, v.content_type) for v in asset.variants] == [("original", "text/plain")]
    assert asset.expiration_hours == 0
    assert store.body(asset.asset_id) == b"hello"


async def test_a_files_name_is_normalised(lane: Client, tmp_path: Path) -> None:
    """A name that the file system spells with combining marks is filed as the contract wants it."""
    path = tmp_path / "cafe\u0301.txt"
    path.write_bytes(b"hello")
    assert (await lane.upload(path)).file_path == "caf\u00e9.txt"
    odd = tmp_path / "caf\udce9.txt"
    odd.write_bytes(b"hello")
    with raises(InvalidArgument, field="file_path"):
        await lane.upload(odd)


async def test_cuts_can_be_chosen(lane: Client, jpeg: bytes) -> None:
    """A caller can have its own cuts, or none."""
    own = await lane.upload(jpeg, file_path="a.jpg", cuts=[CutSize("icon", 32)])
    none = await lane.upload(jpeg, file_path="a.jpg", cuts=False)
    assert [variant.name for variant in own.variants] == ["original", "icon"]
    assert [variant.name for variant in none.variants] == ["original"]


async def test_a_guessed_type_gives_way_to_what_the_picture_is(lane: Client, jpeg: bytes) -> None:
    """A JPEG named .png is stored as the JPEG it is; a caller who insists is contradicted."""
    asset = await lane.upload(jpeg, file_path="a.png")
    assert asset.variants[0].content_type == "image/jpeg"
    with raises(ImageRefused, reason="IMAGE_MISLABELLED", names=["image/jpeg"]):
        await lane.upload(jpeg, file_path="a.png", content_type="image/png")


async def test_nothing_at_all_is_uploaded_too(lane: Client, store: ObjectStore) -> None:
    """A file of no bytes is a file."""
    asset = await lane.upload(b"", file_path="a.txt")
    assert [variant.size_bytes for variant in asset.variants] == [0]
    assert list(store.bodies.values()) == [b""]
    (seen,) = store.seen
    assert {name.lower(): value for name, value in seen.headers}["content-length"] == "0"


@pytest.mark.parametrize("is_async", [True, False])
async def test_progress_reports_every_status_and_every_byte(lane: Client, jpeg: bytes, is_async: bool) -> None:
    """A caller sees PENDING to COMPLETED, and the bytes of each variant up to the last."""
    steps: list[Progress] = []

    async def later(step: Progress) -> None:
        await asyncio.sleep(0)
        steps.append(step)

    asset = await lane.upload(jpeg, file_path="a.jpg", on_progress=later if is_async else steps.append)
    statuses = [step.status_name for step in steps if not step.variant]
    assert statuses == ["PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"]
    total = sum(variant.size_bytes for variant in asset.variants)
    assert {step.size_bytes for step in steps} == {total}
    assert max(step.sent_bytes for step in steps) == total
    for variant in asset.variants:
        last = [step for step in steps if step.variant == variant.name][-1]
        assert last.variant_sent_bytes == last.variant_size_bytes == variant.size_bytes


async def test_what_progress_raises_ends_the_upload(lane: Client, server: LaneServer, jpeg: bytes) -> None:
    """A callback that fails is not retried around: its error comes out and the upload is cancelled."""

    def broken(step: Progress) -> None:
        if step.variant:
            raise mine

    mine = LookupError("mine")
    with pytest.raises(LookupError) as raised:
        await lane.upload(jpeg, file_path="a.jpg", on_progress=broken)
    assert raised.value is mine
    assert [upload.status for upload in server.uploads.values()] == [CANCELLED]


async def test_a_failed_upload_is_reported_with_its_reason(lane: Client, server: LaneServer) -> None:
    """FAILED becomes UploadFailed, and nobody cancels what is over."""
    server.store.damages = True
    with pytest.raises(UploadFailed) as failed:
        await lane.upload(b"hello", file_path="a.txt")
    assert failed.value.reason == "CHECKSUM_MISMATCH"
    assert failed.value.upload.file_path == "a.txt"
    assert server.called("CancelUpload") == []


async def test_a_refusal_of_the_store_cancels_the_upload(lane: Client, server: LaneServer, store: ObjectStore) -> None:
    """A permanent error leaves nothing behind."""
    store.script.append(400)
    store.code = "BadDigest"
    with raises(StoreRefused, names=["BadDigest"]) as refused:
        await lane.upload(b"hello", file_path="a.txt")
    assert refused.value.code == "BadDigest"
    assert [upload.status for upload in server.uploads.values()] == [CANCELLED]


async def test_cancelling_the_task_cancels_the_upload(lane: Client, server: LaneServer, store: ObjectStore) -> None:
    """A task cancelled while it sends gives its upload up before it ends."""
    store.stall = asyncio.Event()
    task = asyncio.create_task(lane.upload(b"hello", file_path="a.txt"))
    async with asyncio.timeout(LIMIT_S):
        await store.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [upload.status for upload in server.uploads.values()] == [CANCELLED]


async def test_cancelling_while_the_request_is_under_way_cancels_the_upload(lane: Client, server: LaneServer) -> None:
    """The upload is given up although its id was not known yet when the task was cancelled."""
    server.gate = asyncio.Event()
    task = asyncio.create_task(lane.upload(b"hello", file_path="a.txt"))
    async with asyncio.timeout(LIMIT_S), server.changed:
        await server.changed.wait_for(lambda: server.uploads)
    task.cancel()
    await asyncio.sleep(0)
    server.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [upload.status for upload in server.uploads.values()] == [CANCELLED]


async def test_targets_that_ran_out_are_renewed_by_repeating_the_request(
    lane: Client, server: LaneServer, store: ObjectStore, jpeg: bytes
) -> None:
    """Refused signatures are renewed with the same request_id, once for all variants."""
    store.script.extend([403, 403, 403, 403])
    store.code = "AccessDenied"
    asset = await lane.upload(jpeg, file_path="a.jpg")
    first, second = server.called("RequestUpload")[:2]
    assert first == second
    assert len(server.uploads) == 1
    assert len(asset.variants) == 4


async def test_an_upload_goes_on_after_a_crash_with_its_request_id(
    lane: Client, server: LaneServer, store: ObjectStore, jpeg: bytes
) -> None:
    """What an earlier run has stored is not an error for the next one."""
    store.script.extend([403, 403, 403, 403, 400, 400, 400])
    server.faults["CancelUpload"].append(Fault(grpc.StatusCode.INTERNAL))
    with pytest.raises(AssetlaneError):
        await lane.upload(jpeg, file_path="a.jpg", request_id="mine")
    store.script.clear()
    (upload,) = server.uploads.values()
    server.put(upload.upload_id, jpeg)
    asset = await lane.upload(jpeg, file_path="a.jpg", request_id="mine")
    assert asset.asset_id == upload.upload_id
    again = await lane.upload(jpeg, file_path="a.jpg", request_id="mine")
    assert again == asset


async def test_what_is_missing_at_completion_is_sent_again(
    lane: Client, server: LaneServer, store: ObjectStore
) -> None:
    """VARIANTS_MISSING names what to put once more."""
    detail = error_details_pb2.PreconditionFailure(
        violations=[error_details_pb2.PreconditionFailure.Violation(type="VARIANT", subject="original")]
    )
    server.faults["CompleteUpload"].append(
        Fault(grpc.StatusCode.FAILED_PRECONDITION, "VARIANTS_MISSING", "not there", [detail])
    )
    store.script.append(200)  # says yes and stores nothing
    asset = await lane.upload(b"hello", file_path="a.txt")
    assert store.body(asset.asset_id) == b"hello"


async def test_an_upload_cancelled_elsewhere_ends_at_once(lane: Client, server: LaneServer, store: ObjectStore) -> None:
    """A caller who follows progress learns at once that somebody else gave the upload up."""
    store.stall = asyncio.Event()
    task = asyncio.create_task(lane.upload(b"hello", file_path="a.txt", on_progress=lambda _: None))
    async with asyncio.timeout(LIMIT_S):
        await store.reached.wait()
        await lane.cancel_upload(next(iter(server.uploads)))
        with pytest.raises(PreconditionFailed) as over:
            await task
    assert over.value.reason == "UPLOAD_CANCELLED"


async def test_a_call_is_repeated_while_the_server_is_unavailable(lane: Client, server: LaneServer) -> None:
    """UNAVAILABLE is waited out; the wait that the server asks for is kept."""
    server.faults["GetAsset"].extend(
        [Fault(grpc.StatusCode.UNAVAILABLE), Fault(grpc.StatusCode.UNAVAILABLE, retry_after=0.2)]
    )
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(NotFound) as missing:
        await lane.get_asset("A1")
    assert missing.value.reason == "ASSET_NOT_FOUND"
    assert loop.time() - began >= 0.2
    assert len(server.called("GetAsset")) == 3


async def test_a_server_that_is_too_busy_is_asked_again_when_it_says(lane: Client, server: LaneServer) -> None:
    """RESOURCE_EXHAUSTED with a wait is waited out; without one it is an answer, such as to too large a message."""
    full = grpc.StatusCode.RESOURCE_EXHAUSTED
    server.faults["GetAsset"].append(Fault(full, "TOO_MANY_CALLS", retry_after=0.01))
    with pytest.raises(NotFound):
        await lane.get_asset("A1")
    server.faults["GetAsset"].append(Fault(full))
    with pytest.raises(ResourceExhausted):
        await lane.get_asset("A1")
    assert len(server.called("GetAsset")) == 3


async def test_what_grpc_itself_refuses_is_tried_again_a_few_times(lane: Client, server: LaneServer) -> None:
    """A burst passes; metadata that is too large does not, and the client says so at last."""
    bare = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, is_bare=True)
    server.faults["GetAsset"].extend([bare] * 3)
    with pytest.raises(NotFound):
        await lane.get_asset("A1")
    assert len(server.called("GetAsset")) == 4
    server.faults["GetAsset"].extend([bare] * 9)
    with pytest.raises(ResourceExhausted) as refused:
        await lane.get_asset("A1")
    assert refused.value.reason == "RESOURCE_EXHAUSTED"
    assert len(server.called("GetAsset")) == 8


async def test_a_token_that_grpc_does_not_carry_is_refused_before_it_is_sent(server: LaneServer) -> None:
    """With its size. One that is only too large for the server is the server's to refuse, as another one may not."""
    async with Client(server.target, token="x" * 64 * 1024) as lane:
        with raises(Unauthenticated, reason="TOKEN_TOO_LARGE", limits=[65_536]):
            await lane.get_asset("A1")
        with pytest.raises(Unauthenticated):
            await anext(lane.watch_upload("U1"))
    assert server.metadata == []


async def test_a_call_that_a_stopping_server_cut_off_is_repeated(lane: Client, server: LaneServer) -> None:
    """CANCELLED without having been cancelled: the server's grace period was over."""
    server.faults["GetAsset"].append(Fault(grpc.StatusCode.CANCELLED))
    with pytest.raises(NotFound):
        await lane.get_asset("A1")
    assert len(server.called("GetAsset")) == 2


async def test_an_unreachable_server_is_unavailable_after_the_deadline() -> None:
    """With nobody listening it raises Unavailable, not waited for without end."""
    async with Client("127.0.0.1:1", call_timeout=0.3) as lane:
        with pytest.raises(Unavailable):
            await lane.get_asset("A1")


async def test_the_token_is_asked_for_each_call(server: LaneServer) -> None:
    """A token that changes is sent as it is at the time of the call."""
    tokens = iter(["one", "two"])

    async def token() -> str:
        return next(tokens)

    async with Client(server.target, token=token) as lane:
        for _ in range(2):
            with pytest.raises(NotFound):
                await lane.get_upload("U1")
    assert [sent["authorization"] for sent in server.metadata] == ["Bearer one", "Bearer two"]


async def test_lists_go_through_all_pages(lane: Client) -> None:
    """Five uploads on pages of two are five uploads."""
    for number in range(5):
        await lane.upload(b"hello", file_path=f"{number}.txt", partition="public")
    uploads = [upload.file_path async for upload in lane.list_uploads()]
    assert uploads == ["4.txt", "3.txt", "2.txt", "1.txt", "0.txt"]
    assert len([asset async for asset in lane.list_assets("public")]) == 5


async def test_a_download_url_is_refreshed_as_a_read_url_is(lane: Client, server: LaneServer) -> None:
    """It is the other URL of the same variant."""
    asset = await lane.upload(b"hello", file_path="a.txt", expiration_hours=1)
    assert await lane.download_url(asset) == asset.variants[0].download_url != asset.variants[0].read_url
    asset.expire_time.FromDatetime(datetime.now(UTC))
    assert await lane.download_url(asset) == asset.variants[0].download_url
    assert asset.expire_time.ToDatetime(UTC) > datetime.now(UTC)
    with pytest.raises(NotFound):
        await lane.download_url(asset, "small")


async def test_a_read_url_is_refreshed_when_it_is_about_to_expire(lane: Client, server: LaneServer) -> None:
    """A URL with time to live is given as it is; another after a refresh, which the asset then shows."""
    asset = await lane.upload(b"hello", file_path="a.txt")
    url = await lane.read_url(asset)
    assert url == asset.variants[0].read_url
    assert server.called("RefreshAsset") == []
    asset.expire_time.FromDatetime(datetime.now(UTC) + timedelta(seconds=30))
    await lane.read_url(asset)
    (refresh,) = server.called("RefreshAsset")
    assert refresh.if_expires_within.ToTimedelta() == timedelta(minutes=1)
    assert asset.expire_time.ToDatetime(UTC) > datetime.now(UTC) + timedelta(hours=23)
    with raises(NotFound, names=["original"]):
        await lane.read_url(asset, "small")


async def test_an_asset_is_downloaded_whole_across_a_lost_connection_and_a_refused_signature(
    lane: Client, server: LaneServer, store: ObjectStore, jpeg: bytes, tmp_path: Path
) -> None:
    """A download resumes where it broke, renews its URL, and appears checked under its name."""
    asset = await lane.upload(jpeg, file_path="a.jpg", cuts=False)
    store.seen.clear()
    store.script.extend([403])
    got = await lane.download(asset, to=tmp_path / "got.jpg")
    assert got.read_bytes() == jpeg
    store.script.extend(["pass", "half"])
    assert (await lane.download(asset, to=tmp_path / "again.jpg")).read_bytes() == jpeg
    assert ("Range", f"bytes={len(jpeg) // 2}-") in store.seen[-1].headers
    assert len(server.called("RefreshAsset")) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"again.jpg", "got.jpg"}  # noqa: ASYNC240


async def test_a_download_of_other_bytes_is_refused(lane: Client, store: ObjectStore, tmp_path: Path) -> None:
    """Bytes that the ledger does not know never get the file's name."""
    asset = await lane.upload(b"hello", file_path="a.txt")
    store.bodies[store.key(asset.asset_id)] = b"hallo"
    with pytest.raises(AssetlaneError) as refused:
        await lane.download(asset, to=tmp_path / "a.txt")
    assert refused.value.reason == "CONTENT_MISMATCH"
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240


async def test_a_download_replaces_what_a_link_points_to(lane: Client, tmp_path: Path) -> None:
    """The link stays, also one that points to nothing yet."""
    asset = await lane.upload(b"hello", file_path="a.txt")
    (tmp_path / "old.txt").write_bytes(b"old")
    for name, target in (("link", "old.txt"), ("dangling", "new.txt")):
        (tmp_path / name).symlink_to(target)
        assert await lane.download(asset, to=tmp_path / name) == tmp_path / name
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_bytes() == b"hello"
    assert len(list(tmp_path.iterdir())) == 4  # noqa: ASYNC240


async def test_a_download_is_written_to_a_pipe_or_a_device_and_never_put_in_its_place(
    lane: Client, tmp_path: Path
) -> None:
    """`-o /dev/null` as root must leave the device, and a pipe gets the bytes."""
    asset = await lane.upload(b"hello", file_path="a.txt")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = asyncio.create_task(asyncio.to_thread(pipe.read_bytes))
    async with asyncio.timeout(20):
        assert await lane.download(asset, to=pipe) == pipe
        assert await reading == b"hello"
    assert pipe.is_fifo()
    assert await lane.download(asset, to="/dev/null") == Path("/dev/null")
    assert await asyncio.to_thread(Path("/dev/null").is_char_device)
    with pytest.raises(OSError) as full:  # noqa: PT011 - errno says which
        await lane.download(asset, to="/dev/full")
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, "/dev/full")


async def test_a_download_to_a_folder_is_refused_before_a_byte_is_fetched(
    lane: Client, store: ObjectStore, tmp_path: Path
) -> None:
    """The error names the folder."""
    asset = await lane.upload(b"hello", file_path="a.txt")
    store.seen.clear()
    with pytest.raises(IsADirectoryError) as refused:
        await lane.download(asset, to=tmp_path)
    assert refused.value.filename == str(tmp_path)
    assert store.seen == []


async def test_many_assets_are_refreshed_in_batches(lane: Client, server: LaneServer) -> None:
    """One result for each id, however many; a missing asset does not spoil the others."""
    asset = await lane.upload(b"hello", file_path="a.txt")
    results = await lane.refresh_assets(["none", asset.asset_id, *["none"] * 149])
    assert len(results) == 151
    assert results[0].failure.reason == "ASSET_NOT_FOUND"
    assert results[1].asset == asset
    assert [len(request.asset_ids) for request in server.called("BatchRefreshAssets")] == [100, 51]


async def test_a_client_that_is_not_open_says_so() -> None:
    """Without `async with` it raises an error that says so."""
    with raises(ClientUnusable, reason="CLIENT_NOT_OPEN"):
        await Client().get_asset("A1")


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("assetlane", ["grpc", "aiohttp", "PIL", "google.protobuf"]),
        ("assetlane.cuts", ["grpc", "aiohttp", "asyncio", "google.protobuf", "assetlane.client"]),
        ("assetlane.transfer", ["grpc", "PIL"]),
        ("assetlane.watching", ["aiohttp", "PIL"]),
        ("assetlane.client", ["assetlane_server", "typer", "rich"]),
    ],
)
def test_modules_stay_apart(module: str, without: list[str]) -> None:
    """Each part loads only what it is about."""
    code = f"import sys, {module}; print([name for name in {without} if name in sys.modules])"
    path = {"PYTHONPATH": str(Path(__file__).parents[2] / "client")}
    out = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


async def test_a_deleted_asset_is_gone(lane: Client) -> None:
    """Deleting takes the asset out of the ledger."""
    asset = await lane.upload(b"hello", file_path="a.txt")
    await lane.delete_asset(asset.asset_id)
    with pytest.raises(NotFound):
        await lane.get_asset(asset.asset_id)


async def test_a_download_of_parts_is_proved_by_their_checksums(
    lane: Client, server: LaneServer, store: ObjectStore, tmp_path: Path
) -> None:
    """The SHA-256 over the parts' own, when the store reported it; other bytes are refused."""
    asset = await lane.upload(b"three parts", file_path="a.txt")
    (variant,) = asset.variants
    variant.part_size_bytes = 5
    sums = b"".join(hashlib.sha256(part).digest() for part in (b"three", b" part", b"s"))
    variant.sha256, variant.parts_sha256 = b"", hashlib.sha256(sums).digest()
    to = await lane.download(asset, to=tmp_path / "a.txt")
    assert await asyncio.to_thread(to.read_bytes) == b"three parts"
    variant.part_size_bytes = 4
    with pytest.raises(ContentMismatch):
        await lane.download(asset, to=tmp_path / "b.txt")
