"""One uploader under measurement, a process of its own: `python -m bench.uploader assetlane|boto3|bare AT_ONCE FILE…`.

Prints the seconds from the first upload's start to the last one's end; what it connects to is in the environment.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from bench.load import each

MIB: Final = 1024**2
PART_BYTES: Final = 16 * MIB
THRESHOLD_BYTES: Final = 64 * MIB
PARTS_AT_ONCE: Final = 4


async def assetlane(files: Sequence[str], at_once: int) -> float:
    """Uploads with `Client.upload`, so many files at a time."""
    from assetlane import Client  # not both clients in one process: their memory is measured

    async with Client(os.environ["BENCH_TARGET"], uid="bench") as client:

        async def upload(file: str) -> None:
            await client.upload(file, cuts=False)

        return await _seconds(files, at_once, upload)


def boto3(files: Sequence[str], at_once: int, checksum: str = "") -> float:
    """Uploads with boto3's transfer manager, so many files at a time; `checksum` is S3's name of one to send along."""
    import boto3  # as above
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=os.environ["BENCH_ENDPOINT"],
        region_name=os.environ["BENCH_REGION"],
        aws_access_key_id=os.environ["BENCH_KEY_ID"],
        aws_secret_access_key=os.environ["BENCH_SECRET"],
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=at_once * PARTS_AT_ONCE),
    )
    options = TransferConfig(
        multipart_threshold=THRESHOLD_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=PARTS_AT_ONCE
    )
    bucket, prefix = os.environ["BENCH_BUCKET"], f"boto3/{time.time_ns()}"

    def upload(file: str) -> None:
        extra = {"ChecksumAlgorithm": checksum} if checksum else {}
        client.upload_file(file, bucket, f"{prefix}/{Path(file).name}", ExtraArgs=extra, Config=options)

    begun = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(upload, files))
    return time.perf_counter() - begun


async def bare(files: Sequence[str], at_once: int) -> float:
    """The floor: our PUT, HEAD and two durable writes by our own code, with no service and no watch between."""
    import aiohttp  # as above
    import yarl

    from assetlane_server.composition.app import new_id, object_store, utc_now
    from assetlane_server.config.settings import settings_from
    from assetlane_server.model.admission import Terms, UploadRequest, admit
    from assetlane_server.model.asset import asset_of
    from assetlane_server.model.upload import VariantPromise
    from assetlane_server.records.mongo import MongoRecords

    settings, terms = settings_from(), Terms()
    limit = timedelta(seconds=10)
    async with (
        MongoRecords.open(
            settings.mongo_uri.get_secret_value(), settings.mongo_database, call_timeout=limit
        ) as records,
        object_store(settings) as store,
        aiohttp.ClientSession() as web,
    ):

        async def upload(file: str) -> None:
            data, now = await asyncio.to_thread(Path(file).read_bytes), utc_now()
            promise = VariantPromise("original", "application/octet-stream", len(data), sha256(data).digest())
            request = UploadRequest(uid="bench", file_path=Path(file).name, variants=(promise,))
            known = admit(request, terms, new_id(), now).initialized(now, terms.write_url_lifetime)
            await records.insert_upload(known)
            way = store.presign_put(known.variants[0], now, terms.write_url_lifetime)
            url = yarl.URL(way.url, encoded=True)
            async with web.put(url, data=data, headers=dict(way.headers)) as answer:
                assert answer.status == 200
            proof = await store.head(known.variants[0].key)
            assert proof is not None
            asset = asset_of(known, [proof], utc_now())
            done = known.uploaded(utc_now()).completed(utc_now(), asset)
            assert await records.advance_upload(done, after_revision=known.revision)

        return await _seconds(files, at_once, upload)


async def _seconds(files: Sequence[str], at_once: int, upload: Callable[[str], Awaitable[None]]) -> float:
    begun = time.perf_counter()
    await each(files, at_once, upload)
    return time.perf_counter() - begun


def main() -> None:
    """Uploads and returns how long it took."""
    name, at_once, *files = sys.argv[1:]
    match name:
        case "assetlane":
            seconds = asyncio.run(assetlane(files, int(at_once)))
        case "boto3":
            seconds = boto3(files, int(at_once))
        case "boto3-sha256":
            seconds = boto3(files, int(at_once), "SHA256")
        case "bare":
            seconds = asyncio.run(bare(files, int(at_once)))
        case _:
            raise ValueError(name)
    sys.stdout.write(f"{seconds}\n")


if __name__ == "__main__":
    main()
