"""Says at the end of a run which languages took part."""

import pytest
from tests.conformance.clients import CLIENTS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints one line for each language whose tests were asked for: how many passed, or what is not installed."""
    for client in CLIENTS:
        counts = {
            outcome: len(
                [
                    report
                    for report in terminalreporter.stats.get(outcome, [])
                    if "test_languages.py" in report.nodeid and f"[{client.language}" in report.nodeid
                ]
            )
            for outcome in ("passed", "failed", "error", "skipped")
        }
        if any(counts.values()):
            outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
            missing = f" ({', '.join(client.missing_tools)} not installed)" if client.missing_tools else ""
            terminalreporter.write_line(f"language {client.language}: {outcomes}{missing}")
