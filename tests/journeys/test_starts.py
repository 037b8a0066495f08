"""A server waits at its start for a database that is down, and names anything else in one line."""

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from campaign_service.server import run_until as run_campaign_server
from campaign_service.settings import CampaignSettings
from chat_store.errors import StoreUnavailableError
from herald.campaign.v1 import campaign_service_pb2 as campaign_pb
from herald.campaign.v1.campaign_service_pb2_grpc import CampaignServiceStub
from herald.chat.v1 import chat_service_pb2 as chat_pb
from herald.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from herald_rpc.process.settings import ServerSettings
from herald_rpc.server.serving import RunningServer
from segment_service.server import run_until as run_segment_server
from segment_service.settings import SegmentSettings
from tests.harness import forkserver
from tests.harness.canaries import DATABASE_PASSWORD
from tests.harness.postgres import Postgres
from tests.harness.processes import free_address
from tests.harness.proxy import relayed

HEALTH = health_pb2.HealthCheckResponse
Run = Callable[[asyncio.Event, ServerSettings, Callable[[RunningServer], None]], Awaitable[None]]


class NoWork:
    is_well = True

    def wake(self) -> None: ...

    async def run(self, stop: asyncio.Event) -> None:
        await stop.wait()


async def run_without_workers(
    stop: asyncio.Event, settings: Any, started: Callable[[RunningServer], None]
) -> None:
    await run_campaign_server(stop, settings, NoWork(), NoWork(), started)


def settings(service: str, database_url: str, address: str, **more: Any) -> ServerSettings:
    if service == "segment":
        return SegmentSettings(database_url=database_url, segment_listen=address, **more)
    return CampaignSettings(
        database_url=database_url, campaign_listen=address, segment_target="127.0.0.1:1", **more
    )


RUN: dict[str, Any] = {"segment": run_segment_server, "campaign": run_without_workers}
SERVICES = sorted(RUN)


