"""A campaign from its start to its end, left alone by the one who measures it."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from herald.campaign.v1 import campaign_pb2
from tests.bench.places import PAGE_SIZE, Place
from tests.harness import main_job
from tests.harness.accounts import assert_conserved
from tests.harness.processes import Pair, running_pair

PRODUCTION = {"HERALD_PAGE_SIZE": str(PAGE_SIZE)}
"""The servers' settings; the floor writes in transactions of the same size."""

_LOOK_SECONDS = 0.5
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


def completed_run(
    place: Place, database_url: str, start: Callable[[Pair], campaign_pb2.Campaign]
) -> Run:
    """The campaign of `start`, on two servers of its own."""
    with running_pair(database_url, place.folder / "logs", PRODUCTION) as pair:
        campaign = until_completed(place, pair, start(pair))
        return Run(
            campaign,
            main_job.run_seconds(campaign),
            pair.segment.peak_memory(),
            pair.campaign.peak_memory(),
        )


def until_completed(
    place: Place, pair: Pair, campaign: campaign_pb2.Campaign
) -> campaign_pb2.Campaign:
    for state in looks(place, pair, campaign):
        campaign = state
    return campaign


def looks(
    place: Place, pair: Pair, campaign: campaign_pb2.Campaign, every: float = _LOOK_SECONDS
) -> Iterator[campaign_pb2.Campaign]:
    """Its states up to and with the final one, `every` so many seconds.

    Not as fast as it goes: that would cost the campaign a good part of a core.
    """
    never = threading.Event()
    for state in main_job.progress(pair, campaign, patience(place)):
        yield state
        never.wait(every)


def patience(place: Place) -> float:
    """How many seconds a campaign to all users may take."""
    return _START_SECONDS + place.users / _TARGETS_PER_SECOND


def assert_exact(
    database_url: str, campaign: campaign_pb2.Campaign, targets: int, *, channels_created: int
) -> None:
    """Every target has its one message, and so many channels were made for them."""
    account = assert_conserved(database_url, campaign.id, targets)
    assert account.messages == targets, account
    assert account.counted_channels == channels_created, account
