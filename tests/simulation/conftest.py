"""What the tests of schedules have in common."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _without_log() -> Iterator[None]:
    """Schedules log nothing; other tests of the same process read the log, so it is as it was afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)
