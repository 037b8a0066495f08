"""A span for each call of a server, in the trace of its caller or in one of its own."""

from collections.abc import Collection, Iterable, Sequence

import grpc
from structlog.contextvars import bind_contextvars

from herald_rpc import tracing
from herald_rpc.server.observing import Ended, Metadata, methods_of

# streams that last for hours, whose spans would be sent when they end
_ENDLESS = ("/WatchCampaign", "/StreamEvents")
_OF_GRPC = "/grpc."
_FAULTS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


class CallTraces:
    """A `CallObserver`. The trace's id is in the logs of the call, also if it is not recorded."""

    def __init__(self, services: Iterable[str]) -> None:
        self._methods: Collection[str] = frozenset(
            method
            for method in methods_of(services)
            if not method.startswith(_OF_GRPC) and not method.endswith(_ENDLESS)
        )

    def begin(self, method: str, metadata: Metadata) -> Ended:
        if method not in self._methods:
            return _ignore
        parent = next((str(value) for key, value in metadata if key == tracing.HEADER), "")
        name = method.removeprefix("/")
        span = tracing.begin(name, tracing.Kind.SERVER, parent, {"rpc.system": "grpc"})
        if span is None:
            return _ignore
        # of the call's own task, which ends with the call
        tracing.follow(span.traceparent)
        bind_contextvars(trace_id=tracing.trace_id(span.traceparent))

        def ended(code: grpc.StatusCode) -> None:
            span.end(code.name if code in _FAULTS else "")

        return ended


def traces_of_calls(services: Iterable[str]) -> Sequence[CallTraces]:
    """Returns what traces the calls of these services, or nothing if traces are off."""
    return [CallTraces(services)] if tracing.is_on() else []


def _ignore(_: grpc.StatusCode) -> None:
    pass
