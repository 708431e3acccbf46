"""Property tests pass on a machine of any speed."""

import time

import hypothesis
from hypothesis import given, settings
from hypothesis import strategies as st


def slowly(value: int) -> int:
    """Takes as long as a busy machine does."""
    time.sleep(0.25)
    return value


@settings(max_examples=6, database=None)
@given(st.integers().map(slowly))
def test_slow_examples_fail_no_property_test(value: int) -> None:
    """Without the profile of `conftest.py`, making these examples fails a health check and running them a deadline."""
    slowly(value)


def test_the_profile_holds_for_every_test() -> None:
    """What a test sets for itself is added to it."""
    for profile in (settings(), settings(max_examples=1)):
        assert profile.deadline is None
        assert hypothesis.HealthCheck.too_slow in profile.suppress_health_check
