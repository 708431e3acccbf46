"""Brings one file in with nothing but the stubs and the standard library: `python -m examples.python.bare_stubs FILE`.

For a program that wants no asyncio, or as a pattern for another language. The stubs come with the wheel; from
`protos/` they are made by `python -m grpc_tools.protoc -I protos --python_out=. --grpc_python_out=. FILE…`.
"""

import argparse
import hashlib
import mimetypes
import os
import random
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status

from assetlane.v1.access_service_pb2 import CreateTokenRequest, ScopedToken
from assetlane.v1.access_service_pb2_grpc import AccessServiceStub
from assetlane.v1.asset_pb2 import Asset
from assetlane.v1.asset_service_pb2 import RefreshAssetRequest
from assetlane.v1.asset_service_pb2_grpc import AssetServiceStub
from assetlane.v1.upload_pb2 import CutMaker, CutPlan, PresignedRequest, UploadStatus, VariantPromise, WriteTarget
from assetlane.v1.upload_service_pb2 import (
    CompleteUploadRequest,
    RequestUploadRequest,
    StatusEvent,
    WatchUploadRequest,
)
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub

CALL_LIMIT_S: Final = 30.0
COMPLETE_LIMIT_S: Final = 120.0  # the server looks at every object, and may be making cuts
STORE_SILENCE_S: Final = 120.0
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
PUT_ATTEMPTS: Final = 5
PIECE_BYTES: Final = 1 << 16

Reply = TypeVar("Reply")


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A call that the server, or the way there, refused; read from the trailer `grpc-status-details-bin`."""

    def __init__(self, error: grpc.Call) -> None:
        self.code: grpc.StatusCode = error.code()
        self.reason = ""  # stable: match on this, never on the message; empty when no server answered
        self.fields: dict[str, str] = {}  # of INVALID_ARGUMENT: field to what is wrong with it
        self.subjects: list[str] = []  # of FAILED_PRECONDITION: of VARIANTS_MISSING the variants
        self.retry_after_s = 0.0  # how long the server asks to wait
        for name, value in error.trailing_metadata() or ():
            if name == "grpc-status-details-bin":
                self._read(Status.FromString(value))
        super().__init__(f"{self.code.name} ({self.reason}): {error.details()}")

    def _read(self, status: Status) -> None:
        info, bad, unmet, retry = ErrorInfo(), BadRequest(), PreconditionFailure(), RetryInfo()
        for detail in status.details:
            if detail.Unpack(info):
                self.reason = info.reason
            elif detail.Unpack(bad):
                self.fields = {violation.field: violation.description for violation in bad.field_violations}
            elif detail.Unpack(unmet):
                self.subjects = [violation.subject for violation in unmet.violations]
            elif detail.Unpack(retry):
                self.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()

    @property
    def is_temporary(self) -> bool:
        """Whether the same call may succeed later."""
        exhausted = self.code is grpc.StatusCode.RESOURCE_EXHAUSTED and self.retry_after_s > 0
        return self.code is grpc.StatusCode.UNAVAILABLE or exhausted


class StoreRefused(Exception):  # noqa: N818 - an answer, not a fault
    """What the store answered to a PUT or GET that it did not carry out. Never contains the URL, which is a secret."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"the store answered {status}")


