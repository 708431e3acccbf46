"""An earlier version of the server, run from its commit beside today's."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).parent.parent
COMMITS: Final = Path(__file__).with_name("versions.txt")


def commit_of(version: str) -> str:
    """Returns the commit that `versions.txt` names for a version. Raises LookupError for an unknown version."""
    for line in COMMITS.read_text().splitlines():
        name, _, commit = line.partition(" ")
        if name == version:
            return commit
    raise LookupError(f"bench/versions.txt has no version {version}")


@contextmanager
def checked_out(version: str) -> Iterator[str]:
    """Lends a PYTHONPATH with that version's server and client.

    Raises RuntimeError where the commit is missing, as in a shallow clone.
    """
    commit = commit_of(version)
    command = ("git", "-C", str(ROOT), "archive", "--format=tar", commit, "server", "client")
    archive = subprocess.run(command, capture_output=True)
    if archive.returncode:
        raise RuntimeError(f"commit {commit[:12]} of version {version} is not in this clone: fetch the whole history")
    with TemporaryDirectory(prefix="assetlane-bench-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        yield f"{folder}/server:{folder}/client"
