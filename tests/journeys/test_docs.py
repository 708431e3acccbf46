"""The shell lines and programs of docs/, run as they are written."""

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
from examples.picture import photograph

from assetlane import Client
from assetlane_server.config.settings import Settings

pytestmark = pytest.mark.timeout(180)

LIMIT_S = 120.0
DOCS = Path(__file__).parents[2] / "docs"
# Lines that need more than a server: run in test_devices.py, in test_readme.py, and in conformance/test_languages.py.
ELSEWHERE = ("devices.md", "authorization.md", "languages.md")
PAGES = [
    page
    for page in sorted(DOCS.glob("*.md"))
    if page.name not in ELSEWHERE and re.search(r"^```sh$", page.read_text(), flags=re.MULTILINE)
]


def blocks(page: Path, language: str) -> list[str]:
    """Returns a page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def environment(settings: Settings, target: str) -> dict[str, str]:
    """Returns where the commands are found, and the server and the stores for them."""
    names = ("mongo_uri", "mongo_database", "s3_endpoint", "s3_region", "s3_bucket", "key_prefix")
    secrets = ("mongo_uri", "s3_access_key_id", "s3_secret_access_key")
    given = {name: str(getattr(settings, name)) for name in names}
    given |= {name: getattr(settings, name).get_secret_value() for name in secrets}
    return {
        **os.environ,
        **{f"ASSETLANE_{name.upper()}": value for name, value in given.items()},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ASSETLANE_TARGET": target,
        "NO_COLOR": "1",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_the_shell_lines_of_a_page_run(page: Path, settings: Settings, target: str, tmp_path: Path) -> None:
    """One after the other, and all of them succeed."""
    script = "set -eux -o pipefail\n" + "".join(blocks(page, "sh"))
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, cwd=tmp_path, env=environment(settings, target), stdout=PIPE, stderr=STDOUT
    )
    async with asyncio.timeout(LIMIT_S):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def test_assets_of_cosync_are_brought_over_once(target: str, tmp_path: Path) -> None:
    """Two users' assets, one of them public; run again, nothing comes in twice; what is missing is reported."""
    (program,) = blocks(DOCS / "from-cosync.md", "python")
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "beach.jpg").write_bytes(photograph(800, 600))
    (tmp_path / "notes.txt").write_text("hello")
    old = [
        {
            "_id": "1",
            "uid": "ann",
            "_partition": "user/ann",
            "path": "ann/beach.jpg",
            "title": "Beach",
            "color": "#aabbcc",
        },
        {"_id": "2", "uid": "bob", "_partition": "public", "path": "notes.txt", "expirationHours": 0, "extra": "x"},
        {"_id": "3", "uid": "bob", "_partition": "user/bob", "path": "gone.txt", "expirationHours": 1000},
    ]
    (tmp_path / "export.jsonl").write_text("\n".join(map(json.dumps, old)))
    program = program.replace("127.0.0.1:50151", target)
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, "export.jsonl", str(tmp_path), cwd=tmp_path, stdout=PIPE, stderr=PIPE
        )
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate()
        assert process.returncode == 1
        assert [line.split()[::2] for line in out.decode().splitlines()] == [["1", "4"], ["2", "1"]]
        assert err.decode().startswith("3: ")
    async with Client(target) as client:
        (beach,) = [asset async for asset in client.list_assets("user/ann")]
        (notes,) = [asset async for asset in client.list_assets("public")]
    assert (beach.uid, beach.details.title, beach.expiration_hours) == ("ann", "Beach", 24)
    assert (notes.uid, notes.details.extra["cosync_extra"], notes.expiration_hours) == ("bob", "x", 0)


async def test_a_folder_is_uploaded_as_the_page_of_the_client_shows(target: str, tmp_path: Path) -> None:
    """Every file's outcome is one line; one that fails does not end the others, and the exit code says so."""
    (program,) = blocks(DOCS / "python.md", "python")
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "beach.jpg").write_bytes(photograph(800, 600))
    (folder / "gone.txt").symlink_to(folder / "nowhere.txt")
    (folder / "notes.txt").write_text("day one")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program.replace("127.0.0.1:50151", target), str(folder), stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate()
    assert process.returncode == 1
    assert sorted(Path(line.split()[0]).name for line in out.decode().splitlines()) == ["beach.jpg", "notes.txt"]
    assert [Path(line.split()[0]).name for line in err.decode().splitlines()] == ["gone.txt"]
    async with Client(target, uid="ann") as client:
        titles = {asset.details.title async for asset in client.list_assets("user/ann")}
    assert titles >= {"beach", "notes"}
