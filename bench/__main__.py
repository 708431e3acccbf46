"""`python -m bench [NAME…]`: runs all or the named benchmarks, prints a table each, keeps the figures."""

import argparse
import time
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop
from rich.console import Console

from bench import (
    cutting,
    guarding,
    life,
    observing,
    presigning,
    requesting,
    server_cuts,
    uploading,
    verifying,
    watching,
    web,
)
from bench.figures import Finding
from bench.machine import OtherProcesses
from bench.report import LATEST, Run, print_finding, remember, worsened

BENCHMARKS: Final[dict[str, Callable[[], Awaitable[Finding]]]] = {
    "cutting": cutting.measure,
    "presigning": presigning.measure,
    "requesting": requesting.measure,
    "life": life.measure,
    "observing": observing.measure,
    "uploading": uploading.measure,
    "guarding": guarding.measure,
    "verifying": verifying.measure,
    "watching": watching.measure,
    "web": web.measure,
    "server-cuts": server_cuts.measure,
}
WIDTH: Final = 110  # also where there is no terminal


def main() -> None:
    """Reads the names and runs."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures Assetlane beside minimal programs that do the same, and beside other software.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(BENCHMARKS)}. Default: all")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := set(names) - BENCHMARKS.keys():
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    uvloop.run(run([name for name in BENCHMARKS if name in names], Console(width=WIDTH)))


async def run(names: list[str], console: Console) -> None:
    """Runs these benchmarks, one after the other."""
    for name in names:
        begun, bystanders = time.monotonic(), OtherProcesses()
        with console.status(f"{name} …"):
            finding = await BENCHMARKS[name]()
        how = Run(time.monotonic() - begun, bystanders.percent())
        print_finding(console, finding, how, worsened(name, finding))
        remember(name, finding, how)
    console.print(f"kept in bench/{LATEST.parent.name}/{LATEST.name}", style="dim")


if __name__ == "__main__":
    main()