class Client:
    """A connection to an Assetlane server, for many threads: keep one per process.

    The environment says where to and as whom: ASSETLANE_TARGET (127.0.0.1:50151), ASSETLANE_UID (ann),
    ASSETLANE_TOKEN (a bearer token), ASSETLANE_CA_FILE, a PEM file with the certificates to trust, which turns TLS on.
    """

    def __init__(self, token: str | None = None) -> None:
        """`token` takes the place of ASSETLANE_TOKEN: the scoped token that a back end has made for a device."""
        target = os.environ.get("ASSETLANE_TARGET", "127.0.0.1:50151")
        # Notices a server that is gone without a word. The server allows a ping every ten seconds.
        options = (("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000))
        ca, token = os.environ.get("ASSETLANE_CA_FILE"), token or os.environ.get("ASSETLANE_TOKEN")
        self._channel = (
            grpc.secure_channel(target, grpc.ssl_channel_credentials(Path(ca).read_bytes()), options)
            if ca
            else grpc.insecure_channel(target, options)
        )
        # Without TLS the token travels in the clear: for loopback only.
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self.uid = os.environ.get("ASSETLANE_UID", "ann")
        self.uploads = UploadServiceStub(self._channel)
        self.assets = AssetServiceStub(self._channel)
        self.access = AccessServiceStub(self._channel)

    def close(self) -> None:
        """Closes the connection, and ends what goes on on it."""
        self._channel.close()

    def call(self, rpc: Callable[..., Reply], request: object, limit_s: float = CALL_LIMIT_S) -> Reply:
        """Makes a call, and makes it again while the server is unavailable or busy, until the limit is over.

        Every RPC of Assetlane is safe to repeat. Raises Refusal.
        """
        end = time.monotonic() + limit_s
        failures = 0
        while True:
            try:
                return rpc(request, timeout=max(0.001, end - time.monotonic()), metadata=self._metadata)
            except grpc.RpcError as error:
                refusal = Refusal(_call_of(error))
            pause = pause_after(failures, refusal.retry_after_s)
            failures += 1
            if not refusal.is_temporary or time.monotonic() + pause >= end:
                raise refusal
            time.sleep(pause)

    def create_token(self, request: CreateTokenRequest) -> ScopedToken:
        """Makes a scoped token for a device: for one upload, or for a user's partitions.

        Only a service caller of the server's policy makes tokens. A new upload brings one along: `issue_token` of its
        request. Raises Refusal.
        """
        return self.call(self.access.CreateToken, request).token

    def watch(self, upload_id: str, after_revision: int = 0) -> Iterator[StatusEvent]:
        """Yields every status change after a revision, once and in order, and ends after the final one.

        Goes on by itself when the connection or the server is lost: the last revision delivered is all it takes.
        Raises Refusal.
        """
        failures = 0
        while True:
            request = WatchUploadRequest(upload_id=upload_id, after_revision=after_revision)
            # No deadline: heartbeats and keepalive notice a peer that is gone.
            stream = self.uploads.WatchUpload(request, metadata=self._metadata)
            try:
                for event in stream:
                    if event.WhichOneof("event") != "status":
                        continue  # heartbeats, progress and kinds of a later server are not for us
                    after_revision = event.status.upload.revision
                    failures = 0
                    yield event.status
            except grpc.RpcError as error:
                refusal = Refusal(_call_of(error))
            else:
                return
            finally:
                stream.cancel()  # a reader may stop early
            if not refusal.is_temporary:
                raise refusal
            time.sleep(pause_after(failures, refusal.retry_after_s))
            failures += 1


def pause_after(failures: int, at_least_s: float = 0.0) -> float:
    """Returns the seconds to wait: what the server asked for, and a random time on top that grows with failures.

    So callers who were sent away together do not come back together.
    """
    return at_least_s + random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures, 10)))  # noqa: S311


def put(target: PresignedRequest, path: Path) -> None:
    """Sends a file exactly as it was signed, and again when the store or the way there is at fault.

    Raises StoreRefused, or OSError when the store cannot be reached.
    """
    for failures in range(PUT_ATTEMPTS):
        fault: Exception
        try:
            with path.open("rb") as body:
                # The URL goes as it is: do not take it apart and put it together again. content-length is among
                # the headers, so the file is streamed with it.
                request = urllib.request.Request(  # noqa: S310 - the server's URL
                    target.url, data=body, headers=dict(target.headers), method=target.method
                )
                _opened(request).close()
                return
        except StoreRefused as error:
            if error.status == 412:
                return  # an earlier try arrived after all; CompleteUpload proves that it is the right object
            if error.status < 500 and error.status not in (408, 409, 429):
                raise
            fault = error
        except OSError as error:
            fault = error
        if failures + 1 < PUT_ATTEMPTS:
            time.sleep(pause_after(failures))
    raise fault


def read(url: str) -> tuple[int, bytes]:
    """Returns the length and the SHA-256 of what stands behind a read URL. Raises StoreRefused."""
    with _opened(urllib.request.Request(url)) as body:  # noqa: S310 - the server's URL
        return digested(body)


def promise(path: Path, content_type: str) -> VariantPromise:
    """Describes a file as RequestUpload wants it: the store will refuse any other bytes."""
    with path.open("rb") as file:
        size, sha256 = digested(file)
    return VariantPromise(name="original", content_type=content_type, size_bytes=size, sha256=sha256)


