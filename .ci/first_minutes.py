"""Measures what a newcomer waits for: `make demo` and `make run` in a fresh clone, with empty package caches.

Only Python and make are on the PATH, besides sh and the two tools that the Makefile calls. Prints each figure beside
its limit. Ends with 1 when a command fails or the environment is too large; a time over its limit is printed alone,
since a machine may be busy.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOOLS = ("make", "sh", "touch", "rm")
KEPT = re.compile(r"(PIP|UV|SSL|REQUESTS)_|.*_proxy$|.*_PROXY$")  # how the package registry is reached
LIMIT_S = 600.0
FIRST_ASSET_S, FIRST_PHOTO_S, WARM_S = 60.0, 120.0, 1.0
PLAIN_MB, WITH_VIDEO_MB = 430, 560


class FailedError(Exception):
    """A command did not do what a newcomer expects."""


class Figures:
    """What was measured, and whether it is within its limits."""

    def __init__(self) -> None:
        self.is_sound = True

    def add(self, what: str, value: float, limit: float, unit: str, *, binding: bool) -> None:
        """Prints a figure beside its limit."""
        is_within = value <= limit
        self.is_sound = self.is_sound and (is_within or not binding)
        verdict = "ok" if is_within else "OVER"
        print(f"first minutes: {what:<44} {value:>7.1f} {unit:<3} (limit {limit:g} {unit}) {verdict}", flush=True)


def measure(folder: Path, figures: Figures) -> None:
    """Runs both commands of the README in a clone in that folder."""
    clone = folder / "assetlane"
    environment = bare_environment(folder)
    began = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    clone_s = time.monotonic() - began
    # What the first command does first, whichever it is: it is made once, and counts for both.
    began = time.monotonic()
    with running(["make", "--silent", ".venv/.run-ready"], clone, environment) as set_up:
        for line in lines(set_up):
            print(f"  {time.monotonic() - began:5.1f} s  {line}", flush=True)
        if set_up.wait():
            raise FailedError(f"the set-up ended with {set_up.returncode}")
    set_up_s = time.monotonic() - began
    with running(["make", "demo"], clone, environment) as demo:
        for line in lines(demo):
            print(f"  {time.monotonic() - began:5.1f} s  {line}", flush=True)
            if re.search(r"\basset [0-9a-z]{26}$", line):
                break
        else:
            raise FailedError("make demo ended without an asset")
        figures.add("first asset after", time.monotonic() - began, FIRST_ASSET_S, "s", binding=False)
        figures.add("environment without video", megabytes(clone / ".venv"), PLAIN_MB, "MB", binding=True)
        last = [line for line in lines(demo) if line.strip()][-1]
        if demo.wait():
            raise FailedError(f"make demo ended with {demo.returncode}")
    figures.add("environment with video", megabytes(clone / ".venv"), WITH_VIDEO_MB, "MB", binding=True)
    began = time.monotonic()
    subprocess.run(["make", "--silent", ".venv/.run-ready"], cwd=clone, env=environment, check=True)
    figures.add("a warm target adds", time.monotonic() - began, WARM_S, "s", binding=False)

    if last != "make run":
        raise FailedError(f"the demo's last line is not the next command: {last!r}")
    environment["ASSETLANE_LISTEN"] = "127.0.0.1:0"  # the usual port may be somebody else's here
    began = time.monotonic()
    with running(shlex.split(last), clone, environment) as server:
        command = url = ""
        for line in lines(server):
            print(f"  {line}", flush=True)
            if match := re.fullmatch(r"  gallery  (http://\S+)", line):
                url = match[1]
            if ".venv/bin/assetlane " in line:
                command = line
                break
        pasted = subprocess.run(["sh", "-c", command], cwd=clone, env=environment, capture_output=True, text=True)
        if not command or pasted.returncode:
            raise FailedError(
                f"the server's last line does not work as pasted: {command!r}\n{pasted.stdout}{pasted.stderr}"
            )
        print(f"  {pasted.stdout.strip()}")
        if add_first_photo(url):
            seconds = clone_s + set_up_s + time.monotonic() - began
            figures.add("first photo in the gallery after", seconds, FIRST_PHOTO_S, "s", binding=False)
        os.killpg(server.pid, signal.SIGINT)  # as a terminal does: make alone would wait for its child
        server.wait(60)


def add_first_photo(url: str) -> bool:
    """Returns whether a photo is in the gallery at this address; False where there is no browser to add it with."""
    python = ROOT / ".venv" / "bin" / "python"
    if not (shutil.which("chromium") and python.exists()):
        if os.environ.get("CI"):
            raise FailedError("the gallery was not opened: it takes Chromium and `make setup`")
        print("  the gallery was not opened: it takes Chromium and `make setup`")
        return False
    command = [str(python), "-m", "tests.gallery.first_photo", url, "examples/dusk.jpg"]
    opened = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if opened.returncode:
        raise FailedError(f"no photo came into the gallery at {url!r}:\n{opened.stderr[-2000:]}")
    return True


def bare_environment(folder: Path) -> dict[str, str]:
    """Returns an environment with empty caches and next to nothing on the PATH."""
    path, home = folder / "bin", folder / "home"
    path.mkdir()
    home.mkdir()
    (path / "python3").symlink_to(Path(sys.executable).resolve())
    for tool in TOOLS:
        (path / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    kept = {
        name: value
        for name, value in os.environ.items()
        if KEPT.match(name) and not name.endswith(("CACHE_DIR", "ENV"))
    }
    return {**kept, "PATH": str(path), "HOME": str(home), "LANG": "C.UTF-8"}


@contextmanager
def running(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Runs a command whose output is read line by line, for ten minutes at most."""
    process = subprocess.Popen(
        words, cwd=folder, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    limit = threading.Timer(LIMIT_S, os.killpg, (process.pid, signal.SIGKILL))
    limit.start()
    try:
        yield process
    finally:
        limit.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yields what a process prints."""
    if process.stdout is not None:
        for line in process.stdout:
            yield line.rstrip("\n")


def megabytes(folder: Path) -> float:
    """Returns what a folder takes on the disk, as `du -sm` counts; a file with two names counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            found = os.lstat(Path(place, name))
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                total += found.st_blocks * 512
    return total / 2**20


if __name__ == "__main__":
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="assetlane-first-") as name:
        try:
            measure(Path(name), figures)
        except FailedError as error:
            raise SystemExit(f"first minutes: {error}") from None
    raise SystemExit(0 if figures.is_sound else 1)
