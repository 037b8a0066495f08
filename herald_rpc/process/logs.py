"""Logging of both servers: structlog and the standard library in one form, on standard error."""

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

LogFormat = Literal["console", "json"]

# DEBUG shows Herald's own records: a driver writes a page of them for each statement. SQLAlchemy
# writes each statement with its values at INFO.
LIBRARIES = {
    "aiosqlite": logging.INFO,
    "alembic": logging.INFO,
    "asyncio": logging.INFO,
    "asyncpg": logging.INFO,
    "grpc": logging.INFO,
    "sqlalchemy": logging.WARNING,
}


def configure(level: str, log_format: LogFormat | None = None) -> None:
    """Sends all log records to standard error, a line each except tracebacks on a console.

    Without a format: `console` on a terminal, otherwise `json`. Replaces the previous
    configuration, including the handlers of the root logger.
    """
    if log_format is None:
        log_format = "console" if sys.stderr.isatty() else "json"
    # Plain tracebacks, because rich ones print local variables, which may be secret.
    rendering: list[Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if log_format == "console"
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name, least in LIBRARIES.items():
        logging.getLogger(name).setLevel(max(logging.getLevelName(level), least))
