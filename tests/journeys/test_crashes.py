import pytest

from herald.campaign.v1 import campaign_pb2
from tests.harness import hello_campaign
from tests.harness.reconciliation import assert_consistent, assert_everyone_has_one_outcome, recount
from tests.journeys.conftest import LargeUserBase

_RUN_SECONDS = 120.0

pytestmark = pytest.mark.timeout(240)


@pytest.mark.nightly_on("sqlite")
def test_a_campaign_outlasts_the_death_of_the_segment_server_and_then_of_its_own(
    large_base: LargeUserBase,
) -> None:
    """It waits for the one, and is completed by the other after its start by itself."""
    campaign = _in_the_middle(large_base)

    large_base.pair.segment.kill()
    meanwhile = hello_campaign.get(large_base.pair, campaign)
    large_base.pair.segment.start()
    _further(large_base, meanwhile)
    large_base.pair.campaign.kill()
    left_behind = recount(large_base.database_url, campaign.id)
    large_base.pair.campaign.start()
    hello_campaign.wait_until_completed(large_base.pair, campaign, _RUN_SECONDS)

    assert meanwhile.status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
    assert_consistent(left_behind)
    assert left_behind.status == "in_progress"
    assert meanwhile.stats.messages_sent < left_behind.messages < large_base.users
    account = assert_everyone_has_one_outcome(
        large_base.database_url, campaign.id, large_base.users
    )
    assert account.messages == account.counted_channels == large_base.users


def _in_the_middle(large_base: LargeUserBase) -> campaign_pb2.Campaign:
    """A running campaign between 5% and 80% of its messages."""
    started = hello_campaign.start_for_everyone(large_base.pair)
    campaign = hello_campaign.wait_until(
        large_base.pair,
        started,
        lambda state: state.stats.messages_sent >= 0.05 * large_base.users,
        _RUN_SECONDS,
    )
    assert campaign.stats.messages_sent <= 0.8 * large_base.users
    return campaign


def _further(large_base: LargeUserBase, campaign: campaign_pb2.Campaign) -> None:
    """More of its messages are sent, with the segment server that has come back."""
    sent = campaign.stats.messages_sent
    hello_campaign.wait_until(
        large_base.pair, campaign, lambda state: state.stats.messages_sent > sent, _RUN_SECONDS
    )
