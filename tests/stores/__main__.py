"""Runs the contract tests and the journeys on stores of other makers: `make test-stores`.

`python -m tests.stores versitygw minio -- tests/contracts -x` runs some of the tests on some of the stores.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.servers import EVERY_TEST
from tests.stores.servers import STORES, OtherStore, StoreMissing, running

from assetlane_server.composition.app import set_up_bucket
from assetlane_server.config.settings import PREFIX, settings_from
from assetlane_server.local import EmbeddedStack
from assetlane_server.local.ports import claim_block

ROOT = Path(__file__).parents[2]
TESTS = ("tests/contracts", "tests/journeys")
BUCKET = "assetlane-tests"
LIMIT_S = 1500  # of one store


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the tests went on one store."""

    store: str
    result: str
    seconds: float = 0
    is_failure: bool = False


async def tested(store: OtherStore, arguments: list[str]) -> Outcome:
    """Runs the tests on one store, with the embedded MongoDB."""
    began = time.monotonic()
    try:
        program = await asyncio.to_thread(store.install, store)
    except StoreMissing as missing:
        return Outcome(store.name, f"skipped: {missing}")
    installed_s = time.monotonic() - began
    ports = claim_block()
    try:
        with tempfile.TemporaryDirectory(prefix="assetlane-stores-", ignore_cleanup_errors=True) as folder:
            place = Path(folder)
            stack = EmbeddedStack(place / "stack", test_commands=True)
            try:
                await stack.start()
                with running(store, program, place, ports.s3) as address:
                    variables = {
                        "ASSETLANE_MONGO_URI": stack.address.mongo_uri,
                        "ASSETLANE_S3_ENDPOINT": address.endpoint,
                        "ASSETLANE_S3_REGION": address.region,
                        "ASSETLANE_S3_ACCESS_KEY_ID": address.key_id,
                        "ASSETLANE_S3_SECRET_ACCESS_KEY": address.secret,
                        "ASSETLANE_S3_BUCKET": BUCKET,
                        **store.settings,
                    }
                    for step in await set_up_bucket(settings_from(variables), allow_public_policy=True):
                        print(f"{store.name}  setup  {step.name}: {step.outcome}", flush=True)
                    # No server starts where not everybody can read the public prefix.
                    tests = settings_from({**variables, "ASSETLANE_KEY_PREFIX": EVERY_TEST})
                    await set_up_bucket(tests, allow_public_policy=True)
                    return await run(store, variables, arguments, installed_s)
            finally:
                await stack.kill()
    finally:
        ports.release()


async def run(store: OtherStore, variables: dict[str, str], arguments: list[str], installed_s: float) -> Outcome:
    """Runs pytest in a process of its own, which ends with this one."""
    own = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "AWS_"))}
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--store", store.name, *arguments]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={**own, **variables})
    try:
        async with asyncio.timeout(LIMIT_S):
            status = await process.wait()
    except TimeoutError:
        return Outcome(store.name, f"did not end within {LIMIT_S} s", LIMIT_S, is_failure=True)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    seconds = time.monotonic() - began
    result = "passed" if status == 0 else f"failed (pytest ended with {status})"
    return Outcome(store.name, f"{store.version}: {result}; installed in {installed_s:.0f} s", seconds, status != 0)


def main() -> None:
    """Runs them one after the other; the status is 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.stores", description=__doc__)
    parser.add_argument("stores", nargs="*", metavar="STORE", help=f"{', '.join(STORES)}; all if none is named")
    own, _, arguments = (list(part) for part in partitioned(sys.argv[1:]))
    names = parser.parse_args(own).stores or list(STORES)
    if unknown := set(names) - STORES.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(STORES)}")
    outcomes = [asyncio.run(tested(STORES[name], arguments or list(TESTS))) for name in names]
    print()
    for outcome in outcomes:
        print(f"{outcome.store:<12} {outcome.result}, tests {outcome.seconds:.0f} s")
    sys.exit(any(outcome.is_failure for outcome in outcomes))


def partitioned(words: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Returns what stands before and after `--`."""
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place : place + 1], words[place + 1 :]


main()
