"""Writes the table of an upload's life into `docs/how-it-works.md`, from the server's own; `--check` only compares."""

import sys
from pathlib import Path
from typing import Final

from assetlane_server.model.state_table import STEPS

PAGE: Final = Path(__file__).parent.parent / "docs" / "how-it-works.md"
BEGIN: Final = "<!-- made by `make state-table` from model/state_table.py -->\n"
END: Final = "<!-- end of what was made -->\n"


def table() -> str:
    """Returns the table: one row for each way from a status to the next."""
    rows = [
        f"| {step.source or '(none)'} | {step.target}{' (final)' if step.target.is_final else ''} |"
        f" {', '.join(step.by)} | {step.when} |"
        for step in STEPS
    ]
    return "\n".join(["| from | to | by | when |", "|---|---|---|---|", *rows]) + "\n"


def main() -> int:
    """Returns the exit status: 1 if the page is not as it should be."""
    text = PAGE.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    right = head + BEGIN + table() + END + tail
    if "--check" not in sys.argv:
        PAGE.write_text(right)
    elif text != right:
        print("docs/how-it-works.md does not have the state table of the server: run `make state-table`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
