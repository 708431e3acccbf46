"""Runs the contract tests and the journeys on the MongoDB and the store that the environment names: `make test-real`.

Wants ASSETLANE_MONGO_URI, ASSETLANE_S3_ENDPOINT, ASSETLANE_S3_REGION, ASSETLANE_S3_ACCESS_KEY_ID,
ASSETLANE_S3_SECRET_ACCESS_KEY and ASSETLANE_S3_BUCKET; takes ASSETLANE_ACCEPT_OVERWRITES and
ASSETLANE_ACCEPT_UNSIGNED_HEADERS. Makes databases `assetlane_test_…` and keys below `test-…/` and `contract/`.

Writes a report that can be sent to others: versions, outcomes and times, and no name, address, key or message.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from tests.shared_stack import ENVIRONMENT, address_from_environment

from assetlane.version import __version__
from assetlane_server.composition.app import object_store, set_up_bucket, utc_now
from assetlane_server.config.settings import PREFIX, Settings, settings_from
from assetlane_server.objects.probe import probe_store
from assetlane_server.objects.wire import open_wire

ROOT = Path(__file__).parents[2]
TESTS = ("tests/contracts", "tests/journeys")
_LIMIT = timedelta(seconds=30)
# Where a test failed, as pytest ends its account: the message stands elsewhere and may hold anything.
_PLACE = re.compile(r"^((?:tests|server|client)/\S+\.py:\d+): (\w+)$", flags=re.MULTILINE)


async def facts_of(settings: Settings) -> dict[str, Any]:
    """Returns what both servers say of themselves, and what the store was seen to do."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(settings.mongo_uri.get_secret_value())
    try:
        build = await client.admin.command("buildInfo")
        hello = await client.admin.command("hello")
    finally:
        client.close()
    kind = "replica set" if "setName" in hello else "standalone"
    if hello.get("msg") == "isdbgrid":
        kind = "sharded cluster"
    steps = await set_up_bucket(settings.model_copy(update={"key_prefix": "test-*/"}))
    async with object_store(settings) as store, open_wire(_LIMIT) as wire:
        server = (await wire.ask("GET", f"{store.connection.endpoint}/")).headers.get("server", "")
        began = time.monotonic()
        capabilities = await probe_store(store, "test-probe/", utc_now)
        probe_s = time.monotonic() - began
    return {
        "mongodb": {"version": str(build["version"]), "kind": kind},
        "store": {
            "server": server[:80],
            "probe_seconds": round(probe_s, 2),
            "capabilities": asdict(capabilities),
            "weaknesses": [weakness.name for weakness in capabilities.weaknesses()],
            "setup": {step.name: str(step.outcome) for step in steps},
        },
    }


def outcomes_in(junit: str) -> list[dict[str, Any]]:
    """Returns each test of a JUnit report: where, how it ended, how long it took; of a failure its place and kind."""
    found = []
    for case in ET.fromstring(junit).iter("testcase"):  # noqa: S314 - written by our own pytest
        entry: dict[str, Any] = {
            "test": f"{case.get('classname', '')}.{function_of(case.get('name', ''))}",
            "outcome": "passed",
            "seconds": round(float(case.get("time", "0")), 2),
        }
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                entry["outcome"] = {"failure": "failed"}.get(child.tag, child.tag)
                if places := _PLACE.findall(child.text or ""):
                    entry["place"], entry["kind"] = places[-1]
        found.append(entry)
    return found


def function_of(name: str) -> str:
    """Returns a test's name with its parameters, but for those that hold an address."""
    return re.sub(r"\[[^\]]*://.*\]", "[…]", name)[:200]


def report_of(facts: dict[str, Any], tests: Iterable[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Returns the whole report."""
    tests = list(tests)
    return {
        "assetlane": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(seconds),
        **facts,
        "outcomes": dict(Counter(test["outcome"] for test in tests)),
        "tests": tests,
    }


def main() -> None:
    """Ends with pytest's status."""
    parser = argparse.ArgumentParser(prog="python -m tests.stores.real", description=__doc__)
    parser.add_argument("--report", type=Path, default=ROOT / "test-real-report.json", help="where the report goes")
    own, arguments = parser.parse_known_args()
    try:
        address = address_from_environment()
    except ValueError as error:
        parser.error(str(error))
    if address is None:
        parser.error(f"name your servers with {', '.join(ENVIRONMENT.values())}")
    asked = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    facts = asyncio.run(facts_of(settings_from(asked)))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder, "junit.xml")
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={junit}", *(arguments or TESTS)]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        tests = outcomes_in(junit.read_text()) if junit.exists() else []
    report = report_of(facts, tests, time.monotonic() - began)
    own.report.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(f"{own.report}: {report['outcomes']}; it names no address, bucket, key or message")
    sys.exit(status)


if __name__ == "__main__":
    main()
