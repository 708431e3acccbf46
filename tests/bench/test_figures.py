"""A goal is met by the right side of its limit, and a partial run leaves the rest of the report alone."""

import json
from pathlib import Path

import pytest
from bench.figures import Bound, Figure, Finding, Goal, Measure, Peer
from bench.report import Run, remember, worsened
from tests.refusals import raises

PEER = Peer("floor", 2.0)


@pytest.mark.parametrize(
    ("goal", "is_met", "text"),
    [
        (Goal(Bound.AT_MOST, 5), True, "≤ 5 ms"),
        (Goal(Bound.AT_MOST, 4.9), False, "≤ 4.9 ms"),
        (Goal(Bound.AT_LEAST, 2.5, Measure.RATIO), True, "≥ 2.5 x"),
        (Goal(Bound.AT_LEAST, 2.6, Measure.RATIO), False, "≥ 2.6 x"),
        (Goal(Bound.AT_MOST, 3, Measure.EXCESS), True, "≤ 3 ms above"),
        (Goal(Bound.AT_MOST, 2, Measure.EXCESS), False, "≤ 2 ms above"),
    ],
)
def test_a_goal_is_about_the_figure_or_how_it_compares(goal: Goal, is_met: bool, text: str) -> None:
    """With 5 ms, where the floor takes 2."""
    figure = Figure("latency", 5.0, "ms", PEER, goal)
    assert figure.is_met is is_met
    assert figure.as_json() == {
        "name": "latency",
        "value": 5.0,
        "unit": "ms",
        "peer": {"name": "floor", "value": 2.0},
        "ratio": 2.5,
        "goal": text,
        "met": is_met,
    }


def test_a_comparison_needs_a_peer() -> None:
    """Else nobody would notice that nothing was compared."""
    with raises(ValueError, names=["latency", "peer"]):
        _ = Figure("latency", 5.0, "ms", goal=Goal(Bound.AT_MOST, 1, Measure.RATIO)).is_met


def test_a_partial_run_replaces_its_own_part_only(tmp_path: Path) -> None:
    """Of the report with all benchmarks."""
    report = tmp_path / "results" / "latest.json"
    run = Run(seconds=1.2, bystanders_percent=3.4)
    remember("one", Finding("One", (Figure("a", 1.0, "s"),)), run, report)
    remember("two", Finding("Two", (Figure("b", 2.0, "s"),)), run, report)
    remember("one", Finding("One", (Figure("a", 3.0, "s"),), ("again",)), run, report)
    parts = json.loads(report.read_text())
    assert {name: part["figures"][0]["value"] for name, part in parts.items()} == {"one": 3.0, "two": 2.0}
    assert parts["one"]["notes"] == ["again"]


def test_the_report_names_nobody(tmp_path: Path) -> None:
    """Neither host, user nor path: it is in the repository."""
    report = tmp_path / "latest.json"
    remember("one", Finding("One", ()), Run(1.0, 0.0), report)
    text = report.read_text()
    for name in (str(Path.home()), str(Path.cwd()), str(tmp_path)):
        assert name not in text


def test_a_ratio_that_became_worse_by_more_than_a_tenth_is_named(tmp_path: Path) -> None:
    """Compared with the kept result of the same figure and peer; a better one or a small difference is not."""
    report = tmp_path / "latest.json"

    def finding(cpu: float, speed: float) -> Finding:
        return Finding("One", (Figure("cpu", cpu, "ms", PEER), Figure("calls", speed, "/s", PEER)))

    assert worsened("one", finding(5, 5), report) == []
    remember("one", finding(5, 5), Run(1.0, 0.0), report)
    assert worsened("one", finding(5.4, 4.7), report) == []
    assert worsened("one", finding(3, 9), report) == []
    assert worsened("another", finding(50, 1), report) == []
    assert worsened("one", finding(6, 4), report) == [
        "cpu: 3 x floor, it was 2.5 x",
        "calls: 2 x floor, it was 2.5 x",
    ]
