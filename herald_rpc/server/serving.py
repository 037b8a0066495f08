"""A gRPC server with health checks, reflection, error reasons and a clean shutdown."""

import asyncio
import faulthandler
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer  # health.aio, which not all stubs know
from grpc_health.v1.health import OVERALL_HEALTH
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE

from herald_rpc.addresses import is_loopback
from herald_rpc.certificates import CertificateError, CertificateFiles, CertificateWatch
from herald_rpc.server import service_manager
from herald_rpc.server.admission import DEFAULT_LIMITS, CallLimits
from herald_rpc.server.failures import FailureFor
from herald_rpc.server.guarding import CallAudit, Guard
from herald_rpc.server.interceptor import CallInterceptor
from herald_rpc.server.memory import trim_until_cancelled
from herald_rpc.server.observing import CallObserver, ObservingInterceptor
from herald_rpc.server.reflection import enable_reflection
from herald_rpc.server.tls import server_credentials

_UNLIMITED = 2**31 - 1

_OPTIONS = (
    # A second server on the same port must fail instead of taking half of the calls.
    ("grpc.so_reuseport", 0),
    # `CallInterceptor` refuses calls, with a reason and a retry delay. By default gRPC cancels
    # random calls while 1,000 wait to be accepted, and calls that have waited for 30 s, of any
    # caller, even if another one floods the server.
    ("grpc.server.max_pending_requests", _UNLIMITED),
    ("grpc.server.max_pending_requests_hard_limit", _UNLIMITED),
    ("grpc.server_max_unrequested_time_in_server", _UNLIMITED),
    # Clients may ping every 4 s, also without a call. The limit is lower, as pings vary in time.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
    # A frozen or unreachable caller loses its calls and their slots after 20 s; by default, after
    # 2 h.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC uses this time-out, by default 60 s, for keepalive pings too (grpc/grpc#39239).
    ("grpc.http2.ping_timeout_ms", 10_000),
)

# The most calls of one connection that may wait to be accepted. Each takes about 12 KiB and, if
# reset at once, 0.3 ms. gRPC refuses more as UNAVAILABLE.
_CONNECTION_STREAMS = 4_096

# For the `finally` blocks of a cancelled handler, before gRPC cancels it again.
_UNWINDING_SECONDS = 5.0

LAST_RESORT_SECONDS = 10.0
"""How long a server's end may take beyond its grace."""

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

logger = structlog.get_logger(__name__)


class CannotListenError(OSError):
    """The server's address can't be used, or must not be without protection."""

    def __init__(
        self, address: str, problem: str = "it is taken, or not an address of this machine"
    ) -> None:
        super().__init__(f"cannot listen on {address}: {problem}")
        self.address = address


@dataclass(frozen=True, slots=True)
class Protection:
    """How a server is protected. Without `tls`, it serves plain text; without `tokens`, everyone.

    `tls.ca` signs the certificates that clients must have; None demands none. `insecure` lets a
    server listen beyond loopback that lacks one of `tls` and `tokens`.
    """

    tls: CertificateFiles | None = None
    tokens: bool = False
    insecure: bool = False


