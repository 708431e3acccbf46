"""What fault tests share: stores of their own, a seed that can be replayed, a report at the end of the run."""

import random
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.servers import prepare_bucket

from assetlane_server.config.settings import settings_from
from assetlane_server.local import EmbeddedStack

reports_key: Final = pytest.StashKey[list[str]]()

Report = Callable[[str], None]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the closing reports of this run's fault tests."""
    for report in config.stash.get(reports_key, []):
        terminalreporter.section("fault report")
        terminalreporter.write_line(report)


@pytest.fixture
def report(pytestconfig: pytest.Config) -> Report:
    """Keeps a text for the end of the run, where it is printed whatever the outcome."""
    return pytestconfig.stash.setdefault(reports_key, []).append


@pytest.fixture
def seed(pytestconfig: pytest.Config, report: Report, request: pytest.FixtureRequest) -> int:
    """The seed of this test: `--seed` or a random one. It is printed at the end of the run."""
    given: int | None = pytestconfig.getoption("--seed")
    seed = random.SystemRandom().randrange(10**9) if given is None else given
    report(f"{request.node.name}: seed {seed} (again: make test-faults SEED={seed})")
    return seed


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory that is gone after the test."""
    with tempfile.TemporaryDirectory(prefix="assetlane-faults-") as name:
        yield Path(name)


@pytest.fixture
async def own_stack(directory: Path) -> AsyncIterator[EmbeddedStack]:
    """Stores of the test's own, with failpoints and a bucket that is set up."""
    stack = EmbeddedStack(directory / "stack", test_commands=True)
    await stack.start()
    try:
        address = stack.address
        await prepare_bucket(
            settings_from(
                {},
                mongo_uri=address.mongo_uri,
                s3_endpoint=address.s3_endpoint,
                s3_region=address.s3_region,
                s3_bucket=address.s3_bucket,
                s3_access_key_id=address.s3_access_key_id,
                s3_secret_access_key=address.s3_secret_access_key,
            )
        )
        yield stack
    finally:
        await stack.kill()
