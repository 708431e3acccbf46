"""Prints findings: a table per benchmark, and `results/latest.json` with all of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.figures import NOT_A_NUMBER, Figure, Finding, formatted
from bench.machine import machine, versions

NOTEWORTHY: Final = 1.1
BETTER_WHEN_HIGHER: Final = ("/s",)
LATEST: Final = Path(__file__).with_name("results") / "latest.json"


@dataclass(frozen=True, slots=True)
class Run:
    """How a benchmark ran."""

    seconds: float
    bystanders_percent: float  # of all cores, used by others meanwhile


def worsened(name: str, finding: Finding, path: Path = LATEST) -> list[str]:
    """Returns a line for each figure that compares worse with its peer than the last kept result did.

    Only ratios are compared, since they hold on another machine too, and only differences above a tenth, since
    medians of a few rounds move by less.
    """
    if not path.exists():
        return []
    kept = {_identity(entry): entry for entry in json.loads(path.read_text()).get(name, {}).get("figures", ())}
    lines = []
    for figure in finding.figures:
        entry = figure.as_json()
        before = kept.get(_identity(entry), {}).get("ratio")
        if before is None or figure.ratio is None:
            continue
        change = before / figure.ratio if figure.unit in BETTER_WHEN_HIGHER else figure.ratio / before
        if change > NOTEWORTHY:
            peer = figure.peer.name if figure.peer else ""
            lines.append(f"{figure.name}: {formatted(figure.ratio)} x {peer}, it was {formatted(before)} x")
    return lines


def _identity(entry: Mapping[str, Any]) -> tuple[str, str | None]:
    return entry["name"], entry.get("peer", {}).get("name")


def print_finding(console: Console, finding: Finding, run: Run, worse: Sequence[str] = ()) -> None:
    """Prints one benchmark's table, its notes below, and what became worse since the last kept result."""
    table = Table(title=finding.title, title_justify="left", title_style="bold", header_style="dim")
    table.add_column("what")
    for column in ("figure", "floor or peer", "ratio", "goal"):
        table.add_column(column, justify="right")
    table.add_column("met")
    for figure in finding.figures:
        table.add_row(*_cells(figure))
    console.print(table)
    for note in finding.notes:
        console.print(f"  {note}", style="dim", highlight=False)
    others = f"others used {run.bystanders_percent:.0f} % of the machine meanwhile"
    for line in worse:
        console.print(f"  WORSE THAN KEPT: {line}", style="yellow", highlight=False)
    console.print(f"  Took {run.seconds:.0f} s; {others}.", style="dim", highlight=False)
    console.print()


def remember(name: str, finding: Finding, run: Run, path: Path = LATEST) -> None:
    """Replaces one benchmark's part of the report and leaves all others as they are."""
    report = json.loads(path.read_text()) if path.exists() else {}
    report[name] = {
        "title": finding.title,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "took_seconds": round(run.seconds),
        "others_used_percent_of_the_machine": round(run.bystanders_percent),
        "machine": machine(),
        "versions": versions(),
        "notes": list(finding.notes),
        "figures": [figure.as_json() for figure in finding.figures],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def _cells(figure: Figure) -> tuple[str, ...]:
    peer = NOT_A_NUMBER if figure.peer is None else f"{figure.peer.name} {formatted(figure.peer.value)} {figure.unit}"
    met = {None: "", True: "[green]yes[/]", False: "[red]NO[/]"}[figure.is_met]
    goal = "" if figure.goal is None else figure.goal.formatted(figure)
    return figure.name, f"{formatted(figure.value)} {figure.unit}", peer, formatted(figure.ratio), goal, met
