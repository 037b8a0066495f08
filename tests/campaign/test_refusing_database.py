"""Whatever a database refuses with, no server ends, callers and health say so, all goes on."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from campaign_service.reporting.read_counter import ReadCounter, _Count
from chat_store.database.engine import open_database
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.chat.v1 import chat_pb2, chat_service_pb2, chat_service_pb2_grpc
from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as segment_pb
from tests.campaign.refusing import Refuse, refusing_postgres, refusing_sqlite
from tests.campaign.server_pair import Served, ServerPair, start_pair
from tests.campaign.test_sending import MANY, a_campaign_to, with_people
from tests.harness.postgres import Postgres
from tests.harness.reconciliation import assert_everyone_has_one_outcome

pytestmark = pytest.mark.nightly

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
INTERNAL = grpc.StatusCode.INTERNAL
INVALID = grpc.StatusCode.INVALID_ARGUMENT
COMPLETED = campaign_pb2.CAMPAIGN_STATUS_COMPLETED
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# each has work to do while the test goes on
WORKERS = {
    "the schedule",
    "claiming and giving back shards",
    "counting segments",
    "counting readers",
    "the poll for watchers",
}
POSTGRES_CODES = {
    "08": {"08000": UNAVAILABLE, "08006": UNAVAILABLE, "08P01": UNAVAILABLE},
    "25": {"25006": UNAVAILABLE, "25P02": INTERNAL, "25P03": UNAVAILABLE},
    "40": {"40001": UNAVAILABLE, "40P01": UNAVAILABLE},
    "42": {"42501": UNAVAILABLE, "42P01": INTERNAL},
    "53": {"53100": UNAVAILABLE, "53200": UNAVAILABLE, "53300": UNAVAILABLE},
    "54": {"54000": INVALID, "54001": INVALID},
    "55": {"55000": UNAVAILABLE, "55P03": UNAVAILABLE, "55P04": INTERNAL},
    "57": {"57014": UNAVAILABLE, "57P01": UNAVAILABLE, "57P03": UNAVAILABLE},
    "58": {"58000": UNAVAILABLE, "58030": UNAVAILABLE},
    "XX": {"XX000": INTERNAL, "XX001": INTERNAL, "XX002": INTERNAL},
}
SQLITE_CODES = {
    "locks": {"SQLITE_BUSY": UNAVAILABLE, "SQLITE_LOCKED": UNAVAILABLE},
    "files": {
        "SQLITE_IOERR": UNAVAILABLE,
        "SQLITE_FULL": UNAVAILABLE,
        "SQLITE_READONLY": UNAVAILABLE,
        "SQLITE_CANTOPEN": UNAVAILABLE,
    },
    "others": {
        "SQLITE_NOMEM": UNAVAILABLE,
        "SQLITE_INTERRUPT": UNAVAILABLE,
        "SQLITE_AUTH": UNAVAILABLE,
        "SQLITE_PROTOCOL": UNAVAILABLE,
    },
    "defects": {"SQLITE_CORRUPT": INTERNAL, "SQLITE_NOTADB": INTERNAL, "SQLITE_ERROR": INTERNAL},
    "callers": {"SQLITE_TOOBIG": INVALID},
}
BOUND_SECONDS = 60.0
Log = list[MutableMapping[str, Any]]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("codes", POSTGRES_CODES.values(), ids=POSTGRES_CODES)
async def test_no_class_of_postgresql_ends_a_server(
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    codes: dict[str, grpc.StatusCode],
) -> None:
    name = postgres.fresh_database()
    refuse = refusing_postgres(postgres, name)

    await outlasts(postgres.url(name), refuse, codes, monkeypatch)

    postgres.drop_database(name)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("codes", SQLITE_CODES.values(), ids=SQLITE_CODES)
async def test_no_code_of_sqlite_ends_a_server(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, codes: dict[str, grpc.StatusCode]
) -> None:
    await outlasts(sqlite_url, refusing_sqlite(monkeypatch), codes, monkeypatch)


async def outlasts(
    url: str,
    refuse: Refuse,
    codes: dict[str, grpc.StatusCode],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # somebody always waits for a count of readers
    monkeypatch.setattr(ReadCounter, "_next", lambda _: _Count("spring"))
    monkeypatch.setattr("campaign_service.reporting.read_counter._MAX_CPU_SHARE", 1.0)
    with capture_logs() as log:
        async with start_pair(url, page_size=5, lease_seconds=1) as services:
            database = open_database(url)
            await with_people(database, MANY)
            await database.close()
            await services.add_list("many", MANY)
            await services.create(a_campaign_to("many", max_messages_per_second=8))
            await services.start()
            await services.until_under_way()
            watching = asyncio.create_task(watched_to_its_end(services))
            for code, expected in codes.items():
                begin = len(log)
                refuse(code)
                # a segment that the database can't evaluate ends its campaigns
                asked = calls(services)[: 3 if expected is INVALID else None]
                seen_codes = [await code_of(call) for call in asked]
                for server in (services.segment, services.campaign):
                    await until_health(server, NOT_SERVING)
                await until_logged(log, begin, {"fails", "fails for now"})
                lines = list(log[begin:])
                refuse("")
                await until_logged(log, begin, {"works again"})
                for server in (services.segment, services.campaign):
                    await until_health(server, SERVING)

                assert seen_codes == [expected] * len(seen_codes), code
                assert_once_and_with_its_traceback(lines, with_one=expected is not UNAVAILABLE)
            last = await watching

    assert last.status == COMPLETED or INVALID in codes.values()
    if last.status == COMPLETED:
        assert_everyone_has_one_outcome(url, "spring", len(MANY))


def assert_once_and_with_its_traceback(lines: Sequence[Any], *, with_one: bool) -> None:
    failures = [
        line
        for line in lines
        if line["event"] in {"fails", "fails for now"} and line["what"] in WORKERS
    ]
    # work that had begun before may have ended well in between
    ends = Counter(line["what"] for line in lines if line["event"] == "works again")
    for worker, logged in Counter(line["what"] for line in failures).items():
        assert logged <= 1 + ends[worker]
    assert all(("exc_info" in line) is with_one for line in failures)


def calls(services: ServerPair) -> list[Callable[[], Awaitable[Any]]]:
    """One that reads, one that writes, and two streams; of both servers."""

    async def upsert() -> None:
        async with grpc.aio.insecure_channel(services.segment.address) as channel:
            stub: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
            await stub.UpsertUsers(
                chat_service_pb2.UpsertUsersRequest(users=[chat_pb2.User(id="new", role="user")])
            )

    async def create() -> None:
        await services.create_segment(
            segment_pb2.Segment(id="new", type=segment_pb2.SEGMENT_TYPE_USER)
        )

    async def targets() -> None:
        call = services.segments.StreamTargets(
            segment_pb.StreamTargetsRequest(segment_ids=["many"])
        )
        await call.read()

    async def watch() -> None:
        await services.campaigns.WatchCampaign(pb.WatchCampaignRequest(id="spring")).read()

    return [upsert, create, targets, services.get, watch, services.stop]


async def code_of(call: Callable[[], Awaitable[Any]]) -> grpc.StatusCode:
    try:
        await call()
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def watched_to_its_end(services: ServerPair) -> campaign_pb2.Campaign:
    """By one who comes back after each failure."""
    request = pb.WatchCampaignRequest(id="spring")
    campaign = campaign_pb2.Campaign()
    while campaign.status not in {COMPLETED, campaign_pb2.CAMPAIGN_STATUS_STOPPED}:
        with suppress(grpc.aio.AioRpcError):
            async for response in services.campaigns.WatchCampaign(request):
                request.resume_token = response.resume_token
                campaign = response.campaign
    return campaign


async def until_logged(log: Log, begin: int, events: set[str]) -> None:
    """Returns when each worker has logged one of them."""
    deadline = asyncio.get_running_loop().time() + BOUND_SECONDS
    while silent := WORKERS - {line["what"] for line in log[begin:] if line["event"] in events}:
        assert asyncio.get_running_loop().time() < deadline, (silent, log[begin:])
        await asyncio.sleep(0.05)


async def until_health(server: Served, status: int) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        while (await watch.read()).status != status:
            pass
        watch.cancel()
