"""Traces by the SDK of OpenTelemetry, sent by OTLP over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from herald_rpc import tracing

_FLUSH_SECONDS = 3.0

logger = structlog.get_logger(__name__)


@contextmanager
def traced(service: str) -> Iterator[None]:
    """Records traces of this process until the context ends, if OpenTelemetry's variables ask for it.

    `OTEL_SERVICE_NAME` goes over `service`. Without the packages of the extra `tracing`, it says so
    and records nothing.
    """
    if not tracing.is_asked_for():
        yield
        return
    try:
        from herald_rpc.process.otlp_tracer import OtlpTracer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        logger.warning("no traces: install Herald with its extra, '.[tracing]'", lacks=error.name)
        yield
        return
    tracer = OtlpTracer(service, _FLUSH_SECONDS)
    tracing.use(tracer)
    try:
        yield
    finally:
        tracing.use(None)
        tracer.close()
