"""What uploads take: `assetlane upload` and `Client.upload` beside boto3's transfer manager and rclone.

All of them to the same store in the same run.
"""

import asyncio
import os
import shutil
import sys
import sysconfig
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from assetlane_server.local import StackAddress
from bench.figures import Bound, Figure, Finding, Goal, Measure, Peer
from bench.processes import server_process
from bench.stores import NOTES, stores, variables
from bench.uploader import MIB, PART_BYTES, PARTS_AT_ONCE, THRESHOLD_BYTES

ROUNDS: Final = 3
LARGE_BYTES: Final = int(os.environ.get("BENCH_LARGE_MIB", "1024")) * MIB
SMALL_FILES: Final = 300
SMALL_BYTES: Final = 100_000
FILES_AT_ONCE: Final = 10
LIMIT_S: Final = 180.0
POLL_S: Final = 0.02
COMMAND: Final = "assetlane upload"
LIBRARY: Final = "Client.upload"
BOTO3: Final = "boto3"
BOTO3_SHA256: Final = "boto3 with SHA-256"
BARE: Final = "bare writes"
OURS: Final = (COMMAND, LIBRARY)
NOT_SLOWER: Final = Goal(Bound.AT_MOST, 1, Measure.RATIO)
TWICE_AT_MOST: Final = Goal(Bound.AT_MOST, 2, Measure.RATIO)
IN_150_MIB: Final = Goal(Bound.AT_MOST, 150)


@dataclass(frozen=True, slots=True)
class Run:
    """What one uploader took."""

    seconds: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Load:
    """Files to upload."""

    name: str
    folder: Path
    at_once: int
    goal: Goal  # of the command's time beside boto3's

    @property
    def files(self) -> list[str]:
        """Their paths."""
        return sorted(str(path) for path in self.folder.iterdir())


async def measure() -> Finding:
    """Runs each uploader in turn, round after round, on both loads."""
    rclone = shutil.which("rclone", path=sysconfig.get_path("scripts")) or shutil.which("rclone")
    with TemporaryDirectory(prefix="assetlane-bench-") as directory:
        loads = await asyncio.to_thread(_loads, Path(directory))
        figures: list[Figure] = []
        async with stores() as address, server_process(["assetlane_server", "serve"], variables(address, "up")) as ours:
            environment = {**_environment(address, ours.target), **variables(address, "bare")}
            for load in loads:
                commands = _commands(load, rclone, address)
                runs: defaultdict[str, list[Run]] = defaultdict(list)
                for _ in range(ROUNDS):
                    for name, command in commands.items():
                        runs[name].append(await _run(name, command, environment))
                figures += _figures(load, runs)
    notes = (
        (
            f"Parts of {PART_BYTES // MIB} MiB from {THRESHOLD_BYTES // MIB} MiB on, {PARTS_AT_ONCE} at a time;"
            f" {FILES_AT_ONCE} small files at a time. Medians of {ROUNDS} interleaved rounds."
        ),
        "Ours also writes the ledger: two durable writes and a HEAD for each file, which the peers do not have.",
        f"{BOTO3_SHA256}: sends with each part the checksum that our promise is proved by; by itself it sends a CRC32.",
        f"{BARE}: the same PUT, HEAD and two writes from one process, with no service and no change stream between.",
        f"Of {COMMAND} and rclone the whole process is timed, of the others what is between opened client and answer.",
        *(() if rclone else ("rclone is not installed: skipped.",)),
        *NOTES,
    )
    return Finding("Uploads, beside boto3's transfer manager and rclone", tuple(figures), notes)


