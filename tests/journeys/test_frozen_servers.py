"""A segment server that is frozen holds nobody up for long: another one is asked.

Frozen is not gone: its connections stay open, and its system acknowledges all that comes.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from campaign_service.campaigns.errors import SegmentServiceUnavailableError
from campaign_service.segment_client import SegmentClient
from campaign_service.segments import AudienceCursor
from herald.campaign.v1 import campaign_pb2, campaign_service_pb2
from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub
from herald_rpc.client.channels import open_channels
from tests.harness import forkserver, hello_campaign
from tests.harness.freezing import frozen_between_writes
from tests.harness.processes import Pair, Server, free_address, running_pair
from tests.harness.reconciliation import assert_everyone_has_one_outcome
from tests.journeys.test_outages import (
    PEOPLE,
    create_campaign,
    refusal,
    started,
    two_segment_servers,
    upsert_people,
)

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]

# A dead peer is left after 8 s and a connection attempt after 5. The rest is for a busy machine;
# with gRPC's defaults it would be minutes.
LEFT_SECONDS = 20.0
AT_ONCE = 4
LIST, EMPTY = "list", "empty"
# so many and so long that a stream has more of them than what is sent ahead
TARGETS = [f"{number:04}{'x' * 240}" for number in range(2_000)]
PAGE_SIZE = 100
# sent beside the calls, because a sender that stands back gets no core on a busy machine
SLOW = {
    "HERALD_MAX_MESSAGES_PER_SECOND": "500",
    "HERALD_PAGE_SIZE": "50",
    "HERALD_SENDER_PROCESSES": "0",
}


@contextmanager
def segment_servers(how_many: int, database_url: str, logs: Path) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Server(
                    "segment_service",
                    address,
                    {"HERALD_DATABASE_URL": database_url, "HERALD_SEGMENT_LISTEN": address},
                    logs / f"segment-{number}.log",
                    forkserver.run,
                )
            )
            for number, address in enumerate(free_address() for _ in range(how_many))
        ]


async def fill(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        service = SegmentServiceStub(channel)
        for id_ in (LIST, EMPTY):
            segment = segment_pb2.Segment(id=id_, type=segment_pb2.SEGMENT_TYPE_USER)
            await service.CreateSegment(pb.CreateSegmentRequest(segment=segment))
        await service.AddTargets(pb.AddTargetsRequest(segment_id=LIST, target_ids=TARGETS))


class Stream:
    """One that has read a page, or is about to read its first."""

    def __init__(self, client: SegmentClient) -> None:
        self.waited = asyncio.Event()
        cursor = AudienceCursor((LIST,), "", 0, 1, "")
        self._pages = client.stream(cursor, PAGE_SIZE, self._wait)
        self._read: list[str] = []

    async def _wait(self, _reason: str) -> None:
        self.waited.set()

    async def begin(self) -> None:
        self._read.extend((await anext(self._pages)).target_ids)

    async def rest(self) -> Sequence[str]:
        async with aclosing(self._pages):
            async for page in self._pages:
                self._read.extend(page.target_ids)
        return self._read


async def one(client: SegmentClient) -> object:
    return list(await client.by_id([LIST]))


async def several(client: SegmentClient) -> object:
    return sorted(await client.by_id([LIST, EMPTY]))


async def count(client: SegmentClient) -> object:
    return await client.count([LIST, EMPTY], "")


CALLS: dict[str, tuple[Callable[[SegmentClient], Coroutine[Any, Any, object]], object]] = {
    "GetSegment": (one, [LIST]),
    "QuerySegments": (several, [EMPTY, LIST]),
    "CountTargets": (count, len(TARGETS)),
}


async def in_time(call: Awaitable[object]) -> object:
    """The outcome, if it comes within the time in which a dead peer must be left."""
    async with asyncio.timeout(LEFT_SECONDS):
        try:
            return await call
        except SegmentServiceUnavailableError:
            return "unavailable"


@pytest.fixture(params=["before the first call", "between calls", "in the middle of calls"])
def when(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client_of() -> AsyncIterator[Callable[[str], Awaitable[SegmentClient]]]:
    async with AsyncExitStack() as stack:

        async def client(target: str) -> SegmentClient:
            channels = await stack.enter_async_context(open_channels(target))
            return SegmentClient(*channels.values())

        yield client


@pytest.mark.parametrize(
    ("how_many", "host"),
    [(2, "127.0.0.1"), (2, "localhost"), (1, "127.0.0.1")],
    ids=["one of two addresses", "one of two host names", "the only one"],
)
async def test_a_frozen_segment_server_is_left_within_seconds(
    how_many: int,
    host: str,
    when: str,
    sqlite_url: str,
    tmp_path: Path,
    client_of: Callable[[str], Awaitable[SegmentClient]],
) -> None:
    with segment_servers(how_many, sqlite_url, tmp_path) as servers:
        await fill(servers[0])
        target = ",".join(server.address.replace("127.0.0.1", host) for server in servers)
        client = await client_of(target)
        streams = [Stream(client) for _ in range(AT_ONCE)]
        if when != "before the first call":
            for _ in range(how_many * AT_ONCE):
                assert await one(client) == [LIST]
        if when == "in the middle of calls":
            await asyncio.gather(*(stream.begin() for stream in streams))
            calls = [asyncio.create_task(in_time(ask(client))) for ask, _ in all_calls()]
            # they are on their way
            await asyncio.sleep(0)
        with frozen_between_writes(servers[-1]):
            if when != "in the middle of calls":
                calls = [asyncio.create_task(in_time(ask(client))) for ask, _ in all_calls()]
            rests = [asyncio.create_task(stream.rest()) for stream in streams]
            outcomes = await asyncio.gather(*calls)
            if how_many == 1:
                await in_time(asyncio.gather(*(stream.waited.wait() for stream in streams)))
            else:
                await in_time(asyncio.wait(rests))
        targets = await in_time(asyncio.gather(*rests))
        afterwards = [await in_time(one(client)) for _ in range(AT_ONCE)]

    for outcome, (_, right) in zip(outcomes, all_calls(), strict=True):
        assert outcome == right or (how_many == 1 and outcome == "unavailable")
    if how_many == 1 and when != "in the middle of calls":
        assert set(map(str, outcomes)) == {"unavailable"}
    assert targets == [TARGETS] * AT_ONCE
    assert afterwards == [[LIST]] * AT_ONCE


def all_calls() -> list[tuple[Callable[[SegmentClient], Coroutine[Any, Any, object]], object]]:
    return [*CALLS.values()] * AT_ONCE


def counted(pair: Pair, campaign: campaign_pb2.Campaign) -> None:
    """Waits until no segment server writes, for one that is frozen keeps SQLite's lock."""
    hello_campaign.wait_until(
        pair,
        campaign,
        lambda state: all(segment.HasField("size_updated_at") for segment in state.segments),
        60,
    )


