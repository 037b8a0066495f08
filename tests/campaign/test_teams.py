"""Multi-tenancy: who is outside the team of the new channels gets nothing."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from campaign_service.campaigns.outcomes import NotSent, Reason
from campaign_service.planning.compiled import compile_campaign
from campaign_service.planning.routing import resolve_receiver
from chat_store.database.engine import Database
from chat_store.models import PickedUser, UserState
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.segment.v1 import segment_pb2
from tests.campaign.builders import (
    MOMENT,
    SENDER_ID,
    a_campaign,
    a_campaign_message,
    a_channel,
    a_channel_template,
    a_message_template,
    a_spec,
    a_user,
)
from tests.campaign.server_pair import start_pair

TEAMS = {"ann": ["red"], "bob": ["blue", "red"], "cid": ["blue"], "dan": []}
MISMATCH = campaign_pb2.DELIVERY_REASON_TEAM_MISMATCH


def compiled(team: str | None, *, multi_tenancy: bool, text: str = "Hi") -> Any:
    spec = a_spec(
        message_template=a_message_template(text=text),
        channel_template=a_channel_template(team=team),
    )
    campaign = a_campaign(spec=spec)
    return compile_campaign(campaign, a_user(SENDER_ID), MOMENT, multi_tenancy=multi_tenancy)


@pytest.mark.parametrize(
    ("team", "multi_tenancy", "outside"),
    [
        ("red", True, ["cid", "dan"]),
        ("re", True, ["ann", "bob", "cid", "dan"]),
        ("red", False, []),
        (None, True, []),
    ],
    ids=["on", "no prefix", "off", "no team"],
)
def test_receivers_outside_the_team_are_skipped(
    team: str | None, outside: list[str], *, multi_tenancy: bool
) -> None:
    run = compiled(team, multi_tenancy=multi_tenancy)
    names = run.receiver_fields.names
    users = {
        id_: PickedUser(UserState.ACTIVE, [{"teams": teams}.get(name) for name in names])
        for id_, teams in TEAMS.items()
    }

    reached = [resolve_receiver(run, id_, user) for id_, user in users.items()]

    not_sent = [each for each in reached if isinstance(each, NotSent)]
    assert not_sent == [NotSent(id_, Reason.TEAM_MISMATCH) for id_ in outside]
    assert ("teams" in names) == bool(team and multi_tenancy)


@pytest.mark.parametrize("text", ["Hi", "{{ receiver.teams }}", "{{ receiver.x }}", "{{ custom }}"])
def test_the_teams_are_picked_once_whatever_the_templates_read(text: str) -> None:
    names = compiled("red", multi_tenancy=True, text=text).receiver_fields.names

    assert names.count("teams") == 1


def test_who_is_gone_is_gone_whatever_the_team() -> None:
    run = compiled("red", multi_tenancy=True)
    deleted = PickedUser(UserState.DELETED, [])

    assert resolve_receiver(run, "ann", deleted) == NotSent("ann", Reason.USER_DELETED)
    assert resolve_receiver(run, "eve", None) == NotSent("eve", Reason.USER_NOT_FOUND)


def in_team_red(changes: Mapping[str, Any]) -> campaign_pb2.Campaign:
    campaign = a_campaign_message(changes)
    campaign.channel_template.team = "red"
    return campaign


@pytest.mark.nightly_on("postgresql")
async def test_a_campaign_skips_who_is_outside_its_team_and_a_preview_says_so(
    database: Database, database_url: str
) -> None:
    chat = sql_chat_store(database)
    now = datetime.now(UTC)
    await chat.users.upsert([a_user(SENDER_ID)], now)
    await chat.users.upsert([a_user(id_, teams=teams) for id_, teams in TEAMS.items()], now)
    await chat.channels.upsert([ChannelDraft(a_channel("room"))], now)
    async with start_pair(database_url, multi_tenancy=True) as services:
        await services.add_list("rooms", ["messaging:room"], segment_pb2.SEGMENT_TYPE_CHANNEL)
        await services.create(in_team_red({"user_ids": list(TEAMS)}))
        preview = await services.campaigns.PreviewCampaign(pb.PreviewCampaignRequest(id="spring"))
        await services.start()
        done = await services.until_completed()
        asked = pb.QueryDeliveriesRequest(campaign_id="spring")
        deliveries = (await services.campaigns.QueryDeliveries(asked)).deliveries
        rooms = {"id": "rooms", "user_ids": None, "segment_ids": ["rooms"]}
        to_rooms = in_team_red(rooms)
        to_rooms.message_template.text = "Hi"
        to_rooms.channel_template.id = ""
        await services.create(to_rooms)
        await services.start("rooms")
        roomed = await services.until_completed("rooms")

    assert (done.stats.messages_sent, done.stats.targets_skipped) == (2, 2)
    assert {each.target_id for each in deliveries if each.reason == MISMATCH} == {"cid", "dan"}
    assert [(each.target_id, each.reason == MISMATCH) for each in preview.previews] == [
        ("ann", False),
        ("bob", False),
        ("cid", True),
        ("dan", True),
    ]
    assert roomed.stats.messages_sent == 1
