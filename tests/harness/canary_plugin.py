"""Fails each test in which a secret is seen in a log, in captured output, or in a call's error.

A plugin of pytest.
"""

from collections.abc import Generator
from typing import Any

import grpc
import pytest

from tests.harness.canaries import canaries


def pytest_configure() -> None:
    canaries.is_watching = True
    error: Any = grpc.aio.AioRpcError
    begin = error.__init__

    def begin_and_look(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        text = f"{self!r}{self.trailing_metadata()!r}"
        canaries.look_at(text.encode(errors="replace"), "the error of a call")

    error.__init__ = begin_and_look


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "teardown":
        for name, text in report.sections:
            canaries.look_at(text.encode(errors="replace"), name)
        if found := canaries.findings():
            report.outcome = "failed"
            report.longrepr = "\n".join(["secrets were told:", *dict.fromkeys(found)])
    return report
