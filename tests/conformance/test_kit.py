"""The kit itself: it distinguishes a wrong answer from a right one, and says what is wrong."""

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.matching import difference, filled, picked
from tests.conformance.performance import NonconformingError, perform
from tests.conformance.player import player
from tests.conformance.script import Ask, Scenario, scenarios
from tests.conformance.stage import Stage


@pytest.mark.parametrize(
    ("expected", "got", "fault"),
    [
        ({"a": 1}, {"a": 1, "more": 2}, None),
        ({"a": 1}, {"a": 2}, "the answer.a should be 1, and is 2"),
        ({"a": 1}, {"a": True}, "the answer.a should be 1, and is true"),
        ({"a": 1}, {"b": 1}, "the answer.a is missing: there is b"),
        ({"a": {"b": None}}, {"a": None}, "the answer.a should be an object, and is null"),
        ([1, 2], [1, 2], None),
        ([1, 2], [1, 2, 2], "the answer should have 2 entries, and has 3: [1, 2, 2]"),
        ([{"n": 1}], [{"n": 2}], "the answer[0].n should be 1, and is 2"),
        ([], {}, "the answer should be a list, and is {}"),
        ({"$at_least": 3}, 3, None),
        ({"$at_least": 3}, 2, "the answer should be at least 3, and is 2"),
        ({"$at_least": 3}, "9", 'the answer should be at least 3, and is "9"'),
        ({"$without": "?"}, "a", None),
        ({"$without": "?"}, "a?b", "the answer should be a text without '?', and is \"a?b\""),
        ({"$without": "?"}, "", "the answer should be a text without '?', and is \"\""),
    ],
)
def test_a_difference_is_reported_with_its_place(expected: Any, got: Any, fault: str | None) -> None:
    """Objects may hold more, lists may not."""
    assert difference(expected, got) == fault


def test_values_are_filled_in_with_their_type() -> None:
    """A whole text becomes the value, a part of a text its text."""
    assert filled({"n": "${n}", "of": ["${n} of ${n}"]}, {"n": 3}) == {"n": 3, "of": ["3 of 3"]}
    assert picked({"a": [{"b": 7}]}, "a.0.b") == 7


def test_the_script_names_what_every_failure_means() -> None:
    """Nobody has to read the driver to understand it."""
    asked = [step for scenario in scenarios() for step in scenario.steps if isinstance(step, Ask)]
    assert len(asked) > 40
    assert [step for step in asked if not step.means.endswith(".")] == []
    assert len({scenario.name for scenario in scenarios()}) == len(scenarios())


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("{'id': 1, 'ok': {'client': 'other'}}", 'the answer.ok.client should be "me", and is "other"'),
        ("{'id': 1, 'broken': 'no idea'}", "the answer.ok is missing: there is broken"),
        ("{'id': 7, 'ok': {}}", "its answer is not one to the step with id 1"),
        ("[]", "its answer is not one to the step with id 1"),
    ],
)
async def test_a_wrong_answer_fails_with_step_and_meaning(answer: str, fault: str, tmp_path: Path) -> None:
    """The failure has all that somebody needs who writes a client."""
    code = f"import json; input(); print(json.dumps({answer}), flush=True)"
    message = await failure_of(code, tmp_path)
    assert fault in message
    assert "step 1 of 1 of 'greeting': hello" in message
    assert "means     Say who you are." in message


async def test_a_client_that_ends_is_reported_with_its_last_output(tmp_path: Path) -> None:
    """A traceback is what its author wants to see."""
    message = await failure_of("raise SystemExit('out of cheese')", tmp_path)
    assert "it ended instead of answering" in message or "it does not listen" in message


async def failure_of(code: str, folder: Path) -> str:
    """Returns what is said of a client with this code."""
    step = Ask("hello", {}, {"ok": {"client": "me"}}, "Say who you are.")
    async with player((sys.executable, "-c", code), folder, {}) as client:
        with pytest.raises(NonconformingError) as failure:
            await perform(Scenario("greeting", (step,)), client, NOWHERE)
    return str(failure.value)


class _Nowhere(Stage):
    """A scenario without files and restarts wants no server."""

    def __init__(self) -> None:
        """Has nothing."""

    @property
    def server_errors(self) -> list[str]:
        """Has none."""
        return []


NOWHERE = _Nowhere()
