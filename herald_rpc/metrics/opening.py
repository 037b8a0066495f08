"""Opens the metrics of a process. Off, they cost nothing, not even the import of the library."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from herald_rpc.server.observing import CallObserver
from herald_rpc.server.serving import CannotListenError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from herald_rpc.metrics.endpoint import Endpoint
    from herald_rpc.metrics.process import ConnectionUses

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Without a `registry`, they are off."""

    registry: "CollectorRegistry | None" = None
    endpoint: "Endpoint | None" = None

    def follow(self, is_ready: Callable[[], bool]) -> None:
        """Has `/readyz` say this."""
        if self.endpoint:
            self.endpoint.follow(is_ready)

    def of_calls(self, services: Sequence[str]) -> Sequence[CallObserver]:
        """Returns what counts the calls of these services, or nothing."""
        if self.registry is None:
            return []
        from herald_rpc.metrics.calls import CallMetrics  # noqa: PLC0415

        return [CallMetrics(self.registry, services)]


@asynccontextmanager
async def open_metrics(
    listen: str, databases: "Mapping[str, ConnectionUses]"
) -> AsyncIterator[Metrics]:
    """Serves them until the context ends; empty `listen`: off. Raises `CannotListenError`."""
    if not listen:
        yield Metrics()
        return
    from herald_rpc.metrics.endpoint import metrics_endpoint  # noqa: PLC0415
    from herald_rpc.metrics.process import process_registry  # noqa: PLC0415

    registry = process_registry(databases)
    async with metrics_endpoint(listen, registry) as endpoint:
        yield Metrics(registry, endpoint)


@asynccontextmanager
async def open_metrics_of_worker(
    listen: str, databases: "Mapping[str, ConnectionUses]"
) -> AsyncIterator[Metrics]:
    """Does as `open_metrics`; a worker whose port is taken works without metrics."""
    async with AsyncExitStack() as stack:
        try:
            metrics = await stack.enter_async_context(open_metrics(listen, databases))
        except CannotListenError as error:
            logger.error("works without metrics", error=str(error))  # noqa: TRY400 - it says it all
            metrics = Metrics()
        yield metrics
