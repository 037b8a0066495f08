"""What the tests of events share."""

import pytest
import structlog

from tests.campaign.conftest import refusing_services

__all__ = ["refusing_services"]


@pytest.fixture(autouse=True, scope="session")
def plain_tracebacks() -> None:
    """As servers log: those with local variables would show hundreds of events, for seconds."""
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])