def _loads(directory: Path) -> tuple[Load, Load]:
    large, small = directory / "large", directory / "small"
    large.mkdir()
    small.mkdir()
    with (large / "large.bin").open("wb") as file:
        for _ in range(LARGE_BYTES // MIB):
            file.write(os.urandom(MIB))
    for number in range(SMALL_FILES):
        (small / f"{number:03}.bin").write_bytes(os.urandom(SMALL_BYTES))
    return (
        Load(f"one file of {LARGE_BYTES // MIB:,} MiB", large, 1, NOT_SLOWER),
        Load(f"{SMALL_FILES} files of {SMALL_BYTES // 1000} KB", small, FILES_AT_ONCE, TWICE_AT_MOST),
    )


def _environment(address: StackAddress, target: str) -> Mapping[str, str]:
    ours = {
        "TARGET": target,
        "ENDPOINT": address.s3_endpoint,
        "REGION": address.s3_region,
        "BUCKET": address.s3_bucket,
        "KEY_ID": address.s3_access_key_id,
        "SECRET": address.s3_secret_access_key,
    }
    rclone = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": address.s3_endpoint,
        "REGION": address.s3_region,
        "ACCESS_KEY_ID": address.s3_access_key_id,
        "SECRET_ACCESS_KEY": address.s3_secret_access_key,
        "NO_CHECK_BUCKET": "true",
    }
    return {
        **os.environ,
        "ASSETLANE_TARGET": target,
        "ASSETLANE_UID": "bench",
        **{f"BENCH_{name}": value for name, value in ours.items()},
        **{f"RCLONE_CONFIG_BENCH_{name}": value for name, value in rclone.items()},
        "RCLONE_CONFIG": os.devnull,
    }


def _commands(load: Load, rclone: str | None, address: StackAddress) -> dict[str, list[str]]:
    commands = {
        COMMAND: [
            str(Path(sysconfig.get_path("scripts"), "assetlane")),
            "upload",
            "--no-cuts",
            "--jobs",
            str(load.at_once),
            *load.files,
        ],
        LIBRARY: [sys.executable, "-m", "bench.uploader", "assetlane", str(load.at_once), *load.files],
        BOTO3: [sys.executable, "-m", "bench.uploader", "boto3", str(load.at_once), *load.files],
    }
    if load.at_once == 1:
        commands[BOTO3_SHA256] = [sys.executable, "-m", "bench.uploader", "boto3-sha256", "1", *load.files]
    if load.at_once > 1:
        commands[BARE] = [sys.executable, "-m", "bench.uploader", "bare", str(load.at_once), *load.files]
    if rclone:
        commands["rclone"] = [
            *(rclone, "copy", str(load.folder), f"bench:{address.s3_bucket}/rclone", "--ignore-times"),
            *("--transfers", str(load.at_once), "--s3-upload-concurrency", str(PARTS_AT_ONCE)),
            *("--s3-chunk-size", f"{PART_BYTES // MIB}M", "--s3-upload-cutoff", f"{THRESHOLD_BYTES // MIB}M"),
        ]
    return commands


async def _run(name: str, command: Sequence[str], environment: Mapping[str, str]) -> Run:
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*command, env=dict(environment), stdout=asyncio.subprocess.PIPE)
    reading = asyncio.ensure_future(process.communicate())
    peak_mib = 0.0
    try:
        async with asyncio.timeout(LIMIT_S):
            while not (await asyncio.wait((reading,), timeout=POLL_S))[0]:
                peak_mib = max(peak_mib, _peak_mib(process.pid))
    except TimeoutError:
        process.kill()
        raise
    printed, _ = await reading
    seconds = time.perf_counter() - begun
    assert process.returncode == 0, f"{command[:4]} ended with {process.returncode}"
    return Run(seconds if name in (COMMAND, "rclone") else float(printed), peak_mib)


def _peak_mib(pid: int) -> float:
    """Returns the kernel's own account; of a process that has ended, nothing."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    _, _, rest = status.partition("VmHWM:")
    return int(rest.split()[0]) / 1024 if rest else 0.0


def _figures(load: Load, runs: Mapping[str, Sequence[Run]]) -> list[Figure]:
    seconds = {name: median(run.seconds for run in found) for name, found in runs.items()}
    peaks = {name: max(run.peak_mib for run in found) for name, found in runs.items()}
    peers = sorted((name for name in runs if name not in OURS), key=lambda name: (name != BOTO3, seconds[name]))
    figures = []
    for ours in OURS:
        for peer in peers:
            goal = load.goal if (ours, peer) == (COMMAND, BOTO3) else None
            figures.append(Figure(f"{load.name}: time of {ours}", seconds[ours], "s", Peer(peer, seconds[peer]), goal))
        goal = IN_150_MIB if ours == COMMAND else None
        figures.append(
            Figure(f"{load.name}: peak memory of {ours}", peaks[ours], "MiB", Peer(BOTO3, peaks[BOTO3]), goal)
        )
    return figures