def test_start_campaign_is_not_held_up_by_one_of_two_that_is_frozen_between_writes(
    sqlite_url: str, tmp_path: Path
) -> None:
    with two_segment_servers(sqlite_url, tmp_path / "logs") as (pair, second):
        upsert_people(pair)
        campaigns = [create_campaign(pair) for _ in range(AT_ONCE)]
        for campaign in campaigns:
            counted(pair, campaign)
        start = [campaign_service_pb2.StartCampaignRequest(id=each.id) for each in campaigns]
        with frozen_between_writes(second):
            began = time.monotonic()
            for request in start:
                pair.campaigns.StartCampaign(request, timeout=2 * LEFT_SECONDS)
            took = time.monotonic() - began

    assert took < LEFT_SECONDS


def test_a_campaign_waits_for_its_only_segment_server_while_it_is_frozen_between_writes(
    sqlite_url: str, tmp_path: Path
) -> None:
    with running_pair(sqlite_url, tmp_path / "logs", SLOW, forkserver.run) as pair:
        upsert_people(pair)
        draft, campaign = create_campaign(pair), started(pair)
        counted(pair, draft)
        counted(pair, campaign)
        with frozen_between_writes(pair.segment):
            waiting = hello_campaign.wait_until(
                pair, campaign, lambda state: bool(state.status_reason), 2 * LEFT_SECONDS
            )
            start = campaign_service_pb2.StartCampaignRequest(id=draft.id)
            code = refusal(pair.campaigns.StartCampaign, start, LEFT_SECONDS)
        hello_campaign.wait_until_completed(pair, campaign, 60)

    assert "segment service" in waiting.status_reason
    assert waiting.stats.messages_sent < PEOPLE
    assert code is grpc.StatusCode.UNAVAILABLE
    assert_everyone_has_one_outcome(sqlite_url, campaign.id, PEOPLE)


def test_watch_leaves_a_frozen_campaign_server_and_comes_back(
    sqlite_url: str, tmp_path: Path
) -> None:
    with running_pair(sqlite_url, tmp_path / "logs", SLOW, forkserver.run) as pair:
        upsert_people(pair)
        campaign = create_campaign(pair)
        command = [sys.executable, "-m", "campaign_service", "watch", campaign.id]
        command += ["--target", pair.campaign.address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout
            assert "draft" in watching.stdout.readline()
            with frozen_between_writes(pair.campaign):
                late = subprocess.run(
                    command, timeout=2 * LEFT_SECONDS, check=False, capture_output=True, text=True
                )
            hello_campaign.start(pair, campaign)
            shown = watching.stdout.read()

    assert (late.returncode, late.stderr.startswith("UNAVAILABLE")) == (1, True)
    assert (watching.returncode, "completed" in shown) == (0, True)
