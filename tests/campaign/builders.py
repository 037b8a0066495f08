"""Valid by default; `changes` are what a test is about."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format

from campaign_service.campaigns.model import (
    Campaign,
    CampaignSpec,
    ChannelTemplate,
    MessageTemplate,
    Stats,
    Status,
)
from campaign_service.planning.compiled import CompiledCampaign, compile_campaign
from chat_store.models import Channel, User
from herald.campaign.v1 import campaign_pb2

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SENDER_ID = "acme"
CHANNEL_ID = "{{ receiver.id }}-{{ sender.id }}"


def a_user(id_: str, **changes: Any) -> User:
    return User(**{"id": id_, "name": id_.title(), "created_at": MOMENT, **changes})


def a_channel(id_: str, **changes: Any) -> Channel:
    return Channel(**{"type": "messaging", "id": id_, "created_at": MOMENT, **changes})


def a_message_template(**changes: Any) -> MessageTemplate:
    return MessageTemplate(**{"text": "Hi {{ receiver.name }}", **changes})


def a_channel_template(**changes: Any) -> ChannelTemplate:
    return ChannelTemplate(**{"type": "messaging", "id": CHANNEL_ID, **changes})


def a_spec(**changes: Any) -> CampaignSpec:
    """To two users, each in a channel with an id of its own, which may be created."""
    return CampaignSpec(
        **{
            "sender_id": SENDER_ID,
            "user_ids": ("ann", "bob"),
            "message_template": a_message_template(),
            "create_channels": True,
            "channel_template": a_channel_template(),
            **changes,
        }
    )


def a_campaign(**changes: Any) -> Campaign:
    return Campaign(
        **{
            "id": "spring",
            "spec": a_spec(),
            "to_channels": False,
            "status": Status.IN_PROGRESS,
            "stats": Stats(started_at=MOMENT, targets_total=2),
            "revision": 2,
            "created_at": MOMENT,
            "updated_at": MOMENT,
            **changes,
        }
    )


def a_compiled_campaign(
    campaign: Campaign | None = None, sender: User | None = None
) -> CompiledCampaign:
    return compile_campaign(campaign or a_campaign(), sender or a_user(SENDER_ID), MOMENT)


def a_campaign_message(changes: Mapping[str, Any] | None = None) -> campaign_pb2.Campaign:
    """As a caller writes it; `changes` are JSON, and None takes a field away."""
    written = {
        "id": "spring",
        "sender_id": SENDER_ID,
        "user_ids": ["ann", "bob"],
        "message_template": {"text": "Hi {{ receiver.name }}"},
        "create_channels": True,
        "channel_template": {"type": "messaging", "id": CHANNEL_ID},
        **(changes or {}),
    }
    message = campaign_pb2.Campaign()
    json_format.ParseDict({k: v for k, v in written.items() if v is not None}, message)
    return message
