"""Writes the typed stubs of the contract into `client/assetlane/v1`; `--check` only compares.

Run with the interpreter that has grpcio-tools and mypy-protobuf: `make proto`, `make check`.
"""

import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
STUBS = ROOT / "client" / "assetlane" / "v1"


def generate(out: Path) -> None:
    """Writes the stubs below `out`, messages, services and the types of both."""
    bin_dir = Path(sys.executable).parent
    command = [
        sys.executable, "-m", "grpc_tools.protoc", "-I", "protos",
        f"--plugin=protoc-gen-mypy={bin_dir / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={bin_dir / 'protoc-gen-mypy_grpc'}",
        *(f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("protos/assetlane/v1/*.proto")),
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def write() -> int:
    """Replaces the committed stubs."""
    for stale in STUBS.glob("*_pb2*"):
        stale.unlink()
    generate(ROOT / "client")
    return 0


def check() -> int:
    """Prints every file that differs from what the contract says; returns 1 if there is one."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder) / "assetlane" / "v1"
        names = {path.name for path in (*fresh.iterdir(), *STUBS.glob("*_pb2*"))}
        _, changed, missing = filecmp.cmpfiles(fresh, STUBS, names, shallow=False)
    for name in sorted({*changed, *missing}):
        sys.stderr.write(f"{name} is not what protos/ say: run `make proto` and commit\n")
    return 1 if changed or missing else 0


if __name__ == "__main__":
    sys.exit(check() if "--check" in sys.argv else write())
