"""What the explorations print, at the end of the run: pytest shows the output of failures only."""

from __future__ import annotations

import pytest

_HERE = "tests/model/"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The first line of each: how many states were looked at, and of a mutant what it breaks."""
    lines = [
        found[0]
        for report in terminalreporter.getreports("passed")
        if report.nodeid.startswith(_HERE) and (found := report.capstdout.strip().splitlines())
    ]
    if lines:
        terminalreporter.section("the model of the protocol")
        terminalreporter.write_line("\n".join(lines))
