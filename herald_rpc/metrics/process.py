"""The metrics that every process has: its memory and processor time, and its connections."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector


class ConnectionUse(Protocol):
    """The connections of one pool; `size` is how many it keeps open."""

    @property
    def in_use(self) -> int: ...
    @property
    def idle(self) -> int: ...
    @property
    def size(self) -> int: ...


ConnectionUses = Callable[[], Mapping[str, ConnectionUse]]


def process_registry(databases: Mapping[str, ConnectionUses]) -> CollectorRegistry:
    """Returns a registry with what the process uses. `databases` names its connection pools."""
    # each counter would have a second series
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_ConnectionsCollector(databases))
    return registry


class _ConnectionsCollector(Collector):
    def __init__(self, databases: Mapping[str, ConnectionUses]) -> None:
        self._databases = databases

    def describe(self) -> list[GaugeMetricFamily]:
        return list(self._families())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        connections, sizes = self._families()
        for database, uses in self._databases.items():
            for pool, use in uses().items():
                connections.add_metric([database, pool, "in_use"], use.in_use)
                connections.add_metric([database, pool, "idle"], use.idle)
                sizes.add_metric([database, pool], use.size)
        yield connections
        yield sizes

    def _families(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        by = ["database", "pool"]
        return (
            GaugeMetricFamily(
                "herald_database_connections",
                "Open connections to the database.",
                labels=[*by, "state"],
            ),
            GaugeMetricFamily(
                "herald_database_pool_size",
                "Connections that a pool keeps open; on PostgreSQL as many more may be in use.",
                labels=by,
            ),
        )
