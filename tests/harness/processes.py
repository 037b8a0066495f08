"""The two real servers as processes, on free ports of this machine."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from herald.campaign.v1.campaign_service_pb2_grpc import CampaignServiceStub
from herald.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from herald.event.v1.event_service_pb2_grpc import EventServiceStub
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub
from tests.harness.canaries import canaries
from tests.harness.parent_death import die_with_parent

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_ABORT_SECONDS = 5.0
_TAIL_LINES = 40
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
EVENT_SERVICE = "herald.event.v1.EventService"
# by whether the database is held
_HEALTH: Mapping[bool | None, Collection[int]] = {
    False: [_SERVING],
    True: [_NOT_SERVING],
    None: [_SERVING, _NOT_SERVING],
}
# below those of outgoing connections, on Linux from 32,768 on
_FIRST_PORT, _PORTS = 20_000, 12_000
# file descriptors of this process, the oldest first
_reservations: deque[int] = deque()
_MOST_RESERVATIONS = 100

_CHANNEL_OPTIONS = (
    # a server that was restarted is met again at once
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
)


class ServerError(Exception):
    """A server did not do what it was started for; the text has the end of its log."""


class Process(Protocol):
    """What is asked of a `subprocess.Popen`, and of whatever else runs a server."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int:
        """Raises `subprocess.TimeoutExpired`."""

    def send_signal(self, sig: int) -> None: ...


Run = Callable[[str, Mapping[str, str], Path | None], Process]
"""Runs a module with these HERALD_* variables and no others, and the log to write to."""


def run_anew(module: str, environment: Mapping[str, str], log: Path | None) -> Process:
    """As an operator does. Without a `log`, it writes to this process's output."""
    with ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else None
        if log:
            canaries.watch(log)
        return subprocess.Popen(
            die_with_parent([sys.executable, "-m", module]),
            env=_outer_environment() | dict(environment),
            stdout=output,
            stderr=output,
            # ^C in a terminal is for this process, which then stops the servers in order
            start_new_session=True,
        )


class Server:
    """One server process, startable again after its end.

    `environment` comes on top of this process's own, of which no HERALD_* variable is passed on.
    """

    def __init__(
        self,
        module: str,
        address: str,
        environment: Mapping[str, str],
        log: Path | None = None,
        run: Run = run_anew,
        credentials: grpc.ChannelCredentials | None = None,
        server_name: str = "",
    ) -> None:
        self.module = module
        self.address = address
        self.credentials = credentials
        self._server_name = server_name
        self._environment = environment
        self._log = log
        self._run = run
        self._process: Process | None = None

    def start(self, *, held: bool | None = False) -> None:
        """Returns when its health says SERVING; NOT_SERVING if it is to be `held`; None: either.

        Raises `ServerError` if it ends before.
        """
        self._process = self._run(self.module, self._environment, self._log)
        try:
            self._wait_for_health(self._process, _HEALTH[held])
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ends it with SIGTERM, as an operator does. Raises `ServerError` unless it ends well."""
        if self._process is not None and (code := self.end()):
            raise self._error(f"ended with {code} on SIGTERM")

    def end(self) -> int:
        """The same, but returns its exit code, whatever it is."""
        process, self._process = self._process, None
        if process is None:
            raise self._error("is not running")
        if (code := process.poll()) is not None:
            raise self._error(f"had ended with {code} by itself")
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # it leaves the stacks of its threads in the log, unless it is stopped
            process.send_signal(signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_ABORT_SECONDS)
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise self._error("did not end on SIGTERM") from None

    def kill(self) -> None:
        """Ends it with SIGKILL, in the middle of whatever it does."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise self._error("is not running")
        self._process.send_signal(number)

    def restart(self) -> None:
        self.stop()
        self.start()

    def wait(self) -> int:
        """Returns its exit code, when it ends by whatever end."""
        if self._process is None:
            raise self._error("is not running")
        return self._process.wait()

    def processes(self) -> list[int]:
        """The process ids of the server and of those that it has started. Linux only."""
        if self._process is None:
            raise self._error("is not running")
        pid = self._process.pid
        started = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, started)]

    def memory(self) -> int:
        """Resident bytes now, of all its processes: what they share counts in each."""
        return self._status_bytes("VmRSS")

    def peak_memory(self) -> int:
        """The most resident bytes since its start, of all its processes as `memory` counts."""
        return self._status_bytes("VmHWM")

    def processor_seconds(self) -> float:
        """What its processes have had of the cores since their start."""
        return sum(map(_processor_seconds, self.processes()))

    def log_tail(self) -> str:
        if self._log is None or not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_for_health(self, process: Process, wanted: Collection[int]) -> None:
        # a service that no restored database holds up: while the server starts, none is serving
        unheld = EVENT_SERVICE if wanted == _HEALTH[True] else ""
        with open_channel(self.address, self.credentials, self._server_name) as channel:
            for _ in range(int(_START_SECONDS / 0.05)):
                if _health(channel) in wanted and (
                    not unheld or _health(channel, unheld) == _SERVING
                ):
                    return
                try:
                    code = process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
                raise self._error(f"ended with {code} instead of serving")
        raise self._error("did not serve in time")

    def _status_bytes(self, name: str) -> int:
        return sum(_status_bytes(pid, name) for pid in self.processes())

    def _error(self, problem: str) -> ServerError:
        return ServerError(f"{self.module} {problem}\n{self.log_tail()}".rstrip())


