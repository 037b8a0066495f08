"""`herald health`: asks servers whether they serve."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from herald_rpc.certificates import CertificateError
from herald_rpc.client.channels import ChannelSecurity, TargetError, open_direct_channel

_ALL_SERVE, _NOT_ALL, _WRONG = 0, 1, 2


def health(
    servers: Sequence[str], service: str, security: ChannelSecurity, timeout_seconds: float
) -> int:
    """Prints a line for each server, in the given order; all are asked at once."""
    try:
        states = asyncio.run(_states(servers, service, security, timeout_seconds))
    except (TargetError, CertificateError) as error:
        typer.echo(error, err=True)
        return _WRONG
    for server, state in zip(servers, states, strict=True):
        typer.echo(f"{server}  {state}")
    return _ALL_SERVE if set(states) == {"SERVING"} else _NOT_ALL


async def _states(
    servers: Sequence[str], service: str, security: ChannelSecurity, timeout_seconds: float
) -> list[str]:
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(open_direct_channel(server, security))
            for server in servers
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_state(channel, service, timeout_seconds)) for channel in channels
            ]
        return [task.result() for task in tasks]


async def _state(channel: grpc.aio.Channel, service: str, timeout_seconds: float) -> str:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        answer = await stub.Check(request, timeout=timeout_seconds)
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
