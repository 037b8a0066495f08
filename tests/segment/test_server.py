"""The whole segment server: both services, the worker, its end, and what keeps it from starting."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import text

from chat_store.database.engine import open_database
from herald.chat.v1 import chat_service_pb2, chat_service_pb2_grpc
from herald.chat.v1.chat_pb2 import User
from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1 import segment_service_pb2_grpc
from herald.segment.v1.segment_pb2 import Segment
from herald_rpc.server.serving import CannotListenError, RunningServer
from segment_service.server import CHAT_SERVICE, SEGMENT_SERVICE, run_until
from segment_service.settings import SegmentSettings
from tests.harness.postgres import Postgres
from tests.segment.refusals import CODES
from tests.segment.segment_server import NO_WIDE_WINDOW, USER
from tests.segment.test_streams import more_than_is_sent_ahead, read_until_refused

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class Running:
    server: RunningServer
    channel: grpc.aio.Channel
    stop: asyncio.Event
    end: "asyncio.Task[None]"

    def segments(self) -> "segment_service_pb2_grpc.SegmentServiceAsyncStub":
        return segment_service_pb2_grpc.SegmentServiceStub(self.channel)

    def chat(self) -> "chat_service_pb2_grpc.ChatServiceAsyncStub":
        return chat_service_pb2_grpc.ChatServiceStub(self.channel)


def settings(database_url: str, **values: object) -> SegmentSettings:
    given = {"database_url": database_url, "segment_listen": "127.0.0.1:0", **values}
    return SegmentSettings(**given)  # type: ignore[arg-type]


@asynccontextmanager
async def running(settings: SegmentSettings) -> AsyncIterator[Running]:
    stop = asyncio.Event()
    started: asyncio.Future[RunningServer] = asyncio.get_running_loop().create_future()
    end = asyncio.create_task(run_until(stop, settings, started.set_result))
    both: set[asyncio.Future[Any]] = {started, end}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if end.done():
        await end
    address = started.result().address
    async with grpc.aio.insecure_channel(address, options=NO_WIDE_WINDOW) as channel:
        try:
            yield Running(started.result(), channel, stop, end)
        finally:
            stop.set()
            await asyncio.wait({end})


async def create(running: Running, segment: Segment) -> None:
    await running.segments().CreateSegment(pb.CreateSegmentRequest(segment=segment))


@pytest.mark.parametrize("name", ["", SEGMENT_SERVICE, CHAT_SERVICE])
async def test_the_server_and_both_services_are_healthy(sqlite_url: str, name: str) -> None:
    async with running(settings(sqlite_url)) as server:
        health: Any = health_pb2_grpc.HealthStub(server.channel)

        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))

        assert answer.status == SERVING


async def test_a_new_sqlite_file_is_made_and_its_segments_are_counted(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/deep/inside/new.db"
    async with running(settings(url)) as server, asyncio.timeout(30):
        anna = User(id="anna", name="Anna")
        await server.chat().UpsertUsers(chat_service_pb2.UpsertUsersRequest(users=[anna]))
        await create(server, Segment(id="s", type=USER, all_users=True))

        segment = Segment()
        while not segment.HasField("size_updated_at"):
            segment = (await server.segments().GetSegment(pb.GetSegmentRequest(id="s"))).segment

    assert segment.size == 1


async def test_a_stop_cuts_streams_so_that_nobody_waits_for_the_grace(sqlite_url: str) -> None:
    async with running(settings(sqlite_url, grace_seconds=600)) as server:
        await create(server, Segment(id="s", type=USER))
        add = pb.AddTargetsRequest(segment_id="s", target_ids=more_than_is_sent_ahead())
        await server.segments().AddTargets(add)
        request = pb.StreamTargetsRequest(segment_ids=["s"], page_size=20)
        call = server.segments().StreamTargets(request)
        await call.read()

        server.stop.set()
        refusal = await read_until_refused(call)
        await asyncio.wait_for(server.end, 60)

    assert refusal.code is CODES.UNAVAILABLE


async def test_a_call_in_hand_is_finished_before_the_server_ends(sqlite_url: str) -> None:
    async with running(settings(sqlite_url)) as server:
        await create(server, Segment(id="s", type=USER))
        add = pb.AddTargetsRequest(segment_id="s", target_ids=more_than_is_sent_ahead())
        call = server.segments().AddTargets(add)
        await server.segments().GetSegment(pb.GetSegmentRequest(id="s"))

        server.stop.set()

        assert (await call).added == 2_000


async def test_a_stop_does_not_wait_for_a_long_count(postgres_url: str) -> None:
    database = open_database(postgres_url)
    claimed = text("SELECT count(*) FROM segments WHERE count_due_at > now() + interval '1 min'")
    async with running(settings(postgres_url)) as server, asyncio.timeout(60):
        async with database.transaction() as blocking:
            await blocking.execute(text("LOCK TABLE users"))
            await create(server, Segment(id="s", type=USER, all_users=True))
            count = 0
            while not count:
                async with database.snapshot() as connection:
                    count = (await connection.scalars(claimed)).one()

            server.stop.set()
            await asyncio.wait({server.end})

        async with database.snapshot() as connection:
            assert (await connection.scalars(claimed)).one() == 0
    await database.close()


@pytest.mark.nightly
async def test_a_server_whose_worker_fails_for_a_reason_that_nobody_knows_goes_on_and_says_so(
    sqlite_url: str,
) -> None:
    database = open_database(sqlite_url)
    async with running(settings(sqlite_url)) as server, asyncio.timeout(60):
        health: Any = health_pb2_grpc.HealthStub(server.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING

        async with database.transaction() as connection:
            await connection.execute(text("ALTER TABLE segments RENAME TO hidden"))
        assert (await watch.read()).status == NOT_SERVING
        anna = User(id="anna", name="Anna")
        request = chat_service_pb2.UpsertUsersRequest(users=[anna])
        answer = await server.chat().UpsertUsers(request)

        async with database.transaction() as connection:
            await connection.execute(text("ALTER TABLE hidden RENAME TO segments"))
        assert (await watch.read()).status == SERVING
        watch.cancel()
    await database.close()

    assert [user.id for user in answer.users] == ["anna"]


async def test_a_taken_address_is_told(sqlite_url: str) -> None:
    async with running(settings(sqlite_url)) as server:
        taken = settings(sqlite_url, segment_listen=server.server.address)

        with pytest.raises(CannotListenError, match=server.server.address):
            await run_until(asyncio.Event(), taken)


async def process(database_url: str, **variables: str) -> asyncio.subprocess.Process:
    environment = {name: os.environ[name] for name in os.environ if "HERALD" not in name}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "segment_service",
        env={
            **environment,
            "HERALD_DATABASE_URL": database_url,
            "HERALD_SEGMENT_LISTEN": "127.0.0.1:0",
            **variables,
        },
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(database_url: str, **variables: str) -> tuple[int | None, str]:
    """The exit code and the log of a server that can't start."""
    server = await process(database_url, **variables)
    async with asyncio.timeout(60):
        _, log = await server.communicate()
    return server.returncode, log.decode()


