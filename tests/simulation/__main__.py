"""Runs the simulation: `python -m tests.simulation --schedules 30000`, or one schedule with `--seed`."""

import argparse
import os
import sys

from tests.simulation.schedules import run_many, trace_of
from tests.simulation.situations import SITUATIONS


def main() -> int:
    """Returns the exit status: 0 if everything holds and every rare situation was reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--schedules", type=int, default=30_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first schedule")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seed", help="one schedule: [SCENE:]NUMBER or [SCENE:]TOKEN of a shrunk one")
    parser.add_argument("--anywhere", action="store_true", help="do not ask for the rare situations")
    options = parser.parse_args()
    if options.seed:
        message, trace = trace_of(options.seed)
        print(trace)
        print(f"\nVIOLATION: {message}" if message else "\nEverything holds.")
        return 1 if message else 0
    summary = run_many(options.first, options.schedules, options.processes)
    print(summary.describe())
    for seed in summary.failing:
        message, trace = trace_of(seed)
        print(f"\nSchedule {seed} (again: make test-simulation SEED={seed})\n{trace}\n\nVIOLATION: {message}")
    if summary.failing:
        return 1
    missing = [name for name in SITUATIONS if not summary.situations[name]]
    rarest = min(SITUATIONS, key=lambda name: summary.situations[name])
    print(
        f"{len(SITUATIONS) - len(missing)} of {len(SITUATIONS)} rare situations were reached; the rarest in"
        f" {summary.situations[rarest]} schedules: {rarest}"
    )
    if missing and not options.anywhere:
        print("never reached: " + "; ".join(missing))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
