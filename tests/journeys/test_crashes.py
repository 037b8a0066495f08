import pytest

from herald.campaign.v1 import campaign_pb2
from tests.harness import main_job
from tests.harness.accounts import assert_balanced, assert_conserved, recount
from tests.journeys.conftest import Crowd

_RUN_SECONDS = 120.0

pytestmark = pytest.mark.timeout(240)


def test_a_campaign_outlasts_the_death_of_the_segment_server_and_then_of_its_own(
    crowd: Crowd,
) -> None:
    """It waits for the one, and is completed by the other after its start by itself."""
    campaign = _in_the_middle(crowd)

    crowd.pair.segment.kill()
    meanwhile = main_job.get(crowd.pair, campaign)
    crowd.pair.segment.start()
    _further(crowd, meanwhile)
    crowd.pair.campaign.kill()
    left_behind = recount(crowd.database_url, campaign.id)
    crowd.pair.campaign.start()
    main_job.wait_until_completed(crowd.pair, campaign, _RUN_SECONDS)

    assert meanwhile.status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
    assert_balanced(left_behind)
    assert left_behind.status == "in_progress"
    assert meanwhile.stats.messages_sent < left_behind.messages < crowd.users
    account = assert_conserved(crowd.database_url, campaign.id, crowd.users)
    assert account.messages == account.counted_channels == crowd.users


def _in_the_middle(crowd: Crowd) -> campaign_pb2.Campaign:
    """A running campaign between 5% and 80% of its messages."""
    started = main_job.start_for_everyone(crowd.pair)
    campaign = main_job.wait_until(
        crowd.pair,
        started,
        lambda state: state.stats.messages_sent >= 0.05 * crowd.users,
        _RUN_SECONDS,
    )
    assert campaign.stats.messages_sent <= 0.8 * crowd.users
    return campaign


def _further(crowd: Crowd, campaign: campaign_pb2.Campaign) -> None:
    """More of its messages are sent, with the segment server that has come back."""
    sent = campaign.stats.messages_sent
    main_job.wait_until(
        crowd.pair, campaign, lambda state: state.stats.messages_sent > sent, _RUN_SECONDS
    )
