"""A new version takes over from the old one during a campaign, server by server."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from threading import Event

import pytest

from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1.campaign_service_pb2_grpc import CampaignServiceStub
from herald.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from herald.event.v1.event_service_pb2_grpc import EventServiceStub
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub
from tests.bench.replica_campaigns import running_replicas
from tests.harness import hello_campaign, older_version
from tests.harness.bulk_users import insert_users
from tests.harness.postgres import Postgres, migrated
from tests.harness.processes import Pair, Run, Server, free_address, open_channel, run_anew, servers
from tests.harness.reconciliation import (
    assert_everyone_has_one_outcome,
    count_messages,
    lease_owners,
)

PEOPLE = 8_000
# Each has one shard at a time, and the old version is so slow that the new one gets the others.
COMMON = {
    "HERALD_LEASE_SECONDS": "1",
    "HERALD_SENDER_PROCESSES": "0",
    "HERALD_SENDER_SLOTS": "1",
}
PAGE_SIZES = {"old": "1", "new": "20"}
# `ROLLING_TARGETS=1000000 pytest tests/journeys/test_upgrades.py -k rolling` takes minutes
ROLLING_TARGETS = int(os.environ.get("ROLLING_TARGETS", "10000"))
_SECONDS = 600.0

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(2 * _SECONDS)]


@contextmanager
def called(segment: Server, campaign: Server) -> Iterator[Pair]:
    with open_channel(segment.address) as to_segment, open_channel(campaign.address) as to_campaign:
        yield Pair(
            segment=segment,
            campaign=campaign,
            segments=SegmentServiceStub(to_segment),
            chat=ChatServiceStub(to_segment),
            campaigns=CampaignServiceStub(to_campaign),
            events=EventServiceStub(to_campaign),
        )


def until(reached: Callable[[], bool], pair: Pair, campaign: campaign_pb2.Campaign) -> None:
    """Returns when it is so; raises `LateError` if the campaign ends before."""
    hello_campaign.wait_until(pair, campaign, lambda _: reached(), _SECONDS)


@pytest.mark.parametrize(
    "commit", [older_version.commit_before, older_version.commit_before_the_newest_schema]
)
def test_two_versions_share_a_campaign_over_a_migration(
    commit: Callable[[], str], postgres: Postgres, tmp_path: Path
) -> None:
    old = older_version.OlderVersion(commit(), tmp_path / "old")
    name = f"herald_upgrade_{commit.__name__}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C'")
    url = postgres.url(name).replace("postgresql+asyncpg", "postgresql")
    old.migrate(url)
    postgres.execute(insert_users("postgresql", PEOPLE), name)
    logs = tmp_path / "logs"
    logs.mkdir()

    def pair_of(run: Run, kind: str) -> tuple[Server, Server]:
        (logs / kind).mkdir()
        settings = {**COMMON, "HERALD_PAGE_SIZE": PAGE_SIZES[kind]}
        return servers(
            url, free_address(), free_address(), settings=settings, logs=logs / kind, run=run
        )

    old_segment, old_campaign = pair_of(old.run, "old")
    new_segment, new_campaign = pair_of(run_anew, "new")
    with ExitStack() as stack:
        stack.enter_context(old_segment)
        stack.enter_context(old_campaign)
        pair = stack.enter_context(called(old_segment, old_campaign))
        campaign = hello_campaign.start_for_everyone(pair)
        until(lambda: count_messages(url, campaign.id) > 0, pair, campaign)

        migrated(url.replace("postgresql", "postgresql+asyncpg"))
        stack.enter_context(new_segment)
        stack.enter_context(new_campaign)
        (new_pid, *_) = new_campaign.processes()
        until(
            lambda: any(owner.endswith(f":{new_pid}") for owner in lease_owners(url, campaign.id)),
            pair,
            campaign,
        )
        assert count_messages(url, campaign.id) < PEOPLE, "both have a part"
        old_campaign.stop()
        old_segment.stop()
        renewed = stack.enter_context(called(new_segment, new_campaign))
        done = hello_campaign.wait_until_completed(renewed, campaign, _SECONDS)

    totals = assert_everyone_has_one_outcome(url, campaign.id, PEOPLE)
    assert totals.messages == done.stats.messages_sent == PEOPLE
    postgres.drop_database(name)


def test_a_rolling_restart_of_three_replicas_loses_and_doubles_nothing(
    postgres: Postgres, tmp_path: Path
) -> None:
    name = postgres.fresh_database()
    postgres.execute(insert_users("postgresql", ROLLING_TARGETS), name)
    postgres.execute("VACUUM ANALYZE", name)
    url = postgres.url(name)
    with running_replicas(url, tmp_path / "logs", segments=1, campaigns=3) as fleet:
        turns = cycle(fleet.campaigns)
        restarted: set[str] = set()
        while len(restarted) < len(fleet.campaigns):
            # called through the first one, which is restarted in its turn, too
            campaign = hello_campaign.start_for_everyone(fleet.pair)
            while until_more_are_sent(url, campaign) < ROLLING_TARGETS:
                server = next(turns)
                # ends with 0, and is up again when it returns
                server.restart()
                restarted.add(server.address)
            hello_campaign.wait_until_completed(fleet.pair, campaign, _SECONDS)
            totals = assert_everyone_has_one_outcome(url, campaign.id, ROLLING_TARGETS)
            assert totals.messages == ROLLING_TARGETS
    postgres.drop_database(name)


def until_more_are_sent(url: str, campaign: campaign_pb2.Campaign) -> int:
    """Returns how many are sent when a twentieth more are than now; the time-out is its bound."""
    sent = count_messages(url, campaign.id)
    enough = min(sent + ROLLING_TARGETS // 20, ROLLING_TARGETS)
    while sent < enough:
        Event().wait(0.02)
        sent = count_messages(url, campaign.id)
    return sent
