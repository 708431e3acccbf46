"""What a user gets: the wheel, with nothing beside it but what it asks for."""

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from assetlane.version import __version__, install_command

ROOT = Path(__file__).parent.parent
PACKAGES = {"assetlane": ROOT / "client", "assetlane_server": ROOT / "server"}
PROTOBUF_NEXT = Path(sys.prefix) / "protobuf-next"

REFUSE = """
import sys
from importlib.machinery import PathFinder

class Plain(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in REFUSED else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Plain
"""

IMPORT_ALL = """
import asyncio, importlib, pkgutil
import assetlane

for module in pkgutil.walk_packages(assetlane.__path__, "assetlane."):
    if not module.name.startswith("assetlane.cli"):
        importlib.import_module(module.name)
for name in assetlane.__all__:
    getattr(assetlane, name)

async def main():
    async with assetlane.Client("127.0.0.1:1", call_timeout=0.1) as client:
        try:
            await client.get_asset("missing")
        except assetlane.Unavailable:
            print(assetlane.__version__, assetlane.__file__)

asyncio.run(main())
"""

ROUND_TRIP = """
import importlib, pkgutil
import google.protobuf
import assetlane.v1
from assetlane.v1.upload_service_pb2 import RequestUploadRequest

for module in pkgutil.iter_modules(assetlane.v1.__path__, "assetlane.v1."):
    importlib.import_module(module.name)
sent = RequestUploadRequest(file_path="a/b.jpg", expiration_hours=0)
sent.variants.add(name="original", content_type="image/jpeg", size_bytes=5, sha256=bytes(32))
sent.details.extra.update({"stars": 5})
sent.details.duration.FromMilliseconds(1500)
assert RequestUploadRequest.FromString(sent.SerializeToString()) == sent
assert sent.HasField("expiration_hours")
print(google.protobuf.__version__)
"""

WITHOUT_EXTRAS = """
import asyncio
from datetime import timedelta
from assetlane import MediaRefused
from assetlane.cuts import make_cuts, readable
from assetlane.contents import read_contents
from assetlane.preview import make_preview

heic = (24).to_bytes(4) + b"ftypheic" + bytes(12)
video = (24).to_bytes(4) + b"ftypisom" + bytes(12)

def reason(call, *arguments):
    try:
        call(*arguments)
    except MediaRefused as error:
        return error.reason, str(error)

assert not readable("image/heic")
print(*reason(make_cuts, heic))
print(*reason(make_preview, video))

async def main():
    for content, name in (heic, "a.heic"), (video, "a.mp4"):
        contents = await read_contents(content, name, None, True, timedelta(seconds=1))
        assert len(contents.promises) == 1
        print(*(f"{notice.reason} {notice.message}" for notice in contents.notices))
        try:
            await read_contents(content, name, None, True, require_cuts=True)
        except MediaRefused as error:
            print(error.reason, error)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with what is here: no network."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = folder.iterdir()
    return wheel


def python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own that finds packages there first; every warning is an error."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "GRPC_VERBOSITY": "NONE"}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def plain(name: str) -> str:
    """Returns a distribution's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str) -> set[str]:
    """Returns the distributions that a plain `pip install` of this one brings, itself included."""
    found: set[str] = set()
    wanted = [name]
    while wanted:
        distribution = plain(wanted.pop())
        if distribution in found:
            continue
        found.add(distribution)
        for line in metadata.requires(distribution) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
    return found


