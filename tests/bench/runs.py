"""A campaign from its start to its end, left alone by the one who measures it."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from campaign_service.settings import CampaignSettings
from herald.campaign.v1 import campaign_pb2
from tests.bench.databases import PAGE_SIZE, BenchDatabase
from tests.harness import hello_campaign
from tests.harness.processes import Pair, running_pair
from tests.harness.reconciliation import assert_everyone_has_one_outcome

PRODUCTION = {"HERALD_PAGE_SIZE": str(PAGE_SIZE), "HERALD_LOG_FORMAT": "json"}
"""The servers' settings; the floor writes in transactions of the same size."""

_SAMPLE_SECONDS = 0.5
# a campaign that is slower than this is stuck
_START_SECONDS = 60.0
_TARGETS_PER_SECOND = 500


@dataclass(frozen=True, slots=True)
class Run:
    """A completed campaign, its seconds by the server's clock, and both servers' peak memory."""

    campaign: campaign_pb2.Campaign
    seconds: float
    segment_bytes: int
    campaign_bytes: int


@contextmanager
def warm_pair(
    bench_database: BenchDatabase,
    database_url: str,
    settings: Mapping[str, str] | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> Iterator[Pair]:
    """Two servers whose sender processes have started, which takes them one to four seconds.

    `settings` go over production's; `credentials` are those with which the servers are called.
    """
    # of their own: those of an earlier pair tell of senders, too
    logs = Path(tempfile.mkdtemp(prefix="logs-", dir=bench_database.folder))
    given = {**PRODUCTION, **(settings or {})}
    with running_pair(database_url, logs, given, credentials=credentials) as pair:
        deadline = time.monotonic() + _START_SECONDS
        while (
            pair.campaign.log_tail().count('"event": "sending"')
            < CampaignSettings().sender_processes
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(pair.campaign.log_tail())
            threading.Event().wait(0.1)
        yield pair


def completed_run(
    bench_database: BenchDatabase, database_url: str, start: Callable[[Pair], campaign_pb2.Campaign]
) -> Run:
    """The campaign of `start`, on two servers of its own."""
    with warm_pair(bench_database, database_url) as pair:
        campaign = until_completed(bench_database, pair, start(pair))
        return Run(
            campaign,
            hello_campaign.run_seconds(campaign),
            pair.segment.peak_memory(),
            pair.campaign.peak_memory(),
        )


def until_completed(
    bench_database: BenchDatabase, pair: Pair, campaign: campaign_pb2.Campaign
) -> campaign_pb2.Campaign:
    for state in states(bench_database, pair, campaign):
        campaign = state
    return campaign


def states(
    bench_database: BenchDatabase,
    pair: Pair,
    campaign: campaign_pb2.Campaign,
    every: float = _SAMPLE_SECONDS,
) -> Iterator[campaign_pb2.Campaign]:
    """Its states up to and with the final one, `every` so many seconds.

    Not as fast as it goes: that would cost the campaign a good part of a core.
    """
    never = threading.Event()
    for state in hello_campaign.progress(pair, campaign, completion_timeout(bench_database)):
        yield state
        never.wait(every)


def completion_timeout(bench_database: BenchDatabase) -> float:
    """How many seconds a campaign to all users may take."""
    return _START_SECONDS + bench_database.users / _TARGETS_PER_SECOND


def assert_exact(
    database_url: str, campaign: campaign_pb2.Campaign, targets: int, *, channels_created: int
) -> None:
    """Every target has its one message, and so many channels were made for them."""
    account = assert_everyone_has_one_outcome(database_url, campaign.id, targets)
    assert account.messages == targets, account
    assert account.counted_channels == channels_created, account
