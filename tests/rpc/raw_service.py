"""A server whose one service takes and gives raw bytes, by whatever methods a test gives it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from herald_rpc.server.admission import DEFAULT_LIMITS, CallLimits
from herald_rpc.server.failures import Failure, FailureFor
from herald_rpc.server.guarding import Guard
from herald_rpc.server.serving import LOOPBACK_ONLY, Protection, RunningServer, serving

NAME = "tests.v1.Service"


class RefusedError(Exception):
    """The one exception these servers know; it carries the failure it stands for."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def status_in(error: Any) -> status_pb2.Status:
    """Unpack the status that a client's error came with."""
    status = rpc_status.from_call(error)
    assert isinstance(status, status_pb2.Status)
    return status


def failure_for(error: Exception) -> Failure | None:
    return error.failure if isinstance(error, RefusedError) else None


def unary(behaviour: Any, decode: Any = None, encode: Any = None) -> Any:
    return grpc.unary_unary_rpc_method_handler(behaviour, decode, encode)


def pages(behaviour: Any, decode: Any = None, encode: Any = None) -> Any:
    return grpc.unary_stream_rpc_method_handler(behaviour, decode, encode)


def collecting(behaviour: Any, decode: Any = None, encode: Any = None) -> Any:
    return grpc.stream_unary_rpc_method_handler(behaviour, decode, encode)


@dataclass(frozen=True)
class RawService:
    """A running one, and a way to call it."""

    server: RunningServer
    channel: grpc.aio.Channel
    name: str = NAME

    def unary(self, method: str) -> Any:
        return self.channel.unary_unary(f"/{self.name}/{method}", None, None)

    def pages(self, method: str) -> Any:
        return self.channel.unary_stream(f"/{self.name}/{method}", None, None)

    def collecting(self, method: str) -> Any:
        return self.channel.stream_unary(f"/{self.name}/{method}", None, None)


@asynccontextmanager
async def running(
    methods: Mapping[str, Any],
    *,
    address: str = "127.0.0.1:0",
    failure_for: FailureFor = failure_for,
    reflection: bool = True,
    limits: CallLimits = DEFAULT_LIMITS,
    name: str = NAME,
    protection: Protection = LOOPBACK_ONLY,
    guard: Guard | None = None,
) -> AsyncIterator[RawService]:
    handler = grpc.method_handlers_generic_handler(name, dict(methods))

    def add_to(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((handler,))

    async with (
        serving(
            address=address,
            services={name: add_to},
            failure_for=failure_for,
            reflection=reflection,
            limits=limits,
            protection=protection,
            guard=guard,
        ) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield RawService(server, channel, name)