LOOPBACK_ONLY = Protection()


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
        """The address it listens on, with the actual port."""

    @property
    def is_serving(self) -> bool:
        """Whether the health of the server as a whole is SERVING."""
        return self._serving and not self._withheld

    async def set_serving(self, serving: bool) -> None:  # noqa: FBT001  a setter's one argument
        """Sets whether health checks report SERVING. Calls are answered in either case.

        While it is false, calls that near their deadline end as UNAVAILABLE. Health reports
        NOT_SERVING for good once the server drains.
        """
        self._calls.set_impaired(not serving)
        self._serving = serving
        await self._report_health()

    async def set_withheld(self, withheld: bool) -> None:  # noqa: FBT001  a setter's one argument
        """Sets whether the `withholding` services hold back part of their work.

        Health then reports NOT_SERVING for them and for the server as a whole. Calls are answered
        as before.
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
        """Takes no more calls, and returns when those in progress have ended.

        Health reports NOT_SERVING first. Calls that outlast the grace are cancelled as
        UNAVAILABLE; an endless stream takes all of the grace unless its servicer ends it. A
        cancelled handler has 5 s for its `finally` blocks. No handler runs any more on return, so
        that their resources can be closed. A call that arrives at this very moment may reach no
        handler, and gRPC then reports CANCELLED to its caller.
        """
        self._serving = False
        await self._health.enter_graceful_shutdown()
        async with asyncio.TaskGroup() as group:
            # gRPC's own cancellation comes later: it reports CANCELLED and hits `finally` blocks
            group.create_task(self._server.stop(grace_seconds + _UNWINDING_SECONDS))
            group.create_task(self._calls.cancel_remaining(grace_seconds))
        await self._calls.wait_for_handlers(_UNWINDING_SECONDS)

    async def close(self) -> None:
        """Ends every call in progress, without grace and without a status of its own."""
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
    protection: Protection = LOOPBACK_ONLY,
    guard: Guard | None = None,
    audit: CallAudit | None = None,
    observers: Sequence[CallObserver] = (),
    prepare: Callable[[RunningServer], Awaitable[None]] | None = None,
) -> AsyncIterator[RunningServer]:
    """Serves until the context ends. Calls in progress then are cancelled without grace.

    No handler runs any more when the context has ended, as after `RunningServer.drain`.

    `services` maps each full service name to the function that adds its servicer. Port 0 takes a
    free port. `limits` do not apply to health checks and reflection. `withholding` names services
    for `RunningServer.set_withheld`. `guard` lets calls pass or not; health checks always do.
    `audit` gets to know each call, and so do `observers`. Until `prepare` has returned, health
    reports NOT_SERVING and calls are refused as UNAVAILABLE.

    Raises `CannotListenError` if the address can't be bound, lies beyond loopback without
    protection, or the certificates are bad, and whatever `prepare` raises.
    """
    credentials = _credentials(address, protection)
    calls = CallInterceptor(failure_for, limits, guard, audit)
    # More than the limits, so that excess calls are refused by the interceptor, with a reason.
    most_streams = max(_CONNECTION_STREAMS, 2 * (limits.calls + limits.streams))
    observing = [ObservingInterceptor(observers)] if observers else []
    server = grpc.aio.server(
        interceptors=[*observing, calls],
        options=(*_OPTIONS, ("grpc.max_concurrent_streams", most_streams)),
    )
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    for add_to in services.values():
        add_to(server)
    if reflection:
        enable_reflection([*services, HEALTH_SERVICE], server)
    try:
        port = (
            server.add_secure_port(address, credentials)
            if credentials
            else server.add_insecure_port(address)
        )
    except RuntimeError as error:
        raise CannotListenError(address) from error

    host, _, _ = address.rpartition(":")
    names = (OVERALL_HEALTH, *services)
    running = RunningServer(server, calls, health, names, withholding, f"{host}:{port}")
    await running.set_serving(False)
    calls.is_starting = prepare is not None
    await server.start()
    trimming = asyncio.create_task(trim_until_cancelled())
    try:
        if prepare:
            await prepare(running)
        calls.is_starting = False
        await running.set_serving(True)
        yield running
    finally:
        trimming.cancel()
        await running.close()


def _credentials(address: str, protection: Protection) -> grpc.ServerCredentials | None:
    if not is_loopback(address) and not (protection.tls and protection.tokens):
        if not protection.insecure:
            raise CannotListenError(
                address,
                "others than this machine reach it, so it needs HERALD_TLS_CERT and "
                "HERALD_AUTH=tokens, or HERALD_INSECURE=true",
            )
        logger.warning(
            "insecure: others than this machine reach the server",
            address=address,
            tls=protection.tls is not None,
            tokens=protection.tokens,
        )
    if not protection.tls:
        return None
    try:
        return server_credentials(CertificateWatch(protection.tls))
    except CertificateError as error:
        raise CannotListenError(address, str(error)) from error


@asynccontextmanager
async def stop_signal(
    end_within: float | None = None, on_hangup: Callable[[], None] | None = None
) -> AsyncIterator[asyncio.Event]:
    """Yields an event that the first SIGTERM, SIGINT or SIGHUP sets. The second one ends the process.

    With `on_hangup`, a SIGHUP calls that instead. Without, a SIGHUP that is ignored, as under
    `nohup`, stays so.

    The service manager learns of the first one, too.

    If the process still runs `end_within` seconds after the first one, it writes the stack of each
    thread to standard error and exits with 1. Must be entered in the main thread.
    """
    loop = asyncio.get_running_loop()
    before = {
        number: handler
        for number in _STOP_SIGNALS
        if (handler := signal.getsignal(number)) is not signal.SIG_IGN
        or number != signal.SIGHUP
        or on_hangup
    }
    stop = asyncio.Event()

    def on_signal() -> None:
        stop.set()
        service_manager.notify(service_manager.STOPPING)
        if end_within is not None:
            # runs in a C thread, which needs neither the event loop nor the interpreter lock
            faulthandler.dump_traceback_later(end_within, exit=True)
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            is_ignored = number == signal.SIGHUP and handler is signal.SIG_IGN
            signal.signal(number, signal.SIG_IGN if is_ignored else signal.SIG_DFL)

    for number in before:
        reload = on_hangup if number == signal.SIGHUP else None
        loop.add_signal_handler(number, reload or on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
