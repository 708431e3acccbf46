"""Fixtures of all tests: one stack per run, a database name and a key prefix per test.

`ASSETLANE_MONGO_URI`, `ASSETLANE_S3_ENDPOINT` and their kin point the same tests at real servers.
"""

import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Final

import hypothesis
import pytest
from tests.leaks import LogSearch
from tests.shared_stack import AddressServer, AddressSource, SharedStack, address_from_environment
from tests.stores.differences import difference

from assetlane_server.local import StackAddress

WORKER_KEY: Final = "assetlane_door"
shared_stack_key: Final = pytest.StashKey[SharedStack]()
door_keeper_key: Final = pytest.StashKey[AddressServer]()
log_search_key: Final = pytest.StashKey[LogSearch]()
lines_key: Final = pytest.StashKey[int]()


FIGURES: Final = "figures"
LINES: Final = "log_lines"

Figures = Callable[[str], None]

# No property test depends on the speed of the machine: neither an example nor the making of one has a deadline.
hypothesis.settings.register_profile(
    "assetlane", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("assetlane")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--seed`, which replays the plan of a chaos test, and `--store`, which names whose store is tested."""
    parser.addoption("--store", default="", help="name of the store, for what it is known to do otherwise")
    parser.addoption("--seed", type=int, help="seed of the chaos tests (default: a new one each run)")


def pytest_configure(config: pytest.Config) -> None:
    """Prepares the shared stack in the process that owns the run; nothing starts yet. Every line logged is searched."""
    if not hasattr(config, "workerinput"):
        config.stash[shared_stack_key] = SharedStack()
    search = config.stash[log_search_key] = LogSearch()
    logging.getLogger().addHandler(search)
    for name in ("assetlane", "assetlane_server"):
        logging.getLogger(name).setLevel(logging.DEBUG)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Gives each xdist worker the address of the stack."""
    stash = node.config.stash
    if door_keeper_key not in stash:
        stash[door_keeper_key] = AddressServer(stash[shared_stack_key])
    node.workerinput[WORKER_KEY] = asdict(stash[door_keeper_key].source)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the shared stack and removes its data."""
    if (keeper := config.stash.get(door_keeper_key, None)) is not None:
        keeper.close()
    if (stack := config.stash.get(shared_stack_key, None)) is not None:
        stack.close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Prints how many lines were searched for secrets, from xdist's workers too."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output[LINES] = session.config.stash[log_search_key].count


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Adds up what the workers have reported."""
    stash = node.config.stash
    stash[lines_key] = stash.get(lines_key, 0) + getattr(node, "workeroutput", {}).get(LINES, 0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Expects the tests to fail that ask what this store is known to do otherwise."""
    for item in items:
        if reason := difference(config.getoption("--store"), item.nodeid):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(autouse=True)
def _no_secret_is_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test during which a signed URL, a token or a key was logged."""
    found = request.config.stash[log_search_key].found
    found.clear()
    yield
    assert found == [], "secrets in the log"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the figures that tests have reported, also those of xdist's workers."""
    lines = config.stash.get(lines_key, 0) + config.stash[log_search_key].count
    terminalreporter.write_line(f"searched {lines:,} lines of the log for signatures, tokens and keys")
    texts = [
        str(text)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, text in report.user_properties
        if name == FIGURES
    ]
    if texts:
        terminalreporter.section("figures")
        for text in texts:
            terminalreporter.write_line(text)


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Keeps a text for the end of the run, where it is printed whatever the outcome."""
    return lambda text: record_property(FIGURES, text)


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> StackAddress:
    """The stores of this run, started when the first test asks. `configureFailPoint` works when embedded.

    Shared by all workers: a failpoint hits every test that runs meanwhile unless it names an `appName`.
    A test that kills a store runs its own `embedded_stack(tmp_path)`.
    """
    if (address := address_from_environment()) is not None:
        return address
    if (worker_input := getattr(request.config, "workerinput", None)) is not None:
        return AddressSource(**worker_input[WORKER_KEY]).ask()
    return request.config.stash[shared_stack_key].address()


@pytest.fixture
def database_name() -> str:
    """A database name that no other test has."""
    return f"assetlane_test_{secrets.token_hex(8)}"


@pytest.fixture
def key_prefix() -> str:
    """A key prefix that no other test has; it ends with a slash."""
    return f"test-{secrets.token_hex(8)}/"
