"""`herald dev`: both servers on this machine, until ^C."""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import typer
from pydantic import model_validator

from campaign_service.settings import CampaignSettings
from herald_rpc.process.settings import EXIT_CODE as WRONG_SETTING
from herald_rpc.process.worker_process import python_command
from herald_rpc.server.service_manager import READY

_STOPPED, _FAILED = 0, 1
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_NOTICE_BYTES = 4_096

_GREETING = """
Herald is up. ^C stops it.

  SegmentService, ChatService     {segment}
  CampaignService, EventService   {campaign}

Try:

  grpcurl {how} -d '{{"segment": {{"type": "SEGMENT_TYPE_USER", "name": "Everyone", "all_users": true}}}}' \\
    {segment} herald.segment.v1.SegmentService/CreateSegment
"""


class DevSettings(CampaignSettings):
    """The variables of the campaign server, and the one by which it finds the segment server."""

    segment_listen: str = "127.0.0.1:50051"

    @model_validator(mode="after")
    def _can_call_each_other(self) -> Self:
        if self.tls_cert and not self.tls_ca:
            raise ValueError("HERALD_TLS_CERT needs HERALD_TLS_CA: the servers call each other")
        return self

    @property
    def environment(self) -> dict[str, str]:
        """The environment of both servers."""
        given = "segment_target" in self.model_fields_set
        target = self.segment_target if given else self.segment_listen
        return {
            **os.environ,
            "HERALD_SEGMENT_LISTEN": self.segment_listen,
            "HERALD_SEGMENT_TARGET": target,
        }


@dataclass(frozen=True, slots=True)
class _Server:
    """A server process, and the socket on which it says that it is ready."""

    name: str
    process: Process
    notices: socket.socket

    async def until_ready(self) -> None:
        loop = asyncio.get_running_loop()
        while READY.encode() not in (await loop.sock_recv(self.notices, _NOTICE_BYTES)).split():
            pass

    async def until_ended(self) -> None:
        await self.process.wait()


def dev(settings: DevSettings) -> int:
    """Serves until a stop signal, or until a server ends by itself. Returns the exit code."""
    try:
        with TemporaryDirectory(prefix="herald-dev-") as folder:
            return asyncio.run(_dev(settings, Path(folder)))
    except OSError as error:
        typer.echo(f"the servers can't be started: {error}", err=True)
        return _FAILED


async def _dev(settings: DevSettings, folder: Path) -> int:
    stop = asyncio.Event()
    for number in _STOP_SIGNALS:
        # also a second one, because the servers themselves bound how long they take to stop
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        # stopped in the other order, so that the senders can finish their pages
        servers = [
            await stack.enter_async_context(_server(name, settings.environment, folder))
            for name in ("segment", "campaign")
        ]
        await _first_of(stop, servers, greeting=_greeting(settings))
        ended = {
            server.name: code
            for server in servers
            if (code := server.process.returncode) is not None
        }
        if not ended:
            typer.echo("stopping")
    for name, code in ended.items():
        typer.echo(f"the {name} server has ended with code {code}", err=True)
    if not ended:
        return _STOPPED
    return WRONG_SETTING if WRONG_SETTING in ended.values() else _FAILED


async def _first_of(stop: asyncio.Event, servers: list[_Server], *, greeting: str) -> None:
    """Greets when all are ready. Returns when `stop` is set or a server has ended."""

    async def greet() -> None:
        for server in servers:
            await server.until_ready()
        typer.echo(greeting)

    greeting_task = asyncio.create_task(greet())
    waits = [stop.wait(), *(server.until_ended() for server in servers)]
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (greeting_task, *tasks):
            task.cancel()
        await asyncio.gather(greeting_task, *tasks, return_exceptions=True)


@asynccontextmanager
async def _server(
    name: str, environment: Mapping[str, str], folder: Path
) -> AsyncGenerator[_Server, None]:
    """Runs the server until the context ends, then stops it and waits for its end."""
    address = str(folder / name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.setblocking(False)  # noqa: FBT003 - its only argument
        notices.bind(address)
        process = await asyncio.create_subprocess_exec(
            *python_command(f"{name}_service"),
            env={**environment, "NOTIFY_SOCKET": address},
            stdin=DEVNULL,
            # ^C in a terminal is for this process, which then stops the servers in order
            process_group=0,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        try:
            yield _Server(name, process, notices)
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def _greeting(settings: DevSettings) -> str:
    how = [f"-cacert {settings.tls_ca}" if settings.tls_cert else "-plaintext"]
    if settings.tls_client_cert:
        how.append(f"-cert {settings.tls_client_cert} -key {settings.tls_client_key}")
    if settings.auth == "tokens":
        how.append('-H "authorization: Bearer $TOKEN"')
    return _GREETING.format(
        segment=settings.segment_listen, campaign=settings.campaign_listen, how=" ".join(how)
    )


def _end_with_parent() -> None:
    """Has the kernel stop this process when its parent has ended, even by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
