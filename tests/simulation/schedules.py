"""Runs schedules by number, on several processes, and reports what a failing one does.

The number of a schedule decides everything in it. Print one again with `make test-simulation SEED=n`, or
`SEED=scene:n` for one of a scene.
"""

import gc
import logging
import math
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import detangle
from detangle import PCT, RandomWalk, RunResult, SimConfig, Strategy, execute
from detangle._shrink import shrink
from tests.simulation import cluster
from tests.simulation.kept import KEPT, SCHEDULES_KEPT

CONFIG: Final = SimConfig(max_steps=60_000)
_CHUNK: Final = 50
_MAX_TRACE: Final = 160  # lines


def strategy_of(seed: int) -> Strategy:
    """Returns how the schedule of that number chooses: at random, or by priorities with few changes (PCT)."""
    strategy: Strategy = RandomWalk(seed) if seed % 3 else PCT(seed, depth=1 + seed % 4)
    strategy.start(0)
    return strategy


def run(seed: int, scene: str = "") -> RunResult:
    """Runs one schedule, of one scene if it is named."""
    cluster.SCENE = scene
    with uncollected():
        return execute(cluster.main, config=CONFIG, strategy=strategy_of(seed))


@contextmanager
def uncollected() -> Iterator[None]:
    """Keeps the garbage collector out: closing a generator that it finds is a step, at another time in each process."""
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()  # what was imported is not looked through again
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


@dataclass
class Summary:
    """What many schedules came to."""

    steps: list[int] = field(default_factory=list)
    hashes: set[int] = field(default_factory=set)
    situations: Counter[str] = field(default_factory=Counter)  # in how many schedules each was reached
    failing: dict[str, str] = field(default_factory=dict)  # by number, behind the name of a scene
    seconds: float = 0.0

    def add(self, other: "Summary") -> None:
        """Takes over what another one holds."""
        self.steps += other.steps
        self.hashes |= other.hashes
        self.situations += other.situations
        self.failing |= other.failing

    def describe(self) -> str:
        """Returns the figures in one line."""
        return (
            f"{len(self.steps):,} schedules, {len(self.hashes):,} of them distinct, of a median of"
            f" {statistics.median(self.steps):,.0f} steps, in {self.seconds:.0f} s: {len(self.failing)} violations"
        )


def run_some(seeds: Iterable[int], scene: str = "") -> Summary:
    """Runs schedules until one fails, of one scene if it is named."""
    logging.disable(logging.CRITICAL)
    summary = Summary()
    for seed in seeds:
        result = run(seed, scene)
        summary.steps.append(result.steps)
        summary.hashes.add(result.order_hash)
        if result.failure is not None:
            summary.failing[f"{scene}:{seed}" if scene else str(seed)] = result.failure.message
            break
        summary.situations.update(result.value.auditor.situations.keys())
    return summary


def run_many(first: int, count: int, processes: int) -> Summary:
    """Runs so many schedules from that number on, until one fails; before them those that found something once."""
    began = time.monotonic()
    total = Summary()
    for scene in sorted({one.scene for one in KEPT}):
        total.failing |= run_some(range(SCHEDULES_KEPT), scene).failing
    chunks: Iterator[range] = (
        range(start, min(start + _CHUNK, first + count)) for start in range(first, first + count, _CHUNK)
    )
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: set[Future[Summary]] = set()
        while not total.failing:
            while len(running) < 2 * processes and (chunk := next(chunks, None)) is not None:
                running.add(pool.submit(run_some, chunk))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                total.add(future.result())
        for future in running:
            future.cancel()
    total.seconds = time.monotonic() - began
    return total


def choices_of(token: str) -> list[int]:
    """Returns the choices that a token stands for; 0 is the plainest of each."""
    return detangle.decode_token(token)


def trace_of(seed_or_token: str) -> tuple[str, str]:
    """Returns what fails in a schedule, empty if nothing does, and its story: shrunk where it fails.

    A token, as it is printed with the story, replays a shrunk schedule.
    """
    logging.disable(logging.CRITICAL)
    scene, _, number = seed_or_token.rpartition(":")
    cluster.SCENE = scene
    if number.startswith("dt"):
        return _described(number)
    result = run(int(number), scene)
    if result.failure is None:
        return _described(detangle.encode_token(result.values))
    values = shrunk(result)
    token = detangle.encode_token(values)
    message, trace = _described(token)
    if not message:
        raise AssertionError(f"schedule {number} fails once and not again: something in it is not the loop's choice")
    count = f"shrunk from {len(result.values)} choices to {sum(value != 0 for value in values)}"
    return message, f"{trace}\n\n{count}; again with SEED={scene and scene + ':'}{token}"


def shrunk(failing: RunResult) -> list[int]:
    """Returns the fewest choices that were found to break the same invariant as the schedule that has just failed.

    To detangle every broken invariant of the auditor is the same failure: without this, what is shown may be another.
    """
    assert failing.failure is not None
    broken = cluster.BROKEN()

    def attempt(values: list[int]) -> RunResult:
        result = _replayed(detangle.encode_token(values))
        if cluster.BROKEN() != broken:
            result.failure = None
        return result

    # Bounded by the number of attempts alone: a busy machine is to find what an idle one finds.
    return shrink(attempt, failing.values, failing.failure.signature(), time_limit=math.inf).values


def _replayed(token: str) -> RunResult:
    with uncollected():
        return detangle.replay(cluster.main, token, config=CONFIG, raise_on_failure=False)


def _described(token: str) -> tuple[str, str]:
    lines: list[str] = []
    cluster.LINES = lines
    try:
        result = _replayed(token)
    finally:
        cluster.LINES = None
    left_out = [f"({len(lines) - _MAX_TRACE:,} lines before)"] if len(lines) > _MAX_TRACE else []
    return result.failure.message if result.failure else "", "\n".join([*left_out, *lines[-_MAX_TRACE:]])
