"""How often somebody may try."""

from assetlane_server.gallery.tries import TryLimit


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Returns its time."""
        return self.now


def test_a_key_has_its_tries_and_then_waits_for_its_window_to_end() -> None:
    """Other keys have theirs."""
    clock = Clock()
    limit = TryLimit(3, 60, clock=clock)
    assert [limit.take("ann") for _ in range(3)] == [0, 0, 0]
    clock.now = 20
    assert limit.take("ann") == 40
    assert limit.take("bob") == 0
    clock.now = 60
    assert limit.take("ann") == 0


def test_what_is_given_back_was_no_try() -> None:
    """However often: never more tries than there are."""
    limit = TryLimit(2, 60, clock=Clock())
    for _ in range(10):
        assert limit.take("ann") == 0
        limit.give_back("ann")
    limit.give_back("ann")
    assert [limit.take("ann") == 0 for _ in range(3)] == [True, True, False]


def test_memory_is_bounded_and_the_oldest_key_is_forgotten_first() -> None:
    """Names that nobody has cost an attacker their own tries, and others none."""
    clock = Clock()
    limit = TryLimit(1, 60, max_keys=100, clock=clock)
    for number in range(150):
        clock.now = number / 10
        limit.take(str(number))
    assert limit.take("149") > 0
    assert limit.take("0") == 0