@pytest.fixture(scope="module")
def bare() -> str:
    """Code that refuses every package here that a plain `pip install assetlane` does not bring."""
    brought = needed("assetlane")
    refused = {
        module
        for module, distributions in metadata.packages_distributions().items()
        if not brought & {plain(distribution) for distribution in distributions}
    } - set(sys.stdlib_module_names)
    assert {"motor", "pymongo", "boto3", "botocore", "pydantic", "typer", "rich", "uvloop", "grpc_health"} <= refused
    assert not {"grpc", "google", "aiohttp", "aiofiles", "PIL"} & refused
    return f"REFUSED = set({json.dumps(sorted(refused))})\n{REFUSE}"


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel: Path) -> None:
    """Every source, the typed stubs and their marks; no test, no bench, no cache."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = f"assetlane-{__version__}.dist-info/"
    stored = {name for name in names if not name.startswith(about)}
    sources = {
        path.relative_to(root).as_posix()
        for package, root in PACKAGES.items()
        for path in (root / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert stored == sources
    stubs = [f"assetlane/v1/upload_service_{ending}" for ending in ("pb2.py", "pb2.pyi", "pb2_grpc.py", "pb2_grpc.pyi")]
    assert {"assetlane/py.typed", "assetlane_server/py.typed", *stubs} <= stored
    assert {f"{about}licenses/LICENSE", f"{about}entry_points.txt"} <= names


def test_the_wheel_holds_the_page_of_the_gallery(wheel: Path) -> None:
    """As it is built, with every file that it names: running it needs no Node."""
    page = "assetlane_server/gallery/page/"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        named = re.findall(r'(?:src|href)="/([^"]+)"', archive.read(f"{page}index.html").decode())
    assert len(named) > 3
    assert {page + name for name in named} <= names


def test_the_client_needs_nothing_of_the_server(wheel: Path, bare: str) -> None:
    """Straight from the wheel, with only what it depends on: every module but the command, and a first call."""
    result = python(bare + IMPORT_ALL, wheel)
    assert result.returncode == 0, result.stderr
    version, place = result.stdout.split()
    assert version == __version__
    assert place.startswith(str(wheel))


def test_the_command_without_its_extra_says_what_to_install(wheel: Path, bare: str) -> None:
    """One line instead of a traceback."""
    result = python(f"{bare}from assetlane.cli import main; main()", wheel)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"assetlane: the command line is an extra, install it with: {install_command('cli')}"
    ]


def test_the_server_without_its_extra_says_what_to_install(wheel: Path, bare: str) -> None:
    """As the client's command does."""
    result = python(f"{bare}from assetlane_server.__main__ import main; main()", wheel)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"assetlane-server: the server is an extra, install it with: {install_command('server,local')}"
    ]


def test_videos_and_heic_without_their_extras_go_without_cuts_and_say_what_to_install(wheel: Path, bare: str) -> None:
    """A notice, or an error with the same reason where cuts are required; nothing on the terminal."""
    heif = f"HEIC pictures are read with an extra: {install_command('heif')}"
    video = f"videos get a preview with an extra: {install_command('video')}"
    result = python(bare + WITHOUT_EXTRAS, wheel)
    assert result.returncode == 0, result.stderr
    way_out = "upload it without them: --no-cuts on the command line, cuts=False in Python"
    assert result.stdout.splitlines() == [
        f"IMAGE_EXTRA_MISSING {heif}",
        f"VIDEO_EXTRA_MISSING {video}",
        f"IMAGE_EXTRA_MISSING Stored without cuts: {heif}.",
        f"IMAGE_EXTRA_MISSING {heif}; {way_out}",
        f"VIDEO_EXTRA_MISSING Stored without a preview: {video}.",
        f"VIDEO_EXTRA_MISSING {video}; {way_out}",
    ]
    assert result.stderr == ""


def test_the_stubs_work_with_the_protobuf_that_made_them(wheel: Path) -> None:
    """Every stub is imported without a warning, and a message survives the way there and back."""
    result = python(ROUND_TRIP, wheel)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("6.")


@pytest.mark.skipif(not PROTOBUF_NEXT.is_dir(), reason=f"no {PROTOBUF_NEXT.name} beside this Python: run `make setup`")
def test_the_stubs_work_with_the_next_major_of_protobuf(wheel: Path) -> None:
    """What the contract's Python users upgrade to next year."""
    result = python(ROUND_TRIP, wheel, PROTOBUF_NEXT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("7.")
