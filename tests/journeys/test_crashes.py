import pytest

from herald.campaign.v1 import campaign_pb2
from tests.harness import main_job
from tests.harness.accounts import assert_balanced, assert_conserved, recount
from tests.journeys.conftest import Crowd

_RUN_SECONDS = 120.0

pytestmark = pytest.mark.timeout(240)


def test_a_killed_campaign_server_completes_its_campaign_after_its_start_by_itself(
    crowd: Crowd,
) -> None:
    campaign = _in_the_middle(crowd)

    crowd.pair.campaign.kill()
    left_behind = recount(crowd.database_url, campaign.id)
    crowd.pair.campaign.start()
    main_job.wait_until_completed(crowd.pair, campaign, _RUN_SECONDS)

    assert_balanced(left_behind)
    assert left_behind.status == "in_progress"
    assert 0 < left_behind.messages < crowd.users
    account = assert_conserved(crowd.database_url, campaign.id, crowd.users)
    assert account.messages == account.counted_channels == crowd.users


def test_a_campaign_outlasts_the_death_of_the_segment_server(crowd: Crowd) -> None:
    campaign = _in_the_middle(crowd)

    crowd.pair.segment.kill()
    meanwhile = main_job.get(crowd.pair, campaign)
    crowd.pair.segment.start()
    main_job.wait_until_completed(crowd.pair, campaign, _RUN_SECONDS)

    assert meanwhile.status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
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