@pytest.mark.nightly
async def test_a_database_that_can_not_be_reached_is_said_and_ends_the_process(
    tmp_path: Path,
) -> None:
    url = f"postgresql://anna:secret@/herald?host={tmp_path}"
    code, log = await ended(url, HERALD_START_TIMEOUT_SECONDS="0.1")

    assert code == 1
    last = log.splitlines()[-1]
    assert "can't start" in last
    assert f"no PostgreSQL at the socket {tmp_path}/.s.PGSQL.5432: No such file" in last
    assert "Traceback" not in log
    assert "secret" not in log


@pytest.mark.nightly
async def test_a_database_at_another_schema_is_said_and_ends_the_process(
    postgres: Postgres,
) -> None:
    postgres.execute("CREATE DATABASE unmigrated")

    code, log = await ended(postgres.url("unmigrated"))

    assert code == 1
    assert "herald migrate" in log.splitlines()[-1]


async def test_sigterm_ends_the_process_well(sqlite_url: str) -> None:
    server = await process(sqlite_url)
    assert server.stderr
    async with asyncio.timeout(60):
        line = b""
        while b"listening" not in line:
            line = await server.stderr.readline()
            assert line

        server.send_signal(signal.SIGTERM)
        await server.communicate()

    assert server.returncode == 0