@dataclass(frozen=True, slots=True)
class Pair:
    """Both servers, serving, and ready stubs for what they serve."""

    segment: Server
    campaign: Server
    segments: SegmentServiceStub
    chat: ChatServiceStub
    campaigns: CampaignServiceStub
    events: EventServiceStub


@contextmanager
def running_pair(
    database_url: str,
    logs: Path,
    settings: Mapping[str, str] | None = None,
    run: Run = run_anew,
    credentials: grpc.ChannelCredentials | None = None,
) -> Iterator[Pair]:
    """Both servers on free ports until the context ends, then stopped gracefully.

    `settings` are HERALD_* variables, and `credentials` those with which servers with TLS are
    called. A PostgreSQL database must be migrated. Raises
    `ServerError` if a server does not start, or does not end well.
    """
    logs.mkdir(parents=True, exist_ok=True)
    segment, campaign = servers(
        database_url,
        free_address(),
        free_address(),
        settings=settings,
        logs=logs,
        run=run,
        credentials=credentials,
    )
    with (
        ExitStack() as channels,
        segment,
        campaign,
    ):
        to_segment = channels.enter_context(open_channel(segment.address, credentials))
        to_campaign = channels.enter_context(open_channel(campaign.address, credentials))
        yield Pair(
            segment=segment,
            campaign=campaign,
            segments=SegmentServiceStub(to_segment),
            chat=ChatServiceStub(to_segment),
            campaigns=CampaignServiceStub(to_campaign),
            events=EventServiceStub(to_campaign),
        )


def servers(
    database_url: str,
    segment_address: str,
    campaign_address: str,
    *,
    settings: Mapping[str, str] | None = None,
    logs: Path | None = None,
    run: Run = run_anew,
    credentials: grpc.ChannelCredentials | None = None,
    server_name: str = "",
) -> tuple[Server, Server]:
    """The segment and the campaign server, not started.

    `server_name` is the name in their certificates, if it is not that of their addresses.
    """
    common = {**(settings or {}), "HERALD_DATABASE_URL": database_url}
    segment = Server(
        "segment_service",
        segment_address,
        {**common, "HERALD_SEGMENT_LISTEN": segment_address},
        logs and logs / "segment.log",
        run,
        credentials,
        server_name,
    )
    campaign = Server(
        "campaign_service",
        campaign_address,
        {
            **common,
            "HERALD_CAMPAIGN_LISTEN": campaign_address,
            "HERALD_SEGMENT_TARGET": segment_address,
        },
        logs and logs / "campaign.log",
        run,
        credentials,
        server_name,
    )
    return segment, campaign


def free_address() -> str:
    """Of a port that is free now; a server that finds it taken says so and ends.

    None of those that systems give to outgoing connections, because one of them may get it first.
    This process keeps the port's UDP half, so that tests beside it choose another port.
    """
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        reservation = socket.socket(type=socket.SOCK_DGRAM)
        with socket.socket() as listener:
            try:
                reservation.bind(("127.0.0.1", port))
                listener.bind(("127.0.0.1", port))
            except OSError:
                reservation.close()
                continue
        _reservations.append(reservation.detach())
        if len(_reservations) > _MOST_RESERVATIONS:
            os.close(_reservations.popleft())
        return f"127.0.0.1:{port}"


def open_channel(
    address: str, credentials: grpc.ChannelCredentials | None = None, server_name: str = ""
) -> grpc.Channel:
    if credentials:
        named = (("grpc.ssl_target_name_override", server_name),) if server_name else ()
        return grpc.secure_channel(address, credentials, options=(*_CHANNEL_OPTIONS, *named))
    return grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)


def _health(channel: grpc.Channel, service: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=1)
    except grpc.RpcError:
        return health_pb2.HealthCheckResponse.UNKNOWN
    return int(answer.status)


def _status_bytes(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ServerError(f"process {pid} has no {name}")


def _processor_seconds(pid: int) -> float:
    # the fields before are the number and, in parentheses, the name
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = fields[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _outer_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HERALD_")}
