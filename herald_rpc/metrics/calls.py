"""Counts the calls of a server by method and status, and measures how long they take."""

from collections.abc import Iterable
from time import perf_counter

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from herald_rpc.server.observing import Ended, Metadata, methods_of

_UNKNOWN = ("unknown", "unknown")
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class CallMetrics:
    """A `CallObserver`. The names are those of go-grpc-prometheus, which dashboards know.

    Methods that the server does not have are counted together, because callers choose their names.
    """

    def __init__(self, registry: CollectorRegistry, services: Iterable[str]) -> None:
        self._labels = {method: _labels(method) for method in methods_of(services)}
        by = ("grpc_service", "grpc_method")
        self._handled = Counter(
            "grpc_server_handled",
            "Calls that have ended, by their status.",
            (*by, "grpc_code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "Seconds from the arrival of a call's request to its end.",
            by,
            buckets=_BUCKETS,
            registry=registry,
        )
        self._in_progress = Gauge(
            "grpc_server_in_progress", "Calls and streams in progress.", registry=registry
        )

    def begin(self, method: str, metadata: Metadata) -> Ended:  # noqa: ARG002 - of the protocol
        began = perf_counter()
        labels = self._labels.get(method, _UNKNOWN)
        self._in_progress.inc()

        def ended(code: grpc.StatusCode) -> None:
            self._in_progress.dec()
            self._handled.labels(*labels, code.name).inc()
            self._seconds.labels(*labels).observe(perf_counter() - began)

        return ended


def _labels(method: str) -> tuple[str, str]:
    _, service, name = method.split("/")
    return service, name
