"""Channels for the ids that people have, and for the longest that there can be."""

import pytest

from chat_store.database.engine import open_database
from chat_store.ids import MAX_CHANNEL_TYPE, MAX_ID
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.segment.v1 import segment_pb2
from tests.campaign.builders import MOMENT, SENDER_ID, a_campaign_message, a_channel, a_user
from tests.campaign.server_pair import start_pair
from tests.harness.reconciliation import assert_everyone_has_one_outcome

pytestmark = pytest.mark.nightly_on("postgresql")

UUIDS = ["3f0c3c52-9f5e-4c6f-8a53-2f4f9f3f0b11", "d9b2d63d-a233-4123-847a-7090a6f0b1c2"]
ADDRESSES = ["ann.lee+news@example.com", "bob_b@example.co.uk"]
LONGEST = ["x" * (MAX_ID - len(SENDER_ID) - 1), "y" * (MAX_ID - len(SENDER_ID) - 1)]


@pytest.mark.nightly
@pytest.mark.parametrize("people", [UUIDS, ADDRESSES, LONGEST], ids=["uuids", "e-mail", "longest"])
async def test_the_documented_channel_template_works_for_the_ids_that_people_have(
    people: list[str], database_url: str
) -> None:
    """Twice: into new channels, then into the same."""
    database = open_database(database_url)
    chat = sql_chat_store(database)
    await chat.users.upsert([a_user(id_) for id_ in (SENDER_ID, *people)], MOMENT)
    template = {"type": "t" * MAX_CHANNEL_TYPE, "id": "{{receiver.id}}-{{sender.id}}"}
    async with start_pair(database_url) as services:
        for name in ("spring", "summer"):
            campaign = {"id": name, "user_ids": people, "channel_template": template}
            await services.create(a_campaign_message(campaign))
            await services.start(name)
            await services.until_completed(name)
            assert_everyone_has_one_outcome(database_url, name, len(people))
        found = await services.campaigns.QueryDeliveries(
            pb.QueryDeliveriesRequest(campaign_id="summer")
        )
    await database.close()

    assert {each.target_id: each.cid for each in found.deliveries} == {
        id_: f"{template['type']}:{id_}-{SENDER_ID}" for id_ in people
    }


@pytest.mark.nightly
async def test_the_longest_cids_are_targets_that_tell_their_ends_apart(database_url: str) -> None:
    cids = [f"{'t' * MAX_CHANNEL_TYPE}:{'x' * (MAX_ID - 1)}{end}" for end in "ab"]
    database = open_database(database_url)
    chat = sql_chat_store(database)
    await chat.users.upsert([a_user(SENDER_ID)], MOMENT)
    channels = [a_channel(cid.partition(":")[2], type="t" * MAX_CHANNEL_TYPE) for cid in cids]
    await chat.channels.upsert([ChannelDraft(channel) for channel in channels], MOMENT)
    await database.close()
    async with start_pair(database_url) as services:
        await services.add_list("rooms", cids, segment_pb2.SEGMENT_TYPE_CHANNEL)
        to_rooms = {"segment_ids": ["rooms"], "user_ids": None, "channel_template": None}
        text = {"message_template": {"text": "{{ channel.cid }}"}, "create_channels": None}
        await services.create(a_campaign_message({**to_rooms, **text}))
        await services.start()
        done = await services.until_completed()

    assert done.stats.messages_sent == len(cids)
    assert_everyone_has_one_outcome(database_url, "spring", len(cids))
