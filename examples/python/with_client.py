"""Brings one file in with the thin client, which does all the rest: `python -m examples.python.with_client FILE`."""

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

import grpc

from assetlane import AssetlaneError, Client, Progress

EXAMPLE_LIMIT_S = 300.0


async def main(path: Path) -> None:
    """Uploads with cuts by the server, prints what happens, reads everything back, and renews the read URLs."""
    ca = os.environ.get("ASSETLANE_CA_FILE")
    client = Client(
        os.environ.get("ASSETLANE_TARGET", "127.0.0.1:50151"),
        uid=os.environ.get("ASSETLANE_UID", "ann"),
        token=os.environ.get("ASSETLANE_TOKEN"),
        credentials=grpc.ssl_channel_credentials(await asyncio.to_thread(Path(ca).read_bytes)) if ca else None,
    )
    async with asyncio.timeout(EXAMPLE_LIMIT_S), client:
        # Hashes, requests, PUTs, completes; repeats what may be repeated. A `request_id` of your own goes on after
        # a crash; `cut_maker="client"`, the default, makes the cuts here.
        asset = await client.upload(
            path, file_path=f"examples/python/{path.name}", cut_maker="server", on_progress=print_status
        )
        with tempfile.TemporaryDirectory() as folder:
            for variant in asset.variants:
                await client.download(asset, variant.name, to=Path(folder) / variant.name)  # checks size and SHA-256
                pixels = f"{variant.width_px} x {variant.height_px}"
                print(f"  {variant.name:<9} {variant.content_type}, {pixels}, {variant.size_bytes} bytes, read back")
        refreshed = await client.refresh_asset(asset.asset_id)
        print(f"asset {asset.asset_id} reads until {refreshed.expire_time.ToDatetime().isoformat()}Z")


def print_status(progress: Progress) -> None:
    """Prints each new status, and the bytes sent of each variant."""
    if not progress.variant:
        print(progress.status_name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    try:
        asyncio.run(main(parser.parse_args().file))
    except AssetlaneError as error:
        raise SystemExit(f"{error.reason}: {error}") from None
