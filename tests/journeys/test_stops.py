"""Stopping at full speed: what is there when StopCampaign returns is all that ever comes of it."""

import time
from threading import Event

import pytest

from herald.campaign.v1 import campaign_pb2, campaign_service_pb2
from tests.harness import hello_campaign
from tests.harness.bulk_users import user_id
from tests.harness.reconciliation import (
    assert_consistent,
    assert_everyone_has_one_outcome,
    count_messages,
    recount,
)
from tests.journeys.conftest import LargeUserBase

_RUN_SECONDS = 120.0
_QUIET_SECONDS = 4.0
_BETWEEN_LOOKS_SECONDS = 0.25
_STOPS = 10
_SOME = 10_000

pytestmark = pytest.mark.timeout(300)


@pytest.mark.nightly_on("postgres")
def test_nothing_comes_after_a_stop_and_everyone_gets_one_message_in_the_end(
    large_base: LargeUserBase,
) -> None:
    campaign = _in_the_middle(large_base)

    at_the_stop = _stop(large_base, campaign)
    stopped_at = time.monotonic()
    # another campaign keeps the servers busy meanwhile
    other = _to_some(large_base)
    while time.monotonic() < stopped_at + _QUIET_SECONDS:
        assert count_messages(large_base.database_url, campaign.id) == at_the_stop
        Event().wait(_BETWEEN_LOOKS_SECONDS)

    assert recount(large_base.database_url, campaign.id).messages == at_the_stop
    assert 0 < at_the_stop < large_base.users
    assert_everyone_has_one_outcome(large_base.database_url, other.id, _SOME)
    for _ in range(_STOPS):
        hello_campaign.start(large_base.pair, campaign)
        sent = _stop(large_base, campaign)
    assert at_the_stop <= sent < large_base.users
    hello_campaign.start(large_base.pair, campaign)
    hello_campaign.wait_until_completed(large_base.pair, campaign, _RUN_SECONDS)
    assert_everyone_has_one_outcome(large_base.database_url, campaign.id, large_base.users)


def _to_some(large_base: LargeUserBase) -> campaign_pb2.Campaign:
    filter_ = {**hello_campaign.EVERYONE_BUT_THE_SENDER, "id": {"$lte": user_id(_SOME)}}
    segment = hello_campaign.create_segment(large_base.pair, filter_)
    campaign = hello_campaign.create_campaign(large_base.pair, segment)
    hello_campaign.start(large_base.pair, campaign)
    return hello_campaign.wait_until_completed(large_base.pair, campaign, _RUN_SECONDS)


def _in_the_middle(large_base: LargeUserBase) -> campaign_pb2.Campaign:
    campaign = hello_campaign.start_for_everyone(large_base.pair)
    return hello_campaign.wait_until(
        large_base.pair,
        campaign,
        lambda state: state.stats.messages_sent >= 0.05 * large_base.users,
        _RUN_SECONDS,
    )


def _stop(large_base: LargeUserBase, campaign: campaign_pb2.Campaign) -> int:
    """How many messages there are when it returns, as the call says and as the tables do."""
    request = campaign_service_pb2.StopCampaignRequest(id=campaign.id)
    answer = large_base.pair.campaigns.StopCampaign(
        request, timeout=hello_campaign.CALL_SECONDS, wait_for_ready=True
    )
    account = recount(large_base.database_url, campaign.id)
    assert_consistent(account)
    assert account.status == "stopped"
    assert account.messages == answer.campaign.stats.messages_sent
    return account.messages