def digested(file: IO[bytes]) -> tuple[int, bytes]:
    """Returns the length and the SHA-256 of what is left to read."""
    digest, size = hashlib.sha256(), 0
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
        size += len(piece)
    return size, digest.digest()


def _opened(request: urllib.request.Request) -> IO[bytes]:
    try:
        answer: IO[bytes] = urllib.request.urlopen(request, timeout=STORE_SILENCE_S)  # noqa: S310 - as above
    except urllib.error.HTTPError as error:
        error.close()
        raise StoreRefused(error.code) from None
    return answer


def _call_of(error: grpc.RpcError) -> Any:
    """Returns the call in the error: grpcio raises objects that are both, and its types do not say so."""
    return error


def bring_in(client: Client, path: Path) -> Asset:
    """Takes a file through the whole life of an upload. Raises Refusal, StoreRefused, RuntimeError when it failed."""
    guessed, compression = mimetypes.guess_type(path.name)
    # Of `data.csv.gz` this would be the type of what is inside: a compressed file is not that.
    content_type = guessed if guessed and not compression else "application/octet-stream"
    request = RequestUploadRequest(
        request_id=uuid.uuid4().hex,  # makes the call safe to repeat; keep it to go on after a crash
        uid=client.uid,
        file_path=f"examples/python/{path.name}",
        variants=[promise(path, content_type)],
        cut_plan=CutPlan(maker=CutMaker.CUT_MAKER_SERVER) if content_type.startswith("image/") else None,
    )
    reply = client.call(client.uploads.RequestUpload, request)
    upload_id = reply.upload.upload_id

    def watch() -> None:
        for event in client.watch(upload_id):
            print(event.upload.revision, UploadStatus.Name(event.upload.status))

    # A watch beside the work: here it only prints. A web page would follow it from another process.
    with ThreadPoolExecutor(1) as beside:
        watching = beside.submit(watch)
        try:
            for target in reply.write_targets:
                _put_or_renew(client, request, target, path)
            complete = CompleteUploadRequest(upload_id=upload_id)
            completed = client.call(client.uploads.CompleteUpload, complete, COMPLETE_LIMIT_S)
            watching.result()
        except BaseException:
            client.close()  # ends the watch, for which the pool would wait
            raise
    if not completed.HasField("asset"):  # a failed upload is data, not a failed call
        raise RuntimeError(f"the upload failed: {completed.upload.failure.message}")
    return completed.asset


def _put_or_renew(client: Client, request: RequestUploadRequest, target: WriteTarget, path: Path) -> None:
    """Sends the file, once more with a fresh signature when the first ran out meanwhile."""
    try:
        put(_single(target), path)
    except StoreRefused as error:
        if error.status != 403:
            raise
        # The same request id: the same upload, with new signatures.
        for fresh in client.call(client.uploads.RequestUpload, request).write_targets:
            if fresh.variant == target.variant:
                put(_single(fresh), path)
                return
        raise


def _single(target: WriteTarget) -> PresignedRequest:
    if not target.HasField("single_put"):
        raise RuntimeError(f"{target.variant} is too large for this example: it does not send parts")
    return target.single_put


def main(path: Path) -> None:
    """Brings a file in, reads every variant back, and renews the read URLs."""
    client = Client()
    try:
        asset = bring_in(client, path)
        for variant in asset.variants:
            size, sha256 = read(variant.read_url)
            if variant.sha256 and variant.sha256 != sha256:
                raise RuntimeError(f"{variant.name} came back as other bytes")
            pixels = f"{variant.width_px} x {variant.height_px}"
            print(f"  {variant.name:<9} {variant.content_type}, {pixels}, {size} bytes, read back")
        # Read URLs run out. A refresh gives new ones, for everybody.
        refreshed = client.call(client.assets.RefreshAsset, RefreshAssetRequest(asset_id=asset.asset_id)).asset
        print(f"asset {asset.asset_id} reads until {refreshed.expire_time.ToDatetime().isoformat()}Z")
    finally:
        client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    try:
        main(parser.parse_args().file)
    except (Refusal, StoreRefused, RuntimeError, OSError) as error:
        raise SystemExit(str(error)) from None
