"""A campaign to everyone, left alone by the one who measures it."""

import threading

from herald.campaign.v1 import campaign_pb2
from tests.bench.places import Place
from tests.harness import main_job
from tests.harness.accounts import assert_conserved
from tests.harness.processes import Pair

_LOOKS_PER_SECOND = 10
# a campaign that is slower than this is stuck
_START_SECONDS = 60.0
_TARGETS_PER_SECOND = 500


def until_completed(
    place: Place, pair: Pair, campaign: campaign_pb2.Campaign
) -> campaign_pb2.Campaign:
    """Looks seldom: as fast as it goes would cost the campaign a good part of a core."""
    never = threading.Event()
    seconds = _START_SECONDS + place.users / _TARGETS_PER_SECOND
    for state in main_job.progress(pair, campaign, seconds):
        campaign = state
        never.wait(1 / _LOOKS_PER_SECOND)
    return campaign


def assert_exact(place: Place, database_url: str, campaign: campaign_pb2.Campaign) -> None:
    """Everyone has one message, in a channel of their own."""
    account = assert_conserved(database_url, campaign.id, place.users)
    assert account.messages == account.counted_channels == place.users, account
