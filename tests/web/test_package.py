"""The npm packages: generated code is that of the contract, two builds are identical, no registry is named."""

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

import pytest
from tests.web.conftest import WEB

ROOT: Final = WEB.parent
PACKAGES: Final = ("client", "uppy")
IGNORED: Final = shutil.ignore_patterns("node_modules", "dist", "dist-*")
LIMIT_S: Final = 300.0

pytestmark = [pytest.mark.web, pytest.mark.timeout(2 * LIMIT_S)]


def run(*command: str, cwd: Path) -> str:
    """Returns what a command wrote. It must succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    """Returns every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_generated_code_is_that_of_the_contract(tmp_path: Path) -> None:
    """`make web-proto` writes it again."""
    client = WEB / "client"
    run(str(ROOT / ".venv" / "bin" / "buf"), "generate", "-o", str(tmp_path), cwd=client)
    assert contents(tmp_path / "src" / "gen") == contents(client / "src" / "gen")


def test_two_builds_are_identical(tmp_path: Path) -> None:
    """The packed archives, byte for byte, from two copies of the sources."""
    digests = []
    for copy in (tmp_path / "one", tmp_path / "a longer way to the other"):
        shutil.copytree(WEB, copy / "web", ignore=IGNORED)
        (copy / "web" / "node_modules").mkdir()
        for one in (WEB / "node_modules").iterdir():
            if one.name != "@assetlane":
                (copy / "web" / "node_modules" / one.name).symlink_to(one)
        (copy / "web" / "node_modules" / "@assetlane").mkdir()
        (copy / "web" / "node_modules" / "@assetlane" / "client").symlink_to(copy / "web" / "client")
        for package in PACKAGES:
            run("npm", "run", "--silent", "build", cwd=copy / "web" / package)
            run("npm", "pack", "--silent", "--pack-destination", str(copy), cwd=copy / "web" / package)
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in copy.glob("*.tgz")})
    assert digests[0] == digests[1]
    assert len(digests[0]) == len(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_holds_what_it_says(package: str, tmp_path: Path) -> None:
    """Code, types and README; every file that `exports` names; nothing of the tests."""
    archive = run("npm", "pack", "--silent", "--pack-destination", str(tmp_path), cwd=WEB / package).strip()
    with tarfile.open(tmp_path / archive) as packed:
        names = {name.removeprefix("package/") for name in packed.getnames()}
    manifest = json.loads((WEB / package / "package.json").read_text())
    assert {"README.md", "package.json", *(value[2:] for value in manifest["exports"]["."].values())} <= names
    assert all(name.startswith("dist/") or name in {"README.md", "package.json"} for name in names)


def test_the_lock_file_names_no_registry() -> None:
    """`npm install --omit-lockfile-registry-resolved` leaves it out; every package has its checksum."""
    lock = json.loads((WEB / "package-lock.json").read_text())
    for name, package in lock["packages"].items():
        assert not re.match(r"https?:", package.get("resolved", "")), name
        if name.startswith("node_modules/") and not package.get("link"):
            assert package["integrity"].startswith("sha512-"), name
