"""What the servers depend on goes away and comes back: callers are told, campaigns wait."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy.engine import make_url

from herald.campaign.v1 import campaign_pb2, campaign_service_pb2
from herald.campaign.v1.campaign_service_pb2_grpc import CampaignServiceStub
from herald.chat.v1 import chat_pb2, chat_service_pb2
from herald.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from herald.event.v1.event_service_pb2_grpc import EventServiceStub
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub
from tests.harness import forkserver, hello_campaign
from tests.harness.freezing import frozen_between_writes
from tests.harness.postgres import Postgres
from tests.harness.processes import Pair, Server, free_address, open_channel, running_pair
from tests.harness.reconciliation import assert_everyone_has_one_outcome

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = {
    "segment_service": "herald.segment.v1.SegmentService",
    "campaign_service": "herald.campaign.v1.CampaignService",
}
IN_PROGRESS = campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
MIB = 1024 * 1024

# so slow that there is a middle, and in so many pages that no buffer on the way has all of them
PEOPLE = 4_000
SETTINGS = {
    "HERALD_LEASE_SECONDS": "1",
    "HERALD_MAX_MESSAGES_PER_SECOND": "500",
    "HERALD_PAGE_SIZE": "50",
}
BACK_SECONDS = 20.0
# for a machine whose cores are others' most of the time, where a lease of 1 s runs out by itself
PATIENT = {**SETTINGS, "HERALD_LEASE_SECONDS": "10"}
PATIENT_SECONDS = 250.0


def upsert_people(pair: Pair) -> None:
    """Their ids are long, so that a stream of them is."""
    for start in range(0, PEOPLE, 1_000):
        people = [
            chat_pb2.User(id=f"{number:05}".ljust(200, "x"), role="user")
            for number in range(start, start + 1_000)
        ]
        pair.chat.UpsertUsers(chat_service_pb2.UpsertUsersRequest(users=people), timeout=30)


@contextmanager
def health(server: Server) -> Iterator[Any]:
    with open_channel(server.address) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def wait_for_health(server: Server, status: int, seconds: float = BACK_SECONDS) -> None:
    """Overall, and then by service, where it is told at the same moment."""
    with health(server) as stub:
        for name in ("", SERVICES[server.module]):
            watch = stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=seconds)
            for answer in watch:
                if answer.status == status:
                    break
            watch.cancel()


def refusal(call: Any, request: Any, seconds: float) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=seconds)
    error: Any = raised.value
    code: grpc.StatusCode = error.code()
    return code


def get_request(campaign: campaign_pb2.Campaign) -> campaign_service_pb2.GetCampaignRequest:
    return campaign_service_pb2.GetCampaignRequest(id=campaign.id)


def upsert_request(weight: int = 0) -> chat_service_pb2.UpsertUsersRequest:
    user = chat_pb2.User(id="newcomer", role="host")
    user.custom["weight"] = "x" * weight
    return chat_service_pb2.UpsertUsersRequest(users=[user])


def create_campaign(pair: Pair) -> campaign_pb2.Campaign:
    """To everyone but the sender, in channels without ids of their own: such long ones can't be."""
    hello_campaign.upsert_sender(pair)
    segment = hello_campaign.create_segment(pair, hello_campaign.EVERYONE_BUT_THE_SENDER)
    campaign = campaign_pb2.Campaign(
        sender_id=hello_campaign.SENDER.id,
        segment_ids=[segment.id],
        message_template=campaign_pb2.MessageTemplate(text=hello_campaign.TEXT),
        create_channels=True,
        channel_template=campaign_pb2.ChannelTemplate(type=hello_campaign.CHANNEL_TYPE),
    )
    request = campaign_service_pb2.CreateCampaignRequest(campaign=campaign)
    return pair.campaigns.CreateCampaign(request, timeout=30).campaign


def started(pair: Pair) -> campaign_pb2.Campaign:
    campaign = create_campaign(pair)
    hello_campaign.start(pair, campaign)
    return campaign


def under_way(
    pair: Pair, campaign: campaign_pb2.Campaign, sent: int, seconds: float = BACK_SECONDS
) -> campaign_pb2.Campaign:
    state = hello_campaign.wait_until(
        pair, campaign, lambda state: state.stats.messages_sent >= sent, seconds
    )
    assert state.status == IN_PROGRESS
    return state


