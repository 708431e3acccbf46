"""The simulation itself: it is deterministic, it finds what is wrong, and it says what happened."""

import os
import subprocess
import sys

import pytest
from tests.simulation import schedules
from tests.simulation.auditor import Auditor
from tests.simulation.schedules import run, run_some, trace_of

from assetlane_server.model.upload import Status, Upload
from assetlane_server.uploads import access
from assetlane_server.uploads.uploads import Uploads

SCHEDULES = 60


def test_some_schedules_hold() -> None:
    """`make test-simulation` runs 30,000."""
    summary = run_some(range(SCHEDULES))
    assert summary.failing == {}
    assert len(summary.hashes) == SCHEDULES


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_schedule_is_the_same_each_time_and_in_every_process(seed: int) -> None:
    """Whatever order the process gives to hashes of texts."""
    result = run(seed)
    assert (result.failure, result.order_hash, result.steps) == (None, run(seed).order_hash, run(seed).steps)
    script = f"from tests.simulation.schedules import run; result = run({seed}); print(result.order_hash, result.steps)"
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        printed = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        ).stdout
        assert printed.split() == [str(result.order_hash), str(result.steps)]


@pytest.fixture
def careless_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that shows every upload to everybody."""

    async def get_upload(self: Uploads, upload_id: str, _access: object) -> Upload:
        return await access.owned_upload(self._uploads, upload_id, access.UNRESTRICTED)

    monkeypatch.setattr(Uploads, "get_upload", get_upload)


@pytest.mark.usefixtures("careless_server")
@pytest.mark.timeout(600)
def test_a_failing_schedule_is_shrunk_and_can_be_replayed() -> None:
    """By its number, and by the token that is printed with its story."""
    summary = run_some(range(500))
    (seed,) = summary.failing
    message, trace = trace_of(str(seed))
    assert "a stranger was sent" in message
    token = trace.rpartition("SEED=")[2]
    assert token.startswith("dt1-")
    assert sum(value != 0 for value in schedules.choices_of(token)) < len(run(int(seed)).values) / 2
    assert trace_of(token)[0] == message


@pytest.mark.timeout(600)
def test_a_shrunk_schedule_breaks_the_same_invariant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plainer schedule that breaks another one is no explanation."""
    real = Auditor.acknowledged

    def acknowledged(self: Auditor, upload: Upload) -> None:
        self.check(upload.status is not Status.COMPLETED, "an upload is COMPLETED")
        self.check(upload.status is not Status.INITIALIZED or self._clock() < 1.0, "an upload is INITIALIZED late")
        real(self, upload)

    monkeypatch.setattr(Auditor, "acknowledged", acknowledged)
    found: dict[str, int] = {}
    for seed in range(100):
        failure = run(seed).failure
        if failure is not None:
            found.setdefault(failure.message.partition("violated: ")[2], seed)
    assert set(found) == {"an upload is COMPLETED", "an upload is INITIALIZED late"}
    for invariant, seed in found.items():
        assert trace_of(str(seed))[0].endswith(invariant)
