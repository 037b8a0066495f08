"""A gRPC server with what both services want of one: health, reflection, reasons, a clean end."""

import asyncio
import faulthandler
import signal
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer  # health.aio, which not all stubs know
from grpc_health.v1.health import OVERALL_HEALTH
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION_SERVICE
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from herald_rpc.server.admission import DEFAULT_LIMITS, CallLimits
from herald_rpc.server.failures import FailureFor
from herald_rpc.server.interceptor import CallInterceptor
from herald_rpc.server.memory import trim_until_cancelled

_UNLIMITED = 2**31 - 1

_OPTIONS = (
    # A second server on the same port must fail, and not take half of the calls.
    ("grpc.so_reuseport", 0),
    # Calls are refused by `CallInterceptor`, which gives a reason and when to come again. By
    # default gRPC cancels calls at random when 1,000 wait to be taken on, and those that have
    # waited for 30 s: of anybody, even if it is somebody else who floods the server.
    ("grpc.server.max_pending_requests", _UNLIMITED),
    ("grpc.server.max_pending_requests_hard_limit", _UNLIMITED),
    ("grpc.server_max_unrequested_time_in_server", _UNLIMITED),
    # Clients may ping every 4 s, also without a call. The limit is lower: pings come unevenly.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
    # A caller that is frozen or unreachable loses its calls after 20 s, and their places with
    # them; by default after 2 h.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC takes this one, of 60 s by default, for pings of keepalive too (grpc/grpc#39239).
    ("grpc.http2.ping_timeout_ms", 10_000),
)

# The most calls of one connection that may wait to be taken on: about 12 KiB and, where they were
# reset at once, 0.3 ms each. gRPC refuses more as UNAVAILABLE, whoever else calls.
_CONNECTION_STREAMS = 4_096

# For what a handler that was cut has in its `finally` blocks, before gRPC cancels it again.
_UNWINDING_SECONDS = 5.0

LAST_RESORT_SECONDS = 10.0
"""How long a server may take to end beyond its grace."""

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class CannotListenError(OSError):
    """A server's address is taken, or is none of this machine."""

    def __init__(self, address: str) -> None:
        super().__init__(f"cannot listen on {address}: it is taken, or not of this machine")
        self.address = address


class RunningServer:
    """A server that answers calls until it is drained or its context ends."""

    def __init__(
        self,
        server: grpc.aio.Server,
        calls: CallInterceptor,
        health: HealthServicer,
        names: Sequence[str],
        withholding: Collection[str],
        address: str,
    ) -> None:
        self._server = server
        self._calls = calls
        self._health = health
        self._names = names
        self._withholding = withholding
        self._serving = False
        self._withheld = False
        self.address = address
        """Where it listens, with the real port."""

    async def set_serving(self, serving: bool) -> None:  # noqa: FBT001  a setter's one argument
        """Tell health checks whether calls are welcome; they are answered in either case.

        Whoever calls in spite of it, and with a deadline, hears UNAVAILABLE before it passes.
        Health says NOT_SERVING for good once the server drains.
        """
        self._calls.set_impaired(not serving)
        self._serving = serving
        await self._report_health()

    async def set_withheld(self, withheld: bool) -> None:  # noqa: FBT001  a setter's one argument
        """Tell health checks whether services that are `withholding` do less than they are for.

        These, and the server as a whole, say NOT_SERVING then. Calls are answered as ever.
        """
        self._withheld = withheld
        await self._report_health()

    async def _report_health(self) -> None:
        known = health_pb2.HealthCheckResponse
        for name in self._names:
            held_back = self._withheld and name in (OVERALL_HEALTH, *self._withholding)
            serving = self._serving and not held_back
            await self._health.set(name, known.SERVING if serving else known.NOT_SERVING)

    async def drain(self, grace_seconds: float) -> None:
        """Take no more calls, and return when those in progress are over.

        Health says NOT_SERVING first. What is not over within the grace is cut, and its caller
        told UNAVAILABLE; an endless stream takes all of the grace unless its servicer ends it.
        No handler runs any more on return, so that what they use can be taken down; one that
        was cut has 5 s for its `finally` blocks. A call that arrives in the very moment may reach
        no handler, and its caller be told CANCELLED by gRPC.
        """
        await self._health.enter_graceful_shutdown()
        async with asyncio.TaskGroup() as group:
            # its own cut comes later: it says CANCELLED, and would hit the `finally` blocks
            group.create_task(self._server.stop(grace_seconds + _UNWINDING_SECONDS))
            group.create_task(self._calls.cancel_remaining(grace_seconds))
        await self._calls.wait_for_handlers(_UNWINDING_SECONDS)

    async def close(self) -> None:
        """End every call that is still in progress, without grace and without a word."""
        await self._server.stop(None)
        await self._calls.wait_for_handlers(_UNWINDING_SECONDS)


@asynccontextmanager
async def serving(
    *,
    address: str,
    services: Mapping[str, Callable[[grpc.aio.Server], None]],
    failure_for: FailureFor,
    reflection: bool,
    limits: CallLimits = DEFAULT_LIMITS,
    withholding: Collection[str] = (),
    withheld: bool = False,
) -> AsyncIterator[RunningServer]:
    """Serve until the context ends; what is in progress then is cut without grace.

    No handler runs any more when the context has ended, as after `RunningServer.drain`.

    `services` holds for each full service name the function that adds its servicer. Port 0 takes
    a free one. `limits` are not for health checks and reflection. `withholding` names services
    for `RunningServer.set_withheld`, which is called with `withheld` before any health check.

    Raises `CannotListenError` when the address cannot be bound.
    """
    calls = CallInterceptor(failure_for, limits)
    # More than we serve, so that a caller who asks for too much is refused by us, with a reason.
    most_streams = max(_CONNECTION_STREAMS, 2 * (limits.calls + limits.streams))
    server = grpc.aio.server(
        interceptors=[calls], options=(*_OPTIONS, ("grpc.max_concurrent_streams", most_streams))
    )
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    for add_to in services.values():
        add_to(server)
    if reflection:
        enable_server_reflection([*services, HEALTH_SERVICE, REFLECTION_SERVICE], server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise CannotListenError(address) from error

    host, _, _ = address.rpartition(":")
    names = (OVERALL_HEALTH, *services)
    running = RunningServer(server, calls, health, names, withholding, f"{host}:{port}")
    await running.set_withheld(withheld)
    await server.start()
    trimming = asyncio.create_task(trim_until_cancelled())
    try:
        await running.set_serving(True)
        yield running
    finally:
        trimming.cancel()
        await running.close()


@asynccontextmanager
async def stop_signal(end_within: float | None = None) -> AsyncIterator[asyncio.Event]:
    """Give an event that the first SIGTERM or SIGINT sets; the second ends the process at once.

    A process that is still there `end_within` seconds after the first one exits with 1, whatever
    it waits for, and writes to standard error where each of its threads was. Must be entered in
    the main thread.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
    stop = asyncio.Event()

    def on_signal() -> None:
        stop.set()
        if end_within is not None:
            # a thread of its own, which needs neither the event loop nor Python's lock
            faulthandler.dump_traceback_later(end_within, exit=True)
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
