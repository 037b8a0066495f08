"""Tests that had nothing to test on this machine say so at the end of the run."""

import pytest

NOT_TESTED = "not tested"
"""The property of such a test; its text says what wasn't tested, and why."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Writes each text once, also those of tests that ran in another process."""
    texts = [
        text
        for report in terminalreporter.getreports("passed")
        for name, text in report.user_properties
        if name == NOT_TESTED
    ]
    for text in dict.fromkeys(texts):
        terminalreporter.write_line(f"{NOT_TESTED}: {text}")
