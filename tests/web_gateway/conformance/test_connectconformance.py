"""The suite of the Connect project: its reference client calls our gateway in every way that we say we serve."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Figures

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
VERSION = "v1.0.7"
LIMIT_S = 600

pytestmark = [pytest.mark.languages, pytest.mark.timeout(2 * LIMIT_S)]


@pytest.fixture
def runner() -> Path:
    """The suite's program, built by Go once."""
    program = Path(sys.prefix) / "tools" / VERSION / "connectconformance"
    if not program.exists():
        go = shutil.which("go")
        if go is None:
            if os.environ.get("CI"):
                pytest.fail("Go is needed to build connectconformance")
            pytest.skip("Go is needed to build connectconformance")
        module = f"connectrpc.com/conformance/cmd/connectconformance@{VERSION}"
        environment = {**os.environ, "GOBIN": str(program.parent)}
        subprocess.run([go, "install", module], env=environment, check=True, timeout=LIMIT_S)
    return program


def test_the_suite_of_the_connect_project_passes(runner: Path, tmp_path: Path, figures: Figures) -> None:
    """No case is known to fail: a case that does fails this."""
    protos = sorted(str(path) for path in (HERE / "protos").rglob("*.proto"))
    generate = ["-m", "grpc_tools.protoc", "-I", str(HERE / "protos")]
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python")]
    subprocess.run([sys.executable, *generate, *outputs, *protos], check=True, timeout=LIMIT_S)
    server = [sys.executable, "-m", "tests.web_gateway.conformance.server", str(tmp_path)]
    options = ["--conf", str(HERE / "features.yaml"), "--mode", "server", "--parallel", "4", "--max-servers", "2"]
    path = os.pathsep.join(str(ROOT / folder) for folder in ("client", "server", ""))
    done = subprocess.run(
        [runner, *options, "--", *server], cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True,
        text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-8000:]
    counted = re.search(r"(\d+) passed, 0 failed", output)
    assert counted is not None, output[-2000:]
    assert int(counted[1]) >= 1000  # of 1,032 in v1.0.7: fewer would mean that features went missing
    figures(f"connectconformance {VERSION}: {counted[1]} cases passed, 0 failed")
