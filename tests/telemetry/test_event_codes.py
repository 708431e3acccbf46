"""The codes of log lines that programs wait for: in the code and in docs/observability.md alike."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_page_lists_each_event_code_that_the_server_logs() -> None:
    """No code is missing from the table, and none in it is gone."""
    source = "".join(path.read_text() for path in (ROOT / "server").rglob("*.py"))
    logged = set(re.findall(r'"event_code": "([A-Z_]+)"', source))
    page = (ROOT / "docs/observability.md").read_text()
    table = page.partition("| `event_code` |")[2].partition("\n\n")[0]
    listed = {code for row in table.splitlines()[2:] for code in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    assert logged
    assert listed == logged
