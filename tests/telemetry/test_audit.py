"""The audit log: durable before it is answered, whole lines, and a call that fails rather than go unrecorded."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from tests.log_events import logged

from assetlane_server.model.errors import AuditUnavailable
from assetlane_server.telemetry.audit import AuditLog

LIMIT_S = 60.0


def records(path: Path) -> list[dict[str, object]]:
    """Returns what a file holds; a broken line fails."""
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_what_returned_is_in_the_file(tmp_path: Path) -> None:
    """In the order of one caller, whatever others write."""
    path = tmp_path / "audit.jsonl"
    log, other = AuditLog(path, is_required=True), AuditLog(path, is_required=True)

    async def writes(one: AuditLog, name: str) -> None:
        for number in range(50):
            await one.write([{"name": name, "number": number, "text": "ü\n" * 50}, {"name": name, "number": -1}])

    await asyncio.gather(*(writes(one, f"{at}{n}") for at, one in enumerate((log, other)) for n in range(8)))
    found = records(path)
    assert len(found) == 16 * 100
    for name in {record["name"] for record in found}:
        numbers = [record["number"] for record in found if record["name"] == name and record["number"] != -1]
        assert numbers == list(range(50))
    assert path.stat().st_mode & 0o077 == 0
    await log.aclose()
    await other.aclose()


async def test_a_file_that_was_moved_away_is_opened_again(tmp_path: Path) -> None:
    """As logrotate does, without notice."""
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, is_required=True)
    await log.write([{"n": 1}])
    path.rename(tmp_path / "audit.1")
    await log.write([{"n": 2}])
    assert (records(tmp_path / "audit.1"), records(path)) == ([{"n": 1}], [{"n": 2}])
    await log.aclose()


@pytest.mark.parametrize("is_required", [True, False])
async def test_what_cannot_be_written_fails_where_that_is_wanted(
    tmp_path: Path, is_required: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged once; once the disk has room again, so have calls."""
    folder = tmp_path / "missing"
    log = AuditLog(folder / "audit.jsonl", is_required=is_required)
    for _ in range(3):
        if is_required:
            with pytest.raises(AuditUnavailable):
                await log.write([{"n": 1}])
        else:
            await log.write([{"n": 1}])
    assert len(logged(caplog, "AUDIT_UNWRITABLE")) == 1
    folder.mkdir()
    await log.write([{"n": 2}])
    assert records(folder / "audit.jsonl") == [{"n": 2}]
    await log.aclose()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
async def test_a_full_disk_refuses_calls(tmp_path: Path) -> None:
    """Whatever had room of the line."""
    (tmp_path / "audit.jsonl").symlink_to("/dev/full")
    log = AuditLog(tmp_path / "audit.jsonl", is_required=True)
    with pytest.raises(AuditUnavailable):
        await log.write([{"n": 1}])
    await log.aclose()


async def test_a_caller_that_hangs_up_takes_nothing_back(tmp_path: Path) -> None:
    """Its record is written all the same, and so are those of others."""
    log = AuditLog(tmp_path / "audit.jsonl", is_required=True)
    gone = asyncio.create_task(log.write([{"n": 1}]))
    await asyncio.sleep(0)
    gone.cancel()
    await log.write([{"n": 2}])
    assert [record["n"] for record in records(tmp_path / "audit.jsonl")] == [1, 2]
    await log.aclose()


WRITER = """
import asyncio, sys
from pathlib import Path
from assetlane_server.telemetry.audit import AuditLog

async def main():
    log = AuditLog(Path(sys.argv[1]), is_required=True)
    async def handing_out(name):
        for number in range(10**9):
            await log.write([{"name": name, "number": number}])
            print(name, number, flush=True)
    await asyncio.gather(*(handing_out(name) for name in range(8)))

asyncio.run(main())
"""


async def test_everything_that_was_handed_out_is_in_it_after_kill_9(tmp_path: Path) -> None:
    """Whenever that comes."""
    path = tmp_path / "audit.jsonl"
    for round_number in range(3):
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE
        )
        assert writer.stdout is not None
        handed_out: list[list[bytes]] = []
        async with asyncio.timeout(LIMIT_S):
            while len(handed_out) < 200 * (round_number + 1):
                handed_out.append((await writer.stdout.readline()).split())
            writer.send_signal(signal.SIGKILL)
            handed_out += [line.split() for line in (await writer.stdout.read()).splitlines()]
            await writer.wait()
        whole = [line for line in path.read_bytes().split(b"\n")[:-1] if line]
        written = {(record["name"], record["number"]) for record in map(json.loads, whole)}
        assert {(int(line[0]), int(line[1])) for line in handed_out if len(line) == 2} <= written
        path.unlink()