@pytest.mark.nightly
def test_everything_outlasts_a_database_that_is_down(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    with running_pair(postgres_url, tmp_path / "logs", SETTINGS, forkserver.run) as pair:
        upsert_people(pair)
        campaign = started(pair)
        under_way(pair, campaign, 200)

        postgres.stop()
        try:
            refusal_code = refusal(pair.campaigns.GetCampaign, get_request(campaign), 10)
            for server in (pair.segment, pair.campaign):
                wait_for_health(server, NOT_SERVING)
            before = [server.peak_memory() for server in (pair.segment, pair.campaign)]
            meanwhile = Counter(
                [refusal(pair.campaigns.GetCampaign, get_request(campaign), 10)]
                + [refusal(pair.chat.UpsertUsers, upsert_request(), 10) for _ in range(200)]
            )
            after = [server.peak_memory() for server in (pair.segment, pair.campaign)]
        finally:
            postgres.start()
        for server in (pair.segment, pair.campaign):
            wait_for_health(server, SERVING)
        hello_campaign.wait_until_completed(pair, campaign, 60)

    assert refusal_code is grpc.StatusCode.UNAVAILABLE
    assert set(meanwhile) == {grpc.StatusCode.UNAVAILABLE}
    assert max(b - a for a, b in zip(before, after, strict=True)) < 20 * MIB
    assert_everyone_has_one_outcome(postgres_url, campaign.id, PEOPLE)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_everything_outlasts_a_database_that_turns_read_only(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    """As after a failover, or when a provider finds the disk full."""
    name = make_url(postgres_url).database
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    with running_pair(postgres_url, tmp_path / "logs", PATIENT, forkserver.run) as pair:
        upsert_people(pair)
        campaign = started(pair)
        under_way(pair, campaign, 200, PATIENT_SECONDS)

        postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        postgres.execute(cut)
        for server in (pair.segment, pair.campaign):
            wait_for_health(server, NOT_SERVING, PATIENT_SECONDS)
        refusal_code = refusal(pair.chat.UpsertUsers, upsert_request(), 10)
        readable = hello_campaign.wait_until(
            pair, campaign, lambda state: bool(state.status_reason), PATIENT_SECONDS
        )
        postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        for server in (pair.segment, pair.campaign):
            wait_for_health(server, SERVING, PATIENT_SECONDS)
        pair.chat.UpsertUsers(upsert_request(), timeout=10)
        done = hello_campaign.wait_until_completed(pair, campaign, PATIENT_SECONDS)

    assert refusal_code is grpc.StatusCode.UNAVAILABLE
    assert readable.status == IN_PROGRESS
    assert readable.status_reason == "retrying: the database is read-only"
    assert done.status_reason == ""
    assert_everyone_has_one_outcome(postgres_url, campaign.id, PEOPLE)


@pytest.mark.timeout(900)
@pytest.mark.nightly
def test_everything_outlasts_statements_that_an_operator_cancels(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    name = make_url(postgres_url).database
    cancel = (
        "SELECT count(*) FROM (SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{name}' AND state = 'active' OFFSET 0) AS cancelled"
    )
    cancelled = 0
    with running_pair(postgres_url, tmp_path / "logs", PATIENT, forkserver.run) as pair:
        upsert_people(pair)
        campaign = started(pair)
        under_way(pair, campaign, 200, PATIENT_SECONDS)
        while cancelled < 20:
            cancelled += int(postgres.execute(cancel))
        hello_campaign.wait_until_completed(pair, campaign, PATIENT_SECONDS)

    assert_everyone_has_one_outcome(postgres_url, campaign.id, PEOPLE)


@pytest.mark.nightly
def test_a_flood_on_a_locked_database_is_refused_and_leaves_no_trace(
    sqlite_url: str, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "HERALD_MAX_CALLS": "16"}
    with ExitStack() as stack:
        pair = stack.enter_context(
            running_pair(sqlite_url, tmp_path / "logs", settings, forkserver.run)
        )
        upsert_people(pair)
        campaign = started(pair)
        under_way(pair, campaign, 200)

        lock = stack.enter_context(
            closing(sqlite3.connect(str(make_url(sqlite_url).database), isolation_level=None))
        )
        lock.execute("BEGIN IMMEDIATE")
        wait_for_health(pair.segment, NOT_SERVING)
        in_time = refusal(pair.chat.UpsertUsers, upsert_request(), 3)
        readable = hello_campaign.get(pair, campaign)
        before = pair.segment.peak_memory()
        flood = codes_of_a_flood(pair, calls=1_000, weight=4_000, seconds=4)
        grown = pair.segment.peak_memory() - before
        lock.execute("ROLLBACK")

        wait_for_health(pair.segment, SERVING)
        pair.chat.UpsertUsers(upsert_request(), timeout=10)
        hello_campaign.wait_until_completed(pair, campaign, 60)

    assert in_time is grpc.StatusCode.UNAVAILABLE
    assert readable.status == IN_PROGRESS
    assert set(flood) <= {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
    assert flood[grpc.StatusCode.RESOURCE_EXHAUSTED] > 900
    assert grown < 50 * MIB
    assert_everyone_has_one_outcome(sqlite_url, campaign.id, PEOPLE)


def codes_of_a_flood(
    pair: Pair, calls: int, weight: int, seconds: float
) -> Counter[grpc.StatusCode]:
    """All at once, and health is asked in between."""
    request = upsert_request(weight)
    done, codes = threading.Semaphore(0), Counter[grpc.StatusCode]()
    futures = [pair.chat.UpsertUsers.future(request, timeout=seconds) for _ in range(calls)]
    for future in futures:
        future.add_done_callback(lambda _: done.release())
    with health(pair.segment) as stub:
        stub.Check(health_pb2.HealthCheckRequest(), timeout=seconds)
    for _ in futures:
        assert done.acquire(timeout=60)
    for future in futures:
        codes[future.code()] += 1
    return codes


@contextmanager
def two_segment_servers(
    database_url: str, logs: Path, hosts: str = "127.0.0.1"
) -> Iterator[tuple[Pair, Server]]:
    """A pair whose campaign server calls a second segment server, too.

    It finds them by what `hosts` has in place of their address.
    """
    logs.mkdir()
    common = {**SETTINGS, "HERALD_DATABASE_URL": database_url}
    first, second = (
        Server(
            "segment_service",
            address,
            {**common, "HERALD_SEGMENT_LISTEN": address},
            logs / f"{name}.log",
            forkserver.run,
        )
        for name, address in (("first", free_address()), ("second", free_address()))
    )
    address = free_address()
    campaign = Server(
        "campaign_service",
        address,
        {
            **common,
            "HERALD_CAMPAIGN_LISTEN": address,
            "HERALD_SEGMENT_TARGET": ",".join(
                server.address.replace("127.0.0.1", hosts) for server in (first, second)
            ),
        },
        logs / "campaign.log",
        forkserver.run,
    )
    with (
        first,
        second,
        campaign,
        open_channel(first.address) as to_segment,
        open_channel(address) as to_campaign,
    ):
        yield (
            Pair(
                segment=first,
                campaign=campaign,
                segments=SegmentServiceStub(to_segment),
                chat=ChatServiceStub(to_segment),
                campaigns=CampaignServiceStub(to_campaign),
                events=EventServiceStub(to_campaign),
            ),
            second,
        )


@pytest.mark.nightly
@pytest.mark.parametrize("hosts", ["127.0.0.1", "localhost"])
def test_a_run_goes_on_as_long_as_one_of_the_segment_servers_is_there(
    hosts: str, sqlite_url: str, tmp_path: Path
) -> None:
    with two_segment_servers(sqlite_url, tmp_path / "logs", hosts) as (pair, second):
        upsert_people(pair)
        # a server that hangs gets no calls, so that the stream is with the first one
        with frozen_between_writes(second):
            draft, campaign = create_campaign(pair), started(pair)
            sent = under_way(pair, campaign, 100).stats.messages_sent

        pair.segment.kill()
        start_anew(pair.campaign)
        with_one = under_way(pair, campaign, sent + 200)

        start = campaign_service_pb2.StartCampaignRequest(id=draft.id)
        with frozen_between_writes(second):
            while_it_hangs = refusal(pair.campaigns.StartCampaign, start, 3)
            second.kill()
        start_anew(pair.campaign)
        with_none = hello_campaign.wait_until(
            pair, campaign, lambda state: bool(state.status_reason), BACK_SECONDS
        )
        while_it_is_gone = refusal(pair.campaigns.StartCampaign, start, 3)

        pair.segment.start()
        hello_campaign.wait_until_completed(pair, campaign, 60)

    assert with_one.status == with_none.status == IN_PROGRESS
    assert "segment service" in with_none.status_reason
    assert with_none.stats.messages_sent < PEOPLE
    assert {while_it_hangs, while_it_is_gone} == {grpc.StatusCode.UNAVAILABLE}
    assert_everyone_has_one_outcome(sqlite_url, campaign.id, PEOPLE)


def start_anew(server: Server) -> None:
    """In the middle of its work; nothing that was on its way to it is left."""
    server.kill()
    server.start()
