"""Every ordinary file goes in: everything in `tests/everyday.py`, by each way in, on real stores; prints the table."""

import asyncio
import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path

import aiohttp
import pytest
import yarl
from PIL import Image
from tests.commands import started
from tests.conftest import Figures
from tests.everyday import CASES, Everyday, everyday
from tests.journeys.conftest import Stubs
from tests.journeys.steps import put

from assetlane import Asset, Client, VariantPromise
from assetlane.v1.upload_pb2 import CutMaker, CutPlan
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest, RequestUploadRequest

LIMIT_S = 500.0
AT_A_TIME = 4

pytestmark = pytest.mark.timeout(LIMIT_S + 60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all of the files."""
    root = tmp_path / "everyday"
    root.mkdir()
    for file in everyday():
        (root / file.name).write_bytes(file.data)
    return root


def test_there_are_enough_of_them() -> None:
    """At least 60 types, each file under a name of its own, and every file that failed once."""
    names = [file.name for file in everyday()]
    assert len(names) == len(set(names))
    assert len({file.right for file in everyday()}) >= 60
    assert {path.name for path in CASES.iterdir()} - {"README.md"} <= set(names)


async def test_by_the_command_line(target: str, web: aiohttp.ClientSession, folder: Path, figures: Figures) -> None:
    """One command for the whole folder, cuts made by the client."""
    process = await started(target, "upload", folder, "--hidden", "--json", "--jobs", str(AT_A_TIME))
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate()
    errors = err.decode()
    assert "Traceback" not in errors
    assert f"{len(everyday())} uploaded, 0 failed" in errors, errors
    assert process.returncode == 0
    assets = {}
    for line in out.decode().splitlines():
        name = json.loads(line)["file_path"].removeprefix("everyday/")
        async with Client(target, uid="ann") as client:
            assets[name] = await client.get_asset(json.loads(line)["asset_id"])
    await check(web, assets, everyday(), figures, "assetlane upload FOLDER")


async def test_by_the_python_client(client: Client, web: aiohttp.ClientSession, folder: Path, figures: Figures) -> None:
    """`upload_many` of the folder, cuts made by the client."""
    assets = {}
    paths = [folder / file.name for file in everyday()]
    async with asyncio.timeout(LIMIT_S):
        async for outcome in client.upload_many(paths, concurrency=AT_A_TIME):
            asset = outcome.result()
            assets[asset.file_path] = asset
    await check(web, assets, everyday(), figures, "client.upload_many(…)")


async def test_by_the_bare_contract(stubs: Stubs, web: aiohttp.ClientSession, figures: Figures) -> None:
    """RequestUpload, PUT, CompleteUpload, as any language does it, nothing made beside."""
    whole = [Everyday(file.name, file.data, file.right) for file in everyday()]
    assets = await requested(stubs, web, whole, None)
    await check(web, assets, whole, figures, "RequestUpload, PUT, CompleteUpload")


async def test_with_cuts_by_the_server(stubs: Stubs, web: aiohttp.ClientSession, figures: Figures) -> None:
    """The pictures, with a plan; what has no cuts is stored without, and says why."""
    pictures = [file for file in everyday() if file.is_picture or file.name in ("trunc_2bytes.jpg", "empty.jpg")]
    assets = await requested(stubs, web, pictures, CutPlan(maker=CutMaker.CUT_MAKER_SERVER))
    await check(web, assets, pictures, figures, "RequestUpload with cut_plan")


async def requested(
    stubs: Stubs, web: aiohttp.ClientSession, files: Iterable[Everyday], plan: CutPlan | None
) -> dict[str, Asset]:
    """Returns the assets by name, made on bare stubs."""
    assets: dict[str, Asset] = {}
    turns = asyncio.Semaphore(AT_A_TIME)

    async def one(file: Everyday) -> None:
        promise = VariantPromise(
            name="original",
            content_type=file.right,
            size_bytes=len(file.data),
            sha256=hashlib.sha256(file.data).digest(),
        )
        request = RequestUploadRequest(uid="ann", file_path=file.name, variants=[promise], cut_plan=plan)
        async with turns:
            reply = await stubs.uploads.RequestUpload(request)
            assert await put(web, reply.write_targets[0], file.data) == 200, file.name
            done = await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=reply.upload.upload_id))
        assert done.HasField("asset"), f"{file.name}: {done.upload.failure.reason} {done.upload.failure.message}"
        assets[file.name] = done.asset

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
        for file in files:
            tasks.create_task(one(file))
    return assets


async def check(
    web: aiohttp.ClientSession, assets: dict[str, Asset], files: Iterable[Everyday], figures: Figures, way: str
) -> None:
    """Asserts that each file is stored as is right, and is served so; prints the table."""
    rows, wrong = [], []
    for file in files:
        asset = assets[file.name]
        original, *beside = asset.variants
        served = await read(web, original.read_url)
        names = tuple(variant.name for variant in beside)
        notices = [notice.reason for notice in asset.notices]
        rows.append(f"{file.name:<32} {original.content_type:<48.48} {' '.join((*names, *notices))}".rstrip())
        if (original.content_type, original.size_bytes) != (file.right, len(file.data)):
            wrong.append(f"{file.name}: stored as {original.content_type}, {file.right} is right")
        if served != (200, file.right, file.data):
            wrong.append(f"{file.name}: served as {served[:2]}, {file.right} is right")
        if sorted(names) != sorted(file.beside):
            wrong.append(f"{file.name}: has {names} beside it, {file.beside} is right, notices {notices}")
        if bool(notices) != file.has_notice:
            wrong.append(f"{file.name}: notices {notices}")
        if fault := await fault_in_cuts(web, file.name, asset):
            wrong.append(f"{file.name}: {fault}")
    figures("\n".join([f"{way}: {len(rows)} files", *rows]))
    assert not wrong, "\n".join(wrong)


async def fault_in_cuts(web: aiohttp.ClientSession, name: str, asset: Asset) -> str:
    """Returns how the small cut does not show what is to be seen, for files where that went wrong once."""
    small = next((variant for variant in asset.variants if variant.name == "small"), None)
    if small is None or name not in ("xmp_only_orient6.jpg", "orient6_two.jpg", "gray16_trns_bg.png",
                                     "frame_smaller2.gif"):  # fmt: skip
        return ""
    _, _, body = await read(web, small.read_url)
    with Image.open(io.BytesIO(body)) as image:
        if name.endswith(".jpg"):
            is_turned = image.height > image.width
            return "" if is_turned == (name == "orient6_two.jpg") else f"is {image.size}"
        return "" if image.convert("RGBA").getchannel("A").getextrema() == (0, 255) else "has no transparency"


async def read(web: aiohttp.ClientSession, url: str) -> tuple[int, str, bytes]:
    """Returns status, media type and body of what is behind a URL."""
    async with web.get(yarl.URL(url, encoded=True)) as response:
        return response.status, response.headers.get("Content-Type", ""), await response.read()
