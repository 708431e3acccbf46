"""Sets up `.venv` from a pinned list: `python3 requirements/install.py VENV run|dev|video|bench`.

Needs nothing but Python 3.11 with its own venv and pip. pip fetches the wheel of uv, whose hash is checked, and uv
installs the rest, whose hashes are checked too; where uv cannot be had, pip installs it all, which takes longer.
Both live in a folder of their own that is removed again: they take 60 MB and are needed for a few seconds.
"""

from __future__ import annotations  # else an older Python could not even say that it is too old

import ast
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LISTS = Path(__file__).parent
ROOT = LISTS.parent
WHAT = {
    "run": "the server, the command, and the embedded MongoDB and S3",
    "dev": "the server, the embedded stores and the development tools",
    "video": "PyAV, which looks into videos",
    "bench": "the peers that the benchmark compares with",
}
NEWS_SECONDS = 10.0  # silence after which a step says that it is still at work
# What pip's settings are called for uv, which does not read them.
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}


class InstallError(Exception):
    """A step of the set-up failed; the message says which, and what to do."""


def main(venv: Path, what: str) -> None:
    """Makes the environment if there is none, and installs what the list of that name pins."""
    began = time.monotonic()
    python = _environment(venv)
    pins = LISTS / f"{what}.txt"
    count = sum(line[:1].isalnum() for line in pins.read_text().splitlines())
    _say(f"Installing {WHAT[what]}: {count} packages at most, each checked against its hash")
    installer = _Installer(python, venv / "installer")
    try:
        if what == "dev" and subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True).returncode:
            subprocess.run([str(python), "-m", "ensurepip"], capture_output=True, check=True)  # the Makefile calls it
        installer.install("--require-hashes", "-r", str(pins))
        if what == "dev":
            # The other major of protobuf that the stubs support, beside the environment: only a test imports it.
            target = venv / "protobuf-next"
            shutil.rmtree(target, ignore_errors=True)
            next_major = str(LISTS / "protobuf-next.txt")
            installer.install("--require-hashes", "--no-deps", "--target", str(target), "-r", next_major)
        if what in ("run", "dev"):
            installer.install("--no-build-isolation", "--no-deps", "--editable", str(ROOT))
    finally:
        installer.close()
    _say(f"Done in {time.monotonic() - began:.0f} s")


def _environment(venv: Path) -> Path:
    """Returns the Python of the environment, made if need be."""
    python = venv / "bin" / "python"
    if python.exists():
        return python
    _say(f"Making an environment for Python {sys.version.split()[0]} in {venv}/")
    _make_venv(venv, "--without-pip")
    return python


def _make_venv(folder: Path, *options: str) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", *options, str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        said = made.stdout + made.stderr
        hint = "On Debian and Ubuntu: apt install python3-venv" if "ensurepip" in said else ""
        raise InstallError(f"python3 -m venv failed. {hint}\n{said}".strip())


class _Installer:
    """uv, or pip where uv cannot be had."""

    def __init__(self, python: Path, home: Path) -> None:
        self._python = python
        self._home = home
        self._uv: Path | None = None
        _make_venv(home)
        self._pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        fetch = ["install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        fetched = subprocess.run(
            [*self._pip, *fetch, "-r", str(LISTS / "uv.txt")], capture_output=True, text=True, check=False
        )
        if fetched.returncode:
            why = (fetched.stderr.strip() or "pip failed").splitlines()[-1]
            _say(f"uv cannot be had here, so pip installs, which takes longer ({why})")
        else:
            self._uv = home / "bin" / "uv"

    def install(self, *arguments: str) -> None:
        """Installs into the environment. Raises InstallError with the tool's own words."""
        if self._uv is not None:
            environment = {**os.environ, **self._settings()}
            words = [str(self._uv), "pip", "install", "--quiet", "--python", str(self._python), *arguments]
            failure = _ran(words, environment)
            if failure is None:
                return
            _say(f"uv failed, so pip tries, which takes longer:\n{failure}")
            self._uv = None
        failure = _ran([*self._pip, "--python", str(self._python), "install", "--quiet", *arguments], os.environ)
        if failure is not None:
            raise InstallError(
                f"pip could not install the packages. Is the package registry reachable from here?\n{failure}"
            )

    def close(self) -> None:
        """Removes both."""
        shutil.rmtree(self._home, ignore_errors=True)

    def _settings(self) -> dict[str, str]:
        """Returns pip's settings of where packages come from, as uv reads them. What is set for uv stays."""
        asked = subprocess.run([*self._pip, "config", "list"], capture_output=True, text=True, check=False)
        found: dict[str, str] = {}
        for line in asked.stdout.splitlines():
            key, _, value = line.partition("=")
            name = UV_NAMES.get(key.rpartition(".")[2])
            if name is not None and name not in os.environ:
                separator = "," if name == "UV_FIND_LINKS" else " "
                found[name] = separator.join(str(ast.literal_eval(value)).split())
        return found


def _ran(words: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Runs a command, saying from time to time that it is at work. Returns what it said when it failed."""
    with _news():
        ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return None if ran.returncode == 0 else (ran.stdout + ran.stderr).strip()


@contextmanager
def _news() -> Iterator[None]:
    done = threading.Event()
    began = time.monotonic()

    def report() -> None:
        while not done.wait(NEWS_SECONDS):
            _say(f"  still installing, {time.monotonic() - began:.0f} s")

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _say(line: str) -> None:
    print(f"set-up: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - that is the message
        raise SystemExit(
            f"Assetlane needs Python 3.11 or newer, this is {sys.version.split()[0]}. "
            "Name another one: make PYTHON=python3.12 run"
        )
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except InstallError as error:
        raise SystemExit(f"set-up failed: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("set-up: interrupted; the same command goes on") from None