async def call(service: str, channel: grpc.aio.Channel) -> grpc.StatusCode:
    """A call about something that does not exist; returns its code."""
    stubs: dict[str, Any] = {"segment": ChatServiceStub, "campaign": CampaignServiceStub}
    stub = stubs[service](channel)
    try:
        if service == "segment":
            await stub.GetUser(chat_pb.GetUserRequest(id="nobody"), wait_for_ready=True)
        else:
            await stub.GetCampaign(campaign_pb.GetCampaignRequest(id="none"), wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
        info = error_details_pb2.ErrorInfo()
        assert any(detail.Unpack(info) for detail in status.details)
        assert info.reason.startswith("ERROR_REASON_")
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("service", SERVICES)
async def test_a_server_waits_for_its_database_and_serves_when_that_is_up(
    service: str, postgres: Postgres
) -> None:
    name = postgres.fresh_database()
    socket = f"{postgres.url(name).partition('host=')[2]}/.s.PGSQL.5432"
    async with asyncio.timeout(100), relayed(socket) as proxy:
        proxy.refuse()
        url = f"postgresql+asyncpg://postgres@{proxy.address}/{name}"
        address, stop = free_address(), asyncio.Event()
        started: list[RunningServer] = []
        server = asyncio.ensure_future(
            RUN[service](stop, settings(service, url, address), started.append)
        )
        async with grpc.aio.insecure_channel(address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            assert (await watch.read()).status == HEALTH.NOT_SERVING
            assert await call(service, channel) is grpc.StatusCode.UNAVAILABLE
            assert started == []

            proxy.let_go()
            assert (await watch.read()).status == HEALTH.SERVING
            assert await call(service, channel) is grpc.StatusCode.NOT_FOUND
            watch.cancel()
        assert len(started) == 1
        stop.set()
        await server
    postgres.recycle(name)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_stop_ends_the_wait_for_the_database(service: str, tmp_path: Path) -> None:
    url = f"postgresql+asyncpg://postgres:{DATABASE_PASSWORD}@/herald?host={tmp_path}"
    address, stop = free_address(), asyncio.Event()
    server = asyncio.ensure_future(
        RUN[service](stop, settings(service, url, address), lambda _: None)
    )
    async with asyncio.timeout(60), grpc.aio.insecure_channel(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        assert (await watch.read()).status == HEALTH.NOT_SERVING
        watch.cancel()
        stop.set()
        await server


@pytest.mark.parametrize("service", SERVICES)
async def test_a_server_gives_up_after_the_time_that_it_was_given(
    service: str, tmp_path: Path
) -> None:
    url = f"postgresql+asyncpg://postgres:{DATABASE_PASSWORD}@/herald?host={tmp_path}"
    limited = settings(service, url, "127.0.0.1:0", start_timeout_seconds=0.3)

    async with asyncio.timeout(60):
        with pytest.raises(StoreUnavailableError) as raised:
            await RUN[service](asyncio.Event(), limited, lambda _: None)

    assert f"no PostgreSQL at the socket {tmp_path}/.s.PGSQL.5432" in str(raised.value.__cause__)


MODULES = [
    ("segment_service",),
    ("campaign_service",),
    ("campaign_service", "send"),
    ("campaign_service", "dispatch"),
]


@pytest.mark.nightly_on("campaign_service send", "dispatch", "chat_store migrate", "verify")
@pytest.mark.parametrize("command", MODULES, ids=" ".join)
@pytest.mark.parametrize(
    ("url", "error_text"),
    [
        ("sqlite:///{folder}/text.db", "the file is no usable SQLite database"),
        ("sqlite:///{folder}/newer.db", "the database is newer than this version"),
        ("sqlite:////proc/none/herald.db", "'/proc/none'"),
        ("sqlite:///{folder}/text.db/herald.db", "text.db'"),
        ("sqlite:///{folder}", "can't be reached"),
        ("postgresql://anna@/herald?host={folder}", "no PostgreSQL at the socket"),
        ("postgresql://anna@127.0.0.1:1/herald", "no PostgreSQL at 127.0.0.1:1"),
        ("postgresql://anna@db/herald?sslmode=on", "sslmode: must be one of"),
    ],
)
def test_a_database_that_can_not_be_used_is_told_in_one_line(
    command: tuple[str, ...], url: str, error_text: str, sqlite_url: str, tmp_path: Path
) -> None:
    (tmp_path / "text.db").write_text("no database\n" * 100)
    newer(Path(sqlite_url.partition("///")[2]), tmp_path / "newer.db")
    module, *arguments = command
    variables = {
        "HERALD_DATABASE_URL": url.format(folder=tmp_path),
        "HERALD_START_TIMEOUT_SECONDS": "0.1",
        "HERALD_LOG_FORMAT": "json",
        "HERALD_SEGMENT_LISTEN": "127.0.0.1:0",
        "HERALD_CAMPAIGN_LISTEN": "127.0.0.1:0",
        "HERALD_SENDER_PROCESSES": "0",
    }
    log = tmp_path / "log"
    process = forkserver.ForkedProcess(forkserver.start(module, variables, log, *arguments))

    assert process.wait(60) == 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[-1]["event"] == "can't start"
    assert error_text in lines[-1]["error"]
    assert not [line for line in lines if "exception" in line]


@pytest.mark.nightly_on("campaign_service")
@pytest.mark.parametrize("command", MODULES, ids=" ".join)
def test_a_driver_that_is_not_installed_is_told_in_one_line(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    # in front of the installed one
    (tmp_path / "asyncpg.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'asyncpg'\", name='asyncpg')\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HERALD_")}
    environment |= {
        "HERALD_DATABASE_URL": "postgresql://anna@db/herald",
        "HERALD_LOG_FORMAT": "json",
        "HERALD_SENDER_PROCESSES": "0",
        "PYTHONPATH": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[-1]["event"] == "can't start"
    assert "PostgreSQL needs the Python package asyncpg" in lines[-1]["error"]


def newer(database: Path, copy: Path) -> None:
    """A copy of a migrated database, of a revision that this version does not know."""
    shutil.copy(database, copy)
    with sqlite3.connect(copy) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
