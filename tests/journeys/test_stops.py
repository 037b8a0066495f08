"""Stopping at full speed: what is there when StopCampaign returns is all that ever comes of it."""

import time
from threading import Event

import pytest

from herald.campaign.v1 import campaign_pb2, campaign_service_pb2
from tests.harness import main_job
from tests.harness.accounts import assert_balanced, assert_conserved, count_messages, recount
from tests.harness.many_users import user_id
from tests.journeys.conftest import Crowd

_RUN_SECONDS = 120.0
_QUIET_SECONDS = 10.0
_BETWEEN_LOOKS_SECONDS = 0.25
_STOPS = 20
_SOME = 10_000

pytestmark = pytest.mark.timeout(300)


def test_nothing_comes_after_a_stop_and_everyone_gets_one_message_in_the_end(crowd: Crowd) -> None:
    campaign = _in_the_middle(crowd)

    at_the_stop = _stop(crowd, campaign)
    stopped_at = time.monotonic()
    # another campaign keeps the servers busy meanwhile
    other = _to_some(crowd)
    while time.monotonic() < stopped_at + _QUIET_SECONDS:
        assert count_messages(crowd.database_url, campaign.id) == at_the_stop
        Event().wait(_BETWEEN_LOOKS_SECONDS)

    assert recount(crowd.database_url, campaign.id).messages == at_the_stop
    assert 0 < at_the_stop < crowd.users
    assert_conserved(crowd.database_url, other.id, _SOME)
    for _ in range(_STOPS):
        main_job.start(crowd.pair, campaign)
        sent = _stop(crowd, campaign)
    assert at_the_stop <= sent < crowd.users
    main_job.start(crowd.pair, campaign)
    main_job.wait_until_completed(crowd.pair, campaign, _RUN_SECONDS)
    assert_conserved(crowd.database_url, campaign.id, crowd.users)


def _to_some(crowd: Crowd) -> campaign_pb2.Campaign:
    filter_ = {**main_job.EVERYONE_BUT_THE_SENDER, "id": {"$lte": user_id(_SOME)}}
    segment = main_job.create_segment(crowd.pair, filter_)
    campaign = main_job.create_campaign(crowd.pair, segment)
    main_job.start(crowd.pair, campaign)
    return main_job.wait_until_completed(crowd.pair, campaign, _RUN_SECONDS)


def _in_the_middle(crowd: Crowd) -> campaign_pb2.Campaign:
    campaign = main_job.start_for_everyone(crowd.pair)
    return main_job.wait_until(
        crowd.pair,
        campaign,
        lambda state: state.stats.messages_sent >= 0.05 * crowd.users,
        _RUN_SECONDS,
    )


def _stop(crowd: Crowd, campaign: campaign_pb2.Campaign) -> int:
    """How many messages there are when it returns, as the call says and as the tables do."""
    request = campaign_service_pb2.StopCampaignRequest(id=campaign.id)
    answer = crowd.pair.campaigns.StopCampaign(
        request, timeout=main_job.CALL_SECONDS, wait_for_ready=True
    )
    account = recount(crowd.database_url, campaign.id)
    assert_balanced(account)
    assert account.status == "stopped"
    assert account.messages == answer.campaign.stats.messages_sent
    return account.messages
