"""Runs every mutant through the simulation: `make test-mutants`. Prints which it caught, and the score.

A mutant is caught when one of 2,000 schedules has a violation. Those that are not are explained in `EXPLAINED`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.explained import EXPLAINED, REPLACED
from tests.mutants.mutants import PATCHES, ROOT, Mutant, copy_with, mutants

LEAST_SCORE: Final = 0.95
_LIMIT_S: Final = 1800
_SCRIPT: Final = """
import sys
from tests.simulation.schedules import run_some
summary = run_some(range(int(sys.argv[1])), sys.argv[2])
for seed, message in summary.failing.items():
    print(f"{seed.rpartition(':')[2]} {message.strip().splitlines()[-1][:160]}")
"""


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    mutant: Mutant
    seed: int | None  # of the schedule that caught it
    message: str
    seconds: float


def tried(mutant: Mutant, schedules: int, scene: str = "") -> Outcome:
    """Runs schedules on a server with the change until one has a violation; of one scene if it is named."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        server = copy_with(mutant, Path(folder))
        paths = [str(server), str(ROOT / "client"), str(ROOT)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(schedules), scene],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"{mutant.name} does not run:\n{done.stderr[-2000:]}")
    seed, _, message = done.stdout.strip().partition(" ")
    return Outcome(mutant, int(seed) if seed else None, message, time.monotonic() - began)


def main() -> int:
    """Returns the exit status: 0 if enough were caught and the others are explained."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("--schedules", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--keep", action="store_true", help="write the table to tests/mutants/score.md")
    parser.add_argument("names", nargs="*", help="only these; default: all")
    options = parser.parse_args()
    chosen = [one for one in mutants() if not options.names or one.name in options.names]
    outcomes = []
    with ThreadPoolExecutor(options.processes) as pool:
        for outcome in pool.map(lambda mutant: tried(mutant, options.schedules), chosen):
            outcomes.append(outcome)
            caught = f"by schedule {outcome.seed}: {outcome.message}" if outcome.seed is not None else "NOT CAUGHT"
            print(f"{outcome.mutant.name} ({outcome.seconds:.0f} s): {caught}", flush=True)
    escaped = [outcome.mutant.name for outcome in outcomes if outcome.seed is None]
    unexplained = [name for name in escaped if name not in EXPLAINED]
    score = 1 - len(escaped) / len(outcomes)
    summary = f"{len(outcomes) - len(escaped)} of {len(outcomes)} mutants are caught ({score:.1%})"
    print(summary)
    if options.keep:
        _keep(outcomes, summary, options.schedules)
    for name in unexplained:
        print(f"not caught and not explained: {name}")
    return 1 if unexplained or score < LEAST_SCORE else 0


def _keep(outcomes: list[Outcome], summary: str, schedules: int) -> None:
    rows = [
        f"| {one.mutant.name} | {one.mutant.path.removeprefix('server/assetlane_server/')} |"
        f" {'not caught: ' + EXPLAINED.get(one.mutant.name, '') if one.seed is None else one.seed} |"
        for one in outcomes
    ]
    head = f"# Mutants\n\n{summary}, {schedules:,} schedules each. Made by `make test-mutants ARGS=--keep`.\n\n"
    table = "| wrong change | file | caught by schedule |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    replaced = "".join(f"- {name}: {why}. In its place: {other}.\n" for name, (why, other) in REPLACED.items())
    (PATCHES / "score.md").write_text(f"{head}{table}\n## Replaced, since no promise was broken\n\n{replaced}")


if __name__ == "__main__":
    sys.exit(main())
