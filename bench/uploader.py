"""One uploader under measurement, a process of its own: `python -m bench.uploader assetlane|boto3 AT_ONCE FILE…`.

Prints the seconds from the first upload's start to the last one's end; what it connects to is in the environment.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

MIB: Final = 1024**2
PART_BYTES: Final = 16 * MIB
THRESHOLD_BYTES: Final = 64 * MIB
PARTS_AT_ONCE: Final = 4


async def assetlane(files: Sequence[str], at_once: int) -> float:
    """Uploads with `lane.upload`, so many files at a time."""
    from assetlane import Client  # not both clients in one process: their memory is measured

    turn = asyncio.Semaphore(at_once)
    async with Client(os.environ["BENCH_TARGET"], uid="bench") as lane:

        async def upload(file: str) -> None:
            async with turn:
                await lane.upload(file, cuts=False)

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for file in files:
                tasks.create_task(upload(file))
        return time.perf_counter() - begun


def boto3(files: Sequence[str], at_once: int) -> float:
    """Uploads with boto3's transfer manager, so many files at a time."""
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
        client.upload_file(file, bucket, f"{prefix}/{Path(file).name}", Config=options)

    begun = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(upload, files))
    return time.perf_counter() - begun


def main() -> None:
    """Uploads and tells how long it took."""
    name, at_once, *files = sys.argv[1:]
    seconds = asyncio.run(assetlane(files, int(at_once))) if name == "assetlane" else boto3(files, int(at_once))
    sys.stdout.write(f"{seconds}\n")


if __name__ == "__main__":
    main()
