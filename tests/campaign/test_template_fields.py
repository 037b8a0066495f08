"""Every field of User and Channel is readable in templates by its name, as the proto says."""

import json
from typing import Any

import pytest
from google.protobuf import json_format
from sqlalchemy import update

from campaign_service.templates.views import channel_fields, user_fields
from chat_store.database.engine import open_database
from chat_store.models import Channel
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import channels, users
from chat_store.store import ChannelDraft
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.chat.v1 import chat_pb2
from tests.campaign.builders import MOMENT, SENDER_ID, a_campaign_message, a_user
from tests.campaign.server_pair import start_pair

# an input of UpsertChannels, and nothing that a channel has
INPUT_ONLY = {"member_ids"}
# nobody who has these is written to
NEVER_SET = {"deactivated_at", "deleted_at"}
USER_FIELDS = [field.name for field in chat_pb2.User.DESCRIPTOR.fields]
CHANNEL_FIELDS = [
    field.name for field in chat_pb2.Channel.DESCRIPTOR.fields if field.name not in INPUT_ONLY
]


def test_templates_know_each_field_of_the_messages() -> None:
    assert sorted(user_fields().names) == sorted(USER_FIELDS)
    assert sorted(channel_fields().names) == sorted(CHANNEL_FIELDS)


@pytest.mark.parametrize("name", ["receiver", "sender", "channel"])
async def test_each_field_that_is_set_renders_as_something(name: str, database_url: str) -> None:
    await with_full_records(database_url)
    fields = sorted({*(CHANNEL_FIELDS if name == "channel" else USER_FIELDS)} - NEVER_SET)
    template = {
        "text": "".join(f"{field}: {{{{ {name}.{field} }}}}\n" for field in fields),
        "custom": {field: f"{{{{ {name}.{field} }}}}" for field in fields},
    }
    async with start_pair(database_url) as services:
        campaign = a_campaign_message(
            {"message_template": template, "user_ids": ["ann"], "channel_template": None,
             "create_channels": None}
        )  # fmt: skip
        request = pb.PreviewCampaignRequest(campaign=campaign, receiver_ids=["ann"])
        (preview,) = (await services.campaigns.PreviewCampaign(request)).previews

    assert preview.outcome == campaign_pb2.DELIVERY_OUTCOME_SENT, preview
    rendered: dict[str, Any] = json_format.MessageToDict(preview.message.custom)
    lines = dict(line.split(": ", 1) for line in preview.message.text.splitlines())
    assert [field for field in fields if rendered[field] is None or not lines[field]] == []
    if name != "channel":
        assert json.loads(lines["push_preferences"]) == {"chat_level": "mentions"}
    else:
        assert lines["distinct"] == "True"


async def with_full_records(database_url: str) -> None:
    """Two users and their distinct channel, with a value in each field."""
    database = open_database(database_url)
    chat = sql_chat_store(database)
    full: dict[str, Any] = {
        "username": "nick", "email": "a@example.com", "language": "en", "image": "i.png",
        "teams": ("red",), "custom": {"a": 1}, "push_preferences": {"chat_level": "mentions"},
    }  # fmt: skip
    await chat.users.upsert([a_user(SENDER_ID, **full), a_user("ann", **full)], MOMENT)
    channel = Channel(
        type="messaging",
        id="!members-x",
        name="Two",
        team="red",
        created_by_id="ann",
        custom={"a": 1},
        filter_tags=("tag",),
        distinct=True,
        created_at=MOMENT,
    )
    await chat.channels.upsert(
        [ChannelDraft(channel, [SENDER_ID, "ann"], named_by_members=True)], MOMENT
    )
    async with database.transaction("activity") as connection:
        await connection.execute(update(users).values(last_active=MOMENT))
        await connection.execute(update(channels).values(last_message_at=MOMENT))
    await database.close()
